//! What makes a site a locked one: an authority of its own, TLS for every call, and ACLs that deny by default.

mod grants;
mod settings;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::Value;

use super::authority::{Authority, Certified, Validity, replace};
use super::keys::Keys;
pub use grants::{Granted, rules};

/// The Nomad namespace of the sessions.
pub const SESSIONS: &str = "sessions";
/// Another one, which is nobody's business here.
pub const OTHERS: &str = "others";
/// What Nomad logs in to Consul with.
const AUTH_METHOD: &str = "nomad-workloads";
/// For whom Nomad's identities are good.
const AUDIENCE: &str = "consul.io";

/// The keys to a locked site.
#[derive(Debug)]
pub struct Locks {
    folder: PathBuf,
    authority: Mutex<Authority>,
    http: Mutex<reqwest::Client>,
    /// Opens everything in Nomad, and is Consul's management token, too.
    management: String,
    /// Consul's client agents'.
    consuls_agents: String,
    /// Nomad's, for Consul.
    nomads: String,
    keys: Mutex<Option<Keys>>,
}

/// One exchange with an agent.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

impl Reply {
    /// Its body as JSON; `null` if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

impl Locks {
    pub(super) fn new(dir: &Path) -> Result<Self> {
        let folder = dir.join("locks");
        std::fs::create_dir_all(&folder)?;
        let authority = Authority::new("Bivouac's tests")?;
        replace(&folder.join("ca.pem"), &authority.pem())?;
        let locks = Self {
            http: Mutex::new(crate::http_client(Duration::from_secs(1))),
            authority: Mutex::new(authority),
            management: uuid(),
            consuls_agents: uuid(),
            nomads: uuid(),
            keys: Mutex::default(),
            folder,
        };
        locks.issue("tests", &["tests"])?;
        locks.renew_client()?;
        Ok(locks)
    }

    /// PEM file with the authorities that are trusted here.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The authority that signs at present.
    pub fn authority(&self) -> parking_lot::MutexGuard<'_, Authority> {
        self.authority.lock()
    }

    /// The certificate of a role: an agent's name, `service`, `proxy` or `tests`.
    #[must_use]
    pub fn certified(&self, role: &str) -> Certified {
        let file = |kind: &str| self.folder.join(format!("{role}.{kind}"));
        Certified { certificate: file("pem"), key: file("key") }
    }

    /// Issues a role's certificate, or a new one.
    ///
    /// # Errors
    /// If its files cannot be written.
    pub fn issue(&self, role: &str, names: &[&str]) -> Result<Certified> {
        let files = self.certified(role);
        let names: Vec<&str> = names.iter().copied().chain(["localhost", "127.0.0.1"]).collect();
        self.authority.lock().issue(&files, &names, Validity::Good)?;
        Ok(files)
    }

    /// The next authority signs from now on; it is trusted beside the earlier ones until
    /// [`trust_the_newest`](Self::trust_the_newest).
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn succeed(&self) -> Result<()> {
        let next = Authority::new("Bivouac's tests")?;
        let trusted = std::fs::read_to_string(self.ca_file())?;
        replace(&self.ca_file(), &format!("{trusted}{}", next.pem()))?;
        *self.authority.lock() = next;
        self.renew_client()
    }

    /// What earlier authorities have signed is not trusted any more.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn trust_the_newest(&self) -> Result<()> {
        replace(&self.ca_file(), &self.authority.lock().pem())?;
        self.issue("tests", &["tests"])?;
        self.renew_client()
    }

    fn renew_client(&self) -> Result<()> {
        let mut headers = HeaderMap::new();
        for name in ["x-nomad-token", "x-consul-token"] {
            headers.insert(name, HeaderValue::from_str(&self.management)?);
        }
        *self.http.lock() = self.builder()?.default_headers(headers).build()?;
        Ok(())
    }

    fn builder(&self) -> Result<reqwest::ClientBuilder> {
        let roots = reqwest::Certificate::from_pem_bundle(&std::fs::read(self.ca_file())?)?;
        let own = self.certified("tests");
        let pem = [std::fs::read(own.certificate)?, std::fs::read(own.key)?].concat();
        // No connection is kept: the client is shared by tests, and each has a runtime of its own that ends with it.
        let builder =
            reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().pool_max_idle_per_host(0);
        Ok(builder.http1_only().tls_certs_only(roots).identity(reqwest::Identity::from_pem(&pem)?))
    }

    /// A client with every right.
    #[must_use]
    pub fn http(&self) -> reqwest::Client {
        self.http.lock().clone()
    }

    /// A call with somebody's token, or with none.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn call_as(
        &self,
        token: Option<&str>,
        method: Method,
        url: &str,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let mut request = self.builder()?.build()?.request(method, url);
        if let Some(token) = token {
            request = request.header("x-nomad-token", token).header("x-consul-token", token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        Ok(Reply { status: answer.status().as_u16(), body: answer.text().await? })
    }

    /// A call with every right, which must succeed.
    ///
    /// # Errors
    /// If it does not.
    pub async fn manage(&self, method: Method, url: &str, body: &Value) -> Result<Value> {
        let reply = self.call_as(Some(&self.management), method.clone(), url, Some(body)).await?;
        ensure!((200..300).contains(&reply.status), "{method} {url}: {} {}", reply.status, reply.body);
        Ok(reply.json())
    }
}

/// A random one.
fn uuid() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
