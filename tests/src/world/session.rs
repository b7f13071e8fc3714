//! A session, as a scenario handles it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use super::{Answer, Socket, World};
use crate::eventually;
use crate::guest::Start;

/// Longest time until a session is ready, or ended. Generous: two cores, many worlds at once.
const SOON: Duration = Duration::from_secs(30);

/// One session of a world, seen through one of its proxies.
#[derive(Debug, Clone)]
pub struct Session {
    pub(super) world: World,
    /// Its id.
    pub id: String,
    /// What the spawn answered.
    pub first: Value,
    proxy: usize,
    port: Option<String>,
}

impl Session {
    /// The session of a view that the API answered.
    ///
    /// # Panics
    /// When it is no session.
    #[must_use]
    pub fn of(world: &World, view: Value) -> Self {
        let id = view["id"].as_str().expect("a session has an id").to_owned();
        Self { world: world.clone(), id, first: view, proxy: 0, port: None }
    }

    /// Whether this spawn made the session.
    #[must_use]
    pub fn spawned(&self) -> bool {
        self.first["spawned"] == true
    }

    /// Its generation when it was spawned.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.first["generation"].as_u64().expect("a generation")
    }

    /// The same session through another proxy (from 0).
    #[must_use]
    pub fn via(&self, proxy: usize) -> Self {
        Self { proxy, ..self.clone() }
    }

    /// The same session at one of its template's ports, whose requests do not go to the default one.
    #[must_use]
    pub fn at(&self, port: &str) -> Self {
        Self { port: Some(port.to_owned()), ..self.clone() }
    }

    /// The same session, asked for at another replica of the service (from 0).
    #[must_use]
    pub fn asking(&self, replica: usize) -> Self {
        Self { world: self.world.asking(replica), ..self.clone() }
    }

    /// Its hostname and port.
    #[must_use]
    pub fn authority(&self) -> String {
        let port = self.port.as_ref().map(|label| format!("{label}--")).unwrap_or_default();
        format!("{port}{}.localhost:{}", self.id, self.world.proxy_port(self.proxy))
    }

    /// A request to its backend, through the proxy.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.world.http().request(method, format!("http://{}{path}", self.authority()))
    }

    /// Sends a GET to its backend.
    ///
    /// # Errors
    /// When there is no answer, or it breaks off.
    pub async fn get(&self, path: &str) -> Result<Answer, String> {
        Answer::to(self.request(Method::GET, path)).await
    }

    /// Sends a GET that its backend must answer with 200.
    ///
    /// # Panics
    /// When it does not.
    pub async fn serves(&self, path: &str) -> Answer {
        let answer = self.get(path).await.unwrap_or_else(|e| panic!("{path} of {} was lost: {e}", self.id));
        answer.expect_status(200).unwrap_or_else(|e| panic!("{path} of {}: {e}", self.id))
    }

    /// Opens a WebSocket to its backend, which echoes every message.
    ///
    /// # Panics
    /// When that fails.
    pub async fn websocket(&self) -> Socket {
        Socket::open(&self.authority(), "/ws").await.expect("a WebSocket")
    }

    /// The session as the API shows it.
    ///
    /// # Errors
    /// When there is no proper answer.
    pub async fn try_view(&self) -> Result<Value, String> {
        Ok(self.world.get(&format!("/v1/sessions/{}", self.id)).await?.expect_status(200)?.json())
    }

    /// The session as the API shows it.
    ///
    /// # Panics
    /// When there is no proper answer.
    pub async fn view(&self) -> Value {
        self.try_view().await.expect("the session")
    }

    /// Its state.
    ///
    /// # Panics
    /// When there is no proper answer.
    pub async fn state(&self) -> String {
        self.view().await["state"].as_str().expect("a state").to_owned()
    }

    /// Waits until it has a state.
    ///
    /// # Panics
    /// When it does not come to it.
    pub async fn becomes(&self, state: &str) -> Value {
        eventually(format!("session {} is {state}", self.id), SOON, async || {
            let view = self.try_view().await?;
            if view["state"] == state { Ok(view) } else { Err(summary(&view)) }
        })
        .await
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn ready(&self) -> Value {
        self.becomes("ready").await
    }

    /// Waits until its generation (or a later one) is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn ready_again(&self, generation: u64) -> Value {
        eventually(format!("generation {generation} of {} is ready", self.id), SOON, async || {
            let view = self.try_view().await?;
            let newer = view["generation"].as_u64() >= Some(generation);
            if newer && view["state"] == "ready" { Ok(view) } else { Err(summary(&view)) }
        })
        .await
    }

    /// Waits until it has ended, for this reason.
    ///
    /// # Panics
    /// When it does not end, or for another reason.
    pub async fn ended(&self, reason: &str) -> Value {
        let view = self.becomes("ended").await;
        assert_eq!(view["reason"]["code"], reason, "{view}");
        view
    }

    /// Asks the API to stop it.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn try_stop(&self) -> Result<Answer, String> {
        Answer::to(self.world.call(Method::DELETE, &format!("/v1/sessions/{}", self.id))).await
    }

    /// Stops it.
    ///
    /// # Panics
    /// When the API does not say 200.
    pub async fn stop(&self) -> Value {
        let answer = self.try_stop().await.expect("an answer to the stop");
        answer.expect_status(200).expect("the stop").json()
    }

    /// Asks for a lease with this body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn try_lease(&self, name: &str, body: &Value) -> Result<Answer, String> {
        let path = format!("/v1/sessions/{}/leases/{name}", self.id);
        Answer::to(self.world.call(Method::PUT, &path).json(body)).await
    }

    /// Keeps it alive for a while; the session as it is then.
    ///
    /// # Panics
    /// When the API does not say 200.
    pub async fn lease(&self, name: &str, span: &str) -> Value {
        let answer = self.try_lease(name, &serde_json::json!({ "for": span })).await;
        answer.expect("an answer to the lease").expect_status(200).expect("the lease").json()
    }

    /// Takes a lease back; the session as it is then.
    ///
    /// # Panics
    /// When the API does not say 200.
    pub async fn release(&self, name: &str) -> Value {
        let path = format!("/v1/sessions/{}/leases/{name}", self.id);
        let answer = Answer::to(self.world.call(Method::DELETE, &path)).await;
        answer.expect("an answer to the release").expect_status(200).expect("the release").json()
    }

    /// Every start of its backend, by the backends' own word.
    #[must_use]
    pub fn starts(&self) -> Vec<Start> {
        self.world.starts_of(&self.id)
    }

    /// Fails unless its backend was started exactly once in each generation, and at most one of them runs.
    ///
    /// # Panics
    /// When there is a duplicate.
    pub fn never_doubled(&self) {
        let starts = self.starts();
        let mut generations: Vec<u64> = starts.iter().map(|start| start.generation).collect();
        generations.dedup();
        assert_eq!(generations.len(), starts.len(), "a generation was started twice: {starts:?}");
        assert!(generations.is_sorted(), "generations only rise: {starts:?}");
        let alive = starts.iter().filter(|start| start.alive()).count();
        assert!(alive <= 1, "{alive} backends of {} run: {starts:?}", self.id);
    }

    /// Waits until none of its backends runs.
    ///
    /// # Panics
    /// When one goes on.
    pub async fn backends_gone(&self) {
        eventually(format!("no backend of {} runs", self.id), SOON, async || {
            let alive: Vec<Start> = self.starts().into_iter().filter(Start::alive).collect();
            if alive.is_empty() { Ok(()) } else { Err(format!("{alive:?}")) }
        })
        .await;
    }

    /// Sends requests one after the other, `pause` apart, for as long as `during`, each of which must be served.
    ///
    /// # Panics
    /// When one is lost.
    pub async fn used_for(&self, during: Duration, pause: Duration) {
        let started = Instant::now();
        while started.elapsed() < during {
            self.serves("/used").await;
            crate::elapse(pause).await;
        }
    }
}

/// What of a session matters when a wait for it failed.
fn summary(view: &Value) -> String {
    format!(
        "generation {} is {} ({}), waiting for {}, alive {}",
        view["generation"], view["state"], view["reason"], view["waiting_for"], view["alive"]
    )
}
