//! Who may call: bearer tokens, kept as digests only.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::problem::{Code, Problem};

/// The tokens that open the API.
#[derive(Clone)]
pub struct Tokens {
    digests: Vec<[u8; 32]>,
}

impl Tokens {
    /// These tokens and no others.
    #[must_use]
    pub fn new(tokens: &[SecretString]) -> Self {
        Self { digests: tokens.iter().map(|token| digest(token.expose_secret())).collect() }
    }

    /// Compares with all of them, in a time that depends neither on how much agrees nor on which one it is.
    fn admit(&self, token: &str) -> bool {
        let presented = digest(token);
        self.digests.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&presented)).into()
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Lets a request pass that presents a valid token.
pub(crate) async fn require(
    State(tokens): State<Arc<Tokens>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    match bearer(request.headers()) {
        Some(token) if tokens.admit(token) => Ok(next.run(request).await),
        Some(_) => Err(Problem::new(Code::Unauthenticated, "The token is not one of this installation.")),
        None => Err(Problem::new(Code::Unauthenticated, "Send `Authorization: Bearer TOKEN`.")),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (scheme, token) = values.next()?.to_str().ok()?.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_token_is_admitted() {
        let tokens = Tokens::new(&["one".to_owned().into(), "two".to_owned().into()]);
        assert!(tokens.admit("one") && tokens.admit("two"));
        for token in ["", "on", "onee", "One", "three"] {
            assert!(!tokens.admit(token), "{token}");
        }
        assert!(!Tokens::new(&[]).admit(""));
    }
}
