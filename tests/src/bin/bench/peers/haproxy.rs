//! haproxy: one thread, the same fields, a map of the same size.

use std::fmt::Write;

use anyhow::Result;

use super::{CONNECTIONS, OTHER_HOSTS, Plan};

pub(super) fn map(plan: &Plan<'_>) -> Result<String> {
    let mut map = String::new();
    for (number, (host, _)) in plan.routes.iter().enumerate() {
        writeln!(map, "{host} sessions{number}")?;
    }
    for number in 0..OTHER_HOSTS {
        writeln!(map, "other-session-{number:04}.localhost sessions0")?;
    }
    Ok(map)
}

pub(super) fn configuration(plan: &Plan<'_>) -> Result<String> {
    let mut backends = String::new();
    for (number, (_, backend)) in plan.routes.iter().enumerate() {
        writeln!(backends, "backend sessions{number}\n  server session {backend}\n")?;
    }
    let (plain, tls, certificate) = (plan.plain, plan.tls, plan.certificate.display());
    // It counts connections of clients.
    let connections = CONNECTIONS / 2;
    Ok(format!(
        "global
  nbthread 1
  maxconn {connections}

defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  timeout http-keep-alive 1h
  timeout http-request 30s

frontend sessions
  bind {plain}
  bind {tls} ssl crt {certificate} alpn h2,http/1.1
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Request-Id %[uuid()]
  use_backend %[req.hdr(host),field(1,:),lower,map(hosts.map)]

{backends}"
    ))
}
