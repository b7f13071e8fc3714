//! The examples, applied to real agents: with `BIVOUAC_TERRAFORM_PLUGINS` alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bivouac_tests::agents::{Agents, AgentsConfig, Locks, OTHERS, SESSIONS};
use bivouac_tests::eventually;
use bivouac_tests::world::product;
use reqwest::Method;
use serde_json::{Value, json};

use super::tool::{Terraform, left_out};

const SOON: Duration = Duration::from_secs(60);

/// A cluster, and Terraform with an example for it.
struct Site {
    agents: Agents,
    terraform: Terraform,
    http: reqwest::Client,
    templates: &'static [&'static str],
}

impl Site {
    /// `None`: Terraform or its plugins are not there, which was said.
    async fn with(example: &'static str, test: &str) -> Option<Self> {
        let locked = example == "complete";
        // Before the agents are started: most machines end here.
        if let Err(why) = Terraform::of_example(example, Vec::new()) {
            left_out(test, &why);
            return None;
        }
        let config = AgentsConfig { nomad_clients: 1, locked, ..AgentsConfig::default() };
        let mut agents = Agents::start(config).await.unwrap();
        let proxy_port = agents.reserve_port(0).unwrap();
        let settings = settings(&agents, proxy_port, locked).await;
        let terraform = Terraform::of_example(example, settings).unwrap();
        let http = agents.locks().map_or_else(|| bivouac_tests::http_client(SOON), |locks| locks.http());
        Some(Self {
            agents,
            terraform,
            http,
            templates: &["whiteboard", "preview"][..1 + usize::from(locked)],
        })
    }

    async fn consul(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}/v1/{path}", self.agents.consul().url())).send().await.unwrap();
        answer.json().await.unwrap_or_default()
    }

    async fn nomad(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}/v1/{path}", self.agents.nomad().url())).send().await.unwrap();
        answer.json().await.unwrap_or_default()
    }

    /// Where the API is, and the token that opens it.
    async fn api(&self) -> (String, String) {
        let replicas = self.consul("catalog/service/bivouac-service").await;
        let api = format!("http://{}:{}", text(&replicas[0]["ServiceAddress"]), replicas[0]["ServicePort"]);
        (api, self.terraform.succeeds(&["output", "-raw", "api_token"]))
    }

    /// Changes a template's file, applies that, and sees it in the service, which was not restarted.
    async fn a_changed_template_arrives(&self, example: &str) {
        let (api, token) = self.api().await;
        let plain = bivouac_tests::http_client(SOON);
        let description = async || {
            let asked = plain.get(format!("{api}/v1/templates")).bearer_auth(&token).send();
            let listed: Value = asked.await.map_err(|error| error.to_string())?.json().await.unwrap();
            let templates = listed["templates"].as_array().cloned().unwrap_or_default();
            let whiteboard = templates.iter().find(|template| template["name"] == "whiteboard");
            Ok::<_, String>(
                whiteboard.map(|template| text(&template["description"]).to_owned()).unwrap_or_default(),
            )
        };
        let folder = if example == "complete" { "templates" } else { "../../../templates" };
        let file = self.terraform.folder().join(folder).join("whiteboard/template.toml");
        let old = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, old.replace("A whiteboard", "Another whiteboard")).unwrap();
        assert!(description().await.unwrap().starts_with("A whiteboard"));
        self.terraform.succeeds(&["apply", "-auto-approve"]);
        eventually("the service has it", SOON, async || match description().await? {
            text if text.starts_with("Another whiteboard") => Ok(()),
            text => Err(text),
        })
        .await;
    }

    /// Spawns a session of a template, uses it, and sees it end because nobody does any more.
    async fn spawn_use_idle_end(&self, template: &str) {
        let (api, token) = self.api().await;
        let plain = bivouac_tests::http_client(SOON);
        let call = |method, path: &str| plain.request(method, format!("{api}{path}")).bearer_auth(&token);
        let body = json!({ "template": template, "key": "doc-1", "idle_timeout": "2s" });
        let spawned = call(Method::POST, "/v1/spawn?wait=ready").json(&body).send().await.unwrap();
        let (status, spawned): (_, Value) = (spawned.status(), spawned.json().await.unwrap());
        assert!(status.is_success(), "{template}: {status} {spawned}");
        let answer = plain.get(text(&spawned["url"])).send().await.unwrap();
        assert!(answer.status().is_success(), "{template}: {}", answer.text().await.unwrap());
        let path = format!("/v1/sessions/{}", text(&spawned["id"]));
        eventually(format!("the {template} ends"), SOON, async || {
            let seen: Value = call(Method::GET, &path).send().await.unwrap().json().await.unwrap();
            if seen["state"] == "ended" { Ok(()) } else { Err(seen.to_string()) }
        })
        .await;
    }

    fn changes(&self) -> Option<i32> {
        self.terraform.run(&["plan", "-detailed-exitcode"]).status.code()
    }

    /// The secrets that Terraform made, by name.
    async fn secrets(&self) -> BTreeMap<String, String> {
        let namespace = if self.agents.locks().is_some() { "bivouac" } else { "default" };
        let variable = self.nomad(&format!("var/nomad/jobs/bivouac-service?namespace={namespace}")).await;
        let items: BTreeMap<String, String> = serde_json::from_value(variable["Items"].clone()).unwrap();
        assert_eq!(
            items.keys().collect::<Vec<_>>(),
            ["api_token", "cluster_secret", "link_secret", "ticket_secret"]
        );
        assert!(items.values().all(|secret| secret.len() == 64), "made from all of the bits");
        assert_eq!(items.values().collect::<BTreeSet<_>>().len(), 4, "each is another");
        items
    }

    /// Runs it, and sees that it prints none of the secrets.
    fn keeps(&self, secrets: &BTreeMap<String, String>, args: &[&str]) {
        let said = self.terraform.succeeds(args);
        none_is_in(secrets, &format!("terraform {args:?}"), &said);
    }
}

fn none_is_in(secrets: &BTreeMap<String, String>, place: &str, said: &str) {
    for (name, secret) in secrets {
        assert!(!said.contains(secret.as_str()), "{place} prints the {name}");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The example's variables, and Terraform's own tokens.
async fn settings(agents: &Agents, proxy_port: u16, locked: bool) -> Vec<(String, String)> {
    let binary = product().display().to_string();
    let mut variables = vec![
        ("nomad_address", agents.nomad().url()),
        ("consul_address", agents.consul().url()),
        ("jobs_consul_address", "${meta.consul_http_addr}".to_owned()),
        ("binary_path", binary),
        ("session_url", format!("http://localhost:{proxy_port}")),
        ("proxy_port", proxy_port.to_string()),
        ("proxy_data_dir", agents.dir().join("proxy").display().to_string()),
    ];
    let mut settings = Vec::new();
    if let Some(locks) = agents.locks().filter(|_| locked) {
        let own = locks.certified("tests");
        let tls = json!({ "ca_file": locks.ca_file(), "cert_file": own.certificate, "key_file": own.key });
        variables.extend([
            ("terraform_tls", tls.to_string()),
            ("jobs_tls", tls.to_string()),
            ("nomad_jwks_url", bare(agents, locks).await),
            ("drain_timeout", "3".to_owned()),
            // The agents here are nobody's root.
            ("session_driver", "raw_exec".to_owned()),
            ("delete_records_on_destroy", "true".to_owned()),
        ]);
        let nomad = json!({ "Name": "terraform", "Type": "management" });
        let consul = json!({ "Policies": [{ "Name": "global-management" }] });
        for (name, method, url, body) in [
            ("NOMAD_TOKEN", Method::POST, format!("{}/v1/acl/token", agents.nomad().url()), nomad),
            ("CONSUL_HTTP_TOKEN", Method::PUT, format!("{}/v1/acl/token", agents.consul().url()), consul),
        ] {
            let token = locks.manage(method, &url, &body).await.unwrap();
            settings.push((name.to_owned(), text(&token["SecretID"]).to_owned()));
        }
    }
    settings.extend(variables.into_iter().map(|(name, value)| (format!("TF_VAR_{name}"), value)));
    settings
}

/// Takes away what the agents came with and Terraform makes itself. Returns where Nomad's keys are to be had: Consul shows
/// Nomad no certificate when it fetches them.
async fn bare(agents: &Agents, locks: &Locks) -> String {
    let (nomad, consul) = (agents.nomad().url(), agents.consul().url());
    let method = format!("{consul}/v1/acl/auth-method/nomad-workloads");
    let known = locks.manage(Method::GET, &method, &Value::Null).await.unwrap();
    locks.manage(Method::DELETE, &method, &Value::Null).await.unwrap();
    for namespace in [SESSIONS, OTHERS] {
        let url = format!("{nomad}/v1/namespace/{namespace}");
        locks.manage(Method::DELETE, &url, &Value::Null).await.unwrap();
    }
    text(&known["Config"]["JWKSURL"]).to_owned()
}

/// Applies an example, uses what it gives, applies a change of a template, and takes everything away again.
async fn lives_and_leaves_nothing(example: &'static str, test: &str) {
    let Some(site) = Site::with(example, test).await else { return };
    let jobs_before = site.nomad("jobs?namespace=*").await;
    site.terraform.succeeds(&["validate"]);
    let applied = site.terraform.succeeds(&["apply", "-auto-approve"]);
    let secrets = site.secrets().await;
    none_is_in(&secrets, "the first apply", &applied);
    assert_eq!(
        applied.contains("may read their secrets"),
        example == "complete",
        "sessions that may read the platform's secrets are warned of"
    );
    assert_eq!(site.changes(), Some(0), "an apply over an apply changes something");
    for template in site.templates {
        site.spawn_use_idle_end(template).await;
    }
    assert_eq!(site.changes(), Some(0), "use changes what Terraform sees");
    site.a_changed_template_arrives(example).await;
    assert_eq!(site.secrets().await, secrets, "they are made once");
    site.keeps(&secrets, &["plan"]);
    site.keeps(&secrets, &["apply", "-auto-approve"]);
    site.keeps(&secrets, &["show"]);
    for name in secrets.keys() {
        let made = format!("module.platform.terraform_data.secret[\"{name}\"]");
        site.keeps(&secrets, &["state", "show", &made]);
    }
    site.keeps(&secrets, &["plan", "-destroy"]);
    site.keeps(&secrets, &["apply", "-destroy", "-auto-approve"]);
    let jobs = site.nomad("jobs?namespace=*").await;
    let ours = |job: &&Value| text(&job["ID"]).starts_with("bivouac-");
    assert_eq!(jobs_before, json!([]));
    assert_eq!(jobs.as_array().unwrap().iter().find(ours), None);
    assert_eq!(site.nomad("vars?namespace=*").await, json!([]));
    eventually("Consul knows no service of ours", SOON, async || {
        let services = site.consul("catalog/services").await;
        match services.as_object().and_then(|all| all.keys().find(|name| name.starts_with("bivouac"))) {
            None => Ok(()),
            Some(name) => Err(name.clone()),
        }
    })
    .await;
    if example == "complete" {
        assert_eq!(site.consul("kv/bivouac/?keys").await, Value::Null, "records are left");
        for list in ["acl/policies", "acl/roles", "acl/binding-rules"] {
            let left = site.consul(list).await;
            assert!(!left.to_string().contains("ivouac"), "{list}: {left}");
        }
        let left = site.nomad("acl/policies").await;
        assert_eq!(left, json!([]), "Nomad's policies");
        let tokens = site.consul("acl/tokens").await;
        assert!(!tokens.to_string().contains("bivouac"), "{tokens}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_minimal_example_lives_and_leaves_nothing() {
    lives_and_leaves_nothing("minimal", "applying::the_minimal_example_lives_and_leaves_nothing").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_complete_example_lives_and_leaves_nothing() {
    lives_and_leaves_nothing("complete", "applying::the_complete_example_lives_and_leaves_nothing").await;
}
