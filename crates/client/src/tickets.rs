//! Tickets, as those who let users in see them.

use bivouac_protocol::SessionId;
use jiff::Timestamp;
use reqwest::Method;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Client;
use crate::error::Error;

/// The ticket to be issued. Plain text: the service checks it, and its refusal names the field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NewTicket {
    /// Who the user is, as the application names them; the backend is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What else the backend is told of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Map<String, Value>>,
    /// How long it is good ("1h"), at most a day. An hour, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// A ticket, which the service says once, and the same as a link.
#[derive(Debug, Clone, Deserialize)]
pub struct GivenTicket {
    /// To be shown with every request, as `Authorization: Bearer`.
    pub ticket: SecretString,
    /// When it ends, and with it what the link has become.
    pub expires_at: Timestamp,
    /// To be opened in a browser, once.
    pub url: SecretString,
    /// Until when that has to have happened.
    pub url_expires_at: Timestamp,
}

impl Client {
    /// Issues a ticket for a session. The JSON is not returned: the ticket stands in it.
    ///
    /// # Errors
    /// A [`crate::Problem`] if the service refuses.
    pub async fn issue_ticket(&self, id: &SessionId, ticket: &NewTicket) -> Result<GivenTicket, Error> {
        let url = self.transport.url(&["v1", "sessions", id.as_str(), "tickets"]);
        let request = self.transport.request(Method::POST, url).json(ticket);
        Ok(self.transport.send(request).await?.value)
    }

    /// Refuses all tickets of a session that were issued until now, or this user's, and cuts what they opened.
    ///
    /// # Errors
    /// A [`crate::Problem`] if the service refuses.
    pub async fn revoke_tickets(&self, id: &SessionId, user: Option<&str>) -> Result<(), Error> {
        let mut url = self.transport.url(&["v1", "sessions", id.as_str(), "tickets"]);
        if let Some(user) = user {
            url.query_pairs_mut().append_pair("user", user);
        }
        self.transport.open(self.transport.request(Method::DELETE, url)).await.map(drop)
    }
}
