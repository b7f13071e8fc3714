//! One request, from its head to its last byte. This is the path that every request takes, top to bottom:
//!
//! head → target → access → admission (guard, route, hold) → backend → relay → release

mod relay;
mod respond;
mod upload;

use std::time::Duration;

use bivouac_protocol::SessionId;
use bytes::BytesMut;
use http::{Version, header};
use pingora_core::protocols::http::server::ReusableHttpStream;
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_http::RequestHeader;

use crate::access;
use crate::admission::Admitted;
use crate::connection::Client;
use crate::head::{self, Plan};
use crate::headers::{Persistence, Trace};
use crate::host::{self, HostError};
use crate::page::{self, Audience};
use crate::refusal::{Refusal, START_PAGE_REFRESH};
use crate::stream::gone;
use crate::tunnel::Tunnel;
use crate::upstream::{self, Backend, ConnectError};
use relay::{RelayError, Relayed};

/// How long the word of a stop may be on its way.
const WORD_OF_A_STOP: Duration = Duration::from_millis(500);

/// How the connection goes on.
pub(crate) enum Next {
    /// With its next request.
    Again(ReusableHttpStream),
    /// Not at all: both have said everything.
    Close,
    /// Everything was said; the client may still be sending.
    Linger,
    /// Not at all: what the client has must not pass for a whole response.
    BreakOff,
    /// In another protocol.
    Tunnel(Box<Tunnel>),
}

/// Why a request got no response from its session.
enum Failure {
    /// It gets one from us.
    Refused(Refusal),
    /// Nobody is there to get one, or half of one was sent.
    Broken,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What became of a request that reached its session.
enum Served {
    Response(Persistence),
    Switched(Box<Tunnel>),
}

/// Serves one request.
pub(crate) async fn serve(client: &mut Client, mut request: HttpSession) -> Next {
    let trace = Trace::random();
    match forward(client, &mut request, &trace).await {
        Ok(Served::Response(persistence)) => go_on(request, persistence).await,
        Ok(Served::Switched(mut tunnel)) => {
            tunnel.sent_early(sent_early(request).await);
            Next::Tunnel(tunnel)
        }
        Err(Failure::Refused(refusal)) => refuse(client, request, &trace, &refusal).await,
        Err(Failure::Broken) => Next::BreakOff,
    }
}

async fn forward(client: &mut Client, request: &mut HttpSession, trace: &Trace) -> Result<Served, Failure> {
    let plan = head::check(request.req_header(), &request.get_headers_raw_bytes())?;
    let session = target(request.req_header(), &client.gateway.domain)?;
    access::check(&session, request.req_header())?;
    let mut admitted = admit(client, &session, plan).await?;
    let mut may_reuse = true;
    loop {
        let repeatable = head::is_idempotent(&request.req_header().method) && request.is_body_empty();
        let backend = connect(client, &mut admitted, plan, may_reuse, repeatable).await?;
        match relay::relay(client, request, backend, &admitted, plan, trace).await {
            Ok(Relayed::Response(persistence)) => return Ok(Served::Response(persistence)),
            Ok(Relayed::Switched(switch)) => {
                let client = client.outlet.socket().clone();
                return Ok(Served::Switched(Box::new(Tunnel::new(client, switch, admitted, plan.websocket))));
            }
            // The backend gave up a kept connection while the request was on its way.
            Err(RelayError::Stale) if repeatable => may_reuse = false,
            Err(RelayError::Stale) => return Err(Refusal::BackendFailed.into()),
            Err(RelayError::Refused(refusal)) => return Err(explained(refusal, &admitted).await.into()),
            Err(RelayError::Broken) => return Err(Failure::Broken),
        }
    }
}

/// A backend that is stopped may break off before this proxy has heard why: the word is waited for a moment, so that the
/// client is not told of a failure where there was none.
async fn explained(refusal: Refusal, admitted: &Admitted) -> Refusal {
    if refusal != Refusal::BackendFailed {
        return refusal;
    }
    match tokio::time::timeout(WORD_OF_A_STOP, admitted.over_at_last()).await {
        Ok(Some(reason)) if reason.code.is_on_purpose() => Refusal::Ended(Some(reason)),
        _ => refusal,
    }
}

fn target(head: &RequestHeader, domain: &str) -> Result<SessionId, Refusal> {
    host::session(head::host(&head.headers)?, domain).map_err(|error| match error {
        HostError::Malformed => Refusal::BadRequest("the request's Host is malformed"),
        HostError::Unknown => Refusal::UnknownHost,
    })
}

/// Waits to be let in.
async fn admit(client: &Client, session: &SessionId, plan: Plan) -> Result<Admitted, Failure> {
    let admitting = client.gateway.admission.admit(session, gone(client.outlet.socket()));
    patiently(client, plan, admitting).await?.ok_or(Failure::Broken)
}

/// A browser is not kept waiting in front of a blank page: after a second it gets one that asks again.
async fn patiently<T>(
    client: &Client,
    plan: Plan,
    waiting: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    if !plan.navigation {
        return waiting.await;
    }
    let waited = tokio::time::timeout(client.gateway.limits.page_after, waiting).await;
    waited.unwrap_or(Err(Refusal::StillStarting { retry_after: START_PAGE_REFRESH }))
}

/// A connection to the session's backend: kept, if there is one that this request may use, else new.
async fn connect(
    client: &Client,
    admitted: &mut Admitted,
    plan: Plan,
    may_reuse: bool,
    repeatable: bool,
) -> Result<Backend, Failure> {
    loop {
        if may_reuse && let Some(backend) = client.gateway.pool.take(&admitted.route, repeatable) {
            return Ok(backend);
        }
        match upstream::connect(admitted.route.address, client.gateway.limits.connect_timeout).await {
            Ok(backend) => return Ok(backend),
            Err(ConnectError::Refused) => {
                let rerouting = admitted.reroute(gone(client.outlet.socket()));
                if !patiently(client, plan, rerouting).await? {
                    return Err(Refusal::BackendUnreachable.into());
                }
            }
            Err(ConnectError::Unreachable) => return Err(Refusal::SessionUnreachable.into()),
            Err(ConnectError::Failed) => return Err(Refusal::BackendUnreachable.into()),
        }
    }
}

/// Answers in the session's stead. The connection goes on where the request was understood and is over.
async fn refuse(client: &mut Client, mut request: HttpSession, trace: &Trace, refusal: &Refusal) -> Next {
    let persistence =
        if matches!(refusal, Refusal::BadRequest(_) | Refusal::Draining) || !request.is_body_done() {
            Persistence::Close
        } else {
            persistence(client, &request)
        };
    let head = request.req_header();
    let id = trace.request_id(&head.headers);
    tracing::debug!(code = refusal.code(), request.id = %id, "A request was refused.");
    client.gateway.admission.metrics().refused(refusal);
    let audience = if head::accepts_html(&head.headers) { Audience::Person } else { Audience::Program };
    let answer = page::render(refusal, &id, audience, &head.method, persistence);
    client.outlet.discard();
    client.outlet.buffer().extend_from_slice(&answer);
    match client.outlet.flush().await {
        Ok(()) => go_on(request, persistence).await,
        Err(_) => Next::BreakOff,
    }
}

/// What a client may expect of its connection once its request is over.
fn persistence(client: &Client, request: &HttpSession) -> Persistence {
    if !request.will_keepalive() || client.gateway.shutdown.is_cancelled() {
        Persistence::Close
    } else if request.req_header().version == Version::HTTP_10 {
        Persistence::Announced
    } else {
        Persistence::Implied
    }
}

async fn go_on(mut request: HttpSession, persistence: Persistence) -> Next {
    if persistence == Persistence::Close {
        let said_all = request.is_body_done() && request.get_header(header::UPGRADE).is_none();
        return if said_all { Next::Close } else { Next::Linger };
    }
    match request.reuse().await {
        Ok(Some(connection)) => Next::Again(connection),
        Ok(None) | Err(_) => Next::Linger,
    }
}

/// What the client has sent behind the head of its upgrade: the first bytes of the new protocol.
async fn sent_early(mut request: HttpSession) -> BytesMut {
    // Only a session that may be used again hands out what it has read ahead.
    request.req_header_mut().remove_header(&header::CONNECTION);
    request.set_server_keepalive(Some(0));
    match request.reuse().await {
        Ok(Some(connection)) => connection.into_parts().1.unwrap_or_default(),
        Ok(None) | Err(_) => BytesMut::new(),
    }
}

#[cfg(test)]
mod tests;
