//! The recording guest (`GUEST_MODE=record`): it writes down every byte that reaches it before it makes anything of it,
//! reads requests more strictly than any real backend would, and answers each with a serial number. What a client was
//! answered, what was recorded and what the bytes say must then be one and the same.
//!
//! Records are in `GUEST_RECORDS`: a folder for each session, in it a file for each connection. A request for `/ws` with an
//! `Upgrade` is granted: from there on bytes are recorded only.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Field of each answer: the how manieth request this was.
pub const SERIAL: &str = "X-Recorder-Serial";
/// Where an upgrade is granted.
const SWITCHING: &str = "/ws";
/// Answer to what is no request. No proxy of ours makes this status up.
const MISUNDERSTOOD: &[u8] = b"HTTP/1.1 599 Misunderstood\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// One request, as strictly as it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// Its fields, in order, names as they were written.
    pub fields: Vec<(String, String)>,
    /// Its body, without the framing.
    pub body: Vec<u8>,
}

/// What one connection carried.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// Every byte.
    pub bytes: Vec<u8>,
    /// The requests in them.
    pub requests: Vec<Asked>,
    /// What is left after the last one: nothing, unless something was smuggled or broken off, or the connection was
    /// upgraded.
    pub rest: Vec<u8>,
    /// Why the rest is no request.
    pub misread: Option<String>,
}

impl Asked {
    /// The values of a field, in order; `name` in any case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    fn switches(&self) -> bool {
        self.target == SWITCHING && self.values("upgrade").next().is_some()
    }
}

impl Recorded {
    /// Reads bytes as the guest has read them.
    #[must_use]
    pub fn read(bytes: Vec<u8>) -> Self {
        let (mut requests, mut at, mut misread) = (Vec::new(), 0, None);
        loop {
            match parse(&bytes[at..]) {
                Ok(Some((asked, length))) => {
                    at += length;
                    let switches = asked.switches();
                    requests.push(asked);
                    if switches {
                        break;
                    }
                }
                Ok(None) => break,
                Err(why) => {
                    misread = Some(why);
                    break;
                }
            }
        }
        let rest = bytes[at..].to_vec();
        Self { bytes, requests, rest, misread }
    }
}

/// All connections of a session on which something came, oldest first.
#[must_use]
pub fn recorded(folder: &Path, session: &str) -> Vec<Recorded> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join(session))
        .into_iter()
        .flatten()
        .flatten()
        .map(|file| file.path())
        .collect();
    files.sort();
    files.into_iter().filter_map(|file| std::fs::read(file).ok()).map(Recorded::read).collect()
}

/// Fails if one of the needles is in what was recorded, in any case.
///
/// # Panics
/// When one is found.
pub fn needle_free(records: &[Recorded], needles: &[&str]) {
    for record in records {
        let text = String::from_utf8_lossy(&record.bytes).to_ascii_lowercase();
        for needle in needles {
            assert!(
                !text.contains(&needle.to_ascii_lowercase()),
                "{needle:?} was sent to a backend:\n{text}"
            );
        }
    }
}

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener) {
    let folder = PathBuf::from(std::env::var("GUEST_RECORDS").expect("GUEST_RECORDS names a folder"));
    let session = std::env::var("BIVOUAC_SESSION_ID").unwrap_or_else(|_| "nobody".to_owned());
    let generation = std::env::var("BIVOUAC_GENERATION").unwrap_or_default();
    let folder = folder.join(session);
    std::fs::create_dir_all(&folder).expect("the folder of the records");
    let serials = Arc::new(AtomicU64::new(0));
    for number in 0_u64.. {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let file = folder.join(format!("{generation:0>6}-{number:0>8}"));
        tokio::spawn(connection(stream, file, serials.clone()));
    }
}

async fn connection(mut stream: TcpStream, path: PathBuf, serials: Arc<AtomicU64>) {
    // Probes connect and say nothing: they leave no file.
    let mut file = None;
    let (mut unread, mut switched) = (Vec::new(), false);
    loop {
        let mut piece = Vec::with_capacity(64 << 10);
        match stream.read_buf(&mut piece).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        let file = file.get_or_insert_with(|| File::create(&path).expect("a record"));
        file.write_all(&piece).expect("the record takes it");
        if switched {
            continue;
        }
        unread.extend_from_slice(&piece);
        loop {
            match parse(&unread) {
                Ok(Some((asked, length))) => {
                    unread.drain(..length);
                    let serial = serials.fetch_add(1, Ordering::SeqCst);
                    switched = asked.switches();
                    if stream.write_all(&answer(&asked, serial)).await.is_err() {
                        return;
                    }
                    if switched {
                        break;
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    let _ = stream.write_all(MISUNDERSTOOD).await;
                    return;
                }
            }
        }
    }
}

fn answer(asked: &Asked, serial: u64) -> Vec<u8> {
    if asked.switches() {
        let key = asked.values("sec-websocket-key").next().unwrap_or_default();
        let accept = derive_accept_key(key.as_bytes());
        return format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{SERIAL}: {serial}\r\n\r\n"
        )
        .into_bytes();
    }
    let body = serial.to_string();
    let shown = if asked.method == "HEAD" { "" } else { &body };
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{SERIAL}: {serial}\r\n\r\n{shown}", body.len())
        .into_bytes()
}

/// The first request of these bytes, and its length. `None`: it is not there yet as a whole.
///
/// # Errors
/// Why it is none.
fn parse(bytes: &[u8]) -> Result<Option<(Asked, usize)>, String> {
    let Some(end) = head_end(bytes)? else { return Ok(None) };
    let head = str::from_utf8(&bytes[..end]).map_err(|_| "the head is not UTF-8".to_owned())?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(format!("no request line: {head:?}"));
    };
    if method.is_empty() || !method.bytes().all(is_token) || !target.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("a request line that is none: {head:?}"));
    }
    let fields = lines.map(field).collect::<Result<Vec<_>, _>>()?;
    let mut asked = Asked { method: method.to_owned(), target: target.to_owned(), fields, body: Vec::new() };
    if asked.values("host").count() != 1 {
        return Err(format!("{} times Host: {head:?}", asked.values("host").count()));
    }
    let from = end + 4;
    let lengths: Vec<&str> = asked.values("content-length").collect();
    let codings: Vec<&str> = asked.values("transfer-encoding").collect();
    let (body, length) = match (&*lengths, &*codings) {
        ([], []) => (Vec::new(), 0),
        ([length], []) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| format!("a length of {length}"))?;
            let Some(body) = bytes.get(from..from.saturating_add(length)) else { return Ok(None) };
            (body.to_vec(), length)
        }
        ([], ["chunked"]) => match chunks(&bytes[from..])? {
            Some(read) => read,
            None => return Ok(None),
        },
        _ => return Err(format!("lengths {lengths:?}, codings {codings:?}")),
    };
    asked.body = body;
    Ok(Some((asked, from + length)))
}

/// Where the head's last line ends. CR and LF stand together, or not at all.
fn head_end(bytes: &[u8]) -> Result<Option<usize>, String> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let head = &bytes[..end.unwrap_or(bytes.len())];
    for (at, byte) in head.iter().enumerate() {
        let (before, after) = (at.checked_sub(1).map(|at| head[at]), head.get(at + 1));
        let alone = match byte {
            b'\n' => before != Some(b'\r'),
            b'\r' => after.is_some_and(|after| *after != b'\n'),
            0 => true,
            _ => false,
        };
        if alone {
            return Err(format!("byte {byte:#x} at {at} of the head {:?}", String::from_utf8_lossy(head)));
        }
    }
    Ok(end)
}

fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("no field: {line:?}"))?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("no field's name: {line:?}"));
    }
    if value.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
        return Err(format!("no field's value: {line:?}"));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A chunked body and its length with the framing: no extensions, no trailers, CR LF only.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = bytes[at..].windows(2).position(|two| two == b"\r\n") else {
            let most = bytes.len() - at;
            return if most > 10 { Err("a chunk's size that does not end".to_owned()) } else { Ok(None) };
        };
        let digits = &bytes[at..at + end];
        let text = str::from_utf8(digits).unwrap_or_default();
        let size = match usize::from_str_radix(text, 16) {
            Ok(size) if digits.iter().all(u8::is_ascii_hexdigit) => size,
            _ => return Err(format!("a chunk's size of {:?}", String::from_utf8_lossy(digits))),
        };
        at += end + 2;
        let Some(chunk) = bytes.get(at..at.saturating_add(size).saturating_add(2)) else { return Ok(None) };
        let (data, ending) = chunk.split_at(size);
        if ending != b"\r\n" {
            return Err(format!("a chunk that ends with {ending:?}"));
        }
        body.extend_from_slice(data);
        at += size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Recorded {
        Recorded::read(text.as_bytes().to_vec())
    }

    #[test]
    fn what_is_well_formed_is_read_to_its_end() {
        let two = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcPUT /b HTTP/1.1\r\nhost:h\r\n\
                   Transfer-Encoding: chunked\r\n\r\n2\r\nde\r\nA\r\n0123456789\r\n0\r\n\r\n";
        let read = read(two);
        assert_eq!(read.misread, None);
        assert!(read.rest.is_empty());
        let bodies: Vec<_> = read.requests.iter().map(|asked| (&*asked.target, &*asked.body)).collect();
        assert_eq!(bodies, [("/a", b"abc".as_slice()), ("/b", b"de0123456789".as_slice())]);
    }

    #[test]
    fn half_a_request_is_a_rest() {
        for text in [
            "GET / HT",
            "GET / HTTP/1.1\r\nHost: h\r",
            "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na",
        ] {
            let read = read(text);
            assert_eq!(
                (read.requests.len(), read.misread, &*read.rest),
                (0, None, text.as_bytes()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn whatever_two_could_read_differently_is_no_request() {
        for text in [
            "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n X: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        ] {
            let read = read(text);
            assert!(read.requests.is_empty() && read.misread.is_some(), "{text:?}: {read:?}");
        }
    }

    #[test]
    fn an_upgraded_connection_is_recorded_and_not_read() {
        let read = read("GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n\u{1}\n\nGET");
        assert_eq!((read.requests.len(), read.misread, &*read.rest), (1, None, b"\x01\n\nGET".as_slice()));
    }
}
