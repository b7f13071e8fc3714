//! `bivouac doctor`: looks at everything that Bivouac stands on, and says what is wrong and how to mend it. Leaves
//! everything as it was: what has to be tried is tried so that it is judged and not carried out, save a session of Consul,
//! which is opened and closed again.

mod agents;
mod certificates;
mod consul;
mod judge;
mod names;
mod nomad;
mod proxies;
mod report;
mod service;

use std::collections::HashSet;
use std::ops::RangeInclusive;

use bivouac_access::{CONSUL, NOMAD, Token};
use ipnet::IpNet;
use url::Url;

use crate::{connect, environment, output};
use agents::{Agent, Heard};
use report::{Finding, Level, Report};

/// Look at everything that Bivouac stands on, and say what is wrong and how to mend it
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac doctor
  bivouac doctor --role proxy --proxy-admin http://127.0.0.1:7082
  bivouac doctor --skip nomad --session-url https://sessions.example.com --cookie-host app.example.com
  bivouac doctor --json | jq '.findings[] | select(.level == \"error\")'

Run it where the service or a proxy runs, in the same environment: Nomad and Consul are found by
the variables of their own tools, everything else by the variables of `service` and `proxy`.
Nothing is left changed. What is not configured is skipped. Exit code 1 if there is an error.")]
pub(crate) struct Args {
    #[command(flatten)]
    connect: connect::Args,
    /// Whose rights the tokens of Nomad and Consul must have
    #[arg(long, value_enum, default_value_t = Role::Service)]
    role: Role,
    /// What not to look at; may be repeated
    #[arg(long, value_enum, value_name = "PART", value_delimiter = ',')]
    skip: Vec<Part>,
    /// A proxy's admin listener; may be repeated [default: what `bivouac dev` or `make cluster` left here]
    #[arg(long, env = "BIVOUAC_PROXY_ADMIN", value_name = "URL", value_delimiter = ',')]
    proxy_admin: Vec<Url>,
    /// Scheme, domain and port of the sessions' URLs
    #[arg(long, env = "BIVOUAC_SESSION_URL", value_name = "URL")]
    session_url: Option<Url>,
    /// Another name at which people are logged in, and which must not share cookies with sessions; may be repeated
    #[arg(long, env = "BIVOUAC_ALLOW_HOST", value_name = "HOST", value_delimiter = ',')]
    cookie_host: Vec<String>,
    /// Prefix of all our keys in Consul
    #[arg(long, env = "BIVOUAC_PREFIX", default_value = "bivouac")]
    prefix: String,
    /// Nomad namespace in which sessions may run; may be repeated [default: NOMAD_NAMESPACE, or "default"]
    #[arg(long, env = "BIVOUAC_NOMAD_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',')]
    nomad_namespace: Vec<String>,
    /// Network that backends may live in, as the proxies have it; may be repeated
    #[arg(long, env = "BIVOUAC_BACKEND_NETWORK", value_name = "CIDR", value_delimiter = ',')]
    backend_network: Vec<IpNet>,
    /// Ports that backends may listen on, as the proxies have them; may be repeated
    #[arg(long, env = "BIVOUAC_BACKEND_PORTS", value_name = "FIRST-LAST", value_parser = crate::proxy::ports, value_delimiter = ',')]
    backend_ports: Vec<RangeInclusive<u16>>,
}

/// Whose rights.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A replica of the service.
    Service,
    /// A proxy; it has nothing to do with Nomad.
    Proxy,
    /// Somebody who looks on.
    Operator,
}

/// What is looked at.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Consul,
    Nomad,
    Service,
    Proxy,
    Domain,
}

/// Carries it out.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let report = Examination::of(&args)?.carry_out().await;
    if args.connect.json {
        output::line(serde_json::to_string_pretty(&report.json())?)?;
    } else {
        report.print()?;
    }
    match report.count(Level::Error) {
        0 => Ok(()),
        1 => anyhow::bail!("one thing that Bivouac stands on does not hold"),
        errors => anyhow::bail!("{errors} things that Bivouac stands on do not hold"),
    }
}

struct Examination<'a> {
    args: &'a Args,
    skip: HashSet<Part>,
    http: reqwest::Client,
    report: Report,
    /// Whose clock, and how far it is ahead of ours, in seconds.
    clocks: Vec<(&'static str, f64)>,
}

impl<'a> Examination<'a> {
    fn of(args: &'a Args) -> anyhow::Result<Self> {
        let skip = args.skip.iter().copied().collect();
        Ok(Self { args, skip, http: agents::http()?, report: Report::default(), clocks: Vec::new() })
    }

    async fn carry_out(mut self) -> Report {
        self.consul().await;
        self.nomad().await;
        let api = self.service().await;
        self.proxies().await;
        self.domain(api.as_ref()).await;
        self.clocks();
        self.report
    }

    async fn consul(&mut self) {
        if self.skip.contains(&Part::Consul) {
            return;
        }
        let config = environment::consul().map_err(|error| error.to_string());
        let agent = config.and_then(|config| {
            let token = Token::of(config.token, config.token_file);
            Agent::new(CONSUL, config.address, token, config.tls)
        });
        match agent {
            Ok(agent) => {
                let prefix = self.args.prefix.trim_matches('/');
                let (findings, heard) = consul::examine(&agent, self.args.role, prefix).await;
                self.agent("consul", &agent, findings, heard);
            }
            Err(why) => {
                self.report.add([Finding::error("consul.reachable", why, "Correct the variable or file.")])
            }
        }
    }

    async fn nomad(&mut self) {
        if self.skip.contains(&Part::Nomad) || self.args.role == Role::Proxy {
            return;
        }
        let found = environment::nomad().map_err(|error| format!("{error:#}"));
        let mut namespaces = self.args.nomad_namespace.clone();
        if let (true, Ok(found)) = (namespaces.is_empty(), &found) {
            namespaces.push(found.namespace.clone());
        }
        let config = found.map(|found| found.config);
        let agent = config.and_then(|config| {
            let token = Token::of(config.token, config.token_file);
            Agent::new(NOMAD, config.address, token, config.tls)
        });
        match agent {
            Ok(agent) => {
                let (findings, heard) = nomad::examine(&agent, self.args.role, &namespaces).await;
                self.agent("nomad", &agent, findings, heard);
            }
            Err(why) => {
                self.report.add([Finding::error("nomad.reachable", why, "Correct the variable or file.")])
            }
        }
    }

    fn agent(&mut self, name: &'static str, agent: &Agent, findings: Vec<Finding>, heard: Option<Heard>) {
        self.report.add(findings);
        if let Some(file) = &agent.certificate_file {
            self.report.add([certificates::of_file(name, file)]);
        }
        self.heard(name, heard);
    }

    /// What every answer tells besides: the time there, and the certificate.
    fn heard(&mut self, name: &'static str, heard: Option<Heard>) {
        let Some(heard) = heard else { return };
        self.clocks.extend(heard.ahead.map(|ahead| (name, ahead)));
        self.report.add(heard.certificate.map(|der| certificates::shown(name, &der)));
    }

    async fn service(&mut self) -> Option<Url> {
        if self.skip.contains(&Part::Service) {
            return None;
        }
        match self.args.connect.whom() {
            Ok((api, token)) => {
                let (findings, heard) = service::examine(&self.http, &api, token.ok().as_ref()).await;
                self.report.add(findings);
                self.heard("service", heard);
                Some(api)
            }
            Err(why) => {
                self.report.add([Finding::skipped("service.reachable", format!("{why:#}"))]);
                None
            }
        }
    }

    async fn proxies(&mut self) {
        if self.skip.contains(&Part::Proxy) {
            return;
        }
        let left = || crate::discovery::read().ok().flatten()?.admin?.parse().ok();
        let admins: Vec<Url> = match self.args.proxy_admin.as_slice() {
            [] => left().into_iter().collect(),
            given => given.to_vec(),
        };
        if admins.is_empty() {
            self.report.add([Finding::skipped("proxy.reachable", "no proxy to ask: give --proxy-admin")]);
        }
        for admin in admins {
            let (findings, heard) = proxies::examine(&self.http, &admin).await;
            self.report.add(findings);
            self.heard("proxy", heard);
        }
        let (networks, ports) = (&self.args.backend_network, &self.args.backend_ports);
        if !networks.is_empty() || !ports.is_empty() {
            self.report.add(proxies::backends(networks, ports));
        }
    }

    async fn domain(&mut self, api: Option<&Url>) {
        if self.skip.contains(&Part::Domain) {
            return;
        }
        let Some(session_url) = &self.args.session_url else {
            let why = "the sessions' domain is not known: give --session-url";
            return self.report.add([Finding::skipped("domain.dns", why)]);
        };
        let (findings, heard) = names::examine(&self.http, session_url, api, &self.args.cookie_host).await;
        self.report.add(findings);
        self.heard("domain", heard);
    }

    fn clocks(&mut self) {
        let findings = self.clocks.iter().map(|(name, ahead)| judge::clock(name, *ahead)).collect::<Vec<_>>();
        self.report.add(findings);
    }
}
