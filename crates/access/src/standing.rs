//! Whether an agent accepts us: in words for people, and as a metric.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use reqwest::Method;
use tokio::time::Instant;
use url::Url;

use crate::Target;
use crate::refusals::{News, Refusals, is_the_token};

/// What an agent makes of our credentials. Clones are the same.
#[derive(Debug, Clone)]
pub struct Access {
    target: Target,
    /// Where the token comes from, for people.
    token: String,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether there is anything to look at: most calls need no lock.
    any: AtomicBool,
    /// When the token ends, in seconds of Unix time; 0 if that is not known, or never.
    expires: AtomicI64,
    troubles: Mutex<Troubles>,
}

#[derive(Debug, Default)]
struct Troubles {
    refusals: Refusals,
    /// Why no connection is trusted, ours or theirs.
    untrusted: Option<String>,
    /// Why replaced files are not in use.
    unusable: Option<String>,
}

impl Access {
    /// Registers the metric of this one alone: see [`register`].
    pub fn register(self, registry: &mut Registry) {
        register(registry, vec![self]);
    }

    pub(crate) fn new(target: Target, token: String) -> Self {
        Self { target, token, state: Arc::default() }
    }

    /// Who it is about: "nomad" or "consul".
    #[must_use]
    pub fn target(&self) -> &'static str {
        self.target.label
    }

    /// What is refused and what to do about it, as a sentence; `None` if nothing is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if !self.state.any.load(Ordering::Relaxed) {
            return None;
        }
        let troubles = self.state.troubles.lock();
        let name = self.target.name;
        let refused = troubles.refusals.now(Instant::now()).map(|(call, detail, calls)| {
            if is_the_token(&detail) {
                return format!(
                    "{name} does not accept the token ({detail}): put a valid one into {}.",
                    self.token
                );
            }
            let more =
                if calls > 1 { format!(" and {} kinds of calls more", calls - 1) } else { String::new() };
            // Nomad says no more than "Permission denied", whatever it is.
            format!(
                "{name} refuses {call}{more} ({detail}): the token in {} has expired or was revoked, is another \
                 process's, or its policy lacks this right. Put the right one there, or mend the policy.",
                self.token
            )
        });
        let all = [troubles.untrusted.clone(), refused, troubles.unusable.clone()];
        let told: Vec<String> = all.into_iter().flatten().collect();
        (!told.is_empty()).then(|| told.join(" "))
    }

    /// When the token ends; `None`: never.
    pub(crate) fn expires(&self, at: Option<jiff::Timestamp>) {
        self.state.expires.store(at.map_or(0, jiff::Timestamp::as_second), Ordering::Relaxed);
    }

    /// A call was answered, and not refused.
    pub(crate) fn permitted(&self, method: &str, path: &str) {
        if !self.state.any.load(Ordering::Relaxed) {
            return;
        }
        let mut troubles = self.state.troubles.lock();
        let trusted = troubles.untrusted.take().is_some();
        let news = troubles.refusals.permitted(method, path, Instant::now());
        self.settle(&troubles);
        if trusted {
            tracing::info!("{} is trusted again, and trusts us.", self.target.name);
        }
        if news == Some(News::Permitted) {
            tracing::info!("{} refuses nothing any more.", self.target.name);
        }
    }

    /// A call was refused; whatever it would have changed is unchanged.
    pub(crate) fn refused(&self, method: &Method, url: &Url, detail: &str) {
        let mut troubles = self.state.troubles.lock();
        // A refusal is an answer: the connection itself is trusted.
        troubles.untrusted = None;
        let news = troubles.refusals.refused(method, url, detail, Instant::now());
        self.settle(&troubles);
        if let Some(News::Refused { call, detail }) = news {
            tracing::warn!(
                call,
                detail,
                token = self.token,
                "{} refuses what we ask; nothing is stopped or given up for that, and it is tried again.",
                self.target.name
            );
        }
    }

    /// What was refused and can be asked again without changing anything.
    pub(crate) fn refused_questions(&self) -> Vec<Url> {
        if !self.state.any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.state.troubles.lock().refusals.questions(Instant::now())
    }

    /// No connection: one side does not trust the other's certificate.
    pub(crate) fn untrusted(&self, why: &str) {
        let mut troubles = self.state.troubles.lock();
        let known = troubles.untrusted.replace(why.to_owned()).is_some();
        self.settle(&troubles);
        if !known {
            tracing::warn!(why, "{} cannot be asked; it is tried again.", self.target.name);
        }
    }

    /// Replaced files are in use.
    pub(crate) fn renewed(&self) {
        let mut troubles = self.state.troubles.lock();
        troubles.refusals.renewed();
        troubles.unusable = None;
        self.settle(&troubles);
        tracing::info!("Replaced credentials for {} are in use.", self.target.name);
    }

    /// Replaced files cannot be used; what was read before goes on being used.
    pub(crate) fn unusable(&self, why: String) {
        let mut troubles = self.state.troubles.lock();
        if troubles.unusable.as_ref() == Some(&why) {
            return;
        }
        tracing::warn!(
            why,
            "Replaced credentials for {} cannot be used; the earlier ones are used further.",
            self.target.name
        );
        troubles.unusable = Some(why);
        self.settle(&troubles);
    }

    /// The files are as they were when they were read.
    pub(crate) fn unchanged(&self) {
        if self.state.any.load(Ordering::Relaxed) {
            let mut troubles = self.state.troubles.lock();
            troubles.unusable = None;
            self.settle(&troubles);
        }
    }

    fn settle(&self, troubles: &Troubles) {
        let any = troubles.untrusted.is_some()
            || troubles.unusable.is_some()
            || troubles.refusals.now(Instant::now()).is_some();
        self.state.any.store(any, Ordering::Relaxed);
    }
}

/// Registers `cluster_access{target="nomad|consul"}`: 1 if nothing is refused.
pub fn register(registry: &mut Registry, all: Vec<Access>) {
    if !all.is_empty() {
        registry.register_collector(Box::new(Gauges(all)));
    }
}

#[derive(Debug)]
struct Gauges(Vec<Access>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "cluster_access",
            "1 if the cluster accepts our token and certificate, and refuses no call",
            None,
            ConstGauge::<i64>::TYPE,
        )?;
        for access in &self.0 {
            let gauge = ConstGauge::new(i64::from(access.problem().is_none()));
            gauge.encode(family.encode_family(&[("target", access.target())])?)?;
        }
        let mut family = encoder.encode_descriptor(
            "cluster_token_expiry_timestamp",
            "When our token ends, in Unix time; nothing for one that does not, or that does not tell",
            Some(&Unit::Seconds),
            ConstGauge::<i64>::TYPE,
        )?;
        for access in &self.0 {
            let ends = access.state.expires.load(Ordering::Relaxed);
            if ends > 0 {
                let gauge = ConstGauge::new(ends);
                gauge.encode(family.encode_family(&[("target", access.target())])?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(access: &Access) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        register(&mut registry, vec![access.clone()]);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn what_is_refused_is_told_until_it_is_not() {
        let access = Access::new(crate::CONSUL, "/run/token".to_owned());
        access.expires(Some(jiff::Timestamp::UNIX_EPOCH + std::time::Duration::from_secs(90)));
        assert!(metrics(&access).contains("cluster_token_expiry_timestamp_seconds{target=\"consul\"} 90"));
        assert!(metrics(&access).contains("cluster_access{target=\"consul\"} 1"));
        let key = Url::parse("http://127.0.0.1:8500/v1/kv/a").unwrap();
        access.refused(&Method::GET, &key, "ACL not found");
        assert_eq!(access.refused_questions(), [key]);
        let told = access.problem().unwrap();
        assert!(told.contains("does not accept the token") && told.contains("/run/token"), "{told}");
        assert!(metrics(&access).contains("cluster_access{target=\"consul\"} 0"));
        access.renewed();
        assert_eq!(access.problem(), None);
        access.untrusted("Its certificate has expired.");
        access.permitted("GET", "/v1/kv/a");
        assert_eq!(access.problem(), None);
        access.unusable("x cannot be read".to_owned());
        access.permitted("GET", "/v1/kv/a");
        assert!(access.problem().unwrap().contains("cannot be read"));
        access.unchanged();
        assert_eq!(access.problem(), None);
    }
}
