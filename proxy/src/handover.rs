//! Who serves when: a proxy that ends on a host where another one has been started hands its listening sockets over. The
//! same sockets: whoever connects meanwhile waits in the system's queue, and nobody is refused or cut.
//!
//! ```text
//! successor                              predecessor
//!  Ask{listeners} ─────────────────────▶ same user? same addresses?
//!       ◀────────────── Have + sockets   goes on accepting
//!  joins the members, links up
//!  Take ───────────────────────────────▶ accepts nothing more
//!       ◀───────────────────────── Yours
//!  accepts
//!  Serving ────────────────────────────▶ drains, and ends
//! ```
//! Whoever hears nothing more assumes that the other one is gone: the predecessor accepts again, the successor goes on
//! without it. At worst both accept for a moment, which harms nobody: both are members.

mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

pub(crate) use wire::Role;
use wire::{Message, VERSION, Wire};

/// Where it is found, in the data directory.
const SOCKET: &str = "handover.sock";
/// Longest wait for a word that needs no work.
const WORD: Duration = Duration::from_secs(10);

/// Where a successor finds this proxy.
#[derive(Debug)]
pub(crate) struct Offer {
    listener: UnixListener,
}

/// A successor that has asked, and was given what it asked for.
pub(crate) struct Successor {
    wire: Wire,
}

/// The proxy that served so far, and its listening sockets.
pub(crate) struct Predecessor {
    wire: Wire,
    sockets: BTreeMap<Role, std::net::TcpListener>,
}

/// A listening socket of this proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'a> {
    pub(crate) role: Role,
    pub(crate) address: SocketAddr,
    pub(crate) descriptor: BorrowedFd<'a>,
}

impl Offer {
    /// Can be asked from now on. Whoever could be asked before, in this directory, cannot any more.
    ///
    /// # Errors
    /// When the directory cannot have a socket: its path may be too long for one.
    pub(crate) fn new(data_dir: &Path) -> io::Result<Self> {
        let new = data_dir.join(format!("{SOCKET}.{}", std::process::id()));
        remove(&new)?;
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        fs::rename(&new, socket(data_dir))?;
        Ok(Self { listener })
    }

    /// Waits for a successor, and hands it copies of the sockets that it asked for.
    pub(crate) async fn asked(&self, held: &[Held<'_>]) -> Successor {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match answer(Wire::new(stream), held).await {
                    Ok(successor) => return successor,
                    Err(error) => {
                        tracing::warn!(%error, "Somebody asked for the listeners, and got nothing.")
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "A successor could not be heard.");
                    tokio::time::sleep(WORD).await;
                }
            }
        }
    }
}

async fn answer(mut wire: Wire, held: &[Held<'_>]) -> io::Result<Successor> {
    if !wire.is_of_this_user() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it runs as another user"));
    }
    let (asked, _) = timeout(WORD, wire.hear()).await??;
    let Message::Ask { version, listeners } = asked else { return Err(unexpected(&asked)) };
    match choose(version, &listeners, held) {
        Ok(chosen) => {
            let roles = chosen.iter().map(|held| held.role).collect();
            let descriptors: Vec<_> = chosen.iter().map(|held| held.descriptor).collect();
            wire.say(&Message::Have { listeners: roles }, &descriptors).await?;
            Ok(Successor { wire })
        }
        Err(why) => {
            wire.say(&Message::No { why: why.clone() }, &[]).await?;
            Err(io::Error::other(why))
        }
    }
}

/// Which sockets a successor gets, and why it gets none. What it does not ask for it does not get; what is not there it
/// has to open by itself. Pure.
fn choose<'a>(
    version: u32,
    asked: &[(Role, SocketAddr)],
    held: &[Held<'a>],
) -> Result<Vec<Held<'a>>, String> {
    if version != VERSION {
        return Err(format!("it hands over by version {VERSION}, and not by {version}"));
    }
    let mut chosen = Vec::new();
    for (role, address) in asked {
        let Some(one) = held.iter().find(|held| held.role == *role) else { continue };
        let same = one.address.ip() == address.ip() && [0, one.address.port()].contains(&address.port());
        if same {
            chosen.push(*one);
        } else {
            return Err(format!("it listens on {}, and not on {address}", one.address));
        }
    }
    if chosen.iter().any(|held| held.role == Role::Plain) {
        Ok(chosen)
    } else {
        Err("it was not asked for its listener".to_owned())
    }
}

impl Successor {
    /// Resolves when it is ready to take over; nothing has to be given up before.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) async fn is_ready(&mut self) -> io::Result<()> {
        match self.wire.hear().await?.0 {
            Message::Take => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Nobody accepts now; resolves when it does.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) async fn takes_over(&mut self) -> io::Result<()> {
        self.wire.say(&Message::Yours, &[]).await?;
        match timeout(WORD, self.wire.hear()).await??.0 {
            Message::Serving => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

impl Predecessor {
    /// The proxy that serves from this data directory, if there is one, and its sockets. It goes on as before until
    /// [`Predecessor::gives_way`].
    ///
    /// # Errors
    /// When there is one, and it does not hand over what is wanted.
    pub(crate) async fn find(data_dir: &Path, wanted: &[(Role, SocketAddr)]) -> io::Result<Option<Self>> {
        let stream = match UnixStream::connect(socket(data_dir)).await {
            Ok(stream) => stream,
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut wire = Wire::new(stream);
        wire.say(&Message::Ask { version: VERSION, listeners: wanted.to_vec() }, &[]).await?;
        let (said, descriptors) = timeout(WORD, wire.hear()).await??;
        let roles = match said {
            Message::Have { listeners } if listeners.len() == descriptors.len() => listeners,
            Message::No { why } => return Err(io::Error::other(why)),
            other => return Err(unexpected(&other)),
        };
        let sockets = roles.into_iter().zip(descriptors.into_iter().map(Into::into)).collect();
        Ok(Some(Self { wire, sockets }))
    }

    /// A socket that it handed over.
    pub(crate) fn socket(&mut self, role: Role) -> Option<std::net::TcpListener> {
        self.sockets.remove(&role)
    }

    /// It accepts nothing more once this resolves, or it is gone.
    pub(crate) async fn gives_way(&mut self) {
        let asked = async {
            self.wire.say(&Message::Take, &[]).await?;
            match timeout(WORD, self.wire.hear()).await??.0 {
                Message::Yours => Ok(()),
                other => Err(unexpected(&other)),
            }
        };
        if let Err(error) = asked.await {
            tracing::warn!(%error, "The proxy that served so far does not answer; this one serves in its place.");
        }
    }

    /// Tells it that connections are accepted here.
    pub(crate) async fn relieve(self) {
        if let Err(error) = self.wire.say(&Message::Serving, &[]).await {
            tracing::warn!(%error, "The proxy that served so far is gone, or serves on.");
        }
    }
}

fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}

/// Whether nobody is there to be asked: never, or not any more.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unexpected(message: &Message) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{message:?} has no place here"))
}

#[cfg(test)]
mod tests;
