//! One request over one connection to its backend, both directions at once.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicBool;
use std::task::Poll;

use bivouac_protocol::Reason;
use futures::FutureExt;
use http::{HeaderValue, StatusCode, Version, header};
use pingora_core::ErrorType;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession as Response;
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_http::RequestHeader;

use super::persistence;
use super::respond::{RespondError, Responded, Setting, respond};
use super::upload::{UploadError, upload};
use crate::admission::Admitted;
use crate::connection::Client;
use crate::head::{self, Plan};
use crate::headers::{self, Persistence, Trace};
use crate::refusal::Refusal;
use crate::stream::{Outlet, Wire, gone};
use crate::tunnel::Switch;
use crate::upstream::Backend;

/// Bytes that the heads of one response may have, all 1xx included.
const RESPONSE_HEAD: usize = 256 * 1024;

/// How it ended well.
pub(super) enum Relayed {
    Response(Persistence),
    Switched(Switch),
}

/// How it ended else.
pub(super) enum RelayError {
    /// A kept connection was closed before anything of a response came.
    Stale,
    /// The client has seen nothing yet: it can be told.
    Refused(Refusal),
    /// The client has left, or has seen half a response.
    Broken,
}

/// What ended the exchange while both directions were under way.
enum End {
    Response(Result<Responded, RespondError>),
    Body(pingora_core::BError),
    Gone,
    Cut(Option<Reason>),
}

/// Forwards the request and its response.
pub(super) async fn relay(
    client: &mut Client,
    request: &mut HttpSession,
    backend: Backend,
    admitted: &Admitted,
    plan: Plan,
    trace: &Trace,
) -> Result<Relayed, RelayError> {
    let Backend { wire: Wire { inlet, mut outlet, meter }, reused } = backend;
    write_head(client, request.req_header(), &mut outlet, admitted, plan, trace)
        .map_err(RelayError::Refused)?;
    meter.expect_head(RESPONSE_HEAD);
    let mut response = begin(inlet, request.req_header(), plan).await.map_err(|_| FAILED)?;
    let (uploaded, begun) = (AtomicBool::new(false), AtomicBool::new(false));
    let metrics = client.gateway.admission.metrics();
    let setting = Setting {
        method: request.req_header().method.clone(),
        version: request.req_header().version,
        upgrade: plan.upgrade,
        persistence: persistence(client, request),
        domain: &client.gateway.domain,
        uploaded: &uploaded,
        begun: &begun,
        metrics,
    };
    let socket = client.outlet.socket().clone();
    let end = {
        let uploading = pin!(upload(request, &mut outlet, plan.body, &uploaded, metrics));
        let on_head = |status: StatusCode| {
            meter.head_done();
            admitted.first_byte();
            metrics.answered(status.as_u16());
        };
        let responding = pin!(respond(&mut response, &mut client.outlet, &setting, on_head));
        both_ways(uploading, responding, pin!(gone(&socket)), pin!(admitted.cut())).await
    };
    let (begun, uploaded) = (begun.into_inner(), uploaded.into_inner());
    match end {
        End::Response(Ok(Responded::Complete(persistence))) => {
            if uploaded && let Some(inlet) = reusable(response).await {
                client.gateway.pool.keep(&admitted.route, Wire { inlet, outlet, meter });
            }
            Ok(Relayed::Response(persistence))
        }
        End::Response(Ok(Responded::Switched)) => {
            admitted.first_byte();
            metrics.answered(StatusCode::SWITCHING_PROTOCOLS.as_u16());
            Ok(Relayed::Switched(switch(response, &outlet, &client.gateway.domain).await))
        }
        End::Response(Err(error)) => {
            if begun && request.req_header().version == Version::HTTP_10 {
                client.outlet.break_off();
            }
            let stale = reused && !meter.has_received();
            Err(if begun { broken(&error, admitted) } else { failed(&error, stale, admitted) })
        }
        _ if begun => {
            // Stopped in the middle of a write: what is still gathered has no place any more.
            client.outlet.discard();
            client.outlet.break_off();
            Err(RelayError::Broken)
        }
        End::Body(error) if is_departure(&error) => Err(RelayError::Broken),
        End::Body(_) => Err(RelayError::Refused(Refusal::BadRequest("the request's body is malformed"))),
        End::Gone => Err(RelayError::Broken),
        End::Cut(Some(reason)) => Err(RelayError::Refused(Refusal::Ended(Some(reason)))),
        End::Cut(None) => Err(RelayError::Refused(Refusal::Draining)),
    }
}

const FAILED: RelayError = RelayError::Refused(Refusal::BackendFailed);

/// Runs both directions until the response is over, or something ends them both. The client's departure shows in the
/// upload while there is one, and is watched for afterwards.
async fn both_ways(
    mut uploading: Pin<&mut impl Future<Output = Result<(), UploadError>>>,
    mut responding: Pin<&mut impl Future<Output = Result<Responded, RespondError>>>,
    mut gone: Pin<&mut impl Future<Output = ()>>,
    mut cut: Pin<&mut impl Future<Output = Option<Reason>>>,
) -> End {
    let mut sending = true;
    poll_fn(|cx| {
        if sending && let Poll::Ready(sent) = uploading.as_mut().poll(cx) {
            sending = false;
            match sent {
                Ok(()) => {}
                Err(UploadError::Client(error)) => return Poll::Ready(End::Body(error)),
                // It may have answered before it stopped listening.
                Err(UploadError::Backend(error)) => {
                    tracing::trace!(%error, "A backend takes no more of a request.")
                }
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

fn write_head(
    client: &Client,
    head: &RequestHeader,
    outlet: &mut Outlet,
    admitted: &Admitted,
    plan: Plan,
    trace: &Trace,
) -> Result<(), Refusal> {
    let whereto = (head::origin_form(head)?, head::host(&head.headers)?);
    headers::write_request(outlet.buffer(), head, whereto, plan, &admitted.route, (&client.forwarded, trace));
    Ok(())
}

/// The session that reads the response. It has to know what is answered, as that decides where the response ends: it is
/// told by a head that goes nowhere.
async fn begin(inlet: Stream, request: &RequestHeader, plan: Plan) -> pingora_core::Result<Response> {
    let mut response = Response::new(inlet);
    let mut asked = RequestHeader::build_no_case(request.method.clone(), b"/", Some(0))?;
    if plan.upgrade {
        asked.insert_header(header::UPGRADE, HeaderValue::from_static("any"))?;
    }
    response.write_request_header(Box::new(asked)).await?;
    Ok(response)
}

/// The connection, if the response has ended so that the next one can follow.
async fn reusable(mut response: Response) -> Option<Stream> {
    let head = response.resp_header()?;
    let ambiguous = head.headers.contains_key(header::TRANSFER_ENCODING)
        && head::has_line(&response.get_headers_raw_bytes(), b"content-length");
    response.respect_keepalive();
    if ambiguous { None } else { response.reuse().await }
}

/// What the tunnel begins with: the backend's 101, and what came behind it.
async fn switch(mut response: Response, outlet: &Outlet, domain: &str) -> Switch {
    let mut greeting = Vec::with_capacity(512);
    if let Some(head) = response.resp_header() {
        headers::write_switch(&mut greeting, head, domain);
    }
    // What was read with the head is there at once; nothing is waited for.
    let early = match response.read_body_ref().now_or_never() {
        Some(Ok(Some(early))) => early.to_vec(),
        _ => Vec::new(),
    };
    Switch { backend: outlet.socket().clone(), greeting, early }
}

/// The backend failed before the client saw anything.
fn failed(error: &RespondError, stale: bool, admitted: &Admitted) -> RelayError {
    let refusal = match error {
        RespondError::Client(_) => return RelayError::Broken,
        RespondError::Backend(_) if stale => return RelayError::Stale,
        // If it failed because it was stopped, that is what the client should read.
        _ => match admitted.cut().now_or_never() {
            Some(Some(reason)) => Refusal::Ended(Some(reason)),
            Some(None) => Refusal::Draining,
            None => Refusal::BackendFailed,
        },
    };
    log(error, admitted);
    RelayError::Refused(refusal)
}

fn broken(error: &RespondError, admitted: &Admitted) -> RelayError {
    log(error, admitted);
    RelayError::Broken
}

fn log(error: &RespondError, admitted: &Admitted) {
    let route = &admitted.route;
    match error {
        RespondError::Client(error) => tracing::debug!(%error, "A client left in the middle of a response."),
        RespondError::Backend(error) => {
            // The kind alone: an error's text may quote what the backend sent.
            let kind = error.etype().as_str();
            tracing::info!(session.id = %route.session, generation = %route.generation, kind, "A backend broke off its response.");
        }
        RespondError::Protocol(what) => {
            tracing::info!(session.id = %route.session, generation = %route.generation, what, "A backend sent what is no response.");
        }
    }
}

/// Whether the client's end of the connection is gone, rather than its body malformed.
fn is_departure(error: &pingora_core::Error) -> bool {
    matches!(error.etype(), ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::ReadTimedout)
}
