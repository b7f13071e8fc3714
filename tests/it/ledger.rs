//! The ledger's rules, on a real Consul.

use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::conformance;
use bivouac_ledger::consul::ConsulLedger;
use bivouac_protocol::Nonce;
use bivouac_tests::World;
use bivouac_tests::world::Role;

#[test]
fn consul_keeps_the_ledgers_rules() {
    World::cluster().replicas(0).proxies(0).run(async |world| {
        let reach = world.reach(Role::Service, world.site().nomad_address(), world.site().consul_address());
        let variable =
            |name: &str| reach.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let config = bivouac_consul::Config::from_variables(variable).unwrap();
        let client = bivouac_consul::Client::new(&config).unwrap();
        let ledger = Arc::new(ConsulLedger::new(client, world.prefix()));
        let run = Nonce::random();
        conformance::rules(ledger.as_ref(), &run).await.unwrap();
        conformance::contention(ledger.clone(), &run).await.unwrap();
        conformance::expiry(ledger.as_ref(), &run, Duration::from_secs(10)).await.unwrap();
    });
}
