//! The service's end of the links: accepts them on the internal listener, proves and asks for the secret, and carries
//! messages between one proxy and the supervisor.

mod accept;
mod handshake;

use bivouac_protocol::BootId;
use bivouac_protocol::link::{FromProxy, FromService};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use accept::{Links, router};

use crate::session::LinkId;

/// Messages that may wait for one proxy. A full queue closes the link.
const QUEUE: usize = 65_536;

/// What the supervisor hears of a link.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A proxy has proven itself.
    Up { link: LinkId, peer: Peer },
    /// It says something.
    Said { link: LinkId, message: FromProxy },
    /// It is gone.
    Down { link: LinkId },
}

/// How the supervisor reaches a proxy.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) boot: BootId,
    pub(crate) sender: mpsc::Sender<FromService>,
    /// Closes the link.
    pub(crate) close: CancellationToken,
    /// The proxy has said goodbye: that the link ends is no news.
    pub(crate) leaving: bool,
}
