//! One request of an HTTP/2 connection, from its head to its end.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;

use super::connection::Shared;
use super::incoming::Incoming;
use super::reply::Reply;
use crate::exchange::{self, Client, Next};
use crate::listener::Gateway;
use crate::visitor::Visitor;

/// Serves a request, and the tunnel that it may become.
pub(super) async fn serve(
    gateway: Arc<Gateway>,
    visitor: Arc<Visitor>,
    shared: Arc<Shared>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (asked, key) = Incoming::new(request);
    let reply = exchange::Reply::H2(Reply::new(respond, key, gateway.limits.write_stall));
    let mut client = Client { gateway, visitor, reply };
    let next = exchange::serve(&mut client, exchange::Incoming::H2(Box::new(asked))).await;
    let exchange::Reply::H2(mut reply) = client.reply else { return };
    if reply.is_wasted() {
        shared.wasted();
    }
    match next {
        Next::Tunnel(tunnel) => {
            drop(reply);
            tunnel.run().await;
        }
        Next::BreakOff => reply.break_off(),
        Next::Again(_) | Next::Close | Next::Linger => {}
    }
}
