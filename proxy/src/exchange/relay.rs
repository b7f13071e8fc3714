//! One request over one connection to its backend, both directions at once.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use bivouac_protocol::Route;
use futures::FutureExt;
use http::{StatusCode, Version, header};
use pingora_http::RequestHeader;

use super::Exchange;
use super::backend::{Backend, Connection};
use super::course::Course;
use super::incoming::{BodyError, Incoming};
use super::pace::{Bounds, Pace};
use super::reply::Switched;
use super::respond::{RespondError, Responded, Setting, respond};
use super::upload::{UploadError, upload};
use crate::admission::{Admitted, Cut};
use crate::head::{self, Plan};
use crate::headers::{Persistence, RequestFields};
use crate::listener::Gateway;
use crate::log::Outcome;
use crate::refusal::Refusal;
use crate::stream::Socket;
use crate::tunnel::Switch;

/// How it ended well.
pub(super) enum Relayed {
    Response(Persistence),
    /// With the client's connection.
    Switched(Socket, Switch),
}

/// How it ended else.
pub(super) enum RelayError {
    /// A kept connection was closed before anything of a response came.
    Stale,
    /// The backend has certainly not looked at the request.
    Unprocessed,
    /// The client has seen nothing yet: it can be told.
    Refused(Refusal),
    /// The client has left, or has seen half a response.
    Broken(Outcome),
}

/// What ended the exchange while both directions were under way.
enum End {
    Response(Result<Responded, RespondError>),
    Body(Refusal),
    Gone,
    Cut(Cut),
}

impl End {
    /// What it is to a response that had begun.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Gone => Outcome::ClientGone,
            Self::Body(refusal) => Outcome::Cut(refusal.code()),
            Self::Cut(cut) => Outcome::Cut(cut.close().1),
            Self::Response(Err(RespondError::Client(_))) => Outcome::ClientGone,
            Self::Response(_) => Outcome::Broken,
        }
    }
}

impl Exchange<'_> {
    /// Forwards the request and its response.
    pub(super) async fn relay(
        &mut self,
        asked: &mut Incoming,
        connection: Connection,
        admitted: &Admitted,
        plan: Plan,
        bounds: Bounds,
    ) -> Result<Relayed, RelayError> {
        let mut backend = self.ask(asked.head(), connection, admitted, plan).await?;
        let setting = setting(self.gateway, asked, plan);
        let course = Course::new(admitted, &self.account);
        let end = {
            let watched = self.reply.watched();
            let uploading = pin!(upload(asked, &mut backend.to, plan.body, bounds, &course));
            let responding = pin!(respond(&mut backend.from, self.reply, &setting, &course));
            both_ways(uploading, responding, pin!(gone(watched)), pin!(admitted.cut())).await
        };
        let (begun, uploaded) = (course.begun.into_inner(), course.uploaded.into_inner());
        match end {
            End::Response(Ok(Responded::Complete(persistence))) => {
                if uploaded {
                    backend.keep(&self.gateway.pool, admitted.route(), admitted.endpoint()).await;
                }
                Ok(Relayed::Response(persistence))
            }
            End::Response(Ok(Responded::Switched)) => self.switch(asked, backend, admitted),
            end if begun => Err(RelayError::Broken(self.broken(&end, setting.version, admitted))),
            End::Response(Err(error)) => Err(failed(&error, &backend, admitted)),
            End::Gone => Err(RelayError::Broken(Outcome::ClientGone)),
            End::Body(refusal) => Err(RelayError::Refused(refusal)),
            End::Cut(cut) => Err(RelayError::Refused(cut.refusal())),
        }
    }

    /// Half a response is out: it must not look whole.
    fn broken(&mut self, end: &End, version: Version, admitted: &Admitted) -> Outcome {
        let failure = if let End::Response(Err(error)) = end { Some(error) } else { None };
        if let Some(error) = failure {
            log(error, admitted);
        }
        // Stopped in the middle of a write, what is still gathered has no place any more. What came before a backend broke
        // off is the client's.
        if failure.is_none_or(is_stalled) {
            self.reply.discard();
            self.reply.break_off();
        } else if version == Version::HTTP_10 {
            // Nothing frames it but the connection's end.
            self.reply.break_off();
        }
        end.outcome()
    }

    /// What the request's body is held to. One that says itself that it is too long does not reach the backend.
    pub(super) fn bounds(&self, asked: &Incoming, route: &Route, plan: Plan) -> Result<Bounds, Refusal> {
        let most = route.rules.max_body;
        let told = plan.body.length();
        if most.zip(told).is_some_and(|(most, told)| told > most) {
            return Err(Refusal::BodyTooLarge);
        }
        let limits = &self.gateway.limits;
        let pace = (asked.is_paced() && told != Some(0)).then(|| {
            let asks = asked.head().headers.contains_key(header::EXPECT);
            Pace::new(limits.body_window, limits.body_least, asks)
        });
        Ok(Bounds { most, pace })
    }

    async fn ask(
        &self,
        head: &RequestHeader,
        connection: Connection,
        admitted: &Admitted,
        plan: Plan,
    ) -> Result<Backend, RelayError> {
        let fields = RequestFields {
            host: head::host(&head.headers).map_err(RelayError::Refused)?,
            target: head::origin_form(head).map_err(RelayError::Refused)?,
            plan,
            session: &admitted.route().session,
            generation: admitted.route().generation,
            visitor: &self.visitor,
            trace: &self.trace,
            grant: admitted.grant(),
        };
        connection.ask(head, &fields).await.map_err(|error| {
            if error.is_unprocessed() {
                RelayError::Unprocessed
            } else {
                RelayError::Refused(error.refusal())
            }
        })
    }

    /// What the tunnel begins with: the backend's 101, and what came behind it.
    fn switch(
        &mut self,
        asked: &mut Incoming,
        backend: Backend,
        admitted: &Admitted,
    ) -> Result<Relayed, RelayError> {
        let Some(head) = backend.from.head() else { return Err(RelayError::Refused(Refusal::BackendFailed)) };
        let offered_ours = admitted.grant().strip.offered_ours;
        let switched = self.reply.switch(asked, head, offered_ours, &self.gateway.domain);
        let Ok(Switched { socket, greeting }) = switched else {
            return Err(RelayError::Refused(Refusal::BackendFailed));
        };
        Course::new(admitted, &self.account).answered(StatusCode::SWITCHING_PROTOCOLS);
        let Some((backend, early)) = backend.into_tunnel() else {
            return Err(RelayError::Broken(Outcome::Broken));
        };
        Ok(Relayed::Switched(socket, Switch { backend, greeting, early }))
    }
}

fn setting<'a>(gateway: &'a Gateway, asked: &Incoming, plan: Plan) -> Setting<'a> {
    let head = asked.head();
    Setting {
        method: head.method.clone(),
        version: head.version,
        asked: head::asks_for_upgrade(head),
        upgrade: plan.upgrade,
        trailers: head.version == Version::HTTP_2 || head::takes_trailers(&head.headers),
        persistence: asked.persistence(gateway.closing.token.is_cancelled()),
        domain: &gateway.domain,
    }
}

async fn gone(watched: Option<Socket>) {
    match watched {
        Some(socket) => socket.gone().await,
        None => std::future::pending().await,
    }
}

/// Runs both directions until the response is over, or something ends them both. The client's departure shows in the
/// upload while there is one, and is watched for afterwards.
async fn both_ways(
    mut uploading: Pin<&mut impl Future<Output = Result<(), UploadError>>>,
    mut responding: Pin<&mut impl Future<Output = Result<Responded, RespondError>>>,
    mut gone: Pin<&mut impl Future<Output = ()>>,
    mut cut: Pin<&mut impl Future<Output = Cut>>,
) -> End {
    let mut sending = true;
    poll_fn(|cx| {
        if sending && let Poll::Ready(sent) = uploading.as_mut().poll(cx) {
            sending = false;
            match sent {
                Ok(()) => {}
                // It may have answered before it stopped listening.
                Err(UploadError::Backend(error)) => {
                    tracing::trace!(%error, "A backend takes no more of a request.")
                }
                Err(UploadError::Client(BodyError::Left)) => return Poll::Ready(End::Gone),
                Err(UploadError::Client(BodyError::Malformed)) => {
                    return Poll::Ready(End::Body(Refusal::BadRequest("the request's body is malformed")));
                }
                Err(UploadError::TooLarge) => return Poll::Ready(End::Body(Refusal::BodyTooLarge)),
                Err(UploadError::TooSlow) => return Poll::Ready(End::Body(Refusal::BodyTimeout)),
            }
        }
        if let Poll::Ready(result) = responding.as_mut().poll(cx) {
            return Poll::Ready(End::Response(result));
        }
        if !sending && gone.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Gone);
        }
        cut.as_mut().poll(cx).map(End::Cut)
    })
    .await
}

/// The backend failed before the client saw anything.
fn failed(error: &RespondError, backend: &Backend, admitted: &Admitted) -> RelayError {
    let refusal = match error {
        RespondError::Client(_) => return RelayError::Broken(Outcome::ClientGone),
        RespondError::Backend(error) if error.is_unprocessed() => return RelayError::Unprocessed,
        RespondError::Backend(error) if backend.was_stale(error) => return RelayError::Stale,
        // If it failed because it was stopped, that is what the client should read.
        _ => admitted.cut().now_or_never().map_or(Refusal::BackendFailed, |cut| cut.refusal()),
    };
    log(error, admitted);
    RelayError::Refused(refusal)
}

/// Whether the client has taken nothing for too long.
fn is_stalled(error: &RespondError) -> bool {
    matches!(error, RespondError::Client(error) if error.kind() == std::io::ErrorKind::TimedOut)
}

fn log(error: &RespondError, admitted: &Admitted) {
    let route = admitted.route();
    match error {
        RespondError::Client(error) => tracing::debug!(%error, "A client left in the middle of a response."),
        RespondError::Backend(error) => {
            let kind = error.kind();
            tracing::info!(session.id = %route.session, generation = %route.generation, kind, "A backend broke off its response.");
        }
        RespondError::Protocol(what) => {
            tracing::info!(session.id = %route.session, generation = %route.generation, what, "A backend sent what is no response.");
        }
    }
}
