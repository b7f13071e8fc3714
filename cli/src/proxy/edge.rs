//! The flags about what stands between users and sessions: TLS, whom to believe, how much a client may take.

use std::net::SocketAddr;
use std::path::PathBuf;

use bivouac_protocol::Span;
use bivouac_proxy::{Edge, Limits, TlsFiles};
use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How the proxy meets the world outside.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct EdgeArgs {
    /// Where session traffic is accepted with TLS, HTTP/2 included; beside --listen
    #[arg(long, env = "BIVOUAC_LISTEN_TLS", value_name = "ADDR", requires_all = ["tls_cert", "tls_key"])]
    listen_tls: Option<SocketAddr>,
    /// The certificate for all session hostnames and its chain, in PEM; followed for changes
    #[arg(long, env = "BIVOUAC_TLS_CERT", value_name = "FILE", requires = "listen_tls")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM; followed for changes
    #[arg(long, env = "BIVOUAC_TLS_KEY", value_name = "FILE", requires = "listen_tls")]
    tls_key: Option<PathBuf>,
    /// Network whose connections all begin with a PROXY header, version 2; may be repeated
    #[arg(long, env = "BIVOUAC_PROXY_PROTOCOL_FROM", value_name = "CIDR", value_delimiter = ',')]
    proxy_protocol_from: Vec<IpNet>,
    /// Network of HTTP proxies whose X-Forwarded-* and Forwarded fields are believed; may be repeated
    #[arg(long, env = "BIVOUAC_TRUSTED_HOP", value_name = "CIDR", value_delimiter = ',')]
    trusted_hop: Vec<IpNet>,
    /// Origin whose pages may use sessions, beside each session's own; may be repeated
    #[arg(long, env = "BIVOUAC_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    allow_origin: Vec<String>,
    /// Log each request and tunnel to this file as a line of JSON; - is standard output
    #[arg(long, env = "BIVOUAC_ACCESS_LOG", value_name = "FILE")]
    access_log: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Limits on clients")]
    limits: LimitArgs,
}

/// Bounds on what a client may take.
#[derive(clap::Args, Debug, Clone)]
struct LimitArgs {
    /// Bytes of a request's head [default: 65536]
    #[arg(long, env = "BIVOUAC_LIMIT_HEAD_BYTES", value_name = "BYTES")]
    limit_head_bytes: Option<usize>,
    /// From a head's first byte to its last; the first one shares it with the TLS handshake [default: 15s]
    #[arg(long, env = "BIVOUAC_LIMIT_HEAD_TIME", value_name = "DURATION")]
    limit_head_time: Option<Span>,
    /// Rest of a connection between two requests [default: 75s]
    #[arg(long, env = "BIVOUAC_LIMIT_KEEP_ALIVE", value_name = "DURATION")]
    limit_keep_alive: Option<Span>,
    /// Connections of clients at once [default: as many as this process may open files for]
    #[arg(long, env = "BIVOUAC_LIMIT_CONNECTIONS", value_name = "N")]
    limit_connections: Option<usize>,
    /// Connections at once of one address; of IPv6, of one /64 [default: 20000]
    #[arg(long, env = "BIVOUAC_LIMIT_CONNECTIONS_PER_CLIENT", value_name = "N")]
    limit_connections_per_client: Option<usize>,
    /// Time in which each 256 bytes of a request's body must come [default: 60s]
    #[arg(long, env = "BIVOUAC_LIMIT_BODY_TIME", value_name = "DURATION")]
    limit_body_time: Option<Span>,
    /// Time that a client may take nothing of its response [default: 60s]
    #[arg(long, env = "BIVOUAC_LIMIT_WRITE_STALL", value_name = "DURATION")]
    limit_write_stall: Option<Span>,
    /// The same for either end of a WebSocket or another tunnel [default: 10m]
    #[arg(long, env = "BIVOUAC_LIMIT_TUNNEL_STALL", value_name = "DURATION")]
    limit_tunnel_stall: Option<Span>,
    /// Requests at once on one HTTP/2 connection [default: 100]
    #[arg(long, env = "BIVOUAC_LIMIT_H2_STREAMS", value_name = "N")]
    limit_h2_streams: Option<u32>,
    /// Requests that come to nothing on one HTTP/2 connection, in ten seconds [default: 100]
    #[arg(long, env = "BIVOUAC_LIMIT_H2_RESETS", value_name = "N")]
    limit_h2_resets: Option<u32>,
}

impl EdgeArgs {
    /// What the flags say. `open_files`: how many this process may open.
    pub(crate) fn edge(&self, open_files: u64) -> Edge {
        let files = self.tls_cert.clone().zip(self.tls_key.clone());
        let tls = self.listen_tls.zip(files);
        Edge {
            tls: tls.map(|(listen, (certificate, key))| TlsFiles { listen, certificate, key }),
            proxy_protocol_from: self.proxy_protocol_from.clone(),
            trusted_hops: self.trusted_hop.clone(),
            allowed_origins: self.allow_origin.clone(),
            access_log: self.access_log.clone(),
            limits: self.limits.over(Limits::default(), open_files),
            ..Edge::default()
        }
    }
}

impl LimitArgs {
    fn over(&self, defaults: Limits, open_files: u64) -> Limits {
        let time = |given: Option<Span>, default| given.map_or(default, Span::get);
        Limits {
            head_bytes: self.limit_head_bytes.unwrap_or(defaults.head_bytes),
            head_timeout: time(self.limit_head_time, defaults.head_timeout),
            keep_alive: time(self.limit_keep_alive, defaults.keep_alive),
            connections: self.limit_connections.unwrap_or_else(|| Limits::connections_within(open_files)),
            per_client: self.limit_connections_per_client.unwrap_or(defaults.per_client),
            body_window: time(self.limit_body_time, defaults.body_window),
            write_stall: time(self.limit_write_stall, defaults.write_stall),
            tunnel_stall: time(self.limit_tunnel_stall, defaults.tunnel_stall),
            h2_streams: self.limit_h2_streams.unwrap_or(defaults.h2_streams),
            h2_resets: self.limit_h2_resets.unwrap_or(defaults.h2_resets),
            ..defaults
        }
    }
}

/// How many files this process may open.
pub(crate) fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Lets this process open as many files as it ever may, and tells how many. Not for processes that start others: some
/// cannot live with so many.
pub(crate) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "The limit on open files could not be raised.");
    }
    open_files()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        edge: EdgeArgs,
    }

    fn edge(flags: &[&str]) -> Result<Edge, clap::Error> {
        let flags = std::iter::once("proxy").chain(flags.iter().copied());
        Ok(Flags::try_parse_from(flags)?.edge.edge(20_000))
    }

    #[test]
    fn without_flags_there_are_the_usual_bounds() {
        let (edge, usual) = (edge(&[]).unwrap(), Limits::default());
        assert!(edge.tls.is_none() && !edge.take_over);
        assert_eq!((edge.limits.connections, edge.limits.per_client), (9_500, usual.per_client));
        assert_eq!(edge.limits.head_timeout, usual.head_timeout);
    }

    #[test]
    fn tls_is_an_address_a_certificate_and_a_key() {
        let whole = ["--listen-tls", "0.0.0.0:443", "--tls-cert", "c.pem", "--tls-key", "k.pem"];
        let tls = edge(&whole).unwrap().tls.unwrap();
        assert_eq!((tls.listen.port(), tls.key.to_str()), (443, Some("k.pem")));
        for part in [&whole[..2], &whole[..4], &whole[2..4], &whole[2..]] {
            assert!(edge(part).is_err(), "{part:?}");
        }
    }

    #[test]
    fn networks_and_bounds_are_read() {
        let edge = edge(&[
            "--trusted-hop=10.0.0.0/8,fd00::/8",
            "--proxy-protocol-from=192.0.2.1/32",
            "--limit-head-time=2s",
            "--limit-connections=7",
        ])
        .unwrap();
        assert_eq!((edge.trusted_hops.len(), edge.proxy_protocol_from.len()), (2, 1));
        assert_eq!((edge.limits.head_timeout.as_secs(), edge.limits.connections), (2, 7));
    }
}
