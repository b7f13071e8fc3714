//! A guest that answers each handshake with a script, byte by byte: what reaches it, and what comes back, can be compared
//! with a direct connection.
//!
//! A script follows from a seed alone, so both ends know it. Each side sends its pieces, ends its half, and reads until the
//! other has ended; what it read, and how that ended, is its [`Witness`]. The guest keeps those of all its connections and
//! tells them at `/witnesses`. At `/rest` it says back what it hears, frame or not.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Longest head that is read.
const HEAD: usize = 16 * 1024;
/// How long one side waits for the other's bytes, or end.
const PATIENCE: Duration = Duration::from_secs(30);
/// The answer to a handshake.
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ";

/// One side of a connection, as it was told to behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// What it sends together with its head, before it has heard anything.
    pub early: Vec<u8>,
    /// What it sends then, each after a pause.
    pub pieces: Vec<(Duration, Vec<u8>)>,
    /// When it ends its half: after its own last piece, or after everything that the other side sends.
    pub ends_last: bool,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Which one it is.
    pub seed: u64,
    /// The protocol that is asked for: `websocket`, where bytes are frames, or another, where they are any.
    pub protocol: &'static str,
    /// The side that asks.
    pub client: Side,
    /// The side that is asked.
    pub backend: Side,
}

/// What one side has seen of the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// How many bytes came.
    pub bytes: usize,
    /// Which.
    pub hash: u64,
    /// How it ended: `clean`, or the kind of the error.
    pub end: String,
}

impl Script {
    /// The script of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let websocket = random.random_bool(0.7);
        let mut side = |masked: bool| {
            let mut early = Vec::new();
            let mut pieces = Vec::new();
            if random.random_bool(0.5) {
                early = content(&mut random, websocket, masked);
            }
            for _ in 0..random.random_range(0..4) {
                let bytes = content(&mut random, websocket, masked);
                pieces.extend(torn(&mut random, &bytes));
            }
            if websocket && !masked && !random.random_bool(0.01) {
                // A backend that ends without one lets its client wait for the reason: once in a while is enough.
                pieces.push((pause(&mut random), frame(0x8, &[0x03, 0xe8], false)));
            }
            Side { early, pieces, ends_last: random.random_bool(0.5) }
        };
        let (mut client, backend) = (side(true), side(false));
        // Somebody has to begin.
        client.ends_last &= !backend.ends_last;
        Self { seed, protocol: if websocket { "websocket" } else { "echo" }, client, backend }
    }
}

fn pause(random: &mut StdRng) -> Duration {
    Duration::from_micros(if random.random_bool(0.3) { random.random_range(0..5_000) } else { 0 })
}

/// Some frames, or some bytes.
fn content(random: &mut StdRng, websocket: bool, masked: bool) -> Vec<u8> {
    let length = match random.random_range(0..20) {
        0 => random.random_range(0..70_000),
        1..4 => random.random_range(0..3_000),
        _ => random.random_range(0..130),
    };
    let mut bytes = vec![0; length];
    random.fill(bytes.as_mut_slice());
    if !websocket {
        return bytes;
    }
    let opcode = [0x1, 0x2, 0x2, 0x9, 0xa][random.random_range(0..5)];
    let length = if opcode >= 0x8 { length.min(125) } else { length };
    frame(opcode, &bytes[..length], masked)
}

/// A WebSocket's frame. The mask is zero: what is sent is what is read.
fn frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        0..126 => frame.push(mask | payload.len() as u8),
        126..65_536 => {
            frame.push(mask | 126);
            frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        _ => {
            frame.push(mask | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    if masked {
        frame.extend_from_slice(&[0; 4]);
    }
    frame.extend_from_slice(payload);
    frame
}

/// The same bytes in a few writes, cut anywhere.
fn torn(random: &mut StdRng, bytes: &[u8]) -> Vec<(Duration, Vec<u8>)> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() && pieces.len() < 3 && random.random_bool(0.5) {
        let (piece, after) = rest.split_at(random.random_range(0..=rest.len()));
        pieces.push((pause(random), piece.to_vec()));
        rest = after;
    }
    pieces.push((pause(random), rest.to_vec()));
    pieces
}

/// Plays one side of a script on a connection that was switched; `ahead` was read behind the head.
pub async fn play(stream: impl AsyncRead + AsyncWrite, own: &Side, ahead: Vec<u8>) -> Witness {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let (heard, over) = tokio::sync::oneshot::channel();
    let read = async {
        let witness = witness(&mut reading, ahead).await;
        let _ = heard.send(());
        witness
    };
    let write = async {
        let said = say(&mut writing, own).await;
        if own.ends_last {
            let _ = over.await;
        }
        if said.is_ok() {
            let _ = writing.shutdown().await;
        }
    };
    tokio::join!(read, write).0
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), own: &Side) -> std::io::Result<()> {
    for (pause, piece) in &own.pieces {
        if !pause.is_zero() {
            crate::elapse(*pause).await;
        }
        stream.write_all(piece).await?;
    }
    Ok(())
}

async fn witness(stream: &mut (impl AsyncRead + Unpin), ahead: Vec<u8>) -> Witness {
    let (mut hash, mut bytes) = (DefaultHasher::new(), ahead.len());
    hash.write(&ahead);
    let mut buffer = vec![0; 16 * 1024];
    let end = loop {
        match tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await {
            Err(_) => break "never".to_owned(),
            Ok(Ok(0)) => break "clean".to_owned(),
            Ok(Ok(read)) => {
                hash.write(&buffer[..read]);
                bytes += read;
            }
            Ok(Err(error)) => break format!("{:?}", error.kind()),
        }
    };
    Witness { bytes, hash: hash.finish(), end }
}

/// Reads a head; it, and what came behind it.
///
/// # Errors
/// When the connection ends before, or the head does not.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(String, Vec<u8>)> {
    let mut read = Vec::with_capacity(1024);
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let behind = read.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&read).into_owned(), behind));
        }
        if read.len() > HEAD || stream.read_buf(&mut read).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What the connections have seen, by the name that their client gave them.
type Witnesses = Arc<Mutex<BTreeMap<String, Witness>>>;

/// Serves scripts for ever.
pub(super) async fn serve(listener: TcpListener) {
    let witnesses = Witnesses::default();
    while let Ok((stream, _)) = listener.accept().await {
        let witnesses = witnesses.clone();
        tokio::spawn(async move {
            // A client that leaves in the middle of a head was a probe.
            let _ = answer(stream, &witnesses).await;
        });
    }
}

async fn answer(mut stream: TcpStream, witnesses: &Witnesses) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let own = stream.local_addr()?;
    let (head, ahead) = read_head(&mut stream).await?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    if path == "/rest" {
        return rest(stream, &head).await;
    }
    let Some((run, seed)) = path.strip_prefix("/play/").and_then(|rest| rest.split_once('/')) else {
        let body = match path {
            "/witnesses" => serde_json::to_string(&*witnesses.lock()).unwrap_or_default(),
            _ => own.to_string(),
        };
        let length = body.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        return stream.write_all(answer.as_bytes()).await;
    };
    let script = Script::of(seed.parse().unwrap_or(0));
    let mut first = format!("{SWITCH}{}\r\n\r\n", script.protocol).into_bytes();
    first.extend_from_slice(&script.backend.early);
    stream.write_all(&first).await?;
    let name = format!("{run}/{seed}");
    let witness = play(stream, &script.backend, ahead).await;
    witnesses.lock().insert(name, witness);
    Ok(())
}

/// Switches, and says whatever is said back to whoever said it: for connections that rest.
async fn rest(mut stream: TcpStream, head: &str) -> std::io::Result<()> {
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    // Some proxies compare it.
    let accept = derive_accept_key(key.unwrap_or_default().as_bytes());
    let switch = format!("{SWITCH}websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    stream.write_all(switch.as_bytes()).await?;
    let (mut reading, mut writing) = stream.split();
    tokio::io::copy(&mut reading, &mut writing).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_follows_from_its_seed_and_somebody_always_ends() {
        for seed in 0..500 {
            let script = Script::of(seed);
            assert_eq!(script, Script::of(seed));
            assert!(!(script.client.ends_last && script.backend.ends_last));
        }
        let protocols: std::collections::BTreeSet<_> =
            (0..100).map(|seed| Script::of(seed).protocol).collect();
        assert_eq!(protocols.len(), 2);
    }
}
