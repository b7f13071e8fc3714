//! Keys and values.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde::{Deserialize, Deserializer};

use crate::transport::{ANSWER_TIMEOUT, Answer, LIST_TIMEOUT};
use crate::{Client, Error};

/// A key, its value, and what check-and-set goes by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pair {
    /// The whole key.
    pub key: String,
    /// The value's bytes.
    #[serde(deserialize_with = "from_base64")]
    pub value: Vec<u8>,
    /// Index of its last change.
    pub modify_index: u64,
    /// The session that holds it as a lock.
    #[serde(default)]
    pub session: Option<String>,
}

/// The answer to a blocking read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// What to wait beyond in the next read. Lower than the one before: start again from 0.
    pub index: u64,
    /// The key as it is now.
    pub pair: Option<Pair>,
}

impl Client {
    /// A consistent read: the leader confirms that it still leads before it answers.
    ///
    /// # Errors
    /// [`Error::Denied`] for a key that the token may not read; `None` is a key that does not exist.
    pub async fn get(&self, key: &str) -> Result<Option<Pair>, Error> {
        let request =
            self.transport.request(Method::GET, path(key)?, ANSWER_TIMEOUT).query(&[("consistent", "")]);
        one(&self.transport.send(request).await?)
    }

    /// All keys that begin with the prefix and that the token may read; consistent.
    ///
    /// # Errors
    /// When Consul does not answer.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Pair>, Error> {
        let request = self
            .transport
            .request(Method::GET, path(prefix)?, LIST_TIMEOUT)
            .query(&[("recurse", ""), ("consistent", "")]);
        let answer = self.transport.send(request).await?;
        if answer.found { answer.json() } else { Ok(Vec::new()) }
    }

    /// A consistent read that is answered once the key's index is above `index`, or after about `wait` (Consul adds up
    /// to a sixteenth, and caps it at ten minutes). That it was answered does not mean that something changed.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_blocking(&self, key: &str, index: u64, wait: Duration) -> Result<Watched, Error> {
        let limit = wait + wait / 16 + ANSWER_TIMEOUT;
        let wait = format!("{}ms", wait.as_millis().max(1));
        let request = self.transport.request(Method::GET, path(key)?, limit).query(&[
            ("consistent", ""),
            ("index", &index.to_string()),
            ("wait", &wait),
        ]);
        let answer = self.transport.send(request).await?;
        Ok(Watched { index: answer.index, pair: one(&answer)? })
    }
}

fn one(answer: &Answer) -> Result<Option<Pair>, Error> {
    if !answer.found {
        return Ok(None);
    }
    let mut pairs: Vec<Pair> = answer.json()?;
    Ok(pairs.pop())
}

/// The path of a key. Dot segments would be resolved on the way to another key, and empty ones dropped.
fn path(key: &str) -> Result<impl Iterator<Item = &str>, Error> {
    let inner = key.strip_suffix('/').unwrap_or(key);
    if inner.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(Error::Invalid { status: 400, message: format!("{key:?} cannot be used as a key") });
    }
    Ok(std::iter::once("kv").chain(key.split('/')))
}

/// Null is how Consul writes an empty value.
fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text: Option<String> = Deserialize::deserialize(deserializer)?;
    STANDARD.decode(text.unwrap_or_default()).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_a_lock_is_read() {
        let pairs: Vec<Pair> = serde_json::from_str(include_str!("wire/kv.json")).unwrap();
        assert_eq!(pairs[0].key, "bivouac/leader");
        assert_eq!(pairs[0].value, b"{\"replica\":\"a\"}");
        assert!(pairs[0].modify_index > 0);
        assert_eq!(pairs[0].session.as_ref().unwrap().len(), 36);
    }

    #[test]
    fn an_empty_value_and_a_free_lock_are_read() {
        let pairs: Vec<Pair> = serde_json::from_str(include_str!("wire/kv_list.json")).unwrap();
        assert_eq!(
            pairs.iter().map(|pair| pair.key.as_str()).collect::<Vec<_>>(),
            ["bivouac/empty", "bivouac/leader"]
        );
        assert_eq!((pairs[0].value.len(), &pairs[0].session), (0, &None));
    }

    #[test]
    fn a_key_that_would_lead_to_another_is_refused() {
        for key in ["", "/", "/a", "a//b", "a/../b", "./a", "a/.", "a//"] {
            assert!(path(key).is_err(), "{key:?}");
        }
        assert_eq!(path("a/b.c/").unwrap().collect::<Vec<_>>(), ["kv", "a", "b.c", ""]);
    }
}
