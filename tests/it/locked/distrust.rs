//! Certificates that are not trusted: what is wrong is told in words, with what to do about it.

use std::path::PathBuf;

use bivouac_tests::World;
use bivouac_tests::agents::{Authority, Certified, Validity, replace};
use bivouac_tests::world::{GUEST, Role};

use super::{is_healed, is_refused, spawns_wait};

/// A client of Nomad, with what is right and one thing that is not.
fn client(
    world: &World,
    address: &str,
    wrong: impl FnOnce(&mut bivouac_nomad::Config),
) -> bivouac_nomad::Client {
    let mut config = bivouac_nomad::Config::new(address.parse().unwrap());
    let own = world.doors().certified(Role::Service);
    config.token = Some(world.doors().nomad.secret.clone().into());
    config.tls.ca_file = Some(world.site().locks().unwrap().ca_file());
    (config.tls.certificate_file, config.tls.key_file) = (Some(own.certificate), Some(own.key));
    wrong(&mut config);
    bivouac_nomad::Client::new(config).unwrap()
}

#[test]
fn distrust_says_what_is_wrong_and_what_to_do() {
    World::locked().replicas(0).proxies(1).run(async |world| {
        let nomad = world.site().agents().nomad().url();
        let stranger = Authority::new("Somebody else").unwrap();
        let file = |name: &str| world.folder().join(name);
        let certified = |name: &str| Certified {
            certificate: file(&format!("{name}.pem")),
            key: file(&format!("{name}.key")),
        };
        replace(&file("stranger.pem"), &stranger.pem()).unwrap();
        let locks = world.site().locks().unwrap();
        locks.authority().issue(&certified("expired"), &["service"], Validity::Expired).unwrap();
        stranger.issue(&certified("foreign"), &["service"], Validity::Good).unwrap();
        let identity = |config: &mut bivouac_nomad::Config, own: Option<Certified>| {
            (config.tls.certificate_file, config.tls.key_file) =
                own.map(|own| (own.certificate, own.key)).unzip();
        };
        let plain = nomad.replace("https://", "http://");
        let proxy = format!("https://127.0.0.1:{}", world.proxy_port(0));
        let named = |name: &str| Some(name.to_owned());
        let own = |name| Some(certified(name));
        let clients = [
            ("no authority", client(&world, &nomad, |c| c.tls.ca_file = None), "NOMAD_CACERT is not set"),
            (
                "another's",
                client(&world, &nomad, |c| c.tls.ca_file = Some(file("stranger.pem"))),
                "stranger.pem",
            ),
            (
                "a name",
                client(&world, &nomad, |c| c.tls.server_name = named("x.nomad")),
                "NOMAD_TLS_SERVER_NAME",
            ),
            ("no certificate", client(&world, &nomad, |c| identity(c, None)), "NOMAD_CLIENT_CERT"),
            ("an expired one", client(&world, &nomad, |c| identity(c, own("expired"))), "expired.pem"),
            ("a foreign one", client(&world, &nomad, |c| identity(c, own("foreign"))), "foreign.pem"),
            ("no TLS", client(&world, &plain, |_| {}), "https://"),
            ("no TLS there", client(&world, &proxy, |_| {}), "http://"),
        ];
        for (what, client, words) in &clients {
            let error = client.leader().await.expect_err(what).to_string();
            assert!(error.contains(words), "{what}: {error}");
        }
        client(&world, &nomad, |c| c.tls.server_name = named("server.global.nomad")).leader().await.unwrap();
    });
}

#[test]
fn a_service_that_is_not_trusted_says_so_and_heals() {
    World::locked().unproxied().run(async |world| {
        let own = world.doors().certified(Role::Service);
        let session = world.spawn(GUEST).key("doc").idle_timeout("60s").await;
        session.serves("/").await;
        let stranger = Authority::new("Bivouac's tests").unwrap();
        let read = |file: &PathBuf| std::fs::read_to_string(file).unwrap();
        let (certificate, key) = (read(&own.certificate), read(&own.key));
        stranger.issue(&own, &["service"], Validity::Good).unwrap();
        is_refused(&world, "nomad", &["does not accept our certificate", "service.pem"]).await;
        is_refused(&world, "consul", &["does not accept our certificate", "service.pem"]).await;
        spawns_wait(&world).await;
        session.serves("/").await;
        // Not in one moment: for a while certificate and key do not fit.
        replace(&own.certificate, &certificate).unwrap();
        spawns_wait(&world).await;
        replace(&own.key, &key).unwrap();
        is_healed(&world, "after").await;
        assert_eq!(session.starts().len(), 1);
    });
}
