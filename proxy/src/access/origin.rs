//! Which pages may use a session in their user's name. Pure.
//!
//! Sessions are hostile to each other, and share a domain: to a browser they are the same site, so that `SameSite` keeps
//! no cookie from a neighbour's request. The session's own origin, and those that an operator listed, are told apart from
//! the others by what the browser says of them.

use http::{HeaderMap, header};

/// What a request says about the page that makes it.
pub(super) struct Page<'a> {
    pub(super) headers: &'a HeaderMap,
    /// The authority that it was sent to.
    pub(super) host: &'a [u8],
    /// It came over TLS that ends here, or that is known to end in front of us.
    pub(super) secure: bool,
    /// A person opens a page.
    pub(super) navigation: bool,
}

impl Page<'_> {
    /// Whether it may act for whoever's cookie it sends.
    pub(super) fn may_use_cookies(&self, allowed: &[String]) -> bool {
        if self.origin().is_some() {
            return self.is_ours(allowed);
        }
        let site = self.headers.get("sec-fetch-site").map(|site| site.as_bytes());
        // A navigation takes nothing home to the page that it came from.
        self.navigation || !matches!(site, Some(b"same-site" | b"cross-site"))
    }

    /// Whether it may open a WebSocket. Who is no browser says nothing of an origin.
    pub(super) fn may_connect(&self, allowed: &[String]) -> bool {
        self.origin().is_none() || self.is_ours(allowed)
    }

    fn origin(&self) -> Option<&[u8]> {
        self.headers.get(header::ORIGIN).map(|origin| origin.as_bytes())
    }

    /// It says an origin, and that is the session's own, or a listed one.
    fn is_ours(&self, allowed: &[String]) -> bool {
        let mut origins = self.headers.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
        let Ok(origin) = str::from_utf8(origin.as_bytes()) else { return false };
        allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) || self.is_own(origin)
    }

    fn is_own(&self, origin: &str) -> bool {
        let (default, authority) = match origin.split_once("://") {
            Some(("https", authority)) => (":443", authority),
            // Whoever ends TLS in front of us may not say so.
            Some(("http", authority)) if !self.secure => (":80", authority),
            _ => return false,
        };
        let Ok(host) = str::from_utf8(self.host) else { return false };
        let bare = |name: &str| name.strip_suffix(default).unwrap_or(name).to_ascii_lowercase();
        bare(authority) == bare(host)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const HOST: &str = "abc.sessions.example.com";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn connects(origin: &str, secure: bool) -> bool {
        let headers = headers(&[("origin", origin)]);
        let page = Page { headers: &headers, host: HOST.as_bytes(), secure, navigation: false };
        page.may_connect(&["https://app.example.com".to_owned()])
    }

    #[test]
    fn a_websocket_is_opened_by_its_own_origin_and_by_listed_ones() {
        for origin in [
            "https://abc.sessions.example.com",
            "https://abc.sessions.example.com:443",
            "https://ABC.sessions.example.com",
            "https://app.example.com",
        ] {
            assert!(connects(origin, true) && connects(origin, false), "{origin}");
        }
        assert!(connects("http://abc.sessions.example.com", false));
        for origin in [
            "http://abc.sessions.example.com",
            "https://abc.sessions.example.com:8443",
            "https://abd.sessions.example.com",
            "https://sessions.example.com",
            "https://abc.sessions.example.com.evil.com",
            "https://app.example.com.evil.com",
            "null",
            "",
        ] {
            assert!(!connects(origin, true), "{origin}");
        }
    }

    #[test]
    fn who_says_no_origin_is_no_page() {
        let page = |headers: &HeaderMap| {
            Page { headers, host: HOST.as_bytes(), secure: true, navigation: false }.may_connect(&[])
        };
        assert!(page(&HeaderMap::new()));
        let twice =
            headers(&[("origin", "https://abc.sessions.example.com"), ("origin", "https://evil.com")]);
        assert!(!page(&twice));
    }

    #[test]
    fn a_cookie_is_not_for_the_neighbours() {
        let may = |fields: &[(&'static str, &str)], navigation| {
            let headers = headers(fields);
            Page { headers: &headers, host: HOST.as_bytes(), secure: true, navigation }.may_use_cookies(&[])
        };
        let own = "https://abc.sessions.example.com";
        let sibling = "https://abd.sessions.example.com";
        assert!(may(&[], false), "no browser, or an old one's image");
        assert!(may(&[("sec-fetch-site", "same-origin")], false));
        assert!(may(&[("sec-fetch-site", "none")], true));
        assert!(may(&[("sec-fetch-site", "same-origin"), ("origin", own)], false));
        assert!(may(&[("sec-fetch-site", "cross-site")], true), "a link from the application");
        assert!(!may(&[("sec-fetch-site", "same-site")], false), "a neighbour's image or script");
        assert!(!may(&[("sec-fetch-site", "cross-site")], false));
        assert!(!may(&[("origin", sibling)], false));
        assert!(!may(&[("sec-fetch-site", "same-site"), ("origin", sibling)], false));
        assert!(!may(&[("origin", sibling)], true));
        assert!(!may(&[("origin", "null")], false));
    }

    proptest! {
        #[test]
        fn arbitrary_origins_never_panic_and_are_none_of_ours(origin in "[ -~]{0,40}") {
            prop_assume!(origin != "https://app.example.com");
            prop_assert!(!connects(&origin, true));
        }
    }
}
