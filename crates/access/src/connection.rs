//! Calls with the credentials of the moment.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use reqwest::header::{HOST, HeaderName};
use reqwest::{ClientBuilder, Method, Request, RequestBuilder, Response};
use tokio::time::Instant;
use url::Url;

use crate::explain::{self, causes};
use crate::files::{Contents, Files, Stamps};
use crate::live::{Live, Source};
use crate::{Access, Target, Tls, Token};

/// Time between two looks at the files, as long as calls are made.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened, and what to do about it where that is known.
    pub text: String,
    /// One side does not trust the other: asking again will not help before something is replaced.
    pub untrusted: bool,
}

/// How a client's errors are told apart here.
pub trait Outcome: From<Failure> {
    /// The agent's words, if it was the token that was refused. Nothing was changed by such a call.
    fn denial(&self) -> Option<&str>;
}

/// The way to one agent. Clones share their connections.
#[derive(Clone)]
pub struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) optional: bool,
}

pub(crate) struct Shared {
    source: Source,
    files: Files,
    pub(crate) live: RwLock<Live>,
    looked: Mutex<Looked>,
    pub(crate) access: Access,
    /// Whether a task asks again for what was refused.
    pub(crate) again: AtomicBool,
}

/// The last look at the files.
struct Looked {
    at: Instant,
    stamps: Stamps,
    contents: Contents,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.shared.source.address.as_str())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Reads the files; connects to nothing yet. `base` has the time limits, and everything else that is not ours.
    ///
    /// # Errors
    /// When the token or a file cannot be used, in words.
    pub fn new(
        target: Target,
        address: Url,
        token: Token,
        tls: Tls,
        base: fn() -> ClientBuilder,
    ) -> Result<Self, String> {
        // The HTTP client has no TLS provider of its own and panics without one; a second installation is refused
        // and harmless.
        drop(rustls::crypto::ring::default_provider().install_default());
        if let Some(name) = &tls.server_name {
            // Of an address nothing would be looked up, and it would be connected to.
            if !matches!(url::Host::parse(name), Ok(url::Host::Domain(_))) {
                return Err(format!("{} {name:?} is not a host name", target.server_name_variable));
            }
        }
        let source = Source { target, address, token, tls, base };
        let files = Files::new(&source.token, source.is_encrypted().then_some(&source.tls));
        let (stamps, contents) = (files.stamps(), files.read()?);
        let live = RwLock::new(source.live(&contents, 0)?);
        let access = Access::new(target, source.place());
        let looked = Mutex::new(Looked { at: Instant::now(), stamps, contents });
        let again = AtomicBool::new(false);
        Ok(Self { shared: Arc::new(Shared { source, files, live, looked, access, again }), optional: false })
    }

    /// The same, for calls that can be done without: their refusal is no news of our access.
    #[must_use]
    pub fn optional(&self) -> Self {
        Self { optional: true, ..self.clone() }
    }

    /// What the agent makes of our credentials.
    #[must_use]
    pub fn access(&self) -> Access {
        self.shared.access.clone()
    }

    /// A call to `/v1/<segments>`. Each segment is escaped.
    pub fn request<'a>(&self, method: Method, segments: impl IntoIterator<Item = &'a str>) -> RequestBuilder {
        let mut url = self.shared.source.address.clone();
        // Only a URL without a host has no segments; such a one cannot be configured.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(segments);
        }
        let mut host = None;
        if let Some(name) = self.server_name() {
            host = authority(&self.shared.source.address);
            // Whether it can be one was looked at before.
            let _checked = url.set_host(Some(name));
        }
        let request = self.shared.live.read().http.request(method, url);
        match host {
            Some(host) => request.header(HOST, host),
            None => request,
        }
    }

    /// Makes a call and reads its answer. One that is refused is made again if the credentials were replaced since: what
    /// is refused changes nothing, and a connection that is not trusted carries nothing.
    ///
    /// # Errors
    /// What `read` says, or [`Failure`] if there is nothing to read.
    pub async fn call<T, E, R>(&self, request: RequestBuilder, read: impl Fn(Response) -> R) -> Result<T, E>
    where
        E: Outcome,
        R: Future<Output = Result<T, E>>,
    {
        self.look(LOOK_EVERY);
        let request = request.build().map_err(|error| E::from(self.failure(&error)))?;
        let (method, url) = (request.method().clone(), request.url().clone());
        let again = request.try_clone();
        let live = self.shared.live.read().clone();
        let mut used = live.serial;
        let (mut answer, mut untrusted) = self.attempt(&live, request, &read).await;
        if untrusted.is_some() || matches!(&answer, Err(error) if error.denial().is_some()) {
            self.look(Duration::ZERO);
            let newer = self.shared.live.read().clone();
            if let Some(again) = again.filter(|_| newer.serial != live.serial) {
                used = newer.serial;
                (answer, untrusted) = self.attempt(&newer, again, &read).await;
            }
        }
        // Others may have replaced the credentials since. What was said of the old ones would stay, for nobody asks again:
        // so it is written down while they cannot be replaced, or not at all.
        let current = self.shared.live.read();
        if current.serial != used {
            return answer;
        }
        let access = &self.shared.access;
        match (&answer, untrusted) {
            (Ok(_), _) => access.permitted(method.as_str(), url.path()),
            (Err(_), Some(why)) => access.untrusted(&why),
            (Err(error), None) => {
                if let Some(detail) = error.denial().filter(|_| !self.optional) {
                    access.refused(&method, &url, detail);
                    self.ask_again();
                }
            }
        }
        answer
    }

    /// One attempt; and why it is that one side does not trust the other, if it is that.
    async fn attempt<T, E, R>(
        &self,
        live: &Live,
        mut request: Request,
        read: impl Fn(Response) -> R,
    ) -> (Result<T, E>, Option<String>)
    where
        E: Outcome,
        R: Future<Output = Result<T, E>>,
    {
        if let Some(token) = &live.token {
            request
                .headers_mut()
                .insert(HeaderName::from_static(self.shared.source.target.token_header), token.clone());
        }
        match live.http.execute(request).await {
            Ok(response) => (read(response).await, None),
            Err(error) => {
                let failure = self.failure(&error);
                let untrusted = failure.untrusted.then(|| failure.text.clone());
                (Err(failure.into()), untrusted)
            }
        }
    }

    /// An error of the HTTP client, in words.
    #[must_use]
    pub fn failure(&self, error: &reqwest::Error) -> Failure {
        let Source { target, address, tls, .. } = &self.shared.source;
        match explain::distrust(error, *target, address, tls) {
            Some(text) => Failure { text, untrusted: true },
            None => Failure { text: causes(error), untrusted: false },
        }
    }

    fn server_name(&self) -> Option<&str> {
        self.shared.source.tls.server_name.as_deref().filter(|_| self.shared.source.is_encrypted())
    }

    /// Looks at the files if the last look was longer ago, and uses what has changed. A `stat` of some local files takes
    /// microseconds; reading them again is as rare as replacing them.
    fn look(&self, every: Duration) {
        let shared = &self.shared;
        let mut looked = if every.is_zero() {
            shared.looked.lock()
        } else {
            // Whoever looks already looks for all.
            let Some(looked) = shared.looked.try_lock() else { return };
            looked
        };
        if looked.at.elapsed() < every {
            return;
        }
        looked.at = Instant::now();
        let stamps = shared.files.stamps();
        if stamps == looked.stamps {
            return;
        }
        let contents = match shared.files.read() {
            Ok(contents) if contents.is(&looked.contents) => {
                looked.stamps = stamps;
                return shared.access.unchanged();
            }
            Ok(contents) => contents,
            Err(why) => return shared.access.unusable(why),
        };
        let serial = shared.live.read().serial + 1;
        match shared.source.live(&contents, serial) {
            Ok(live) => {
                *shared.live.write() = live;
                (looked.stamps, looked.contents) = (stamps, contents);
                shared.access.renewed();
            }
            // A certificate and its key are not replaced in one moment: the next look finds both.
            Err(why) => shared.access.unusable(why),
        }
    }
}

/// Host and port, as a client that knows nothing of the certificate's name would say them.
fn authority(address: &Url) -> Option<String> {
    let host = address.host_str()?;
    Some(address.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}
