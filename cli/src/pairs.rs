//! `name=value` arguments.

/// A name and the value given for it.
pub(crate) type Pair = (String, String);

/// Splits at the first `=`.
pub(crate) fn parse(text: &str) -> Result<Pair, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}
