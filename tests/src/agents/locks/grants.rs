//! Who is granted what on a locked site. Rules are those of `terraform/modules/access/policies`, read from there.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{AUDIENCE, AUTH_METHOD, Locks, OTHERS, SESSIONS};
use crate::agents::keys::Keys;

/// A token that was granted.
#[derive(Debug, Clone)]
pub struct Granted {
    /// What is shown.
    pub secret: String,
    /// By what it is revoked.
    pub accessor: String,
}

impl Locks {
    /// Consul knows its agents and Nomad's.
    pub(in crate::agents) async fn admit_agents(&self, consul: &str) -> Result<()> {
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
    pub(in crate::agents) async fn open_nomad(&self, nomad: &str, consul: &str) -> Result<()> {
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
