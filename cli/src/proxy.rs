//! `bivouac proxy`: the data plane, on its own.

pub(crate) mod edge;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use bivouac_consul::Client;
use bivouac_ledger::consul::ConsulLedger;
use bivouac_ledger::directory::ConsulDirectory;
use bivouac_protocol::Span;
use bivouac_proxy::{Backends, Config, Edge, Proxy};
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use crate::ready_file::{self, Bound};
use crate::registration::{self, Listener, Registration};
use crate::{environment, private_file};
use edge::EdgeArgs;

/// Serve session traffic: hostname to allocation, every use counted
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac proxy --link-secret-file link.secret --data-dir /var/lib/bivouac/proxy
  bivouac proxy --listen 0.0.0.0:80 --advertise 10.0.0.7 --domain sessions.example.com \\
    --link-secret-file link.secret --data-dir /var/lib/bivouac/proxy

Consul is found by the variables of its own tools: CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, …
SIGTERM drains: nothing new is accepted, what is open may end by itself in --drain-timeout.
A new version is started beside the old one, with the same flags and --take-over: nobody is cut or refused, and the
old one drains and ends.")]
pub(crate) struct Args {
    /// Where session traffic is accepted
    #[arg(long, env = "BIVOUAC_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:7080")]
    listen: SocketAddr,
    /// Where /livez, /readyz and /metrics are served; not for the public
    #[arg(long, env = "BIVOUAC_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:7082")]
    admin: SocketAddr,
    /// Domain of the session hostnames: each is the session's id in front of it
    #[arg(long, env = "BIVOUAC_DOMAIN", default_value = "localhost")]
    domain: String,
    /// File with the secret that services and proxies share; during a rotation the new one, and below it the old one
    #[arg(long, env = "BIVOUAC_LINK_SECRET_FILE", value_name = "FILE")]
    link_secret_file: PathBuf,
    /// Folder of this host, kept from one start to the next: it tells that an earlier proxy here is dead
    #[arg(long, env = "BIVOUAC_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// Prefix of all our keys in Consul
    #[arg(long, env = "BIVOUAC_PREFIX", default_value = "bivouac")]
    prefix: String,
    /// Network that backends may live in; may be repeated [default: loopback and private networks]
    #[arg(long, env = "BIVOUAC_BACKEND_NETWORK", value_name = "CIDR", value_delimiter = ',')]
    backend_network: Vec<IpNet>,
    /// Ports that backends may listen on; may be repeated [default: Nomad's usual 20000-32000]
    #[arg(long, env = "BIVOUAC_BACKEND_PORTS", value_name = "FIRST-LAST", value_parser = ports, value_delimiter = ',')]
    backend_ports: Vec<RangeInclusive<u16>>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Take the listeners over from the proxy that serves from the same --data-dir, if one does; it drains then
    #[arg(long, env = "BIVOUAC_TAKE_OVER")]
    take_over: bool,
    /// Address under which the others reach this host, where Nomad does not register this process
    #[arg(long, env = "BIVOUAC_ADVERTISE", value_name = "IP")]
    advertise: Option<IpAddr>,
    /// Write what was bound to this file, as JSON, once it serves
    #[arg(long, env = "BIVOUAC_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Session traffic")]
    edge: EdgeArgs,
}

/// How long and how many.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Limits {
    /// Longest time that a request waits for its session
    #[arg(long, env = "BIVOUAC_HOLD_TIMEOUT", value_name = "DURATION", default_value = "60s")]
    hold_timeout: Span,
    /// Requests that may wait for one session
    #[arg(long, env = "BIVOUAC_HOLDS_PER_SESSION", value_name = "N", default_value_t = 1000)]
    holds_per_session: usize,
    /// Requests that may wait in total
    #[arg(long, env = "BIVOUAC_HOLDS_TOTAL", value_name = "N", default_value_t = 10_000)]
    holds_total: usize,
    /// Longest time that open connections get once the proxy is told to stop
    #[arg(long, env = "BIVOUAC_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "30s")]
    drain_timeout: Span,
    /// From not ready to accepting nothing more, when it is told to stop: time for load balancers to notice
    #[arg(long, env = "BIVOUAC_DRAIN_DELAY", value_name = "DURATION", default_value = "0s")]
    drain_delay: Span,
}

/// Serves until the shutdown, then drains.
pub(crate) async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config = args.config()?;
    let consul = Client::new(&environment::consul()?)?;
    tokio::spawn(environment::compare_consuls_version(consul.clone()));
    let ledger = Arc::new(ConsulLedger::new(consul.clone(), &args.prefix));
    let directory = Arc::new(ConsulDirectory::new(consul.clone(), &args.prefix));
    // Joining waits for Consul for as long as it takes; the admin listener says so meanwhile.
    let proxy = tokio::select! {
        bound = Proxy::bind(config, ledger, directory) => bound?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let (listen, admin, tls) = (proxy.listen_addr(), proxy.admin_addr(), proxy.tls_addr());
    let registration = if registration::is_nomads_business() {
        None
    } else {
        let listener = Listener {
            role: "proxy",
            address: registration::advertised(listen, args.advertise)?,
            health: registration::advertised(admin, args.advertise)?,
        };
        Some(Registration::new(consul.clone(), &args.prefix, &[listener]))
    };
    let bound = Bound {
        proxy: Some(ready_file::http(listen)),
        proxy_tls: tls.map(ready_file::https),
        admin: Some(ready_file::http(admin)),
        ..Bound::default()
    };
    let until = shutdown.clone();
    tokio::spawn(async move { until.run_until_cancelled(consul.watch_token()).await });
    let (serving, draining) = (proxy.serving(), proxy.draining());
    let ((), (), announced) = tokio::join!(
        proxy.run(shutdown.clone()),
        async {
            // Out of the catalogue first, so that balancers stop sending users while it drains.
            if let Some(registration) = registration {
                registration.keep(draining).await;
            }
        },
        async {
            // One that is to take over may be stopped before it is its turn.
            match shutdown.run_until_cancelled(serving.cancelled()).await {
                Some(()) => announce(&args, &bound).inspect_err(|_| shutdown.cancel()),
                None => Ok(()),
            }
        },
    );
    announced
}

/// Tells programs and people that it serves, and where.
fn announce(args: &Args, bound: &Bound) -> anyhow::Result<()> {
    tracing::info!(
        proxy = bound.proxy,
        tls = bound.proxy_tls,
        admin = bound.admin,
        domain = args.domain,
        "The proxy serves."
    );
    args.ready_file.as_ref().map_or(Ok(()), |file| bound.write(file))
}

impl Args {
    fn config(&self) -> anyhow::Result<Config> {
        let defaults = Backends::default();
        let networks = match self.backend_network.as_slice() {
            [] => defaults.networks,
            given => given.to_vec(),
        };
        let ports = match self.backend_ports.as_slice() {
            [] => defaults.ports,
            given => given.to_vec(),
        };
        let limits = &self.limits;
        Ok(Config {
            listen: self.listen,
            admin: self.admin,
            domain: self.domain.clone(),
            link_secrets: private_file::read_link_secrets(&self.link_secret_file)?,
            data_dir: self.data_dir.clone(),
            backends: Backends { networks, ports },
            hold_timeout: limits.hold_timeout.get(),
            holds_per_session: limits.holds_per_session,
            holds_total: limits.holds_total,
            drain_timeout: limits.drain_timeout.get(),
            allocation: environment::allocation(),
            edge: Edge {
                take_over: self.take_over,
                hand_over: true,
                drain_delay: limits.drain_delay.get(),
                ..self.edge.edge(edge::raise_open_files())
            },
        })
    }
}

/// A range of ports, as FIRST-LAST.
pub(crate) fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| text.trim().parse().ok().filter(|port: &u16| *port > 0);
    match text.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?))) {
        Some((first, last)) if first <= last => Ok(first..=last),
        _ => Err("write it as FIRST-LAST, such as 20000-32000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_is_read() {
        assert_eq!(ports("20000-32000"), Ok(20_000..=32_000));
        assert_eq!(ports("80-80"), Ok(80..=80));
        for text in ["", "80", "0-9", "9-8", "1-65536", "a-b", "-1-2"] {
            assert!(ports(text).is_err(), "{text:?} must be refused");
        }
    }
}
