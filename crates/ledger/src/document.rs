//! The documents in the ledger: JSON, read and written in one way.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Entry, Error, Index};

/// A document and the index it was read, or written, at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The document.
    pub value: T,
    /// What a check-and-set against it has to name.
    pub index: Index,
}

/// Reads a document out of an entry.
///
/// # Errors
/// [`Error::Corrupt`] with the place in the text.
pub(crate) fn decode<T: DeserializeOwned>(entry: &Entry) -> Result<Versioned<T>, Error> {
    serde_json::from_slice(&entry.value)
        .map(|value| Versioned { value, index: entry.index })
        .map_err(|error| Error::Corrupt { key: entry.key.clone(), detail: error.to_string() })
}

/// Writes a document as an operator reads it: JSON, indented.
pub(crate) fn encode<T: Serialize>(key: &str, document: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec_pretty(document)
        .map_err(|error| Error::Corrupt { key: key.to_owned(), detail: error.to_string() })
}
