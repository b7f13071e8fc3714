//! Hosts that lead nowhere, and those that only seem to lead somewhere else.

use super::{Case, Expect, MALFORMED, case, run};

fn of(host: &str) -> String {
    format!("GET /TAG HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

#[test]
fn a_host_names_one_session() {
    let unknown = Expect::Refused(404, "host_unknown");
    let mut cases: Vec<Case> = vec![
        case("no host", "GET /TAG HTTP/1.1\r\nConnection: close\r\n\r\n", MALFORMED),
        case("two hosts", of("HOST\r\nHost: HOST"), MALFORMED),
        case("two hosts, one elsewhere", of("HOST\r\nHost: elsewhere.example"), MALFORMED),
        case("no session", of("abcdefghijklmnop2345.localhost"), Expect::Refused(404, "session_unknown")),
    ];
    for (name, host) in [
        ("an empty host", ""),
        ("two words", "a b"),
        ("a name in front", "user@HOST"),
        ("a path behind", "HOST/path"),
        ("a query behind", "HOST?x"),
        ("a fragment behind", "HOST#x"),
        ("a list", "HOST, elsewhere.example"),
        ("a port that is a word", "abcdefghijklmnop2345.localhost:http"),
        ("a port that is too large", "abcdefghijklmnop2345.localhost:65536"),
        ("a port below nothing", "abcdefghijklmnop2345.localhost:-1"),
        ("two ports", "abcdefghijklmnop2345.localhost:80:80"),
        ("a percent sign", "abcdefghijklmnop2345%2elocalhost"),
        ("a backslash", "abcdefghijklmnop2345\\.localhost"),
        ("an umlaut", "\u{fc}bcdefghijklmnop2345.localhost"),
    ] {
        cases.push(case(name, of(host), MALFORMED));
    }
    for (name, host) in [
        ("another domain", "elsewhere.example"),
        ("the domain itself", "localhost"),
        ("a dot and the domain", ".localhost"),
        ("an address", "127.0.0.1"),
        ("an address of IPv6", "[::1]"),
        ("an address of IPv6 with a port", "[::1]:80"),
        ("too short", "abcdefghijklmnop234.localhost"),
        ("too long", "abcdefghijklmnop23456.localhost"),
        ("no base32", "abcdefghijklmnop2389.localhost"),
        ("deeper", "x.abcdefghijklmnop2345.localhost"),
        ("two dots", "abcdefghijklmnop2345..localhost"),
        ("our domain in the middle", "abcdefghijklmnop2345.localhost.elsewhere.example"),
        ("our domain at the end of another", "abcdefghijklmnop2345.evillocalhost"),
        ("a label that begins with a dash", "---abcdefghijklmnop2345.localhost"),
        ("a label of punycode", "xn--abcdefghijklmnop2345.localhost"),
        ("one dash behind a label", "http-abcdefghijklmnop2345.localhost"),
    ] {
        cases.push(case(name, of(host), unknown));
    }
    run(cases);
}

#[test]
fn what_else_names_hosts_is_not_believed() {
    let forged = "X-Forwarded-Host: elsewhere.example\r\nForwarded: host=elsewhere.example\r\n\
                  X-Host: elsewhere.example\r\nX-Original-URL: http://elsewhere.example/";
    run(vec![case("fields of other proxies", of(&format!("HOST\r\n{forged}")), Expect::Served(1))]);
}
