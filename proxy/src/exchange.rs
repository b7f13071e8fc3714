//! One request, from its head to its last byte. This is the path that every request takes, top to bottom, whatever the
//! client and the backend speak:
//!
//! head → target → access → admission (guard, route, hold) → backend → relay → release
//!
//! [`incoming`] and [`reply`] are the client's side of it, [`backend`] the other; [`refuse`] answers where a request does
//! not get through.

mod backend;
mod course;
mod incoming;
mod pace;
mod refuse;
mod relay;
mod reply;
mod respond;
mod upload;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bivouac_protocol::{Protocol, SessionId};
use http::Version;
use pingora_core::protocols::http::server::ReusableHttpStream;

use crate::access::{Grant, Pass, Swap};
use crate::admission::Admitted;
use crate::head::{self, Plan};
use crate::headers::{Persistence, Trace};
use crate::host::{self, HostError, Target};
use crate::listener::Gateway;
use crate::log::{Account, Outcome};
use crate::refusal::Refusal;
use crate::tunnel::Tunnel;
use crate::upstream::{self, ConnectError};
use crate::visitor::Visitor;
use backend::Connection;
pub(crate) use incoming::Incoming;
use relay::{RelayError, Relayed};
pub(crate) use reply::Reply;

/// How long the word of a stop may be on its way.
const WORD_OF_A_STOP: Duration = Duration::from_millis(500);

/// Who asks: an HTTP/1 connection between two requests, or a stream of an HTTP/2 one.
pub(crate) struct Client {
    /// The house.
    pub(crate) gateway: Arc<Gateway>,
    /// Who is at the other end.
    pub(crate) visitor: Arc<Visitor>,
    /// Where responses go.
    pub(crate) reply: Reply,
}

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
    Broken(Outcome),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What became of a request that was not refused.
enum Served {
    Response(Persistence),
    Switched(Box<Tunnel>),
    Swapped(Swap),
}

/// One request on its way.
struct Exchange<'a> {
    gateway: &'a Gateway,
    /// Who asks; where a trusted hop asks for others, who they are.
    visitor: Cow<'a, Visitor>,
    reply: &'a mut Reply,
    trace: Trace,
    /// Written down when this is dropped, however it ends.
    account: Account,
}

/// Serves one request.
pub(crate) async fn serve(client: &mut Client, mut asked: Incoming) -> Next {
    let Client { gateway, visitor, reply } = client;
    let visitor = visitor.of_request(&asked.head().headers);
    let trace = Trace::random();
    let account = gateway.log.open(&visitor, asked.head(), &trace);
    let mut exchange = Exchange { gateway, visitor, reply, trace, account };
    match exchange.forward(&mut asked).await {
        Ok(Served::Response(persistence)) => {
            exchange.account.ended(Outcome::Complete);
            asked.go_on(persistence).await
        }
        Ok(Served::Switched(mut tunnel)) => {
            tunnel.sent_early(asked.sent_early().await);
            Next::Tunnel(tunnel)
        }
        Ok(Served::Swapped(swap)) => exchange.swap(asked, swap).await,
        Err(Failure::Refused(refusal)) => exchange.refuse(asked, &refusal).await,
        Err(Failure::Broken(outcome)) => {
            exchange.account.ended(outcome);
            Next::BreakOff
        }
    }
}

impl Exchange<'_> {
    async fn forward(&mut self, asked: &mut Incoming) -> Result<Served, Failure> {
        let plan = asked.plan()?;
        let target = target(asked, &self.gateway.domain)?;
        self.account.target(&target);
        let entering = self.gateway.access.enter(&target, asked.head(), &plan, &self.visitor);
        let grant = match entering.await? {
            Pass::Enter(grant) => grant,
            Pass::Swap(swap) => return Ok(Served::Swapped(swap)),
        };
        let mut admitted = self.admit(&target, grant, plan).await?;
        self.account.admitted(&admitted);
        admitted.disregard(asked.head().uri.path());
        let plan = offered(plan, asked, &admitted)?;
        let bounds = self.bounds(asked, admitted.route(), plan)?;
        let mut may_reuse = true;
        loop {
            let bodiless = asked.is_bodiless();
            let repeatable = bodiless && head::is_idempotent(&asked.head().method);
            let connection = self.connect(&mut admitted, plan, may_reuse.then_some(repeatable)).await?;
            self.account.reused(connection.is_reused());
            match self.relay(asked, connection, &admitted, plan, bounds).await {
                Ok(Relayed::Response(persistence)) => return Ok(Served::Response(persistence)),
                Ok(Relayed::Switched(client, switch)) => {
                    self.account.switched(plan.websocket);
                    let account = std::mem::take(&mut self.account);
                    let tunnel = Tunnel::new(client, switch, admitted, plan.websocket, account);
                    let tunnel = tunnel.stalling_at_most(self.gateway.limits.tunnel_stall);
                    return Ok(Served::Switched(Box::new(tunnel)));
                }
                // The backend gave up a kept connection while the request was on its way.
                Err(RelayError::Stale) if repeatable => may_reuse = false,
                Err(RelayError::Unprocessed) if bodiless && may_reuse => may_reuse = false,
                Err(RelayError::Stale | RelayError::Unprocessed) => return Err(Refusal::BackendFailed.into()),
                Err(RelayError::Refused(refusal)) => return Err(explained(refusal, &admitted).await.into()),
                Err(RelayError::Broken(outcome)) => return Err(Failure::Broken(outcome)),
            }
        }
    }

    /// Waits to be let in.
    async fn admit(&mut self, target: &Target, grant: Grant, plan: Plan) -> Result<Admitted, Failure> {
        let admitting = self.gateway.admission.admit(target, grant, self.reply.departed());
        let admitted = patiently(self.gateway, &target.session, plan, admitting).await?;
        admitted.ok_or(Failure::Broken(Outcome::ClientGone))
    }

    /// A connection to the session's backend: kept, if there is one that this request may use, else new. `reuse`:
    /// whether one may be, and whether the request could then be sent again.
    async fn connect(
        &mut self,
        admitted: &mut Admitted,
        plan: Plan,
        reuse: Option<bool>,
    ) -> Result<Connection, Failure> {
        loop {
            match self.try_connect(admitted, reuse).await {
                Ok(connection) => return Ok(connection),
                Err(ConnectError::Refused) => {
                    let session = admitted.route().session.clone();
                    let rerouting = Box::pin(admitted.reroute(self.reply.departed()));
                    if !patiently(self.gateway, &session, plan, rerouting).await? {
                        return Err(Refusal::BackendUnreachable.into());
                    }
                }
                Err(ConnectError::Unreachable) => return Err(Refusal::SessionUnreachable.into()),
                Err(ConnectError::Failed) => return Err(Refusal::BackendUnreachable.into()),
            }
        }
    }

    async fn try_connect(
        &self,
        admitted: &Admitted,
        reuse: Option<bool>,
    ) -> Result<Connection, ConnectError> {
        let (route, endpoint) = (admitted.route(), admitted.endpoint());
        let timeout = self.gateway.limits.connect_timeout;
        if endpoint.protocol == Protocol::H2c {
            return Box::pin(self.gateway.h2.open(route, endpoint, timeout)).await.map(Connection::H2);
        }
        if let Some(repeatable) = reuse
            && let Some(backend) = self.gateway.pool.take(route, endpoint, repeatable)
        {
            return Ok(Connection::H1(backend));
        }
        upstream::connect(endpoint.address, timeout).await.map(Connection::H1)
    }
}

fn target(asked: &Incoming, domain: &str) -> Result<Target, Refusal> {
    host::target(head::host(&asked.head().headers)?, domain).map_err(|error| match error {
        HostError::Malformed => Refusal::BadRequest("the request's Host is malformed"),
        HostError::Unknown => Refusal::UnknownHost,
    })
}

/// An HTTP/2 connection becomes nothing else. An HTTP/1 client that asks for it may be ignored, and gets an answer; one
/// that speaks HTTP/2 has asked for nothing else.
fn offered(plan: Plan, asked: &Incoming, admitted: &Admitted) -> Result<Plan, Refusal> {
    match admitted.endpoint().protocol {
        Protocol::H2c if plan.upgrade && asked.head().version == Version::HTTP_2 => {
            Err(Refusal::UpgradeUnsupported)
        }
        Protocol::H2c => Ok(Plan { upgrade: false, websocket: false, ..plan }),
        Protocol::Http => Ok(plan),
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

/// A browser is not kept waiting in front of a blank page: after a second it gets one that asks again.
async fn patiently<T>(
    gateway: &Gateway,
    session: &SessionId,
    plan: Plan,
    waiting: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    if !plan.navigation {
        return waiting.await;
    }
    let waited = tokio::time::timeout(gateway.limits.page_after, waiting).await;
    waited.unwrap_or_else(|_| Err(gateway.admission.starting(session)))
}

#[cfg(test)]
mod tests;
