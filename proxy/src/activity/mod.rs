//! Who uses what: the gate of each session on this proxy, the table of them, and the reports about them.

pub(crate) mod clock;
pub(crate) mod entry;
mod fences;
pub mod gate;
mod moves;
mod report;
pub(crate) mod table;

pub(crate) use moves::{Direction, Passed};
