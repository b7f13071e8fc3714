//! Claims: of all who want to start a session's next generation, exactly one wins. Whose nonce stands in the record has
//! won, whatever the answer to the claim was.

use bivouac_ledger::Error;
use bivouac_ledger::records::{Claim, Versioned};
use bivouac_protocol::{Nonce, Record, SessionId};
use jiff::Timestamp;

use super::Outside;
use crate::spec::Spec;

/// What became of a claim.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// It stands in the record: its job is this process's to register.
    Won(Versioned<Record>),
    /// Somebody else was faster. This is the record now, if there is one.
    Lost(Option<Versioned<Record>>),
}

impl Claimed {
    fn by(claim: &Claim, read: Option<Versioned<Record>>) -> Self {
        match read {
            Some(read) if read.value.nonce == claim.nonce => Self::Won(read),
            read => Self::Lost(read),
        }
    }

    /// The record as it is now, and whether it is this process's.
    pub(crate) fn into_record(self) -> (Option<Versioned<Record>>, bool) {
        match self {
            Self::Won(record) => (Some(record), true),
            Self::Lost(record) => (record, false),
        }
    }
}

impl Outside {
    /// Claims. An answer that is lost is looked up.
    ///
    /// # Errors
    /// When the ledger does not answer: the claim may stand or not.
    pub(super) async fn claim(
        &self,
        id: &SessionId,
        previous: Option<&Versioned<Record>>,
        claim: &Claim,
    ) -> Result<Claimed, Error> {
        match self.records.claim(id, previous, claim).await {
            Ok(Some(won)) => Ok(Claimed::Won(won)),
            // Refused, perhaps by an earlier copy of this very claim that arrived late.
            Ok(None) | Err(Error::Unavailable(_)) => Ok(Claimed::by(claim, self.records.read(id).await?)),
            Err(error) => Err(error),
        }
    }

    /// Claims where nobody waits who would ask again, and finds out what came of it: a claim that was won and that
    /// nobody knows of would be carried out by nobody. `None` when the record can never be read.
    pub(super) async fn claim_for_certain(
        &self,
        id: &SessionId,
        previous: &Versioned<Record>,
        claim: &Claim,
    ) -> Option<Claimed> {
        match self.claim(id, Some(previous), claim).await {
            Ok(claimed) => Some(claimed),
            Err(error) => {
                tracing::warn!(session.id = %id, %error, "It is not known yet whether a session is claimed.");
                let read = self.insist(id, || self.records.read(id)).await?;
                Some(Claimed::by(claim, read))
            }
        }
    }
}

/// The claim of a spawn.
pub(super) fn first_claim(spec: &Spec) -> Claim {
    Claim {
        namespace: spec.namespace.clone(),
        key: spec.key.clone(),
        template: spec.template.name.clone(),
        hash: spec.template.hash.clone(),
        request: spec.request.clone(),
        policy: spec.policy.clone(),
        nonce: Nonce::random(),
        at: Timestamp::now(),
    }
}

/// A claim from what was asked for before, under today's template.
pub(super) fn claim_again(outside: &Outside, record: &Record) -> Claim {
    let template = outside.templates.get(&record.template);
    Claim {
        namespace: record.namespace.clone(),
        key: record.key.clone(),
        template: record.template.clone(),
        hash: template.as_ref().map_or_else(|| record.hash.clone(), |template| template.hash.clone()),
        request: record.request.clone(),
        policy: template.map_or_else(|| record.policy.clone(), |template| template.policy(&record.request)),
        nonce: Nonce::random(),
        at: Timestamp::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::samples;

    #[tokio::test]
    async fn whose_nonce_stands_in_the_record_has_won() {
        let (service, _state) = samples::service();
        let (outside, id) = (service.outside, SessionId::random());
        let [mine, other] = [(); 2].map(|()| samples::claim(samples::policy(), Timestamp::UNIX_EPOCH));
        let claimed = outside.claim(&id, None, &mine).await.unwrap();
        assert!(matches!(&claimed, Claimed::Won(record) if record.value.nonce == mine.nonce));
        let again = outside.claim(&id, None, &mine).await.unwrap();
        assert!(matches!(again, Claimed::Won(_)), "an earlier copy of it had arrived");
        let (record, owned) = outside.claim(&id, None, &other).await.unwrap().into_record();
        assert_eq!((record.map(|record| record.value.nonce), owned), (Some(mine.nonce), false));
    }
}
