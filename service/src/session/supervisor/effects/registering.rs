//! Brings a claim's job into being, or gives way to the one that is there.

use std::sync::Arc;

use bivouac_ledger::records::Versioned;
use bivouac_protocol::Record;

use super::Doing;
use crate::backend::{Grace, Start, StartError};
use crate::spec::limits;

impl Doing {
    /// Registers the job, then reads the record again: a replica that was paused between its claim and here may have
    /// been superseded, and must take its own job back.
    pub(super) async fn register(&self) -> Result<Option<Versioned<Record>>, StartError> {
        let record = &self.record.value;
        self.outside.failpoints.pass("claimed").await;
        let template = self.outside.templates.as_of(&record.template, &record.hash);
        let template = template.ok_or_else(|| {
            StartError::Refused(format!("there is no template {} any more", record.template))
        })?;
        // A wake starts a stored request, and today's template may permit less than the one it was checked against.
        limits::check(&record.request, &template).map_err(|why| StartError::Refused(why.to_string()))?;
        let start = Start {
            session: self.id.clone(),
            record: Arc::new(record.clone()),
            template,
            url: self.outside.session_url(&self.id),
        };
        match self.outside.backend.start(start).await {
            Err(StartError::Foreign) => return self.give_way().await,
            started => started?,
        }
        self.outside.failpoints.pass("registered").await;
        let read = self.outside.records.read(&self.id).await;
        let now = read.map_err(|error| StartError::Unavailable(error.to_string()))?;
        let ours = |now: &Versioned<Record>| {
            now.value.is_live()
                && (now.value.generation, &now.value.nonce) == (record.generation, &record.nonce)
        };
        if !now.as_ref().is_some_and(ours) {
            tracing::info!(session.id = %self.id, generation = %record.generation, "A superseded job is taken back.");
            let stopped = self.outside.backend.stop(&self.run(record.generation), Grace::Template).await;
            stopped.map_err(|why| StartError::Unavailable(why.to_string()))?;
        }
        Ok(now)
    }

    /// A run of ours with this number is there already: a ledger that was restored from an older snapshot has forgotten
    /// it, and let its number be claimed again. If it lives it is the session, and this claim gives way.
    async fn give_way(&self) -> Result<Option<Versioned<Record>>, StartError> {
        let unavailable = |why: String| StartError::Unavailable(why);
        let run = self.run(self.record.value.generation);
        let recalled = self.outside.backend.recall(&run).await.map_err(|why| unavailable(why.0))?;
        let recalled = recalled.ok_or(StartError::Foreign)?;
        let nonce = recalled.nonce.clone();
        let recreated = self.outside.records.recreate(&self.id, Some(&self.record), recalled).await;
        let record = recreated.map_err(|error| unavailable(error.to_string()))?;
        if record.as_ref().is_some_and(|record| record.value.nonce != nonce) {
            return Err(unavailable("the record was changed meanwhile".to_owned()));
        }
        tracing::warn!(session.id = %self.id, generation = %run.generation, "A claim gives way to a live run of the same number.");
        Ok(record)
    }
}
