//! TLS and ACLs in the agents' own configurations.

use anyhow::Result;
use serde_json::{Value, json};

use super::{AUDIENCE, AUTH_METHOD, Locks};

impl Locks {
    /// TLS and ACLs of a Consul agent.
    pub(in crate::agents) fn of_consul(
        &self,
        name: &str,
        config: &mut Value,
        https: u16,
        server: bool,
    ) -> Result<()> {
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
    pub(in crate::agents) fn of_nomad(&self, name: &str, config: &mut Value, server: bool) -> Result<()> {
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
}
