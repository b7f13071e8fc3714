//! The scenarios. Each is a function that takes a [`World`](bivouac_tests::World); those named in `everywhere!` run in
//! an embedded world and in a cluster world alike.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test fails"
)]

/// Runs scenarios in both kinds of worlds.
macro_rules! everywhere {
    ($($scenario:ident),+ $(,)?) => {$(
        mod $scenario {
            #[test]
            fn embedded() {
                bivouac_tests::World::embedded().run(super::$scenario);
            }

            #[test]
            fn cluster() {
                bivouac_tests::World::cluster().run(super::$scenario);
            }
        }
    )+};
}

mod api_input;
mod crashes;
mod harness;
mod in_use;
mod ledger;
mod life;
mod nomad_side;
mod operating;
mod outages;
mod proxies;
mod proxy_input;
mod records;
mod replicas;
mod starting;
mod whiteboard;
mod wire;
