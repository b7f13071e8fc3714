//! The proxy against h2spec, the conformance suite of HTTP/2. What it asks for is no session's, so that every answer is a
//! refusal of the proxy's own; how streams and connections behave is the same.

use std::io::Write;
use std::process::Command;

use bivouac_tests::World;

/// Needs `BIVOUAC_H2SPEC`: `scripts/tools h2spec`. Says so where there is none.
fn h2spec(name: &str) -> Option<Command> {
    let binary = std::env::var_os("BIVOUAC_H2SPEC").filter(|path| !path.is_empty());
    if binary.is_none() {
        let skipped = format!("skipped: {name}: there is no h2spec (BIVOUAC_H2SPEC)");
        writeln!(std::io::stderr(), "{skipped}").expect("standard error");
    }
    binary.map(Command::new)
}

/// What fails, and may: each with its reason.
const ALLOWED: &[&str] = &[
    // The library drops such fields unseen: they reach no backend.
    "Sends a HEADERS frame that contains a pseudo-header field as trailers",
    // These send a head, and a fault behind it. What has no session is answered as soon as its head is read, and its
    // stream is given up: whatever is late on it is passed over, as RFC 9113 has it (5.1). Which of both comes first is
    // a matter of luck. That faults in the length, a second head and a window count is checked in hostile/h2.rs.
    "Sends a HEADERS frame after sending RST_STREAM frame",
    "Sends a DATA frame after sending RST_STREAM frame",
    "Sends a second HEADERS frame without the END_STREAM flag",
    "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
    "field which does not equal the DATA frame payload length",
    "field which does not equal the sum of the multiple DATA frames payload length",
];
/// The same where both protocols are spoken on one port.
const ALLOWED_PLAIN: &[&str] = &[
    // Whatever is no preface may be a request by HTTP/1, and is answered there: with 400, and the end.
    "Sends invalid connection preface",
];

/// Runs all of it against a port, and fails with what failed.
fn conforms(mut h2spec: Command, port: u16, flags: &[&str], allowed: &[&str]) {
    let port = port.to_string();
    let run = h2spec.args(["--host", "127.0.0.1", "--port", &port, "--timeout", "5"]).args(flags).output();
    let text = String::from_utf8_lossy(&run.expect("h2spec runs").stdout).into_owned();
    let (_, summary) =
        text.rsplit_once("Finished in").unwrap_or_else(|| panic!("it was not finished:\n{text}"));
    let failures = text.split_once("\nFailures:").map_or("", |(_, failures)| failures);
    let failed: Vec<&str> = failures.split("\u{d7} ").skip(1).collect();
    for failure in &failed {
        let known = |title: &&str| failure.contains(title);
        assert!(allowed.iter().chain(ALLOWED).any(known), "{failure}\n{summary}");
    }
    assert!(
        summary.contains(&format!(" {} failed", failed.len())) && summary.contains(" 0 skipped"),
        "{summary}"
    );
}

#[test]
fn plain() {
    let Some(h2spec) = h2spec("h2spec::plain") else { return };
    World::embedded().run(async |world| {
        let port = world.proxy_port(0);
        let checked = tokio::task::spawn_blocking(move || conforms(h2spec, port, &[], ALLOWED_PLAIN));
        checked.await.expect("it conforms");
    });
}

#[test]
fn tls() {
    let Some(h2spec) = h2spec("h2spec::tls") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let issued = rcgen::generate_simple_self_signed(vec!["*.localhost".to_owned()]).expect("a certificate");
    let [certificate, key] = ["proxy.pem", "proxy.key"].map(|name| folder.path().join(name));
    std::fs::write(&certificate, issued.cert.pem()).expect("the certificate");
    std::fs::write(&key, issued.signing_key.serialize_pem()).expect("its key");
    World::embedded()
        .proxy_flag("listen-tls", "127.0.0.1:0")
        .proxy_flag("tls-cert", &certificate.to_string_lossy())
        .proxy_flag("tls-key", &key.to_string_lossy())
        .run(async |world| {
            let port = world.proxy_tls_port(0);
            let checked = tokio::task::spawn_blocking(move || conforms(h2spec, port, &["-t", "-k"], &[]));
            checked.await.expect("it conforms");
        });
}
