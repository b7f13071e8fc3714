//! Which tickets were revoked, as far as proxies have to be told. It decides nothing here.

use std::collections::HashMap;

use bivouac_ledger::revoked::Revocation;
use bivouac_protocol::SessionId;
use bivouac_protocol::link::FromService;
use jiff::Timestamp;

use super::Supervisor;
use crate::session::evidence::LinkId;

/// Until when tickets of a session, and of a user or everybody, are refused.
pub(super) type Revoked = HashMap<(SessionId, Option<String>), u64>;

impl Supervisor {
    /// Takes in what was written or listed, and tells all proxies what is new in it.
    pub(super) fn on_revoked(&mut self, revocations: Vec<Revocation>) {
        for revocation in revocations {
            let Revocation { session, user, until_ms } = revocation.clone();
            let known = self.revoked.entry((session, user)).or_insert(0);
            if *known < until_ms {
                *known = until_ms;
                self.tell_all(&message(&revocation));
            }
        }
    }

    /// Tells one proxy of all that may still matter.
    pub(super) fn tell_revoked(&mut self, link: LinkId) {
        let now = Timestamp::now();
        let revocation = |((session, user), until_ms): (&(SessionId, Option<String>), &u64)| Revocation {
            session: session.clone(),
            user: user.clone(),
            until_ms: *until_ms,
        };
        self.revoked.retain(|key, until_ms| !revocation((key, until_ms)).is_over(now));
        let messages: Vec<_> = self.revoked.iter().map(|known| message(&revocation(known))).collect();
        for message in messages {
            self.tell(link, message);
        }
    }
}

fn message(revocation: &Revocation) -> FromService {
    let Revocation { session, user, until_ms } = revocation.clone();
    FromService::Revoke { session, user, until_ms }
}
