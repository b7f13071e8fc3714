//! API tokens, as those who give them out see them.

use bivouac_protocol::TokenName;
use bivouac_protocol::token::Scope;
use jiff::Timestamp;
use reqwest::Method;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::{Client, Reply};

/// The token to be made. Plain text: the service checks it, and its refusal names the field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NewToken {
    /// Its name.
    pub name: String,
    /// In which namespaces it may act; `*` stands for anything. All, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// With sessions of which templates. All, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templates: Option<Vec<String>>,
    /// To do what. What applications do, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verbs: Option<Vec<String>>,
    /// How long it lasts ("90d"). For ever, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
}

/// How a token gets another secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rotation {
    /// How long the old secret is accepted, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// How long the token lasts from now on. As long as before, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
}

/// A token, without anything that opens something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Its name.
    pub name: TokenName,
    /// What it permits.
    #[serde(flatten)]
    pub scope: Scope,
    /// When it was made.
    pub created_at: Timestamp,
    /// The token by which it was made.
    pub created_by: TokenName,
    /// When it ends; never, if absent.
    pub expires_at: Option<Timestamp>,
    /// Whether it has ended.
    #[serde(default)]
    pub expired: bool,
    /// When it got its last secret after the first.
    pub rotated_at: Option<Timestamp>,
    /// Until when the secret before that is accepted.
    pub previous_until: Option<Timestamp>,
    /// When it was shown last, to within some minutes.
    pub last_used_at: Option<Timestamp>,
}

/// A token with its secret, which the service says once.
#[derive(Debug, Clone, Deserialize)]
pub struct GivenToken {
    /// The token's text.
    pub token: SecretString,
    /// What it is.
    #[serde(flatten)]
    pub info: TokenInfo,
}

/// The tokens that the caller's own covers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TokenList {
    /// The tokens.
    pub tokens: Vec<TokenInfo>,
}

impl Client {
    /// Makes a token. The JSON is not returned: the secret stands in it.
    ///
    /// # Errors
    /// A [`crate::Problem`] if the service refuses; with code `token_exists` if the name is taken.
    pub async fn create_token(&self, token: &NewToken) -> Result<GivenToken, Error> {
        let url = self.transport.url(&["v1", "tokens"]);
        let request = self.transport.request(Method::POST, url).json(token);
        Ok(self.transport.send(request).await?.value)
    }

    /// Gives a token another secret. The JSON is not returned: the secret stands in it.
    ///
    /// # Errors
    /// A [`crate::Problem`], with code `not_found` if there is no such token.
    pub async fn rotate_token(&self, name: &TokenName, rotation: &Rotation) -> Result<GivenToken, Error> {
        let url = self.transport.url(&["v1", "tokens", name.as_str(), "rotate"]);
        let request = self.transport.request(Method::POST, url).json(rotation);
        Ok(self.transport.send(request).await?.value)
    }

    /// The tokens.
    ///
    /// # Errors
    /// A [`crate::Problem`] if the service refuses.
    pub async fn tokens(&self) -> Result<Reply<TokenList>, Error> {
        let url = self.transport.url(&["v1", "tokens"]);
        self.transport.send(self.transport.request(Method::GET, url)).await
    }

    /// Revokes a token: within a second or two no replica accepts it any more.
    ///
    /// # Errors
    /// A [`crate::Problem`], with code `not_found` if there is no such token.
    pub async fn revoke_token(&self, name: &TokenName) -> Result<(), Error> {
        let url = self.transport.url(&["v1", "tokens", name.as_str()]);
        self.transport.open(self.transport.request(Method::DELETE, url)).await.map(drop)
    }
}
