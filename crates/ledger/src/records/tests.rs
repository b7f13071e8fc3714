use bivouac_protocol::{Nonce, Phase, Policy, Span, StoredRequest};

use super::*;
use crate::memory::MemoryLedger;

fn claim() -> Claim {
    Claim {
        namespace: "default".parse().unwrap(),
        key: Some("doc".parse().unwrap()),
        template: "whiteboard".parse().unwrap(),
        hash: String::new(),
        request: StoredRequest::default(),
        policy: Policy {
            idle_timeout: Span::seconds(30),
            startup_timeout: Span::seconds(30),
            stop_grace: Span::seconds(1),
            wake: true,
            ..Policy::plain("http".parse().unwrap())
        },
        nonce: Nonce::random(),
        at: Timestamp::UNIX_EPOCH,
    }
}

async fn ended(records: &Records, id: &SessionId) -> Versioned<Record> {
    let reason = bivouac_protocol::ReasonCode::Idle.into();
    let seen = bivouac_protocol::Timeline::default();
    let end = |record: &Record| ended_at(record, &reason, &seen);
    records.update(id, None, end).await.unwrap().current().unwrap()
}

fn ended_at(record: &Record, reason: &Reason, seen: &bivouac_protocol::Timeline) -> Transition {
    super::ended(record, record.generation, reason, seen, Timestamp::UNIX_EPOCH)
}

#[tokio::test]
async fn a_run_that_the_ledger_forgot_takes_the_place_of_what_a_snapshot_brought_back() {
    let (ledger, id) = (Arc::new(MemoryLedger::new()), SessionId::random());
    let records = Records::new(ledger.clone());
    records.claim(&id, None, &claim()).await.unwrap().unwrap();
    let first = ended(&records, &id).await;
    let snapshot = ledger.snapshot();
    let second = records.claim(&id, Some(&first), &claim()).await.unwrap().unwrap();
    ledger.restore(snapshot);

    let behind = records.read(&id).await.unwrap().unwrap();
    assert!(behind.index < second.index, "a restored document has the index that it had");
    let again = records.recreate(&id, Some(&behind), second.value.clone()).await.unwrap().unwrap();
    assert_eq!((again.value.generation, again.value.phase), (Generation(2), Phase::Claimed));
    assert!(again.index > second.index && again.value.revision > behind.value.revision);
    let late = records.recreate(&id, Some(&behind), second.value.clone()).await.unwrap().unwrap();
    assert_eq!(late, again, "whoever comes second finds what the first has written");
}

#[tokio::test]
async fn a_generation_below_the_floor_is_neither_written_again_nor_claimed() {
    let (ledger, id) = (Arc::new(MemoryLedger::new()), SessionId::random());
    let records = Records::new(ledger);
    let first = records.claim(&id, None, &claim()).await.unwrap().unwrap();
    records.raise_floor(Generation(7)).await.unwrap();
    let lost = Record { generation: Generation(7), ..first.value.clone() };
    let kept = records.recreate(&id, Some(&first), lost).await.unwrap().unwrap();
    assert_eq!(kept, first);
    assert!(records.is_spent(Generation(7)).await.unwrap());
    assert!(!records.is_spent(Generation(8)).await.unwrap());
    let ended = ended(&records, &id).await;
    let next = records.claim(&id, Some(&ended), &claim()).await.unwrap().unwrap();
    assert_eq!(next.value.generation, Generation(8));
}
