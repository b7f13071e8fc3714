use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn hops() -> Arc<[IpNet]> {
    ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()].into()
}

fn visitor(client: &str) -> Visitor {
    let client = client.parse().unwrap();
    Visitor::new(client, false, &hops())
}

fn told(visitor: &Visitor) -> Vec<(String, String)> {
    let mut told = Vec::new();
    visitor.tell(b"s.example.com", |name, value| {
        told.push((String::from_utf8(name.to_vec()).unwrap(), String::from_utf8(value.concat()).unwrap()));
    });
    told
}

fn field<'a>(told: &'a [(String, String)], name: &str) -> &'a str {
    let mut values = told.iter().filter(|(told, _)| told == name);
    let value = &values.next().unwrap().1;
    assert!(values.next().is_none(), "{name} is told once");
    value
}

#[test]
fn a_client_is_who_has_connected_whatever_it_says() {
    let visitor = visitor("192.0.2.7");
    let said = headers(&[
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=1.2.3.4;proto=https"),
    ]);
    let asked = visitor.of_request(&said);
    assert!(matches!(asked, Cow::Borrowed(_)));
    assert_eq!((asked.client.to_string().as_str(), asked.secure), ("192.0.2.7", false));
    let told = told(&asked);
    assert_eq!(field(&told, "X-Forwarded-For"), "192.0.2.7");
    assert_eq!(field(&told, "X-Forwarded-Proto"), "http");
    assert_eq!(field(&told, "X-Forwarded-Host"), "s.example.com");
    assert_eq!(field(&told, "Forwarded"), "for=192.0.2.7;host=\"s.example.com\";proto=http");
}

#[test]
fn an_address_of_six_words_is_quoted() {
    let told = told(&visitor("2001:db8::1"));
    assert_eq!(field(&told, "Forwarded"), "for=\"[2001:db8::1]\";host=\"s.example.com\";proto=http");
    assert_eq!(field(&told, "X-Forwarded-For"), "2001:db8::1");
    let mapped = visitor("::ffff:192.0.2.1");
    assert_eq!(mapped.client.to_string(), "192.0.2.1");
}

#[test]
fn a_trusted_hop_is_believed_as_far_as_trust_goes() {
    for (said, client) in [
        ("198.51.100.9", "198.51.100.9"),
        ("198.51.100.9, 10.1.1.1", "198.51.100.9"),
        ("6.6.6.6, 198.51.100.9, 10.1.1.1", "198.51.100.9"),
        ("6.6.6.6, nobody, 10.1.1.1", "10.1.1.1"),
        ("nobody", "10.0.0.1"),
        ("", "10.0.0.1"),
        ("10.9.9.9, 10.1.1.1", "10.9.9.9"),
        ("198.51.100.9:4711", "198.51.100.9"),
        ("[2001:db8::5]:80", "2001:db8::5"),
    ] {
        let visitor = visitor("10.0.0.1");
        let said = headers(&[("x-forwarded-for", said)]);
        assert_eq!(visitor.of_request(&said).client.to_string(), client, "{said:?}");
    }
}

#[test]
fn what_a_trusted_hop_says_is_continued() {
    let visitor = visitor("10.0.0.1");
    let said = headers(&[
        ("x-forwarded-for", "198.51.100.9"),
        ("x-forwarded-for", "10.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "app.example.com"),
        ("forwarded", "for=6.6.6.6"),
    ]);
    let asked = visitor.of_request(&said);
    assert!(asked.secure);
    let told = told(&asked);
    assert_eq!(field(&told, "X-Forwarded-For"), "198.51.100.9, 10.1.1.1, 10.0.0.1");
    assert_eq!(field(&told, "X-Forwarded-Proto"), "https");
    assert_eq!(field(&told, "X-Forwarded-Host"), "app.example.com");
    assert_eq!(
        field(&told, "Forwarded"),
        "for=198.51.100.9;host=\"app.example.com\";proto=https, for=10.1.1.1, \
         for=10.0.0.1;host=\"s.example.com\";proto=http"
    );
}

#[test]
fn the_newer_dialect_is_understood_too() {
    let visitor = visitor("fd00::1");
    let said = headers(&[("forwarded", "for=\"[2001:db8::9]:47\";proto=https;host=a.b, For=10.1.1.1;by=x")]);
    let asked = visitor.of_request(&said);
    assert_eq!((asked.client.to_string().as_str(), asked.secure), ("2001:db8::9", true));
    let told = told(&asked);
    assert_eq!(field(&told, "X-Forwarded-For"), "2001:db8::9, 10.1.1.1, fd00::1");
    assert_eq!(field(&told, "X-Forwarded-Host"), "a.b");
    assert!(field(&told, "Forwarded").starts_with("for=\"[2001:db8::9]:47\";proto=https;host=a.b, For="));
}

#[test]
fn a_host_that_would_break_out_is_not_repeated() {
    let visitor = visitor("10.0.0.1");
    for host in ["a\"b", "a;b", "a b", "a,b", "", &"a".repeat(256)] {
        let said = headers(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-host", host)]);
        assert_eq!(field(&told(&visitor.of_request(&said)), "X-Forwarded-Host"), "s.example.com", "{host:?}");
    }
}

proptest! {
    #[test]
    fn nothing_that_is_said_breaks_it(for_ in "[ -~]{0,60}", forwarded in "[ -~]{0,80}", both in any::<bool>()) {
        let visitor = visitor("10.0.0.1");
        let mut fields = vec![("forwarded", forwarded.as_str())];
        if both {
            fields.push(("x-forwarded-for", for_.as_str()));
        }
        let told = told(&visitor.of_request(&headers(&fields)));
        prop_assert_eq!(told.len(), 4);
        prop_assert!(field(&told, "X-Forwarded-For").ends_with("10.0.0.1"));
        prop_assert!(told.iter().all(|(_, value)| !value.contains(['\r', '\n'])));
    }

    #[test]
    fn whoever_is_not_trusted_is_nobody_else(address in any::<[u8; 4]>(), said in "[ -~]{0,60}") {
        let client = IpAddr::from(address);
        prop_assume!(!is_within(&hops(), client));
        let visitor = Visitor::new(client, false, &hops());
        let said = headers(&[("x-forwarded-for", &said), ("forwarded", &said)]);
        prop_assert_eq!(visitor.of_request(&said).client, client);
    }
}
