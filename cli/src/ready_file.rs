//! What a long-running command has bound, for whoever started it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::private_file;

/// Addresses and where the token is; the keys that apply.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bound {
    /// The public API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api: Option<String>,
    /// The internal listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) internal: Option<String>,
    /// Session traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proxy: Option<String>,
    /// Session traffic with TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proxy_tls: Option<String>,
    /// The proxy's own health and metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin: Option<String>,
    /// The API token itself: the file is private, and nobody prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The file that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
}

/// "http://address".
pub(crate) fn http(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// "https://address".
pub(crate) fn https(address: SocketAddr) -> String {
    format!("https://{address}")
}

impl Bound {
    /// Writes it whole at once, mode 0600.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        private_file::write(path, &json)
    }
}
