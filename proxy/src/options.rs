//! How the proxy meets the world outside: what it is told by its flags. The defaults are what a proxy on its own
//! machine needs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// What stands between clients and the request path.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    /// A second listener for session traffic, with TLS.
    pub tls: Option<TlsFiles>,
    /// Connections from there begin with a PROXY header of version 2, all of them.
    pub proxy_protocol_from: Vec<IpNet>,
    /// What proxies there say of a client is believed: `X-Forwarded-*` and `Forwarded`.
    pub trusted_hops: Vec<IpNet>,
    /// Origins whose pages may use sessions, beside each session's own: `https://app.example.com`.
    pub allowed_origins: Vec<String>,
    /// Where requests are logged; `-` is standard output.
    pub access_log: Option<PathBuf>,
    /// Takes the listeners over from the proxy that serves from the same data directory, if one does.
    pub take_over: bool,
    /// Hands its listeners over to a successor that asks for them.
    pub hand_over: bool,
    /// From "not ready" to the last connection that is accepted: for load balancers to notice.
    pub drain_delay: Duration,
    /// Bounds on what a client may take.
    pub limits: Limits,
}

/// The listener with TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Where it listens. Port 0: any.
    pub listen: SocketAddr,
    /// The certificate and what leads to its authority, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Bounds on what a client may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// From the first byte of a head to its last. A connection's first head shares it with the TLS handshake and the
    /// PROXY header.
    pub head_timeout: Duration,
    /// A connection may rest so long between two requests.
    pub keep_alive: Duration,
    /// A backend must take a connection within this time.
    pub connect_timeout: Duration,
    /// A browser's navigation is held so long before it gets a page that asks again.
    pub page_after: Duration,
    /// Connections of clients at once.
    pub connections: usize,
    /// Connections at once of one client: an IPv4 address, or the first half of an IPv6 one.
    pub per_client: usize,
    /// A client that takes nothing of its response for so long is let go.
    pub write_stall: Duration,
    /// The same for either end of a tunnel.
    pub tunnel_stall: Duration,
    /// In each such time a request's body must bring [`Limits::body_least`].
    pub body_window: Duration,
    /// Bytes of a body in each [`Limits::body_window`].
    pub body_least: u64,
    /// Requests at once on one HTTP/2 connection.
    pub h2_streams: u32,
    /// Requests that a client may take back, or get refused as malformed, on one HTTP/2 connection in ten seconds.
    pub h2_resets: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            head_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(75),
            connect_timeout: Duration::from_secs(2),
            page_after: Duration::from_secs(1),
            connections: usize::MAX,
            per_client: 20_000,
            write_stall: Duration::from_secs(60),
            tunnel_stall: Duration::from_secs(600),
            body_window: Duration::from_secs(60),
            body_least: 256,
            h2_streams: 100,
            h2_resets: 100,
        }
    }
}

/// Descriptors that are not for clients: backends kept warm, Consul, links, logs.
const RESERVED_FILES: u64 = 1_000;

impl Limits {
    /// How many connections a process may have that may open so many files: each may need a second one, to its backend.
    #[must_use]
    pub fn connections_within(open_files: u64) -> usize {
        let fitting = open_files.saturating_sub(RESERVED_FILES) / 2;
        // With next to no files the reserve is too large, and some connections are better than none.
        usize::try_from(fitting.max(open_files / 4)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_every_connection_have_a_descriptor() {
        assert_eq!(Limits::connections_within(20_000), 9_500);
        assert_eq!(Limits::connections_within(1_024), 256);
        for files in [0, 64, 1_000, 4_096, 1_048_576] {
            assert!(Limits::connections_within(files) as u64 * 2 <= files);
        }
    }
}
