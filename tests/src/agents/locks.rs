//! What makes a site a locked one: an authority of its own, TLS for every call, ACLs that deny by default, and who is
//! granted what. Rules are those of `terraform/modules/access/policies`, read from there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::authority::{Authority, Certified, Validity, replace};
use super::keys::Keys;

/// The Nomad namespace of the sessions.
pub const SESSIONS: &str = "sessions";
/// Another one, which is nobody's business here.
pub const OTHERS: &str = "others";
/// What Nomad logs in to Consul with.
const AUTH_METHOD: &str = "nomad-workloads";
/// For whom Nomad's identities are good.
pub(super) const AUDIENCE: &str = "consul.io";

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

/// A token that was granted.
#[derive(Debug, Clone)]
pub struct Granted {
    /// What is shown.
    pub secret: String,
    /// By what it is revoked.
    pub accessor: String,
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
        Ok(builder.tls_certs_only(roots).identity(reqwest::Identity::from_pem(&pem)?))
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

    /// TLS and ACLs of a Consul agent.
    pub(super) fn of_consul(&self, name: &str, config: &mut Value, https: u16, server: bool) -> Result<()> {
        let kind = if server { "server.dc1.consul" } else { "client.dc1.consul" };
        let own = self.issue(name, &[kind])?;
        config["ports"]["http"] = json!(-1);
        config["ports"]["https"] = json!(https);
        config["tls"] = json!({
            "defaults": {
                "ca_file": self.ca_file(), "cert_file": own.certificate, "key_file": own.key,
                "verify_incoming": true, "verify_outgoing": true
            },
            "internal_rpc": { "verify_server_hostname": true }
        });
        let agent = if server { &self.management } else { &self.consuls_agents };
        config["acl"] = json!({
            "enabled": true, "default_policy": "deny",
            // 30 s by default, which would be the time until a revoked token is noticed.
            "token_ttl": "1s", "policy_ttl": "1s", "role_ttl": "1s",
            "tokens": { "agent": agent }
        });
        if server {
            config["acl"]["tokens"]["initial_management"] = json!(self.management);
        }
        Ok(())
    }

    /// TLS and ACLs of a Nomad agent.
    pub(super) fn of_nomad(&self, name: &str, config: &mut Value, server: bool) -> Result<()> {
        let kind = if server { "server.global.nomad" } else { "client.global.nomad" };
        let own = self.issue(name, &[kind])?;
        config["tls"] = json!({
            "http": true, "rpc": true, "verify_server_hostname": true, "verify_https_client": true,
            "ca_file": self.ca_file(), "cert_file": own.certificate, "key_file": own.key
        });
        config["acl"] = json!({
            "enabled": true, "token_ttl": "1s", "policy_ttl": "1s", "role_ttl": "1s",
            "token_min_expiration_ttl": "1s"
        });
        let consul = &mut config["consul"];
        for (setting, value) in [
            ("ssl", json!(true)),
            ("ca_file", json!(self.ca_file())),
            ("cert_file", json!(own.certificate)),
            ("key_file", json!(own.key)),
            ("token", json!(self.nomads)),
            ("service_auth_method", json!(AUTH_METHOD)),
            ("task_auth_method", json!(AUTH_METHOD)),
            ("service_identity", json!({ "aud": [AUDIENCE], "ttl": "1h" })),
            ("task_identity", json!({ "aud": [AUDIENCE], "ttl": "1h", "env": false, "file": false })),
        ] {
            consul[setting] = value;
        }
        Ok(())
    }

    /// Consul knows its agents and Nomad's.
    pub(super) async fn admit_agents(&self, consul: &str) -> Result<()> {
        let agents = r#"node_prefix "" { policy = "write" } service_prefix "" { policy = "read" }"#;
        let nomad = r#"agent_prefix "" { policy = "read" } node_prefix "" { policy = "read" } service_prefix "" { policy = "write" }"#;
        for (name, rules, secret) in
            [("consul-agents", agents, &self.consuls_agents), ("nomad-agents", nomad, &self.nomads)]
        {
            self.policy(consul, name, rules).await?;
            let token = json!({ "SecretID": secret, "Description": name, "Policies": [{ "Name": name }] });
            self.manage(Method::PUT, &format!("{consul}/v1/acl/token"), &token).await?;
        }
        Ok(())
    }

    /// Nomad has a first token and namespaces, and its workloads log in to Consul. Nomad verifies its clients and Consul
    /// shows no certificate when it fetches keys: they stand behind a listener of ours, as behind any proxy.
    pub(super) async fn open_nomad(&self, nomad: &str, consul: &str) -> Result<()> {
        let first = json!({ "BootstrapSecret": self.management });
        let reply =
            self.call_as(None, Method::POST, &format!("{nomad}/v1/acl/bootstrap"), Some(&first)).await?;
        ensure!(reply.status == 200, "Nomad's ACLs: {} {}", reply.status, reply.body);
        for name in [SESSIONS, OTHERS] {
            let url = format!("{nomad}/v1/namespace/{name}");
            self.manage(Method::PUT, &url, &json!({ "Name": name })).await?;
        }
        let fetched =
            self.call_as(None, Method::GET, &format!("{nomad}/.well-known/jwks.json"), None).await?;
        let keys = Keys::serve(fetched.body)?;
        let claims = ["nomad_namespace", "nomad_job_id", "nomad_task", "nomad_service"];
        let claims: Value = claims.iter().map(|&name| (name.to_owned(), json!(name))).collect();
        let method = json!({
            "Name": AUTH_METHOD, "Type": "jwt", "TokenLocality": "local",
            "Config": {
                "JWKSURL": keys.url(), "JWTSupportedAlgs": ["RS256"],
                "BoundAudiences": [AUDIENCE], "ClaimMappings": claims
            }
        });
        *self.keys.lock() = Some(keys);
        self.manage(Method::PUT, &format!("{consul}/v1/acl/auth-method"), &method).await?;
        let services = json!({
            "AuthMethod": AUTH_METHOD,
            "Selector": format!(
                "\"nomad_service\" in value and value.nomad_namespace == \"{SESSIONS}\" \
                 and value.nomad_service matches \"^session-\""
            ),
            "BindType": "service", "BindName": "${value.nomad_service}"
        });
        self.manage(Method::PUT, &format!("{consul}/v1/acl/binding-rule"), &services).await?;
        Ok(())
    }

    /// Creates or changes a policy of Consul's.
    ///
    /// # Errors
    /// If Consul does not accept it.
    pub async fn policy(&self, consul: &str, name: &str, rules: &str) -> Result<()> {
        let policy = json!({ "Name": name, "Rules": rules });
        self.manage(Method::PUT, &format!("{consul}/v1/acl/policy"), &policy).await.map(drop)
    }

    /// A token of Consul's with these policies.
    ///
    /// # Errors
    /// If Consul does not accept it.
    pub async fn consul_token(&self, consul: &str, policies: &[String]) -> Result<Granted> {
        let policies: Vec<Value> = policies.iter().map(|name| json!({ "Name": name })).collect();
        let url = format!("{consul}/v1/acl/token");
        granted(&self.manage(Method::PUT, &url, &json!({ "Policies": policies })).await?)
    }

    /// A token of Nomad's with one policy, made of these rules.
    ///
    /// # Errors
    /// If Nomad does not accept it.
    pub async fn nomad_token(&self, nomad: &str, name: &str, rules: &str) -> Result<Granted> {
        let policy = json!({ "Name": name, "Rules": rules });
        self.manage(Method::PUT, &format!("{nomad}/v1/acl/policy/{name}"), &policy).await?;
        let token = json!({ "Name": name, "Type": "client", "Policies": [name] });
        granted(&self.manage(Method::PUT, &format!("{nomad}/v1/acl/token"), &token).await?)
    }

    /// Tasks of sessions get a role with this policy, if they ask Consul for a token at all.
    ///
    /// # Errors
    /// If Consul does not accept it.
    pub async fn bind_sessions(&self, consul: &str, policy: &str) -> Result<()> {
        let role = json!({ "Name": policy, "Policies": [{ "Name": policy }] });
        self.manage(Method::PUT, &format!("{consul}/v1/acl/role"), &role).await?;
        let selector = format!("\"nomad_service\" not in value and value.nomad_namespace == \"{SESSIONS}\"");
        let rule = json!({ "AuthMethod": AUTH_METHOD, "Selector": selector, "BindType": "role", "BindName": policy });
        self.manage(Method::PUT, &format!("{consul}/v1/acl/binding-rule"), &rule).await.map(drop)
    }
}

fn granted(token: &Value) -> Result<Granted> {
    let field = |name: &str| token[name].as_str().map(str::to_owned).context("a token without it");
    Ok(Granted { secret: field("SecretID")?, accessor: field("AccessorID")? })
}

/// The rules of a policy, as Terraform fills them in.
///
/// # Panics
/// If there is no such file.
#[must_use]
pub fn rules(file: &str, prefix: &str, namespace: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../terraform/modules/access/policies");
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.replace("${prefix}", prefix).replace("${namespace}", namespace)
}

/// A random one.
fn uuid() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
