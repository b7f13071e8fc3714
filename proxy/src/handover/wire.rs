//! What two proxies say to each other when one takes over from the other: a line of JSON each, and descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Of what follows. Another one is not understood.
pub(super) const VERSION: u32 = 1;
/// Bytes that one message may have.
const LONGEST: usize = 16 * 1024;
/// Descriptors that one message may have.
const DESCRIPTORS: usize = 4;

/// What a listening socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Session traffic.
    Plain,
    /// Session traffic with TLS.
    Tls,
    /// Health and metrics.
    Admin,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Message {
    /// The successor: these are the addresses that I am to listen on.
    Ask { version: u32, listeners: Vec<(Role, SocketAddr)> },
    /// The predecessor: here they are, in this order. I go on accepting until you say `Take`.
    Have { listeners: Vec<Role> },
    /// The predecessor: you cannot have them.
    No { why: String },
    /// The successor: I am ready.
    Take,
    /// The predecessor: I accept nothing any more.
    Yours,
    /// The successor: I accept.
    Serving,
}

/// One end of the conversation.
pub(super) struct Wire {
    stream: UnixStream,
    buffer: Vec<u8>,
    received: Vec<OwnedFd>,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: Vec::new(), received: Vec::new() }
    }

    /// Whether the other end is a process of the same user.
    pub(super) fn is_of_this_user(&self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        self.stream.peer_cred().is_ok_and(|peer| peer.uid() == own)
    }

    /// Says something, and hands descriptors over with it.
    pub(super) async fn say(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let (mut rest, mut descriptors) = (line.as_slice(), descriptors);
        while !rest.is_empty() {
            let sent =
                self.stream.async_io(Interest::WRITABLE, || send(&self.stream, rest, descriptors)).await?;
            // They went with the first byte.
            descriptors = &[];
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Hears the next message, and takes what was handed over with it.
    pub(super) async fn hear(&mut self) -> io::Result<(Message, Vec<OwnedFd>)> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok((serde_json::from_slice(&line)?, std::mem::take(&mut self.received)));
            }
            let mut chunk = [0; 4096];
            let receiving =
                self.stream.async_io(Interest::READABLE, || receive(&self.stream, &mut chunk)).await?;
            let (read, descriptors) = receiving;
            self.received.extend(descriptors);
            self.buffer.extend_from_slice(chunk.get(..read).unwrap_or_default());
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.buffer.len() > LONGEST || self.received.len() > DESCRIPTORS {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "more than anybody has to say"));
            }
        }
    }
}

fn send(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

fn receive(stream: &UnixStream, chunk: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(handed) = message {
            descriptors.extend(handed);
        }
    }
    Ok((received.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[tokio::test]
    async fn a_listener_goes_to_the_other_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (ours, mut theirs) = (Wire::new(ours), Wire::new(theirs));
        assert!(ours.is_of_this_user());
        let have = Message::Have { listeners: vec![Role::Plain] };
        ours.say(&have, &[listener.as_fd()]).await.unwrap();
        ours.say(&Message::Yours, &[]).await.unwrap();
        drop(listener);
        let (said, mut handed) = theirs.hear().await.unwrap();
        assert_eq!((said, handed.len()), (have, 1));
        assert_eq!(theirs.hear().await.unwrap().0, Message::Yours);

        let listener = TcpListener::from(handed.pop().unwrap());
        TcpStream::connect(address).unwrap().write_all(b"hello").unwrap();
        let mut heard = String::new();
        listener.accept().unwrap().0.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello");
    }

    #[tokio::test]
    async fn whoever_leaves_or_babbles_is_not_listened_to() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        let error = Wire::new(theirs).hear().await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let babble = tokio::spawn(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut ours, &[b'x'; 100_000]).await;
        });
        assert!(Wire::new(theirs).hear().await.is_err());
        babble.await.unwrap();
    }
}
