//! The secrets of an installation: the one that never changes, and the one that is rotated.

use std::time::Duration;

use bivouac_tests::world::Role;
use bivouac_tests::{World, eventually};

#[test]
fn another_cluster_secret_is_refused() {
    World::cluster().run(async |world| {
        let file = |name: &str| world.folder().join(format!("{name}.secret")).display().to_string();
        std::fs::write(world.folder().join("other.secret"), "another secret").unwrap();
        let templates = world.templates().display().to_string();
        let (other, link, ticket, token) = (file("other"), file("link"), file("ticket"), file("token"));
        let secrets = [
            ["--cluster-secret-file", &other],
            ["--link-secret-file", &link],
            ["--ticket-secret-file", &ticket],
            ["--token-file", &token],
        ]
        .concat();
        let place =
            ["service", "--api", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--prefix", world.prefix()];
        let args = [place.as_slice(), &["--templates", &templates], &secrets].concat();
        let reach = world.reach(Role::Service, world.site().nomad_address(), world.site().consul_address());
        let output = world.command(&args).envs(reach).output();
        let output = tokio::time::timeout(Duration::from_secs(30), output).await.expect("it ends").unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("Put the earlier secret back"), "{told}");
        assert!(!told.contains("another secret"), "{told}");
    });
}

#[test]
fn the_link_secret_is_rotated_without_a_cut() {
    World::cluster().run(async |world| {
        let file = world.folder().join("link.secret");
        let old = std::fs::read_to_string(&file).unwrap();
        let linked = async |when: &str| {
            eventually(&format!("the proxy is linked {when}"), Duration::from_secs(30), async || {
                let members = world.members().await?;
                match members.as_slice() {
                    [member] if member["linked"] == true => Ok(()),
                    _ => Err(format!("{members:?}")),
                }
            })
            .await;
        };
        let (proxy, service) = (world.proxy(0), world.service(0));
        for (secrets, when) in
            [(format!("new secret\n{old}\n"), "with both"), ("new secret\n".to_owned(), "with the new")]
        {
            std::fs::write(&file, secrets).unwrap();
            for (process, which) in [(&proxy.process, "proxy"), (&service.process, "service")] {
                assert!(process.terminate().await.success());
                process.start().await;
                linked(&format!("{when}, after the {which} has read it")).await;
            }
        }
    });
}
