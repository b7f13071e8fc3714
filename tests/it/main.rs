//! The scenarios. Each is a function that takes a [`World`](bivouac_tests::World); those named in `everywhere!` run in
//! an embedded world, in a cluster world and in a locked one alike. With `BIVOUAC_LOCKED=1` every cluster world is a locked
//! one: see `make locked`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test fails"
)]

/// Runs scenarios in every kind of world. What they need of it, such as a template of their own, a function adds that takes
/// a `Setup` and returns it: `everywhere!(with ports; …)`.
macro_rules! everywhere {
    (@in ($setup:path) $($scenario:ident),+) => {$(
        mod $scenario {
            #[test]
            fn embedded() {
                $setup(bivouac_tests::World::embedded()).run(super::$scenario);
            }

            #[test]
            fn cluster() {
                $setup(bivouac_tests::World::cluster()).run(super::$scenario);
            }

            #[test]
            fn locked() {
                $setup(bivouac_tests::World::locked()).run(super::$scenario);
            }
        }
    )+};
    (with $setup:ident; $($scenario:ident),+ $(,)?) => {
        everywhere!(@in (super::$setup) $($scenario),+);
    };
    ($($scenario:ident),+ $(,)?) => {
        everywhere!(@in (std::convert::identity) $($scenario),+);
    };
}

mod api_input;
mod crashes;
mod denied;
mod docker;
mod doctor;
mod draining;
mod h2;
mod h2spec;
mod harness;
mod hostile;
mod in_use;
mod leases;
mod ledger;
mod life;
mod limits;
mod locked;
mod log;
mod logs;
mod monitoring;
mod nomad_side;
mod operating;
mod outages;
mod parameters;
mod partition;
mod ports;
mod proxies;
mod proxy_input;
mod quiet;
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
mod tickets;
mod tokens;
mod tunnels;
mod ui;
mod unseen;
mod upgrade;
mod whiteboard;
mod wire;
