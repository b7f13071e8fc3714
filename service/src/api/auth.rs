//! Who calls: a bearer token becomes a [`Caller`], whom every handler asks what it may do.
//!
//! Bootstrap tokens come from a file and open everything, also while the ledger is away. Named tokens are looked up in
//! the ledger; an answer holds for a second, so that a revocation reaches every replica within about that time.

mod bootstrap;
mod caller;
mod named;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use bivouac_ledger::Ledger;
use bivouac_protocol::TokenName;
use bivouac_protocol::token::{Digest, Scope, Token};

use super::problem::{Code, Problem};
pub use bootstrap::{Bootstrap, BootstrapError};
pub(crate) use caller::Caller;
pub(crate) use named::Named;

/// The name under which the bootstrap tokens act.
pub(crate) fn bootstrap_name() -> TokenName {
    bootstrap::name()
}

/// All tokens that open the API.
pub struct Tokens {
    bootstrap: Bootstrap,
    named: Named,
}

impl Tokens {
    /// The bootstrap tokens, and those of the ledger.
    #[must_use]
    pub fn new(bootstrap: Bootstrap, ledger: Arc<dyn Ledger>) -> Self {
        Self { bootstrap, named: Named::new(ledger) }
    }

    /// Follows the file of the bootstrap tokens, for ever.
    pub async fn follow(&self) {
        self.bootstrap.follow().await;
    }

    pub(crate) fn named(&self) -> &Named {
        &self.named
    }

    /// Whose token this is. What is refused is refused in one way, whatever is wrong with it.
    async fn admit(self: &Arc<Self>, text: &str) -> Result<Caller, Problem> {
        let whole = Digest::of(text);
        if self.bootstrap.admits(&whole) {
            return Ok(Caller::new(bootstrap::name(), Scope::all().into(), None, whole, self));
        }
        let Ok(token) = Token::parse(text) else { return Err(refused()) };
        let digest = token.digest();
        let Some(found) = self.named.admit(&token.name, &digest).await? else { return Err(refused()) };
        let document = &found.value;
        let (scope, end) = (Arc::new(document.scope.clone()), document.expires_at);
        Ok(Caller::new(token.name, scope, end, digest, self))
    }

    /// Whether what a caller showed before still opens the API. Who cannot be asked has not said no.
    async fn still_admits(&self, name: &TokenName, digest: &Digest) -> bool {
        if *name == bootstrap::name() {
            return self.bootstrap.admits(digest);
        }
        !matches!(self.named.admit(name, digest).await, Ok(None))
    }
}

fn refused() -> Problem {
    Problem::new(
        Code::Unauthenticated,
        "The token is not one of this installation, or is not valid any more. Ask whoever gave it to you for another.",
    )
}

/// Lets a request pass that shows a valid token, and notes whose it is.
pub(crate) async fn require(
    State(tokens): State<Arc<Tokens>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(text) = bearer(request.headers()) else {
        return Err(Problem::new(Code::Unauthenticated, "Send `Authorization: Bearer TOKEN`."));
    };
    let caller = tokens.admit(text).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (scheme, token) = values.next()?.to_str().ok()?.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}
