//! Effects that write into the record, and what is noted of them.

use bivouac_ledger::records::{self, Transition, Update};
use bivouac_protocol::{AllocationId, Reason, ReasonCode, Record, Timeline};
use jiff::Timestamp;

use super::{Doing, Written};
use crate::backend::logs;

impl Doing {
    pub(super) async fn pin(&self, allocation: &AllocationId) -> Written {
        let own = (self.record.value.generation, &self.record.value.nonce);
        let written = self.update(|record| records::pinned(record, own, allocation, &self.seen)).await;
        self.outside.failpoints.pass("pinned").await;
        written
    }

    pub(super) async fn mark_ready(&self) -> Written {
        let generation = self.record.value.generation;
        self.update_and(|record| records::ready(record, generation, &self.seen), Self::note_ready).await
    }

    pub(super) async fn begin_stop(&self, reason: &Reason) -> Written {
        let now = Timestamp::now();
        let (generation, decided_in) = (self.record.value.generation, self.record.value.phase);
        // The reason has to hold for the record that is written, which may be newer than the one it was found on:
        // meanwhile another replica may have seen the session become ready.
        let outdated = |record: &Record| {
            let start = reason.code.is_failed_start();
            start && (record.phase != decided_in || record.timeline.ready.is_some())
        };
        let stop = |record: &Record| match record.generation == generation && !outdated(record) {
            true => records::stopping(record, reason, now),
            false => Transition::Declined,
        };
        self.update(stop).await
    }

    pub(super) async fn end(&self, reason: Reason) -> Written {
        let (generation, now) = (self.record.value.generation, Timestamp::now());
        let reason = self.with_last_words(reason).await;
        let end = |record: &Record| records::ended(record, generation, &reason, &self.seen, now);
        self.update_and(end, Self::note_end).await
    }

    /// The reason with what the run printed last, where it did not end well and may say why.
    async fn with_last_words(&self, reason: Reason) -> Reason {
        let record = &self.record.value;
        let code = record.reason.as_ref().map_or(reason.code, |decided| decided.code);
        if !matches!(code, ReasonCode::StartFailed | ReasonCode::StartupTimeout | ReasonCode::Exited) {
            return reason;
        }
        let run = self.run(record.generation);
        let allocation = record.allocation.as_ref();
        let log_tail = logs::last_words(self.outside.backend.as_ref(), &run, allocation).await;
        Reason { log_tail, ..reason }
    }

    async fn update(&self, change: impl Fn(&Record) -> Transition + Send) -> Written {
        self.update_and(change, |_, _| {}).await
    }

    /// The same, noted if it was this call that wrote it.
    async fn update_and(
        &self,
        change: impl Fn(&Record) -> Transition + Send,
        note: fn(&Self, &Record),
    ) -> Written {
        let known = Some(self.record.clone());
        let update = self.outside.records.update(&self.id, known, change).await?;
        if let Update::Written(record) = &update {
            note(self, &record.value);
        }
        Ok(update.current())
    }

    fn note_ready(&self, record: &Record) {
        self.outside.metrics.started(record);
        let Timeline { claimed, ready, .. } = record.timeline;
        let took = claimed.zip(ready).map(|(claimed, ready)| ready.duration_since(claimed).as_millis());
        let generation = record.generation;
        tracing::info!(session.id = %self.id, %generation, template = %record.template, took_ms = took, "A session is ready.");
    }

    fn note_end(&self, record: &Record) {
        self.outside.metrics.ended(record);
        let reason = record.reason.as_ref().map(|reason| reason.code.as_str());
        let generation = record.generation;
        tracing::info!(session.id = %self.id, %generation, template = %record.template, reason, "A session has ended.");
    }
}
