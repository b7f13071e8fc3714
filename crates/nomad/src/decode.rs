//! Reading what a Go program writes: an empty list, map or text may come as `null`.

use serde::{Deserialize, Deserializer};

/// For `deserialize_with`: `null` is the default.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
