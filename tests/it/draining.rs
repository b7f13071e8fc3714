//! A proxy that an operator has drained.

use std::time::Duration;

use bivouac_tests::world::{Answer, GUEST};
use bivouac_tests::{World, eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// The boot of the proxy that listens on a port.
async fn boot_of(world: &World, proxy: usize) -> String {
    let listen = format!("127.0.0.1:{}", world.proxy_port(proxy));
    eventually("the proxy is a member", SOON, async || {
        let members = world.members().await?;
        let own = members.iter().find(|member| member["listen"] == listen.as_str());
        own.map(|own| own["boot"].as_str().unwrap().to_owned()).ok_or_else(|| format!("{members:?}"))
    })
    .await
}

async fn member(world: &World, boot: &str) -> Result<Option<Value>, String> {
    Ok(world.members().await?.into_iter().find(|member| member["boot"] == boot))
}

#[test]
fn a_drained_proxy_cuts_nothing_leaves_and_stays_so() {
    // A drain by an operator is in no hurry: the timeout is for a stop.
    World::cluster().proxies(2).proxy_flag("drain-timeout", "0s").run(async |world| {
        let session = world.spawn(GUEST).key("doc").idle_timeout("3s").await;
        let boot = boot_of(&world, 0).await;
        let mut socket = session.websocket().await;
        assert_eq!(world.bivouac(&["members", "drain"]).await.status.code(), Some(2));
        assert_eq!(world.bivouac(&["members", "drain", "nobody"]).await.status.code(), Some(3));
        assert_eq!(world.bivouac(&["members", "drain", "--node", "nowhere"]).await.status.code(), Some(3));
        let drained = world.bivouac(&["members", "drain", &boot]).await;
        assert!(drained.status.success(), "{drained:?}");

        let readyz = format!("{}/readyz", world.proxy(0).process.ready().admin.unwrap());
        eventually("it is not ready", SOON, async || {
            Answer::to(world.http().get(&readyz)).await?.expect_status(503)
        })
        .await;
        session.get("/").await.expect_err("it accepts nothing more");
        session.via(1).serves("/").await;
        let listed = world.bivouac(&["members", "ls"]).await;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let line =
            listed.lines().find(|line| line.starts_with(&boot)).expect("it is a member until it is empty");
        assert!(line.contains("draining"), "{listed}");

        socket.echoes("what is open goes on").await;
        assert!(member(&world, &boot).await.unwrap().is_some());
        socket.close().await;
        eventually("it leaves once nothing is open", SOON, async || match member(&world, &boot).await? {
            None => Ok(()),
            Some(member) => Err(member.to_string()),
        })
        .await;
        // Nobody waits for its word any more.
        session.ended("idle").await;
        assert!(world.proxy(0).process.pid().is_some(), "it stays, drained");
        assert_eq!(Answer::to(world.http().get(&readyz)).await.unwrap().status, 503);

        let status = world.proxy(0).process.terminate().await;
        assert!(status.success(), "{status}");
        world.proxy(0).process.start().await;
        assert_ne!(boot_of(&world, 0).await, boot);
        world.spawn(GUEST).key("doc").await.serves("/").await;
    });
}

#[test]
fn every_proxy_of_a_host_is_drained_at_once() {
    World::cluster().proxies(2).run(async |world| {
        let boots = [boot_of(&world, 0).await, boot_of(&world, 1).await];
        let host = world.members().await.unwrap()[0]["host"].as_str().unwrap().to_owned();
        let drained = world.bivouac(&["members", "drain", "--node", &host]).await;
        let told = String::from_utf8_lossy(&drained.stdout).into_owned();
        assert!(boots.iter().all(|boot| told.contains(boot)), "{drained:?}");
        eventually("both have left", SOON, async || {
            let members = world.members().await?;
            if members.is_empty() { Ok(()) } else { Err(format!("{members:?}")) }
        })
        .await;
    });
}
