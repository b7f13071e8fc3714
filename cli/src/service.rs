//! `bivouac service`: the control plane, on its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::http::HeaderValue;
use bivouac_ledger::consul::ConsulLedger;
use bivouac_ledger::{Ledger, installation};
use bivouac_protocol::Span;
use bivouac_protocol::id::cluster_fingerprint;
use bivouac_service::api::Bootstrap;
use bivouac_service::app::{Config, Service};
use bivouac_service::backend::nomad::{self, NomadBackend};
use bivouac_service::session::Settings;
use bivouac_service::spec::template::jobspec::NomadParser;
use bivouac_service::spec::template::{Mode, TemplateVar, Templates};
use bivouac_service::tickets::TicketSecrets;
use jiff::SignedDuration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::ready_file::{self, Bound};
use crate::registration::{self, Listener, Registration};
use crate::{environment, private_file};

/// Serve the API: spawn sessions on Nomad, observe them, stop them when nobody uses them
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bivouac service --templates ./templates --session-url https://sessions.example.com \\
    --cluster-secret-file cluster.secret --link-secret-file link.secret \\
    --ticket-secret-file ticket.secret --token-file api.token

Nomad and Consul are found by the variables of their own tools: NOMAD_ADDR, NOMAD_TOKEN,
NOMAD_CACERT, …, CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, …

Any number of replicas may run. Killing one loses nothing: running sessions go on, and
whatever it was doing is finished by the next.")]
pub(crate) struct Args {
    /// Where the API is served
    #[arg(long, env = "BIVOUAC_API", value_name = "ADDR", default_value = "127.0.0.1:7070")]
    api: SocketAddr,
    /// Where proxies link; not for the public
    #[arg(long, env = "BIVOUAC_INTERNAL", value_name = "ADDR", default_value = "127.0.0.1:7071")]
    internal: SocketAddr,
    /// Folder of the templates, one folder for each
    #[arg(long, env = "BIVOUAC_TEMPLATES", value_name = "DIR")]
    templates: PathBuf,
    /// A variable of a template's jobspec; may be repeated
    #[arg(long, env = "BIVOUAC_TEMPLATE_VAR", value_name = "TEMPLATE.VARIABLE=VALUE")]
    template_var: Vec<TemplateVar>,
    /// Scheme, domain and port of the sessions' URLs
    #[arg(long, env = "BIVOUAC_SESSION_URL", value_name = "URL", value_parser = session_url, default_value = "http://localhost:7080")]
    session_url: Url,
    /// File with the secret that session ids are derived from; never change it
    #[arg(long, env = "BIVOUAC_CLUSTER_SECRET_FILE", value_name = "FILE")]
    cluster_secret_file: PathBuf,
    /// File with the secret that services and proxies share; during a rotation the new one, and below it the old one
    #[arg(long, env = "BIVOUAC_LINK_SECRET_FILE", value_name = "FILE")]
    link_secret_file: PathBuf,
    /// File with the secrets that tickets are signed with, one on each line, of which the first signs; read again when it
    /// changes
    #[arg(long, env = "BIVOUAC_TICKET_SECRET_FILE", value_name = "FILE")]
    ticket_secret_file: PathBuf,
    /// File with the bootstrap tokens that open all of the API, one on each line; read again when it changes
    #[arg(long, env = "BIVOUAC_TOKEN_FILE", value_name = "FILE")]
    token_file: PathBuf,
    /// Origin whose pages may call the API; may be repeated
    #[arg(long, env = "BIVOUAC_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    allow_origin: Vec<HeaderValue>,
    /// Hostname by which the API may be called, besides its own address; may be repeated
    #[arg(long, env = "BIVOUAC_ALLOW_HOST", value_name = "HOST", value_delimiter = ',')]
    allow_host: Vec<String>,
    /// Prefix of all our keys in Consul
    #[arg(long, env = "BIVOUAC_PREFIX", default_value = "bivouac")]
    prefix: String,
    /// Nomad namespace in which sessions may run; may be repeated. Without any: all, which takes a token that may read
    /// every namespace
    #[arg(long, env = "BIVOUAC_NOMAD_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',')]
    nomad_namespace: Vec<String>,
    #[command(flatten)]
    patience: Patience,
    /// Address under which the others reach this host, where Nomad does not register this process
    #[arg(long, env = "BIVOUAC_ADVERTISE", value_name = "IP")]
    advertise: Option<IpAddr>,
    /// Write what was bound to this file, as JSON, once it serves
    #[arg(long, env = "BIVOUAC_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Longest wait at the start for the ledger's word on whose it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long is waited for whom.
#[derive(clap::Args, Debug)]
struct Patience {
    /// Age at which an unfinished start of another replica is taken over
    #[arg(long, env = "BIVOUAC_CLAIM_TIMEOUT", value_name = "DURATION", default_value = "5s")]
    claim_timeout: Span,
    /// How long the record of an ended session with a key is kept
    #[arg(long, env = "BIVOUAC_RETENTION", value_name = "DURATION", default_value = "168h")]
    retention: Span,
    /// The same without a key
    #[arg(long, env = "BIVOUAC_RETENTION_KEYLESS", value_name = "DURATION", default_value = "24h")]
    retention_keyless: Span,
    /// Silence after which a proxy whose Consul session is gone is presumed dead; or "never"
    #[arg(long, env = "BIVOUAC_PRESUME_DEAD_AFTER", value_name = "DURATION", value_parser = span_or_never, default_value = "15m")]
    presume_dead_after: SpanOrNever,
}

/// A length of time, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SpanOrNever(Option<Span>);

/// Serves until the shutdown; sessions go on.
pub(crate) async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let consul = bivouac_consul::Client::new(&environment::consul()?)?;
    tokio::spawn(environment::compare_consuls_version(consul.clone()));
    let ledger: Arc<dyn Ledger> = Arc::new(ConsulLedger::new(consul.clone(), &args.prefix));
    let found = environment::nomad()?;
    let nomad = bivouac_nomad::Client::new(found.config)?;
    let config = args.config()?;
    let fingerprint = cluster_fingerprint(&config.cluster_secret);
    // With Consul away it serves nevertheless, and is told as soon as Consul answers.
    timeout(PATIENCE, same_installation(&ledger, &fingerprint)).await.unwrap_or(Ok(()))?;
    let jobs = nomad::Settings { namespace: found.namespace, ..nomad::Settings::new(&*fingerprint) }
        .within(&args.nomad_namespace);
    let parser = NomadParser { client: nomad.clone(), namespace: jobs.namespace.clone() };
    let config = Config { parser: Some(Arc::new(parser)), ..config };
    let service =
        Service::bind(config, Arc::clone(&ledger), Arc::new(NomadBackend::new(nomad.clone(), jobs))).await?;
    let (api, internal) = (service.api_addr(), service.internal_addr());
    let registration = args.registration(consul.clone(), api, internal)?;
    let (api_url, internal_url) = (ready_file::http(api), ready_file::http(internal));
    tracing::info!(api = api_url, internal = internal_url, "The service serves.");
    if let Some(file) = &args.ready_file {
        let token_file = std::path::absolute(&args.token_file).ok();
        Bound { api: Some(api_url), internal: Some(internal_url), token_file, ..Bound::default() }
            .write(file)?;
    }
    let registered = async {
        if let Some(registration) = registration {
            registration.keep(shutdown.clone()).await;
        }
    };
    let tokens = async { tokio::join!(consul.watch_token(), nomad.watch_token()) };
    let checked = async {
        let same = shutdown.run_until_cancelled(same_installation(&ledger, &fingerprint)).await;
        if matches!(same, Some(Err(_))) {
            shutdown.cancel();
        }
        same.unwrap_or(Ok(()))
    };
    let served = async {
        let served = service.run(shutdown.clone()).await;
        // If it could not go on: what is beside it goes, too, and is not registered for ever.
        shutdown.cancel();
        served
    };
    let (served, (), _, checked) =
        tokio::join!(served, registered, shutdown.run_until_cancelled(tokens), checked,);
    served?;
    checked
}

/// Asks until the ledger says whether it belongs to the installation of our cluster secret.
async fn same_installation(ledger: &Arc<dyn Ledger>, fingerprint: &str) -> anyhow::Result<()> {
    loop {
        match installation::belongs_to(ledger, fingerprint).await {
            Ok(same) => return Ok(same?),
            Err(error) => tracing::debug!(%error, "Whose ledger this is cannot be read yet."),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

impl Args {
    /// What to say in Consul of both listeners; `None` where Nomad says it.
    fn registration(
        &self,
        consul: bivouac_consul::Client,
        api: SocketAddr,
        internal: SocketAddr,
    ) -> anyhow::Result<Option<Registration>> {
        if registration::is_nomads_business() {
            return Ok(None);
        }
        let told = |address| registration::advertised(address, self.advertise);
        let listener = |role, address| Ok(Listener { role, address: told(address)?, health: told(address)? });
        let listeners: anyhow::Result<Vec<_>> =
            [listener("service", api), listener("link", internal)].into_iter().collect();
        Ok(Some(Registration::new(consul, &self.prefix, &listeners?)))
    }

    fn config(&self) -> anyhow::Result<Config> {
        let patience = &self.patience;
        let kept = |span: Span| SignedDuration::try_from(span.get()).context("the retention is too long");
        Ok(Config {
            api: self.api,
            internal: self.internal,
            allow_hosts: self.allow_host.clone(),
            allow_origins: self.allow_origin.clone(),
            tokens: Bootstrap::of_file(&self.token_file)?,
            cluster_secret: private_file::read_secret(&self.cluster_secret_file)?,
            link_secrets: private_file::read_link_secrets(&self.link_secret_file)?,
            ticket_secrets: TicketSecrets::of_file(&self.ticket_secret_file)?,
            templates: Arc::new(Templates::load(&self.templates, &self.template_var, Mode::Nomad)?),
            parser: None,
            sessions: Settings {
                session_url: self.session_url.clone(),
                claim_timeout: patience.claim_timeout.get(),
                retention: (kept(patience.retention)?, kept(patience.retention_keyless)?),
                presume_dead_after: patience.presume_dead_after.0.map(Span::get),
                failpoints: environment::failpoints(),
            },
        })
    }
}

fn session_url(text: &str) -> Result<Url, String> {
    let form = "write it as https://sessions.example.com or http://localhost:7080";
    let url: Url = text.parse().map_err(|_| form.to_owned())?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.username().is_empty();
    if matches!(url.scheme(), "http" | "https") && url.domain().is_some() && bare {
        Ok(url)
    } else {
        Err(form.to_owned())
    }
}

fn span_or_never(text: &str) -> Result<SpanOrNever, String> {
    match text {
        "never" => Ok(SpanOrNever(None)),
        _ => text
            .parse()
            .map(|span| SpanOrNever(Some(span)))
            .map_err(|_| "write a duration such as \"15m\", or \"never\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_url_is_a_scheme_a_domain_and_a_port() {
        for text in ["http://localhost:7080", "https://sessions.example.com", "https://sessions.example.com/"]
        {
            assert!(session_url(text).is_ok(), "{text} must be accepted");
        }
        for text in [
            "",
            "localhost",
            "ftp://x.y",
            "http://10.0.0.1",
            "https://x.y/path",
            "https://x.y?q",
            "http://u@x",
        ] {
            assert!(session_url(text).is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn never_is_a_length_of_time_here() {
        assert_eq!(span_or_never("never"), Ok(SpanOrNever(None)));
        assert_eq!(span_or_never("15m"), Ok(SpanOrNever(Some(Span::seconds(900)))));
        assert!(span_or_never("soon").is_err());
    }
}
