use bivouac_protocol::{PortLabel, ReasonCode, Span};
use proptest::prelude::*;

use super::*;

fn policy() -> Policy {
    Policy {
        idle_timeout: Span::seconds(30),
        max_lifetime: None,
        startup_timeout: Span::seconds(60),
        stop_grace: Span::seconds(5),
        wake: false,
        port: "http".parse::<PortLabel>().unwrap(),
        protocol: bivouac_protocol::Protocol::Http,
        ready_path: None,
    }
}

fn claim(at: i64) -> Claim {
    Claim {
        namespace: Namespace::default(),
        key: None,
        template: "demo".parse().unwrap(),
        hash: "h".into(),
        request: StoredRequest::default(),
        policy: policy(),
        nonce: Nonce::random(),
        at: Timestamp::from_second(at).unwrap(),
    }
}

/// Everything that somebody may ask of a record, in any order.
#[derive(Debug, Clone)]
enum Ask {
    Claim,
    Pin,
    PinOtherNonce,
    Ready,
    Touch,
    Stop,
    End,
    EndOldGeneration,
    Bump,
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    prop::collection::vec(
        prop_oneof![
            Just(Ask::Claim),
            Just(Ask::Pin),
            Just(Ask::PinOtherNonce),
            Just(Ask::Ready),
            Just(Ask::Touch),
            Just(Ask::Stop),
            Just(Ask::End),
            Just(Ask::EndOldGeneration),
            Just(Ask::Bump)
        ],
        0..40,
    )
}

fn ask(record: &Record, ask: &Ask, at: i64) -> Transition {
    let now = Timestamp::from_second(at).unwrap();
    let seen = Timeline { ready: Some(now), ..Timeline::default() };
    let allocation = AllocationId::random();
    match ask {
        Ask::Claim if record.phase == Phase::Ended => {
            Transition::To(Box::new(claimed(Some(record), Generation(0), &claim(at))))
        }
        Ask::Claim => Transition::Declined,
        Ask::Pin => pinned(record, (record.generation, &record.nonce), &allocation, &seen),
        Ask::PinOtherNonce => pinned(record, (record.generation, &Nonce::random()), &allocation, &seen),
        Ask::Ready => ready(record, record.generation, &seen),
        Ask::Touch => touched(record, now),
        Ask::Stop => stopping(record, &ReasonCode::Requested.into(), now),
        Ask::End => ended(record, record.generation, &ReasonCode::Exited.into(), &seen, now),
        Ask::EndOldGeneration => {
            ended(record, Generation(record.generation.0 - 1), &ReasonCode::Exited.into(), &seen, now)
        }
        Ask::Bump => bumped(record, record.generation),
    }
}

proptest! {
    #[test]
    fn whatever_is_asked_generations_revisions_and_phases_only_rise(asks in asks()) {
        let mut record = claimed(None, Generation(0), &claim(1_000));
        for (n, next_ask) in asks.iter().enumerate() {
            let at = 2_000 + 10 * i64::try_from(n).unwrap();
            let Transition::To(next) = ask(&record, next_ask, at) else { continue };
            prop_assert_eq!(next.revision, record.revision + 1);
            if next.generation == record.generation {
                prop_assert!(next.phase >= record.phase);
                prop_assert!(record.allocation.is_none() || next.allocation == record.allocation, "the pin stands");
                prop_assert!(
                    record.reason.is_none() || record.reason.as_ref().map(|r| r.code) == next.reason.as_ref().map(|r| r.code),
                    "the first reason stands"
                );
            } else {
                prop_assert!(next.generation > record.generation);
                prop_assert_eq!(record.phase, Phase::Ended, "only an ended session gets a successor");
                prop_assert_eq!(&next.allocation, &None);
            }
            record = *next;
        }
    }
}

#[test]
fn a_foreign_nonce_pins_nothing() {
    let record = claimed(None, Generation(0), &claim(1));
    let other = Nonce::random();
    let pin = pinned(&record, (record.generation, &other), &AllocationId::random(), &Timeline::default());
    assert_eq!(pin, Transition::Declined);
}

#[test]
fn a_decided_stop_keeps_its_reason_and_gains_the_exit_code() {
    let record = claimed(None, Generation(0), &claim(1));
    let now = Timestamp::from_second(2).unwrap();
    let Transition::To(stopped) = stopping(&record, &ReasonCode::Idle.into(), now) else { panic!("stops") };
    let exit = Reason { code: ReasonCode::Exited, exit_code: Some(143), detail: None };
    let Transition::To(over) = ended(&stopped, record.generation, &exit, &Timeline::default(), now) else {
        panic!("ends")
    };
    assert_eq!(over.reason, Some(Reason { code: ReasonCode::Idle, exit_code: Some(143), detail: None }));
}

#[test]
fn failed_starts_are_counted_until_one_succeeds() {
    let now = Timestamp::from_second(2).unwrap();
    let mut record = claimed(None, Generation(0), &claim(1));
    for failures in 1..=3 {
        let failed = Reason::new(ReasonCode::StartFailed, "no such file");
        let Transition::To(over) = ended(&record, record.generation, &failed, &Timeline::default(), now)
        else {
            panic!("ends")
        };
        assert_eq!(over.failures, failures);
        record = claimed(Some(&over), Generation(0), &claim(3));
        assert_eq!(record.failures, failures, "a new claim remembers");
    }
    let (generation, nonce) = (record.generation, record.nonce.clone());
    let Transition::To(running) =
        pinned(&record, (generation, &nonce), &AllocationId::random(), &Timeline::default())
    else {
        panic!("pins")
    };
    let Transition::To(up) = ready(&running, generation, &Timeline::default()) else { panic!("is ready") };
    assert_eq!(up.failures, 0);
}
