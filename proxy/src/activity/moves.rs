//! What moves on one open use, so that a session whose connections are all silent can be stopped under them.
//!
//! A use begins like any other. Once its response's head is out it is a carrier: it may stay open for ever without
//! anybody saying anything. From then on its bytes ask before they pass, and until they are taken it is in use again.

use std::sync::atomic::Ordering;

use bivouac_protocol::Generation;

use super::gate::Raised;
use super::table::{AtFence, Open};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToBackend,
    ToClient,
}

/// What is known of one use's bytes. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moves(u8);

/// Bytes that were passed are not taken yet: to the backend, to the client.
const TO_BACKEND: u8 = 1;
const TO_CLIENT: u8 = 2;
/// Its response's head is out.
const CARRIES: u8 = 4;
/// Its path is one that the template ignores.
const IGNORED: u8 = 8;

impl Default for Moves {
    /// A request comes in, and an answer is expected.
    fn default() -> Self {
        Self(TO_BACKEND | TO_CLIENT)
    }
}

impl Moves {
    pub(super) fn to_bits(self) -> u8 {
        self.0
    }

    pub(super) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Whether it is a carrier on which nothing moves.
    pub(super) fn is_silent(self) -> bool {
        self.0 & IGNORED != 0 || self.0 == CARRIES
    }

    fn with(self, bits: u8) -> Self {
        Self(self.0 | bits)
    }

    fn without(self, bits: u8) -> Self {
        Self(self.0 & !bits)
    }

    fn is_ignored(self) -> bool {
        self.0 & IGNORED != 0
    }
}

impl Direction {
    fn bit(self) -> u8 {
        match self {
            Self::ToBackend => TO_BACKEND,
            Self::ToClient => TO_CLIENT,
        }
    }
}

/// The answer to bytes that want to pass.
pub(crate) enum Passed {
    /// They may.
    Go,
    /// They wait for the outcome of a stop.
    Held(AtFence),
    /// The generation is over.
    Over,
}

impl Open {
    /// Its response's head is out, or it was upgraded: from now on it is a carrier.
    pub(crate) fn carry(&self) {
        self.change(|moves| moves.with(CARRIES));
    }

    /// Nothing of it is ever noise: its path is one that the template ignores.
    pub(crate) fn ignore(&self) {
        let mut state = self.entry.lock();
        let moves = self.moves();
        if !moves.is_silent() {
            state.gate.ignore();
        }
        self.moves.store(moves.with(IGNORED).to_bits(), Ordering::Relaxed);
    }

    /// Application bytes want to pass. If they may, they are in the way of every fence until they are hushed.
    pub(crate) fn pass(&self, direction: Direction, generation: Generation) -> Passed {
        let mut state = self.entry.lock();
        let moves = self.moves();
        if moves.is_ignored() {
            return Passed::Go;
        }
        if moves.is_silent() {
            let now = self.table.clock.now();
            match state.gate.raise(generation, now) {
                Raised::Passed => self.table.noise(&self.entry, &mut state, now),
                Raised::Held(fenced) => {
                    self.table.knock(&self.entry, &mut state, fenced);
                    let (table, entry) = (self.table.clone(), self.entry.clone());
                    return Passed::Held(AtFence { table, entry, fenced });
                }
                Raised::Over => return Passed::Over,
            }
        }
        self.moves.store(moves.with(direction.bit()).to_bits(), Ordering::Relaxed);
        Passed::Go
    }

    /// All bytes that were passed this way have been taken.
    pub(crate) fn hush(&self, direction: Direction) {
        self.change(|moves| moves.without(direction.bit()));
    }

    fn moves(&self) -> Moves {
        Moves::from_bits(self.moves.load(Ordering::Relaxed))
    }

    fn change(&self, change: impl FnOnce(Moves) -> Moves) {
        let mut state = self.entry.lock();
        let before = self.moves();
        let after = change(before);
        self.moves.store(after.to_bits(), Ordering::Relaxed);
        if after.is_silent() && !before.is_silent() {
            state.gate.hush(self.table.clock.now());
            self.table.carrier(&self.entry, &mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_silent_once_it_carries_and_nothing_moves_either_way() {
        let plain = Moves::default();
        assert!(!plain.is_silent() && !plain.without(TO_BACKEND | TO_CLIENT).is_silent());
        let begun = plain.with(CARRIES);
        let [one, other] = [TO_BACKEND, TO_CLIENT].map(|bit| begun.without(bit));
        assert!(!begun.is_silent() && !one.is_silent() && !other.is_silent());
        assert!(begun.without(TO_BACKEND | TO_CLIENT).is_silent());
        assert!(plain.with(IGNORED).is_silent(), "whatever moves");
    }
}
