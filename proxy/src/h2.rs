//! HTTP/2, by the `h2` crate: connections of clients, whose streams go the way of every request, and connections to
//! backends that speak it without TLS ("h2c"), whose streams are shared out among requests.

mod budget;
mod call;
mod connection;
mod duplex;
mod head;
mod incoming;
mod outward;
mod pulse;
mod reply;
mod strand;
mod stream;
mod upstream;

use std::io;

pub(crate) use call::{Call, Down, Lost, Up};
pub(crate) use connection::run;
pub(crate) use incoming::Incoming;
pub(crate) use reply::Reply;
pub(crate) use strand::Strand;
pub(crate) use upstream::Backends;

/// The kind of end that a connection of its own would have come to.
fn into_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
    } else {
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    }
}
