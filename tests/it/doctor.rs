//! `bivouac doctor` finds nothing wrong where nothing is, and names each fault that is planted, with what to do.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bivouac_tests::agents::{SESSIONS, Validity, replace, rules};
use bivouac_tests::world::{GUEST, Role};
use bivouac_tests::{World, eventually};
use reqwest::Method;
use serde_json::Value;

/// An examination of a world, which can be told to look at something else.
struct Doctor {
    world: World,
    env: Vec<(String, String)>,
}

/// What it found.
struct Report {
    findings: Vec<Value>,
    code: Option<i32>,
    text: String,
}

impl Doctor {
    /// Where and as whom the service asks.
    fn beside(world: &World) -> Self {
        Self::as_role(world, Role::Service)
    }

    fn as_role(world: &World, role: Role) -> Self {
        let replica = world.service(0);
        let mut env = world.reach(role, replica.nomad.address(), replica.consul.address());
        env.push(("BIVOUAC_PREFIX".to_owned(), world.prefix().to_owned()));
        let admin = world.proxy(0).process.ready().admin.expect("the proxy's admin listener");
        env.push(("BIVOUAC_PROXY_ADMIN".to_owned(), admin));
        Self { world: world.clone(), env }
    }

    /// The same with a variable of its own.
    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    async fn examines(&self, args: &[&str]) -> Report {
        let all: Vec<_> = ["doctor", "--json"].iter().chain(args).copied().collect();
        let mut command = self.world.command(&all);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let output = command.output().await.expect("the doctor runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let json: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        let findings = json["findings"].as_array().cloned().unwrap_or_default();
        Report { findings, code: output.status.code(), text }
    }
}

impl Report {
    /// There is no error.
    fn is_well(&self) -> &Self {
        let errors: Vec<_> = self.findings.iter().filter(|finding| finding["level"] == "error").collect();
        assert!(errors.is_empty() && self.code == Some(0), "{errors:#?}");
        self
    }

    /// This check is an error, is told in such words, and says what to do about it.
    fn names(&self, check: &str, words: &str) -> &Self {
        let named = self.findings.iter().any(|finding| {
            finding["check"] == check
                && finding["level"] == "error"
                && finding["found"].as_str().is_some_and(|found| found.contains(words))
                && finding["fix"].as_str().is_some_and(|fix| fix.len() > 10)
        });
        assert!(named && self.code == Some(1), "{check} should say {words:?}: {}", self.text);
        self
    }
}

#[test]
fn a_healthy_installation_is_well() {
    World::cluster().run(is_well);
}

#[test]
fn a_healthy_locked_installation_is_well() {
    World::locked().run(is_well);
}

async fn is_well(world: World) {
    let session = world.spawn(GUEST).idle_timeout("5m").await;
    session.ready().await;
    Doctor::beside(&world).examines(&[]).await.is_well();
    // For people: one line each, no colour in a pipe, and never the token.
    let told = world.bivouac(&["doctor", "--skip", "consul,nomad,proxy"]).await;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success() && text.contains("ok      service.reachable"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains(&world.token()), "{text}");
    if world.site().locks().is_some() {
        Doctor::as_role(&world, Role::Proxy).examines(&["--role", "proxy"]).await.is_well();
    }
    session.stop().await;
}

#[test]
fn faults_of_an_installation_are_named() {
    World::cluster().service_flag("presume-dead-after", "never").run(async |world| {
        let doctor = || Doctor::beside(&world);
        // What is asked with.
        let wrong = doctor().with("BIVOUAC_TOKEN", "wrong").examines(&["--skip", "domain"]).await;
        wrong.names("service.token", "refuses our API token");
        // Where sessions live, and what may be connected to.
        let domain = ["--session-url", "http://sessions.bivouac.invalid", "--skip", "consul,nomad"];
        let cookies = ["--cookie-host", "app.bivouac.invalid", "--backend-network", "169.254.0.0/16"];
        let report = doctor().examines(&[domain.as_slice(), &cookies].concat()).await;
        report.names("domain.dns", "does not resolve");
        report.names("domain.cookies", "app.bivouac.invalid");
        report.names("proxy.backends", "link-local");
        // Somebody's clock.
        let late = late_by_minutes(&world).await;
        doctor().with("BIVOUAC_ADDR", late).examines(&[]).await.names("service.clock", "behind ours");
        // A template that Nomad takes and that has no such port.
        let folder = world.templates().join("broken");
        std::fs::create_dir_all(&folder).unwrap();
        let policy = "access = \"public\"\n[ports.web]\n[nomad]\njobspec = \"job.nomad.hcl\"\n";
        std::fs::write(folder.join("job.nomad.hcl"), "job \"broken\" {}").unwrap();
        std::fs::write(folder.join("template.toml"), policy).unwrap();
        eventually("the template is known to be broken", Duration::from_secs(30), async || {
            let templates = world.get("/v1/templates").await?.json().to_string();
            if templates.contains("\"broken\"") { Ok(()) } else { Err(templates) }
        })
        .await;
        doctor().examines(&[]).await.names("service.templates", "broken");
        std::fs::remove_dir_all(folder).unwrap();
        // Nomad, then Consul, out of reach.
        let replica = world.service(0);
        let reach = doctor().with("NOMAD_ADDR", format!("http://{}", replica.nomad.address()));
        replica.nomad.refuse();
        reach.examines(&[]).await.names("nomad.reachable", "does not answer");
        replica.nomad.heal();
        let reach = doctor().with("CONSUL_HTTP_ADDR", replica.consul.address());
        replica.consul.refuse();
        reach.examines(&[]).await.names("consul.reachable", "does not answer");
        replica.consul.heal();
        // A proxy that is dead, and still a member.
        let dying = doctor();
        world.proxy(0).process.kill();
        eventually("the proxy's silence is noticed", Duration::from_secs(20), async || {
            let linked = world.members().await?.iter().any(|member| member["linked"] == true);
            if linked { Err("it is linked".to_owned()) } else { Ok(()) }
        })
        .await;
        let report = dying.examines(&[]).await;
        report.names("service.members", "is silent").names("proxy.reachable", "does not answer");
        // No service, and nobody leads.
        let lonely = doctor().with("BIVOUAC_ADDR", world.api_url()).with("BIVOUAC_TOKEN", world.token());
        assert!(replica.process.terminate().await.success());
        let report = lonely.examines(&[]).await;
        report.names("service.reachable", "does not answer").names("service.leader", "no replica");
    });
}

/// A service as if it ran on a machine whose clock is two minutes late.
async fn late_by_minutes(world: &World) -> String {
    async fn pass(State((http, api)): State<(reqwest::Client, String)>, request: Request) -> Response {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let headers = request.headers().clone();
        let mut asked = http.get(format!("{api}{path}"));
        for name in [header::AUTHORIZATION, header::ACCEPT] {
            if let Some(value) = headers.get(&name) {
                asked = asked.header(name, value);
            }
        }
        let answer = asked.send().await.unwrap();
        let (status, body) = (answer.status(), answer.bytes().await.unwrap());
        let mut response = (status, body).into_response();
        let then = jiff::Timestamp::now() - Duration::from_secs(120);
        let then = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&then).unwrap();
        response.headers_mut().insert(header::DATE, HeaderValue::from_str(&then).unwrap());
        response
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback(pass).with_state((world.http().clone(), world.api_url()));
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

#[test]
fn faults_of_access_are_named() {
    World::locked().run(async |world| {
        let (site, prefix) = (world.site(), world.prefix().to_owned());
        let locks = site.locks().unwrap();
        let (consul, nomad) = (site.agents().consul().url(), site.agents().nomad().url());
        let skip = ["--skip", "service,proxy,domain"];
        let doctor = || Doctor::beside(&world);
        let file = |name: &str, text: &str| {
            let path = world.folder().join(name);
            replace(&path, text).unwrap();
            path.display().to_string()
        };
        // A token that lacks one right each.
        let lacking = rules("nomad/service.hcl", &prefix, SESSIONS).replace("\"submit-job\",", "");
        let token = locks.nomad_token(&nomad, &format!("{prefix}-lacking"), &lacking).await.unwrap();
        let report = doctor().with("NOMAD_TOKEN_FILE", file("lacking", &token.secret)).examines(&skip).await;
        report.names("nomad.submit-job", "may not submit jobs");
        let others =
            doctor().with("CONSUL_HTTP_TOKEN_FILE", world.doors().consul_token_file(Role::Proxy).display());
        others.examines(&skip).await.names("consul.write", &format!("may not write {prefix}/leader"));
        // A token that was revoked, and none at all.
        let revoked = locks.consul_token(&consul, &[format!("{prefix}-service")]).await.unwrap();
        let path = file("revoked", &revoked.secret);
        let report = doctor().with("CONSUL_HTTP_TOKEN_FILE", &path);
        report.examines(&skip).await.is_well();
        let url = format!("{consul}/v1/acl/token/{}", revoked.accessor);
        locks.manage(Method::DELETE, &url, &Value::Null).await.unwrap();
        eventually("the token is revoked everywhere", Duration::from_secs(60), async || {
            let examined = report.examines(&skip).await;
            if examined.code == Some(1) { Ok(()) } else { Err(examined.text) }
        })
        .await;
        report.examines(&skip).await.names("consul.token", "does not know the token");
        let none = doctor().with("NOMAD_TOKEN_FILE", "").examines(&skip).await;
        none.names("nomad.token", "there is no token");
        // A namespace that is not there, with a token that may do everything in it.
        let anywhere = rules("nomad/service.hcl", &prefix, "*");
        let token = locks.nomad_token(&nomad, &format!("{prefix}-anywhere"), &anywhere).await.unwrap();
        let nowhere = doctor()
            .with("NOMAD_TOKEN_FILE", file("anywhere", &token.secret))
            .with("BIVOUAC_NOMAD_NAMESPACE", "nowhere");
        nowhere.examines(&skip).await.names("nomad.submit-job", "namespace nowhere does not exist");
        // An authority that signed nothing here, and a certificate of ours that ended.
        let stranger = bivouac_tests::agents::Authority::new("Somebody").unwrap();
        let report =
            doctor().with("CONSUL_CACERT", file("stranger.pem", &stranger.pem())).examines(&skip).await;
        report.names("consul.reachable", "was not signed by");
        world.doors().certify(site, Role::Proxy, Validity::Expired);
        let ended = world.doors().certified(Role::Proxy);
        let report = doctor()
            .with("NOMAD_CLIENT_CERT", ended.certificate.display())
            .with("NOMAD_CLIENT_KEY", ended.key.display());
        let report = report.examines(&skip).await;
        report.names("nomad.client-certificate", "has expired").names("nomad.reachable", "expired");
    });
}
