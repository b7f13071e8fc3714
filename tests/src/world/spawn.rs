//! A spawn, written as a sentence: `world.spawn("guest").key("doc-1").idle_timeout("2s").await`.

use std::pin::Pin;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Session, World};

/// A spawn that is being put together; awaiting it sends it.
#[derive(Debug, Clone)]
pub struct Spawn {
    world: World,
    body: Value,
    query: &'static str,
    idempotency_key: Option<String>,
}

impl Spawn {
    pub(super) fn new(world: World, template: &str) -> Self {
        Self { world, body: json!({ "template": template }), query: "", idempotency_key: None }
    }

    /// Sets any field.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.body[name] = value.into();
        self
    }

    /// Sets the key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.field("key", key)
    }

    /// Sets the idle timeout.
    #[must_use]
    pub fn idle_timeout(self, span: &str) -> Self {
        self.field("idle_timeout", span)
    }

    /// Sets the quiet timeout.
    #[must_use]
    pub fn quiet_timeout(self, span: &str) -> Self {
        self.field("quiet_timeout", span)
    }

    /// Sets the startup timeout.
    #[must_use]
    pub fn startup_timeout(self, span: &str) -> Self {
        self.field("startup_timeout", span)
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.body["env"][name] = value.into();
        self
    }

    /// Adds a value of a parameter.
    #[must_use]
    pub fn param(mut self, name: &str, value: &str) -> Self {
        self.body["params"][name] = value.into();
        self
    }

    /// Waits for the session to be ready before it answers.
    #[must_use]
    pub fn wait_ready(mut self) -> Self {
        self.query = "?wait=ready";
        self
    }

    /// Makes it safe to repeat.
    #[must_use]
    pub fn idempotency_key(mut self, key: &str) -> Self {
        self.idempotency_key = Some(key.to_owned());
        self
    }

    /// Sends it and returns whatever is answered.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(self) -> Result<Answer, String> {
        let path = format!("/v1/spawn{}", self.query);
        let mut call = self.world.call(Method::POST, &path).json(&self.body);
        if let Some(key) = &self.idempotency_key {
            call = call.header("idempotency-key", key);
        }
        Answer::to(call).await
    }
}

impl IntoFuture for Spawn {
    type Output = Session;
    type IntoFuture = Pin<Box<dyn Future<Output = Session> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let world = self.world.clone();
            let answer = self.send().await.expect("an answer to the spawn");
            assert!(
                matches!(answer.status, 200 | 201),
                "the spawn failed: {} {}",
                answer.status,
                answer.body
            );
            let view = answer.json();
            assert_eq!(view["spawned"], answer.status == 201, "{view}");
            Session::of(&world, view)
        })
    }
}
