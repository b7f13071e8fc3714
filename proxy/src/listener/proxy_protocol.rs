//! The PROXY header of version 2: a load balancer that passes bytes says whose they are.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;

use ppp::v2::{Addresses, Command, Header, Protocol, Type};

use crate::stream::Socket;

/// Bytes in front of the part whose length they tell.
const FIXED: usize = 16;
/// Bytes that part may have: addresses, and what balancers add about TLS.
const LONGEST: usize = 4096;
/// In what is said about TLS: the client uses it.
const CLIENT_SSL: u8 = 0x01;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Introduction {
    /// Who the client is; `None` if the balancer speaks for itself, as health checks do.
    pub(super) client: Option<IpAddr>,
    /// Whether the client uses TLS up to the balancer.
    pub(super) secure: bool,
}

/// Reads exactly the header: what follows is the client's.
///
/// # Errors
/// When the connection ends, or does not begin with a header of version 2.
pub(super) async fn read(socket: &Socket) -> io::Result<Introduction> {
    let mut header = Vec::with_capacity(256);
    fill(socket, &mut header, FIXED).await?;
    let [.., high, low] = header.as_slice() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    // Checked before so much is waited for: its first bytes already tell what it is.
    if !header.starts_with(ppp::v2::PROTOCOL_PREFIX) || length > LONGEST {
        return Err(malformed());
    }
    fill(socket, &mut header, FIXED + length).await?;
    parse(&header).ok_or_else(malformed)
}

async fn fill(socket: &Socket, buffer: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let mut filled = buffer.len();
    buffer.resize(length, 0);
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        let mut room = room;
        match poll_fn(|cx| socket.poll_recv(cx, &mut room)).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY header of version 2")
}

/// Pure. `None`: it is none.
fn parse(header: &[u8]) -> Option<Introduction> {
    let header = Header::try_from(header).ok()?;
    let tlvs: Vec<_> = header.tlvs().collect::<Result<_, _>>().ok()?;
    if header.command == Command::Local {
        return Some(Introduction { client: None, secure: false });
    }
    if header.protocol == Protocol::Datagram {
        return None;
    }
    let client = match header.addresses {
        Addresses::IPv4(of) => Some(of.source_address.into()),
        Addresses::IPv6(of) => Some(of.source_address.into()),
        Addresses::Unix(_) | Addresses::Unspecified => None,
    };
    let ssl = tlvs.iter().find(|tlv| tlv.kind == Type::SSL as u8);
    let secure = ssl.is_some_and(|ssl| ssl.value.first().is_some_and(|bits| bits & CLIENT_SSL != 0));
    Some(Introduction { client, secure })
}

#[cfg(test)]
mod tests {
    use ppp::v2::{Builder, Version};
    use proptest::prelude::*;

    use super::*;

    fn header(command: Command, client: &str) -> Builder {
        let to = if client.starts_with('[') { "[2001:db8::ffff]:443" } else { "192.0.2.1:443" };
        let addresses: (std::net::SocketAddr, std::net::SocketAddr) =
            (client.parse().unwrap(), to.parse().unwrap());
        Builder::with_addresses(Version::Two | command, Protocol::Stream, addresses)
    }

    #[test]
    fn the_client_is_who_the_balancer_says() {
        for (client, address) in [("198.51.100.9:4711", "198.51.100.9"), ("[2001:db8::9]:1", "2001:db8::9")] {
            let told = parse(&header(Command::Proxy, client).build().unwrap()).unwrap();
            assert_eq!(told, Introduction { client: Some(address.parse().unwrap()), secure: false });
        }
        let own = parse(&header(Command::Local, "198.51.100.9:1").build().unwrap()).unwrap();
        assert_eq!(own, Introduction { client: None, secure: false });
    }

    #[test]
    fn tls_up_to_the_balancer_is_told() {
        for (bits, secure) in [(1, true), (0, false), (7, true)] {
            let header = header(Command::Proxy, "198.51.100.9:1");
            let header = header.write_tlv(Type::SSL, &[bits, 0, 0, 0, 0]).unwrap().build().unwrap();
            assert_eq!(parse(&header).unwrap().secure, secure);
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let good = header(Command::Proxy, "198.51.100.9:1").build().unwrap();
        assert_eq!(parse(&good[..good.len() - 1]), None);
        assert_eq!(parse(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n"), None);
        let odd = header(Command::Proxy, "198.51.100.9:1").write_tlv(Type::NoOp, &[1]).unwrap();
        let mut odd = odd.build().unwrap();
        let last = odd.len() - 2;
        odd[last] = 200;
        assert_eq!(parse(&odd), None, "a part that is longer than the whole");
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(tail in prop::collection::vec(any::<u8>(), 0..120)) {
            let mut bytes = ppp::v2::PROTOCOL_PREFIX.to_vec();
            bytes.extend(tail);
            let _ = parse(&bytes);
        }
    }
}
