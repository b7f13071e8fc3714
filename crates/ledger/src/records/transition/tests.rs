use bivouac_protocol::{ReasonCode, Span};
use proptest::prelude::*;

use super::*;

fn policy() -> Policy {
    Policy {
        idle_timeout: Span::seconds(30),
        startup_timeout: Span::seconds(60),
        stop_grace: Span::seconds(5),
        ..Policy::plain("http".parse().unwrap())
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
    Abandon,
    Bump,
    Lease(u8, i64),
    Release(u8),
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
            Just(Ask::Abandon),
            Just(Ask::Bump),
            (0u8..40, -10i64..200).prop_map(|(name, seconds)| Ask::Lease(name, seconds)),
            (0u8..40).prop_map(Ask::Release),
        ],
        0..40,
    )
}

fn lease(number: u8) -> LeaseName {
    format!("lease-{number}").parse().unwrap()
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
        Ask::Abandon => abandoned(record, (record.generation, &record.nonce), "its node is away", &seen, now),
        Ask::Bump => bumped(record, record.generation),
        Ask::Lease(name, seconds) => {
            leased(record, &lease(*name), Timestamp::from_second(at + seconds).unwrap(), now)
        }
        Ask::Release(name) => released(record, &lease(*name), now),
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
                    matches!(next_ask, Ask::Abandon) || record.reason.is_none() || record.reason.as_ref().map(|r| r.code) == next.reason.as_ref().map(|r| r.code),
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

proptest! {
    #[test]
    fn leases_are_few_bounded_by_the_lifetime_and_only_of_live_sessions(
        asks in asks(), many in prop::collection::vec((0u8..40, 1i64..500), 0..60), lifetime in 2_000u64..4_000
    ) {
        let mut first = claimed(None, Generation(0), &claim(1_000));
        first.policy.max_lifetime = Some(Span::seconds(lifetime));
        let leases = many.into_iter().map(|(name, seconds)| Ask::Lease(name, seconds));
        let mut record = first;
        for (n, next_ask) in leases.chain(asks).enumerate() {
            let at = 2_000 + 10 * i64::try_from(n).unwrap();
            let now = Timestamp::from_second(at).unwrap();
            let answer = ask(&record, &next_ask, at);
            if let Ask::Lease(name, seconds) = &next_ask {
                let until = Timestamp::from_second(at + seconds).unwrap();
                let promised = record.lifetime_ends().map_or(until, |end| end.min(until));
                let room = record.live_leases(now).filter(|(known, _)| **known != lease(*name)).count() < MAX_LEASES;
                match &answer {
                    Transition::To(next) => {
                        prop_assert_eq!(next.leases.get(&lease(*name)), Some(&promised));
                        prop_assert!(record.is_live() && promised > now && room);
                        prop_assert_eq!(next.touched_at, now, "a use");
                    }
                    Transition::Declined => prop_assert!(!record.is_live() || promised <= now || !room),
                }
            }
            let Transition::To(next) = answer else { continue };
            prop_assert!(next.leases.len() <= MAX_LEASES);
            prop_assert!(next.phase != Phase::Ended || next.leases.is_empty());
            for (name, until) in record.live_leases(now) {
                let released = matches!(&next_ask, Ask::Release(number) if lease(*number) == *name);
                let renewed = matches!(&next_ask, Ask::Lease(number, _) if lease(*number) == *name);
                let kept = next.leases.get(name) == Some(&until);
                prop_assert!(kept || released || renewed || next.phase == Phase::Ended, "{} is lost", name);
            }
            record = *next;
        }
    }
}

#[test]
fn only_a_pinned_run_is_given_up_and_says_what_was_under_way() {
    let now = Timestamp::from_second(2).unwrap();
    let record = claimed(None, Generation(0), &claim(1));
    let seen = Timeline::default();
    let give_up = |record: &Record| {
        abandoned(record, (record.generation, &record.nonce), "its node is away", &seen, now)
    };
    assert_eq!(give_up(&record), Transition::Declined, "nothing runs anywhere");
    let run = (record.generation, &record.nonce);
    let Transition::To(running) = pinned(&record, run, &AllocationId::random(), &seen) else {
        panic!("pins")
    };
    let other = (record.generation, &Nonce::random());
    assert_eq!(abandoned(&running, other, "its node is away", &seen, now), Transition::Declined);
    let Transition::To(stopped) = stopping(&running, &ReasonCode::Idle.into(), now) else { panic!("stops") };
    let Transition::To(over) = give_up(&stopped) else { panic!("is given up") };
    let expected = Reason::new(ReasonCode::Abandoned, "its node is away (it was being stopped: idle)");
    assert_eq!((over.phase, over.reason.clone()), (Phase::Ended, Some(expected)));
    assert_eq!(give_up(&over), Transition::Declined);
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
    let words = vec!["its last words".to_owned()];
    let exit = Reason { exit_code: Some(143), log_tail: words.clone(), ..ReasonCode::Exited.into() };
    let Transition::To(over) = ended(&stopped, record.generation, &exit, &Timeline::default(), now) else {
        panic!("ends")
    };
    let idle = Reason { exit_code: Some(143), log_tail: words, ..ReasonCode::Idle.into() };
    assert_eq!(over.reason, Some(idle));
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
