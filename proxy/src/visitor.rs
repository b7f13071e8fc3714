//! Who asks, from where, and how safely: decided once per connection, and again per request where a trusted hop in front
//! of us speaks for others. Pure.

mod hops;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use ipnet::IpNet;

use crate::listener::places::Place;
use crate::metrics::CountedConnection;
use hops::Chain;

/// The client of a connection, or of one request on it.
#[derive(Clone)]
pub(crate) struct Visitor {
    /// Who is served: what limits, tickets and logs go by.
    pub(crate) client: IpAddr,
    /// Whether the client uses TLS, as far as we know or are told by whom we trust.
    pub(crate) secure: bool,
    /// Whom we trust to speak for others, if the client is one of them.
    hops: Option<Arc<[IpNet]>>,
    /// Who speaks HTTP with us, as `X-Forwarded-For` has it.
    address: String,
    /// The same for its scheme.
    address_secure: bool,
    /// What hops before us have said.
    chain: Option<Arc<Chain>>,
    /// Held for as long as the connection lives.
    _seat: Option<Arc<Seat>>,
}

/// What a connection takes of what there is.
struct Seat {
    _place: Place,
    _counted: CountedConnection,
}

impl Visitor {
    /// Somebody who has connected. `hops`: what is said there is believed.
    pub(crate) fn new(client: IpAddr, secure: bool, hops: &Arc<[IpNet]>) -> Self {
        let client = client.to_canonical();
        let trusted = is_within(hops, client);
        Self {
            client,
            secure,
            hops: trusted.then(|| hops.clone()),
            address: client.to_string(),
            address_secure: secure,
            chain: None,
            _seat: None,
        }
    }

    /// Keeps its place among the connections for as long as the value lives.
    pub(crate) fn seated(self, place: Place, counted: CountedConnection) -> Self {
        Self { _seat: Some(Arc::new(Seat { _place: place, _counted: counted })), ..self }
    }

    /// Whether it is a hop that speaks for others.
    pub(crate) fn is_hop(&self) -> bool {
        self.hops.is_some()
    }

    /// Who it is that sent this request: the same, unless a trusted hop says for whom it speaks.
    pub(crate) fn of_request(&self, headers: &HeaderMap) -> Cow<'_, Self> {
        match self.hops.as_ref().and_then(|hops| Some((hops, Chain::read(headers)?))) {
            Some((hops, chain)) => Cow::Owned(self.behind(hops, chain)),
            None => Cow::Borrowed(self),
        }
    }

    fn behind(&self, hops: &[IpNet], chain: Chain) -> Self {
        let mut client = self.client;
        // From the nearest on: what a hop says counts for as long as it is a trusted one that says it.
        for said in chain.addresses.iter().rev() {
            let Some(said) = said else { break };
            client = said.to_canonical();
            if !is_within(hops, client) {
                break;
            }
        }
        let secure = chain.secure.unwrap_or(self.secure);
        Self { client, secure, chain: Some(Arc::new(chain)), ..self.clone() }
    }

    /// What the backend is told: `put` gets each field's name and the pieces of its value. `host` is the checked host of
    /// the request, which has none of the characters that would end a quoted string.
    pub(crate) fn tell(&self, host: &[u8], mut put: impl FnMut(&[u8], &[&[u8]])) {
        let address = self.address.as_bytes();
        let [open, close] =
            if self.address.contains(':') { [b"\"[".as_slice(), b"]\""] } else { [b"".as_slice(); 2] };
        let scheme = |secure: bool| if secure { b"https".as_slice() } else { b"http".as_slice() };
        let own = scheme(self.address_secure);
        match self.chain.as_deref() {
            None => {
                put(b"X-Forwarded-For", &[address]);
                put(b"X-Forwarded-Proto", &[own]);
                put(b"X-Forwarded-Host", &[host]);
                put(b"Forwarded", &[b"for=", open, address, close, b";host=\"", host, b"\";proto=", own]);
            }
            Some(chain) => {
                put(b"X-Forwarded-For", &[&chain.forwarded_for, b", ", address]);
                put(b"X-Forwarded-Proto", &[scheme(self.secure)]);
                put(b"X-Forwarded-Host", &[chain.host.as_deref().unwrap_or(host)]);
                let before = chain.forwarded.as_slice();
                put(
                    b"Forwarded",
                    &[before, b", for=", open, address, close, b";host=\"", host, b"\";proto=", own],
                );
            }
        }
    }
}

/// Whether an address lies in one of these networks.
pub(crate) fn is_within(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests;
