//! The scenarios. Each is a function that takes a [`World`](bivouac_tests::World); those named in `everywhere!` run in
//! an embedded world, in a cluster world and in a locked one alike. With `BIVOUAC_LOCKED=1` every cluster world is a locked
//! one: see `make locked`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test fails"
)]

/// Runs scenarios in every kind of world.
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

            #[test]
            fn locked() {
                bivouac_tests::World::locked().run(super::$scenario);
            }
        }
    )+};
}

mod api_input;
mod crashes;
mod denied;
mod docker;
mod doctor;
mod draining;
mod harness;
mod in_use;
mod leases;
mod ledger;
mod life;
mod locked;
mod logs;
mod monitoring;
mod nomad_side;
mod operating;
mod outages;
mod parameters;
mod partition;
mod proxies;
mod proxy_input;
mod records;
mod refused_jobs;
mod repeated;
mod replicas;
mod restored;
mod rolling;
mod secrets;
mod starting;
mod templates;
mod terraform;
mod tokens;
mod ui;
mod unseen;
mod whiteboard;
mod wire;
