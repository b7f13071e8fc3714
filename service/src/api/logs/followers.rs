//! Who reads logs: counted, so that there is room for others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use bivouac_protocol::{SessionId, TokenName};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use crate::api::problem::{Code, Problem};

/// Logs that this replica reads at a time. Each is a connection to Nomad, which allows an address 100: the rest is for
/// calls, for the event stream, and for being wrong.
const AT_A_TIME: usize = 48;
/// Of one session.
const OF_A_SESSION: usize = 8;
/// For one token, so that there is room for others whatever it is used for.
const OF_A_TOKEN: usize = 16;

/// Counts those who read logs: of a session, with a token, and all.
#[derive(Debug, Clone)]
pub struct Followers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    reading: Mutex<Readers>,
    shown: Gauge,
}

#[derive(Debug, Default)]
struct Readers {
    of_session: HashMap<SessionId, usize>,
    of_token: HashMap<TokenName, usize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    shared: Arc<Shared>,
    session: SessionId,
    token: TokenName,
}

impl Followers {
    /// None yet; their number is shown in this gauge.
    #[must_use]
    pub fn new(shown: Gauge) -> Self {
        Self { shared: Arc::new(Shared { reading: Mutex::default(), shown }) }
    }

    /// One more, or why not.
    pub(super) fn admit(&self, session: &SessionId, token: &TokenName) -> Result<Follower, Problem> {
        let mut reading = self.shared.reading.lock();
        let here = reading.of_session.get(session).copied().unwrap_or_default();
        let own = reading.of_token.get(token).copied().unwrap_or_default();
        let too_many = |whose: &str, number: usize| {
            let detail =
                format!("{number} readers of {whose} are there already: end one of them, or try again.");
            Err(Problem::new(Code::TooManyFollowers, detail))
        };
        if here >= OF_A_SESSION {
            return too_many("this session's logs", here);
        }
        if own >= OF_A_TOKEN {
            return too_many(&format!("logs at this replica with token {token}"), own);
        }
        if reading.of_token.values().sum::<usize>() >= AT_A_TIME {
            return too_many("logs at this replica", AT_A_TIME);
        }
        reading.of_session.insert(session.clone(), here + 1);
        reading.of_token.insert(token.clone(), own + 1);
        self.shared.shown.inc();
        Ok(Follower { shared: Arc::clone(&self.shared), session: session.clone(), token: token.clone() })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut reading = self.shared.reading.lock();
        one_less(&mut reading.of_session, &self.session);
        one_less(&mut reading.of_token, &self.token);
        self.shared.shown.dec();
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: &K) {
    match counts.get_mut(of) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(counts.remove(of)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_counted_until_they_leave() {
        let gauge = Gauge::default();
        let followers = Followers::new(gauge.clone());
        let (one, other) = (SessionId::random(), SessionId::random());
        let [ci, team]: [TokenName; 2] = ["ci", "team"].map(|name| name.parse().unwrap());
        let code = |outcome: Result<Follower, Problem>| outcome.map_err(|problem| problem.code()).err();
        let mut readers: Vec<_> = (0..OF_A_SESSION).map(|_| followers.admit(&one, &ci).unwrap()).collect();
        assert_eq!(code(followers.admit(&one, &team)), Some("too_many_followers"));
        readers.push(followers.admit(&other, &ci).unwrap());
        readers.remove(0);
        readers.push(followers.admit(&one, &ci).unwrap());
        while readers.len() < OF_A_TOKEN {
            readers.push(followers.admit(&SessionId::random(), &ci).unwrap());
        }
        assert_eq!(code(followers.admit(&SessionId::random(), &ci)), Some("too_many_followers"));
        readers.push(followers.admit(&other, &team).unwrap());
        for n in readers.len()..AT_A_TIME {
            let token = format!("other-{}", n / OF_A_TOKEN).parse().unwrap();
            readers.push(followers.admit(&SessionId::random(), &token).unwrap());
        }
        assert_eq!(code(followers.admit(&SessionId::random(), &team)), Some("too_many_followers"));
        assert_eq!(gauge.get(), AT_A_TIME as i64);
        drop(readers);
        assert_eq!(gauge.get(), 0);
        let reading = followers.shared.reading.lock();
        assert!(reading.of_session.is_empty() && reading.of_token.is_empty());
    }
}
