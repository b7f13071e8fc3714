//! A new version, or a new certificate, while users are connected: nobody is refused or cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bivouac_tests::world::{GUEST, GUEST_JOB, Session, Setup, Socket};
use bivouac_tests::{World, always, eventually, http_client};
use futures::stream::{FuturesUnordered, StreamExt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const SOON: Duration = Duration::from_secs(30);
const SOCKETS: usize = 1_000;
/// So many handshakes at once.
const AT_ONCE: usize = 50;

/// A session for a thousand users at once: the guest has too little memory for them.
const CROWDED: &str = "guest-crowded";

/// A certificate's files.
pub(crate) struct Issued {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    der: CertificateDer<'static>,
}

/// Makes one and writes it down.
pub(crate) fn certificate(folder: &Path, name: &str) -> Issued {
    let issued = rcgen::generate_simple_self_signed(vec!["*.sessions.localhost".to_owned()]).unwrap();
    let [certificate, key] = ["pem", "key"].map(|ending| folder.join(format!("{name}.{ending}")));
    std::fs::write(&certificate, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    Issued { certificate, key, der: issued.cert.der().clone() }
}

impl Issued {
    /// Takes another one's place in its files, as an operator's tool does it.
    fn replace(&self, other: &Self) {
        for (own, others) in [(&self.certificate, &other.certificate), (&self.key, &other.key)] {
            let next = other.certificate.with_extension("next");
            std::fs::copy(own, &next).unwrap();
            std::fs::rename(&next, others).unwrap();
        }
    }
}

/// A world whose proxies speak TLS.
pub(crate) trait WithTls {
    fn with_tls(self, issued: &Issued) -> Self;
}

impl WithTls for Setup {
    fn with_tls(self, issued: &Issued) -> Self {
        self.proxy_flag("listen-tls", "127.0.0.1:0")
            .proxy_flag("tls-cert", &issued.certificate.to_string_lossy())
            .proxy_flag("tls-key", &issued.key.to_string_lossy())
    }
}

/// Takes any certificate: the scenarios look at it themselves.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Opens a connection that speaks TLS.
pub(crate) async fn secure(port: u16, session: &Session) -> TlsStream<TcpStream> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified))
        .with_no_client_auth();
    let name = format!("{}.localhost", session.id).try_into().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
}

/// Asks on a connection of its own, and tells which certificate was shown.
async fn asks_securely(port: u16, session: &Session) -> CertificateDer<'static> {
    let mut stream = secure(port, session).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {}.localhost\r\nConnection: close\r\n\r\n", session.id);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // Without a proper end of TLS this fails.
    stream.read_to_string(&mut answer).await.expect("a whole answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let shown = stream.get_ref().1.peer_certificates().unwrap();
    shown[0].clone().into_owned()
}

/// A load on one session, by kept connections and new ones, until it is told to stop. Every request must be served.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    users: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn on(session: &Session) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let users = (0..6).map(|user| {
            let (stop, served, url) =
                (stop.clone(), served.clone(), format!("http://{}/load", session.authority()));
            tokio::spawn(async move {
                let http = http_client(SOON);
                while !stop.load(Ordering::Relaxed) {
                    // Of a request that must not be sent twice nobody makes a second try.
                    let mut request = http.post(&url).body("said once");
                    if user % 2 == 0 {
                        request = request.header("connection", "close");
                    }
                    let answer =
                        request.send().await.unwrap_or_else(|error| panic!("a request failed: {error:?}"));
                    assert_eq!(answer.status(), 200);
                    answer.bytes().await.expect("a whole answer");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Self { users: users.collect(), stop, served }
    }

    /// Waits until so many more were served.
    async fn goes_on(&self, requests: usize) {
        let until = self.served.load(Ordering::Relaxed) + requests;
        eventually("requests are served", SOON, async || {
            if let Some(failed) = self.users.iter().position(tokio::task::JoinHandle::is_finished) {
                return Err(format!("user {failed} has failed"));
            }
            match self.served.load(Ordering::Relaxed) {
                served if served >= until => Ok(()),
                served => Err(format!("{served} of {until}")),
            }
        })
        .await;
    }

    async fn ends(self) {
        self.stop.store(true, Ordering::Relaxed);
        for user in self.users {
            user.await.expect("no request failed");
        }
    }
}

async fn open(session: &Session, sockets: usize) -> Vec<Socket> {
    let mut opening = FuturesUnordered::new();
    let mut open = Vec::new();
    for _ in 0..sockets {
        if opening.len() >= AT_ONCE {
            open.extend(opening.next().await);
        }
        opening.push(session.websocket());
    }
    open.extend(opening.collect::<Vec<_>>().await);
    open
}

#[test]
fn a_thousand_websockets_and_a_load_survive_a_take_over() {
    let job = GUEST_JOB.replace("memory = 32", "memory = 256");
    let toml = "access = \"public\"\nidle_timeout = \"10m\"\n[ports.http]\n[params.text]\ndefault = \"\"\n";
    let setup = World::cluster().template(CROWDED, toml, &job).proxy_flag("drain-timeout", "180s");
    // Whoever rests is not cut either; the scenario's own client does.
    setup.proxy_flag("limit-keep-alive", "5s").run(async |world| {
        let session = world.spawn(CROWDED).await;
        session.serves("/").await;
        let mut sockets = open(&session, SOCKETS).await;
        let load = Load::on(&session);
        load.goes_on(200).await;

        let old = world.proxy(0);
        let new = world.prepare_successor(0).await;
        new.process.start().await;
        assert_eq!(new.process.ready().proxy, old.process.ready().proxy);
        assert_eq!(new.process.ready().admin, old.process.ready().admin, "operators reach the new one there");
        load.goes_on(400).await;
        for socket in &mut sockets {
            socket.echoes("still there").await;
        }
        assert!(old.process.pid().is_some(), "it drains for as long as its users stay");
        sockets.push(session.websocket().await);
        load.goes_on(200).await;
        load.ends().await;

        for socket in sockets {
            socket.close().await;
        }
        let status = old.process.ends().await;
        assert!(status.success(), "{status}");
        eventually("the old one has left the members", SOON, async || {
            let members = world.members().await?;
            if members.len() == 1 { Ok(()) } else { Err(format!("{members:?}")) }
        })
        .await;
        session.serves("/").await;
        let readyz = format!("{}/readyz", new.process.ready().admin.unwrap());
        assert_eq!(world.http().get(&readyz).send().await.unwrap().status(), 200);
        session.never_doubled();
    });
}

#[test]
fn a_take_over_that_dies_midway_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let used = certificate(folder.path(), "used");
    World::cluster().with_tls(&used).proxy_flag("limit-keep-alive", "5s").run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("5m").await;
        let mut socket = session.websocket().await;
        let load = Load::on(&session);
        let old = world.proxy(0);
        let doomed = world.prepare_successor(0).await;
        // It gets the sockets, and waits for Consul to join.
        doomed.consul.blackhole();
        doomed.process.launch();
        eventually("it has asked", SOON, async || {
            let told = old.process.log().contains("is about to take over");
            told.then_some(()).ok_or_else(|| "nobody has asked".to_owned())
        })
        .await;
        load.goes_on(100).await;
        doomed.process.kill();
        eventually("it was noticed", SOON, async || {
            let told = old.process.log().contains("this one serves on");
            told.then_some(()).ok_or_else(|| "nothing is said".to_owned())
        })
        .await;
        load.goes_on(100).await;
        socket.echoes("nothing has changed").await;
        assert!(old.process.pid().is_some());

        let (new, port) = (world.prepare_successor(0).await, world.proxy_tls_port(0));
        new.process.start().await;
        assert_eq!(new.process.ready().proxy_tls, old.process.ready().proxy_tls);
        asks_securely(port, &session).await;
        load.goes_on(100).await;
        socket.echoes("nor now").await;
        // Whoever has taken over hands over in its turn, also while the first one still drains.
        let last = world.prepare_successor(0).await;
        last.process.start().await;
        asks_securely(port, &session).await;
        load.goes_on(100).await;
        load.ends().await;
        assert!(new.process.ends().await.success());
        socket.close().await;
        assert!(old.process.ends().await.success());
        session.serves("/").await;
    });
}

#[test]
fn a_second_start_without_take_over_is_refused() {
    World::cluster().run(async |world| {
        let session = world.spawn(GUEST).await;
        session.serves("/").await;
        let second = world.prepare_proxy(world.proxy_port(0)).await;
        second.process.launch();
        let status = second.process.ends().await;
        assert!(!status.success(), "{status}");
        let said = second.process.log();
        assert!(said.contains("cannot listen on"), "{said}");
        session.serves("/").await;
    });
}

#[test]
fn a_proxy_that_drains_says_so_before_it_closes() {
    World::cluster().proxy_flag("drain-delay", "3s").run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("5m").await;
        session.serves("/").await;
        let mut socket = session.websocket().await;
        let proxy = world.proxy(0);
        let readyz = format!("{}/readyz", proxy.process.ready().admin.unwrap());
        proxy.process.asked_to_end();
        eventually("it is not ready", SOON, async || match world.http().get(&readyz).send().await {
            Ok(answer) if answer.status() == 503 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        // Whoever has not noticed yet is served, over a connection of its own.
        let late = http_client(SOON).get(format!("http://{}/", session.authority())).send().await.unwrap();
        assert_eq!(late.status(), 200);
        let port = world.proxy_port(0);
        eventually("it accepts nothing more", SOON, async || {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(_) => Err("it does".to_owned()),
                Err(_) => Ok(()),
            }
        })
        .await;
        socket.echoes("what is open goes on").await;
        socket.close().await;
        assert!(proxy.process.ends().await.success());
    });
}

#[test]
fn two_certificates_under_load_fail_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let used = certificate(folder.path(), "used");
    World::embedded().with_tls(&used).run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("5m").await;
        session.serves("/").await;
        let port = world.proxy_tls_port(0);
        assert_eq!(asks_securely(port, &session).await, used.der);
        let mut kept = secure(port, &session).await;
        for name in ["second", "third"] {
            let next = certificate(folder.path(), name);
            next.replace(&used);
            eventually(format!("the {name} certificate is shown"), SOON, async || {
                // Each of them has to be served, whichever certificate it sees.
                let asked = futures::future::join_all((0..8).map(|_| asks_securely(port, &session)));
                if asked.await.iter().all(|shown| *shown == next.der) {
                    Ok(())
                } else {
                    Err("another one".to_owned())
                }
            })
            .await;
        }
        let request =
            format!("GET / HTTP/1.1\r\nHost: {}.localhost\r\nConnection: close\r\n\r\n", session.id);
        kept.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        kept.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "a connection outlives its certificate: {answer}");
    });
}

#[test]
fn a_bad_certificate_keeps_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let used = certificate(folder.path(), "used");
    World::embedded().with_tls(&used).run(async |world| {
        let session = world.spawn(GUEST).idle_timeout("5m").await;
        session.serves("/").await;
        let port = world.proxy_tls_port(0);
        // Without its key.
        std::fs::copy(certificate(folder.path(), "other").certificate, &used.certificate).unwrap();
        eventually("an operator is told", SOON, async || {
            let told = world.dev().log().contains("the one before stays in use");
            told.then_some(()).ok_or_else(|| "nothing is said".to_owned())
        })
        .await;
        always("the one before is shown", Duration::from_secs(3), async || {
            if asks_securely(port, &session).await == used.der {
                Ok(())
            } else {
                Err("another one".to_owned())
            }
        })
        .await;
    });
}
