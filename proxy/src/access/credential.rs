//! What a request shows to be let in, and what of it must not reach a backend. Pure.

use bivouac_protocol::ticket::{KeyRing, looks_like_ours};
use http::{HeaderMap, header};

use super::Strip;
use crate::head;

/// The query parameter of a link.
const PARAMETER: &[u8] = b"bivouac_ticket=";
/// Subprotocol that is answered if the backend chooses none.
pub(crate) const SUBPROTOCOL: &str = "bivouac.v1";
/// Begins the subprotocol that is a ticket.
const TICKET_PROTOCOL: &str = "bivouac.ticket.";
/// Cookies of our name that are tried: whoever can set one for a whole domain can set many.
const COOKIES_AT_MOST: usize = 4;

/// A ticket, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    /// As `Authorization`, or as a WebSocket's subprotocol.
    Bearer(&'a str),
    /// In the URL.
    Link(&'a str),
    /// As one of these cookies.
    Cookies(Vec<&'a str>),
}

/// What was found in a request.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    /// The first that is present decides: there is no falling through to a weaker one.
    pub(super) shown: Option<Shown<'a>>,
    pub(super) strip: Strip,
}

/// Looks through a request with this target, in origin form. `cookie` is the name that our cookie has here.
pub(super) fn find<'a>(headers: &'a HeaderMap, target: &'a [u8], ring: &KeyRing, cookie: &str) -> Found<'a> {
    let mut found = Found::default();
    let bearer = headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .filter_map(|value| bearer(value.as_bytes()))
        .find(|text| looks_like_ours(text, ring));
    found.strip.authorization = bearer.is_some();
    let offered = offered(headers, &mut found.strip);
    let link = link(target);
    if link.is_some() {
        found.strip.target = Some(without_link(target));
    }
    found.shown = bearer
        .or(offered)
        .map(Shown::Bearer)
        .or_else(|| link.map(|text| Shown::Link(str::from_utf8(text).unwrap_or_default())))
        .or_else(|| {
            let cookies: Vec<_> = cookies(headers, cookie).take(COOKIES_AT_MOST).collect();
            (!cookies.is_empty()).then_some(Shown::Cookies(cookies))
        });
    found
}

fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, text) = str::from_utf8(value).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

/// The ticket among the subprotocols that a WebSocket offers.
fn offered<'a>(headers: &'a HeaderMap, strip: &mut Strip) -> Option<&'a str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let all = || values.iter().flat_map(|value| head::tokens(value.as_bytes()));
    let is_ours =
        |token: &[u8]| token == SUBPROTOCOL.as_bytes() || token.starts_with(TICKET_PROTOCOL.as_bytes());
    if !all().any(is_ours) {
        return None;
    }
    strip.protocols = Some(all().filter(|token| !is_ours(token)).collect::<Vec<_>>().join(b", ".as_slice()));
    strip.offered_ours = all().any(|token| token == SUBPROTOCOL.as_bytes());
    let ticket = all().find_map(|token| token.strip_prefix(TICKET_PROTOCOL.as_bytes()));
    ticket.map(|text| str::from_utf8(text).unwrap_or_default())
}

fn parts(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|b| *b == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

fn link(target: &[u8]) -> Option<&[u8]> {
    parts(target).1?.split(|b| *b == b'&').find_map(|pair| pair.strip_prefix(PARAMETER))
}

/// The same target without our parameter, to the byte.
fn without_link(target: &[u8]) -> Vec<u8> {
    let (path, query) = parts(target);
    let kept = query.unwrap_or_default().split(|b| *b == b'&').filter(|pair| !pair.starts_with(PARAMETER));
    let kept = kept.collect::<Vec<_>>().join(b"&".as_slice());
    if kept.is_empty() { path.to_vec() } else { [path, b"?", &kept].concat() }
}

fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let fields = headers.get_all(header::COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|b| *b == b';'));
    pairs.filter_map(move |pair| {
        let (key, value) = str::from_utf8(pair.trim_ascii()).ok()?.split_once('=')?;
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use bivouac_protocol::Span;
    use bivouac_protocol::ticket::{Claims, SigningKey, Use, sign};
    use http::HeaderValue;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn ticket() -> String {
        let key = SigningKey::of_secret(&"x".repeat(40).into()).unwrap();
        let claims = Claims::new(
            &"a".repeat(20).parse().unwrap(),
            Use::Bearer,
            jiff::Timestamp::now(),
            Span::seconds(9),
        );
        sign(&claims, &key).unwrap().expose_secret().to_owned()
    }

    fn shown(fields: &[(&'static str, &str)], target: &str) -> String {
        let headers = headers(fields);
        format!("{:?}", find(&headers, target.as_bytes(), &KeyRing::default(), "bivouac").shown)
    }

    #[test]
    fn the_strongest_that_is_present_decides() {
        let ticket = ticket();
        let authorization = ("authorization", format!("Bearer {ticket}"));
        let fields = [
            (authorization.0, authorization.1.as_str()),
            ("sec-websocket-protocol", "bivouac.v1, bivouac.ticket.two"),
            ("cookie", "a=1; bivouac=four"),
        ];
        let target = "/?bivouac_ticket=three";
        assert_eq!(shown(&fields, target), format!("Some(Bearer({ticket:?}))"));
        assert_eq!(shown(&fields[1..], target), "Some(Bearer(\"two\"))");
        assert_eq!(shown(&fields[2..], target), "Some(Link(\"three\"))");
        assert_eq!(shown(&fields[2..], "/"), "Some(Cookies([\"four\"]))");
        assert_eq!(shown(&[], "/"), "None");
    }

    #[test]
    fn what_is_the_applications_own_stays() {
        for own in ["Bearer opaque", "Basic YTpi", "Bearer", "bearer a.b.c"] {
            let headers = headers(&[("authorization", own), ("sec-websocket-protocol", "chat, bivouac.v2")]);
            let found = find(&headers, b"/?q=bivouac_ticket", &KeyRing::default(), "bivouac");
            assert!(found.shown.is_none() && !found.strip.authorization, "{own}");
            assert_eq!((found.strip.protocols, found.strip.target), (None, None));
        }
    }

    #[test]
    fn subprotocols_of_ours_are_taken_out() {
        let strip = |offered: &str| {
            let headers = headers(&[("sec-websocket-protocol", offered)]);
            let strip = find(&headers, b"/", &KeyRing::default(), "bivouac").strip;
            (strip.protocols.map(|kept| String::from_utf8(kept).unwrap()), strip.offered_ours)
        };
        assert_eq!(strip("bivouac.v1, bivouac.ticket.a.b.c"), (Some(String::new()), true));
        assert_eq!(strip("chat,bivouac.ticket.a, superchat"), (Some("chat, superchat".to_owned()), false));
        assert_eq!(strip("chat"), (None, false));
    }

    #[test]
    fn the_parameter_is_taken_out_to_the_byte() {
        for (target, rest) in [
            ("/?bivouac_ticket=a", "/"),
            ("/p?x=1&bivouac_ticket=a", "/p?x=1"),
            ("/p?bivouac_ticket=a&x=%20&&y", "/p?x=%20&&y"),
            ("/p?bivouac_ticket=a&bivouac_ticket=b&z=?", "/p?z=?"),
        ] {
            let headers = HeaderMap::new();
            let found = find(&headers, target.as_bytes(), &KeyRing::default(), "bivouac");
            assert_eq!(String::from_utf8(found.strip.target.unwrap()).unwrap(), rest);
            assert_eq!(found.shown, Some(Shown::Link("a")));
        }
    }

    #[test]
    fn a_few_cookies_are_tried_and_only_of_the_very_name() {
        let many = "bivouac=1; __Host-bivouac=x; Bivouac=y; bivouac=2; bivouac=3; bivouac=4; bivouac=5";
        assert_eq!(shown(&[("cookie", many)], "/"), r#"Some(Cookies(["1", "2", "3", "4"]))"#);
    }

    proptest! {
        #[test]
        fn nothing_of_a_link_is_left(target in "/[a-z?&=%]{0,8}(\\?|&)(bivouac_ticket=[a-z&?]{0,6}&?){1,3}[a-z&=?]{0,8}") {
            let headers = HeaderMap::new();
            if let Some(rest) = find(&headers, target.as_bytes(), &KeyRing::default(), "bivouac").strip.target {
                prop_assert!(link(&rest).is_none());
            }
        }

        #[test]
        fn arbitrary_fields_never_panic(value in "[ -~]{0,60}", target in "/[ -~]{0,40}") {
            let headers = headers(&[("authorization", &value), ("cookie", &value), ("sec-websocket-protocol", &value)]);
            let _ = find(&headers, target.as_bytes(), &KeyRing::default(), "bivouac");
        }
    }
}
