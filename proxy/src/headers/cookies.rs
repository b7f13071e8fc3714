//! Our own cookies: they never reach a backend, and no backend sets them, or any cookie for its neighbours.

const OURS: [&[u8]; 2] = [b"bivouac", b"__host-bivouac"];

fn is_ours(name: &[u8]) -> bool {
    OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

fn name(pair: &[u8]) -> &[u8] {
    pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii()
}

/// Whether a `Cookie` field has a cookie of ours: nearly never, so that its value usually goes out as it came.
pub(super) fn has_ours(cookie: &[u8]) -> bool {
    cookie.split(|b| *b == b';').any(|pair| is_ours(name(pair)))
}

/// The rest of such a field; nothing if none is left.
pub(super) fn without_ours(cookie: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(cookie.len());
    for pair in cookie.split(|b| *b == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
        if !is_ours(name(pair)) {
            if !kept.is_empty() {
                kept.extend_from_slice(b"; ");
            }
            kept.extend_from_slice(pair);
        }
    }
    kept
}

/// Whether a backend may set this cookie: not one of ours, and none for the session domain or above it, where every
/// other session would get it.
pub(super) fn may_be_set(set_cookie: &[u8], session_domain: &str) -> bool {
    let mut parts = set_cookie.split(|b| *b == b';');
    if is_ours(name(parts.next().unwrap_or_default())) {
        return false;
    }
    !parts.any(|attribute| {
        name(attribute).eq_ignore_ascii_case(b"domain")
            && covers(attribute.splitn(2, |b| *b == b'=').nth(1).unwrap_or_default(), session_domain)
    })
}

fn covers(domain: &[u8], session_domain: &str) -> bool {
    let domain = domain.trim_ascii();
    let domain = domain.strip_prefix(b".").unwrap_or(domain);
    let domain = domain.strip_suffix(b".").unwrap_or(domain);
    let session_domain = session_domain.as_bytes();
    let Some(start) = session_domain.len().checked_sub(domain.len()) else { return false };
    // An empty Domain is ignored by browsers: the cookie stays with its host.
    !domain.is_empty()
        && session_domain[start..].eq_ignore_ascii_case(domain)
        && (start == 0 || session_domain[start - 1] == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn our_cookies_are_taken_out_and_the_rest_is_kept() {
        let kept = |cookie: &str| String::from_utf8(without_ours(cookie.as_bytes())).unwrap();
        assert_eq!(kept("a=1; bivouac=secret; b=2"), "a=1; b=2");
        assert_eq!(kept("__Host-bivouac=secret"), "");
        assert_eq!(kept("a=bivouac;__host-Bivouac = x;b"), "a=bivouac; b");
        assert!(has_ours(b"a=1;bivouac=x"));
        assert!(!has_ours(b"a=1; xbivouac=2; bivouac2=3"));
    }

    #[test]
    fn a_backend_sets_cookies_for_itself_only() {
        let allowed = |cookie: &str| may_be_set(cookie.as_bytes(), "s.example.com");
        for cookie in [
            "a=1",
            "a=1; Path=/; HttpOnly",
            "a=1; Domain=abc.s.example.com",
            "a=1; domain=",
            "a=1; Domain=other.com",
            "a=1; Domain=xs.example.com",
            "domain=s.example.com",
        ] {
            assert!(allowed(cookie), "{cookie}");
        }
        for cookie in [
            "bivouac=1",
            "__Host-bivouac=1; Secure; Path=/",
            "a=1; Domain=s.example.com",
            "a=1; DOMAIN = .S.Example.Com",
            "a=1; Domain=example.com.",
            "a=1; Domain=com",
            "a=1; Domain=abc.s.example.com; Domain=example.com",
        ] {
            assert!(!allowed(cookie), "{cookie}");
        }
    }

    proptest! {
        #[test]
        fn none_of_ours_is_left(cookie in "[a-zA-Z=; _-]{0,20}(bivouac|__Host-bivouac)?[=; a]{0,5}[a-z=;]{0,10}") {
            prop_assert!(!has_ours(&without_ours(cookie.as_bytes())));
        }
    }
}
