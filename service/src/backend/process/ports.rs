//! Ports for children, which are told theirs before they can bind it.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use parking_lot::Mutex;
use rand::Rng;

/// Below the kernel's range for outgoing connections, which would otherwise take a port between the moment it was
/// found free and the moment the child binds it. Within the proxy's default for backends, at its upper end: a Nomad client
/// on the same machine hands out ports of that range without looking whether they are free.
const RANGE: Range<u16> = 28_000..32_000;

/// Hands out free ports in turn, so that one that was just given back is not used again soon: a proxy may still know
/// it as the address of a session that is over.
#[derive(Debug)]
pub(super) struct Ports {
    next: Mutex<u16>,
}

impl Default for Ports {
    /// From a random place on: two processes on one machine rarely meet.
    fn default() -> Self {
        Self { next: Mutex::new(rand::rng().random_range(RANGE)) }
    }
}

impl Ports {
    /// A port that nobody listens on and that is not in use by a child that has yet to listen.
    pub(super) fn take(&self, used: &HashSet<u16>) -> Option<u16> {
        let mut next = self.next.lock();
        let candidates = (*next..RANGE.end).chain(RANGE.start..*next);
        let found = candidates.into_iter().find(|port| !used.contains(port) && is_free(*port))?;
        *next = if found + 1 == RANGE.end { RANGE.start } else { found + 1 };
        Some(found)
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_handed_out_in_turn_and_only_free_ones() {
        let ports = Ports { next: Mutex::new(RANGE.end - 1) };
        let first = ports.take(&HashSet::new()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let second = ports.take(&HashSet::new()).unwrap();
        assert_ne!(first, second);
        *ports.next.lock() = first;
        let third = ports.take(&HashSet::from([second])).unwrap();
        assert!(third != first && third != second && RANGE.contains(&third));
        drop(listener);
    }
}
