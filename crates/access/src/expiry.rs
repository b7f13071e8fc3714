//! When our token ends, as far as the agent tells: whoever issues it may have forgotten to renew it.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, Response};
use serde::Deserialize;

use crate::{Connection, Failure, Outcome};

/// Time between two questions.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// What is read of the token that we show.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Myself {
    #[serde(default)]
    expiration_time: Option<Timestamp>,
}

/// No answer that says anything of a token: with ACLs off, without a token, and for a workload identity, that is as it
/// should be. Whether the token is accepted shows with the calls that matter.
struct Nothing;

impl From<Failure> for Nothing {
    fn from(_: Failure) -> Self {
        Self
    }
}

impl Outcome for Nothing {
    fn denial(&self) -> Option<&str> {
        None
    }
}

impl Connection {
    /// Asks once a minute when the token ends, for as long as it is polled, for the metric of [`crate::register`].
    pub async fn watch_expiry(&self) {
        loop {
            let request = self.request(Method::GET, ["acl", "token", "self"]);
            let answer: Result<Myself, Nothing> = self.call(request, read).await;
            if let Ok(myself) = answer {
                self.access().expires(myself.expiration_time);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

async fn read(response: Response) -> Result<Myself, Nothing> {
    let body = response.error_for_status().map_err(|_| Nothing)?.bytes().await.map_err(|_| Nothing)?;
    serde_json::from_slice(&body).map_err(|_| Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_agents_tell_the_end_in_the_same_place() {
        let read = |text| serde_json::from_str::<Myself>(text).unwrap().expiration_time;
        // Consul leaves it out, Nomad says null.
        assert_eq!(read(r#"{"AccessorID": "a"}"#), None);
        assert_eq!(read(r#"{"AccessorID": "a", "ExpirationTime": null}"#), None);
        let end = read(r#"{"ExpirationTime": "2026-11-21T15:07:42.5Z"}"#);
        assert_eq!(end, Some("2026-11-21T15:07:42.5Z".parse().unwrap()));
    }
}
