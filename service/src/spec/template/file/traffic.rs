//! What a template says about its sessions' traffic: who may enter, how much at once, and what is no use of it.

use bivouac_protocol::{Access, Rules};
use serde::Deserialize;
use toml::Spanned;

use super::{Located, fault};

/// Paths that a template may name. Each request is compared with all of them.
const MOST_PATHS: usize = 32;

/// A number of bytes, or a text such as "10MiB".
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number of bytes, or a text such as \"10MiB\"")]
pub(super) enum RawBytes {
    Number(u64),
    Text(String),
}

pub(super) fn rules(
    access: Access,
    ignore_paths: Vec<Spanned<String>>,
    max_body: Option<Spanned<RawBytes>>,
    max_connections: Option<Spanned<u32>>,
) -> Result<Rules, Located> {
    if let Some(one_too_many) = ignore_paths.get(MOST_PATHS) {
        return fault(one_too_many.span(), format!("there may be {MOST_PATHS} paths at most"));
    }
    Ok(Rules {
        access,
        ignore_paths: ignore_paths.into_iter().map(ignored).collect::<Result<_, _>>()?,
        max_body: max_body.map(body).transpose()?,
        max_connections: max_connections.map(connections).transpose()?,
    })
}

/// A path, or the beginning of one with a star behind it. It is compared byte by byte with what a client sends, without
/// the query.
fn ignored(path: Spanned<String>) -> Result<String, Located> {
    let text = path.get_ref();
    let exact = text.strip_suffix('*').unwrap_or(text);
    let valid = text.starts_with('/')
        && text.len() <= 1024
        && exact.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'?' | b'#'));
    if valid {
        Ok(path.into_inner())
    } else {
        fault(path.span(), "must be a path that begins with /, or the beginning of one and a * behind it")
    }
}

fn body(bytes: Spanned<RawBytes>) -> Result<u64, Located> {
    let read = match bytes.get_ref() {
        RawBytes::Number(bytes) => Some(*bytes),
        RawBytes::Text(text) => in_bytes(text),
    };
    read.map_or_else(|| fault(bytes.span(), "must be a whole number with B, KiB, MiB or GiB behind it"), Ok)
}

fn in_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

fn connections(at_most: Spanned<u32>) -> Result<u32, Located> {
    match at_most.get_ref() {
        0 => fault(at_most.span(), "must be at least 1: nobody could use a session"),
        some => Ok(*some),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> Option<String> {
        ignored(Spanned::new(0..0, text.to_owned())).ok()
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        for (text, bytes) in
            [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("10MiB", 10 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(in_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "1", "MiB", "1 MiB", "1mib", "1MB", "-1B", "1.5MiB", "99999999999GiB", "\u{664}B"] {
            assert_eq!(in_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn ignored_paths_have_a_form() {
        for text in ["/", "/healthz", "/poll/*", "/*", "/a.b~c-d_e%20"] {
            assert_eq!(path(text).as_deref(), Some(text));
        }
        for text in ["", "healthz", "*", "/a*b", "/a**", "/a?b", "/a#b", "/a b", "/\u{e9}", &"/a".repeat(513)]
        {
            assert_eq!(path(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,40}") {
            let (_, _) = (in_bytes(&text), path(&text));
        }
    }
}
