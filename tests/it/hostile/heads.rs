//! Heads that are malformed, too large, or odd.

use super::{Case, Expect, MALFORMED, case, run};

/// A GET with a further line.
fn with(line: &str) -> String {
    format!("GET /TAG HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n{line}\r\n\r\n")
}

/// A request that begins with this line.
fn begins(line: &str) -> String {
    format!("{line}\r\nHost: HOST\r\nConnection: close\r\n\r\n")
}

#[test]
fn fields_have_one_form() {
    let refused = [
        ("a folded line", with("X: a\r\n b")),
        ("a line folded with a tab", with("X: a\r\n\tb")),
        ("a folded first line", "GET /TAG HTTP/1.1\r\n X: a\r\nHost: HOST\r\n\r\n".to_owned()),
        ("a space in a name", with("X Y: a")),
        ("a space behind a name", with("X : a")),
        ("a tab behind a name", with("X\t: a")),
        ("no name", with(": a")),
        ("no colon", with("X")),
        ("a name in quotes", with("\"X\": a")),
        ("a name with a bracket", with("X(: a")),
        ("a name that is no ASCII", with("\u{fc}: a")),
        ("a zero in a name", with("X\0Y: a")),
        ("a zero in a value", with("X: a\0b")),
        ("a bell in a value", with("X: a\u{7}b")),
        ("a CR in a value", with("X: a\rb")),
        ("an LF for a line's end", with("X: a\nY: b")),
        ("LFs alone", "GET /TAG HTTP/1.1\nHost: HOST\n\n".to_owned()),
        ("an LF at the end", "GET /TAG HTTP/1.1\r\nHost: HOST\r\n\n".to_owned()),
        ("an LF behind the first line", "GET /TAG HTTP/1.1\nHost: HOST\r\n\r\n".to_owned()),
        ("too many nominations", with(&format!("Connection: {}", vec!["x-a"; 40].join(",")))),
        ("more fields than anybody sends", with(&vec!["X: a"; 2_000].join("\r\n"))),
    ];
    run(refused.into_iter().map(|(name, bytes)| case(name, bytes, MALFORMED)).collect());
}

#[test]
fn the_first_line_has_one_form() {
    let refused = [
        ("a space in the target", begins("GET /TAG b HTTP/1.1")),
        ("two spaces", begins("GET  /TAG HTTP/1.1")),
        ("two spaces at the end", begins("GET /TAG  HTTP/1.1")),
        ("a space in front", begins(" GET /TAG HTTP/1.1")),
        ("a tab between", begins("GET\t/TAG HTTP/1.1")),
        ("no version", begins("GET /TAG")),
        ("no target", begins("GET HTTP/1.1")),
        ("a word", begins("NONSENSE")),
        ("zeros", "\0\0\0\0\r\n\r\n".to_owned()),
        ("HTTP/0.9", begins("GET /TAG HTTP/0.9")),
        ("HTTP/1.2", begins("GET /TAG HTTP/1.2")),
        ("HTTP/9.9", begins("GET /TAG HTTP/9.9")),
        ("HTTP/1.10", begins("GET /TAG HTTP/1.10")),
        ("http in small letters", begins("GET /TAG http/1.1")),
        ("HTTP/2 in the form of HTTP/1", begins("GET /TAG HTTP/2.0")),
        ("a method with a bracket", begins("GE(T /TAG HTTP/1.1")),
        ("a target without a slash", begins("GET TAG HTTP/1.1")),
        ("a target with a DEL", begins("GET /TAG\u{7f} HTTP/1.1")),
        ("an asterisk for a GET", begins("GET * HTTP/1.1")),
        ("another scheme", begins("GET ftp://HOST/TAG HTTP/1.1")),
        ("another host in the target", begins("GET http://elsewhere.example/TAG HTTP/1.1")),
        ("a name and a password in the target", begins("GET http://a:b@HOST/TAG HTTP/1.1")),
    ];
    let mut cases: Vec<Case> =
        refused.into_iter().map(|(name, bytes)| case(name, bytes, MALFORMED)).collect();
    let not_allowed = Expect::Refused(405, "method_not_allowed");
    cases.push(case("CONNECT", begins("CONNECT HOST HTTP/1.1"), not_allowed));
    cases.push(case("CONNECT with a path", begins("CONNECT /TAG HTTP/1.1"), not_allowed));
    cases.push(case("TRACE", begins("TRACE /TAG HTTP/1.1"), not_allowed));
    run(cases);
}

#[test]
fn a_head_has_an_end() {
    let large = Expect::Refused(431, "head_too_large");
    run(vec![
        case("8 MiB in a field", with(&format!("X: {}", "x".repeat(8 << 20))), large),
        case("8 MiB in fields", with(&format!("X: {}\r\n", "x".repeat(1_000)).repeat(8_000)), large),
        case("8 MiB in the target", begins(&format!("GET /TAG{} HTTP/1.1", "x".repeat(8 << 20))), large),
        case("8 MiB without a line", "x".repeat(8 << 20), large),
        case("nothing but line ends", "\r\n".repeat(100_000), large),
    ]);
}

#[test]
fn what_is_odd_but_clear_is_served() {
    let served = [
        ("a whole URL", begins("GET http://HOST/TAG HTTP/1.1")),
        ("a whole URL with another scheme", begins("GET https://HOST/TAG HTTP/1.1")),
        ("two slashes", begins("GET //elsewhere.example/TAG HTTP/1.1")),
        ("dots", begins("GET /../../TAG HTTP/1.1")),
        ("percent signs", begins("GET /%00%2e%2f/TAG?%%% HTTP/1.1")),
        ("a long path", begins(&format!("GET /TAG{} HTTP/1.1", "x".repeat(30_000)))),
        ("a method that nobody knows", begins("BREW /TAG HTTP/1.1")),
        ("a method in small letters", begins("get /TAG HTTP/1.1")),
        ("an empty line in front", format!("\r\n{}", begins("GET /TAG HTTP/1.1"))),
        ("an empty value", with("X:")),
        ("values with spaces around", with("X: \t a \t ")),
        ("bytes above ASCII in a value", with("X: \u{fc}\u{20ac}")),
        ("the same field a hundred times", with(&vec!["X: a"; 100].join("\r\n"))),
    ];
    run(served.into_iter().map(|(name, bytes)| case(name, bytes, Expect::Served(1))).collect());
}
