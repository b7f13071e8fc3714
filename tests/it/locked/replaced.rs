//! Everything that can be replaced, replaced at once while many sessions are used: tokens, certificates, the authority that
//! signs them, and the servers.

use std::time::Duration;

use bivouac_tests::World;
use bivouac_tests::agents::{Agent, Validity};
use bivouac_tests::world::{GUEST, Role, Session, Socket};
use futures::future::join_all;

use super::{
    SOON, is_healed, is_refused, renew_for_consul, renew_for_nomad, revoke_for_consul, revoke_for_nomad,
};

/// How many sessions live through the worst of days here: 200 by hand, see CONTRIBUTING.md.
fn many() -> usize {
    std::env::var("BIVOUAC_TEST_SESSIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

/// Every agent of the cluster, servers first.
fn agents(world: &World) -> Vec<&Agent> {
    let agents = world.site().agents();
    let clients = agents.clients().iter().flat_map(|client| [client.consul(), client.nomad()]);
    [agents.consul(), agents.nomad()].into_iter().chain(clients).collect()
}

/// Certificates of the agents and of the processes, from the authority that signs at present.
fn certify_all(world: &World) {
    let locks = world.site().locks().unwrap();
    for agent in agents(world) {
        let kind = match agent.name() {
            "consul-server" => "server.dc1.consul",
            "nomad-server" => "server.global.nomad",
            name if name.starts_with("consul") => "client.dc1.consul",
            _ => "client.global.nomad",
        };
        locks.issue(agent.name(), &[kind]).unwrap();
    }
    for role in [Role::Service, Role::Proxy] {
        world.doors().certify(world.site(), role, Validity::Good);
    }
}

/// All agents read their files again. A Nomad agent that is told so again while it opens its listener anew may be left
/// without one, and nothing says when it has done so: it answers before, too. Hence the second.
async fn reload_all(world: &World) {
    agents(world).iter().for_each(|agent| agent.reload().unwrap());
    bivouac_tests::elapse(Duration::from_secs(1)).await;
    world.site().agents().wait_ready(SOON).await.unwrap();
}

async fn all_echo(sockets: &mut [(Session, Socket)], words: &str) {
    join_all(sockets.iter_mut().map(|(_, socket)| socket.echoes(words))).await;
}

#[test]
fn tokens_certificates_and_servers_are_replaced_under_load() {
    World::own_locked().unproxied().run(async |world| {
        // Not all at once: how a machine of two cores fares with hundreds of handshakes is another question.
        let mut sockets = Vec::new();
        while sockets.len() < many() {
            let first = sockets.len();
            let opened = (first..many().min(first + 20)).map(async |n| {
                let session = world.spawn(GUEST).key(&format!("doc-{n}")).idle_timeout("5s").await;
                let socket = session.websocket().await;
                (session, socket)
            });
            sockets.extend(join_all(opened).await);
        }
        all_echo(&mut sockets, "hello").await;

        // The tokens.
        for role in [Role::Service, Role::Proxy] {
            revoke_for_consul(&world, role).await;
        }
        revoke_for_nomad(&world).await;
        is_refused(&world, "consul", &[]).await;
        is_refused(&world, "nomad", &[]).await;
        all_echo(&mut sockets, "without any token").await;
        for role in [Role::Service, Role::Proxy] {
            renew_for_consul(&world, role).await;
        }
        renew_for_nomad(&world).await;
        is_healed(&world, "with-other-tokens").await.stop().await;
        all_echo(&mut sockets, "with other tokens").await;

        // The authority: first it is trusted beside the old one, then it signs, then it is alone.
        let locks = world.site().locks().unwrap();
        locks.succeed().unwrap();
        reload_all(&world).await;
        certify_all(&world);
        reload_all(&world).await;
        is_healed(&world, "with-other-certificates").await.stop().await;
        locks.trust_the_newest().unwrap();
        reload_all(&world).await;
        is_healed(&world, "with-another-authority").await.stop().await;
        all_echo(&mut sockets, "with another authority").await;

        // The servers.
        world.site().agents().consul().restart().unwrap();
        world.site().agents().nomad().restart().unwrap();
        all_echo(&mut sockets, "without servers").await;
        world.site().agents().wait_ready(SOON).await.unwrap();
        is_healed(&world, "with-other-servers").await.stop().await;
        all_echo(&mut sockets, "through all of it").await;

        for (session, _) in &sockets {
            assert_eq!(session.state().await, "ready");
            assert_eq!(session.starts().len(), 1);
        }
        join_all(sockets.into_iter().map(async |(session, socket)| {
            socket.close().await;
            session.ended("idle").await;
        }))
        .await;
        world.nothing_runs().await;
    });
}
