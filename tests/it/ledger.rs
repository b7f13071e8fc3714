//! The ledger's rules, on a real Consul.

use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::conformance;
use bivouac_ledger::consul::ConsulLedger;
use bivouac_protocol::Nonce;
use bivouac_tests::World;

#[test]
fn consul_keeps_the_ledgers_rules() {
    World::cluster().replicas(0).proxies(0).run(async |world| {
        let address = format!("http://{}", world.site().consul_address()).parse().unwrap();
        let client = bivouac_consul::Client::new(&bivouac_consul::Config::new(address)).unwrap();
        let ledger = Arc::new(ConsulLedger::new(client, world.prefix()));
        let run = Nonce::random();
        conformance::rules(ledger.as_ref(), &run).await.unwrap();
        conformance::contention(ledger.clone(), &run).await.unwrap();
        conformance::expiry(ledger.as_ref(), &run, Duration::from_secs(10)).await.unwrap();
    });
}
