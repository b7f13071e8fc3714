//! `bivouac whiteboard`: the backend of the bundled template, a whiteboard that everybody with its URL draws on.
//!
//! It is an ordinary session backend and knows nothing of Bivouac but its environment: it listens on the port it is
//! given, refuses requests that were meant for another session, and goes away on SIGTERM.

mod board;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use board::{Board, Person, Tell};

const PAGE: &str = include_str!("whiteboard/page.html");
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
const MAX_PEOPLE: usize = 500;
/// Messages that a slow page may lag behind before it is sent the whole board instead.
const BACKLOG: usize = 1024;

/// Time to tell the open pages that the session is over.
const FAREWELL: Duration = Duration::from_millis(100);

/// What the environment says of this session.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Folder that keeps the board over a restart.
    #[arg(long)]
    dir: Option<PathBuf>,
    #[arg(long, env = "PORT")]
    port: Option<u16>,
    #[arg(long, env = "NOMAD_PORT_http", hide = true)]
    nomad_port: Option<u16>,
    #[arg(long, env = "NOMAD_IP_http", hide = true, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    ip: IpAddr,
    #[arg(long, env = "BIVOUAC_SESSION_ID", hide = true)]
    session: Option<String>,
    #[arg(long, env = "BIVOUAC_KEY", hide = true)]
    key: Option<String>,
    #[arg(long, env = "BIVOUAC_GENERATION", hide = true)]
    generation: Option<u64>,
}

/// The board and everybody's ear. The lock is held while a change is told, so that whoever subscribes under it and
/// copies the board misses nothing and hears nothing twice.
struct Room {
    board: Mutex<Board>,
    told: broadcast::Sender<Utf8Bytes>,
    closing: CancellationToken,
    seats: TaskTracker,
    session: Option<String>,
    key: Option<String>,
    generation: Option<u64>,
}

/// Serves the board until the shutdown.
pub(crate) async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let port = args.port.or(args.nomad_port).context("no port to listen on: give --port or set PORT")?;
    let listener = TcpListener::bind(SocketAddr::new(args.ip, port))
        .await
        .with_context(|| format!("cannot listen on {}:{port}", args.ip))?;
    let file = args.dir.map(|dir| dir.join("board.json"));
    let room = Arc::new(Room {
        board: Mutex::new(file.as_deref().map(restore).unwrap_or_default()),
        told: broadcast::Sender::new(BACKLOG),
        closing: shutdown.clone(),
        seats: TaskTracker::new(),
        session: args.session,
        key: args.key,
        generation: args.generation,
    });
    let serving = axum::serve(listener, router(Arc::clone(&room))).into_future();
    tokio::select! {
        served = serving => served?,
        () = shutdown.cancelled() => {}
    }
    // Everybody is told; whoever does not take it at once is not waited for.
    room.seats.close();
    tokio::time::timeout(FAREWELL, room.seats.wait()).await.ok();
    if let Some(file) = file {
        save(&room.board(), &file)?;
    }
    Ok(())
}

fn router(room: Arc<Room>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/ws", get(join))
        .route("/healthz", get(async || Json(json!({ "status": "ok" }))))
        .layer(middleware::from_fn_with_state(Arc::clone(&room), only_ours))
        .with_state(room)
}

/// 421 for a request that was meant for another session: a host that recycles ports while nobody could be asked may
/// have led it here.
async fn only_ours(State(room): State<Arc<Room>>, request: Request, next: Next) -> Response {
    let meant = request.headers().get("x-bivouac-session");
    match (meant, &room.session) {
        (Some(meant), Some(ours)) if meant.as_bytes() != ours.as_bytes() => {
            (StatusCode::MISDIRECTED_REQUEST, "this is another session\n").into_response()
        }
        _ => next.run(request).await,
    }
}

async fn page() -> impl IntoResponse {
    const POLICY: &str =
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    ([(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-cache")], Html(PAGE))
}

async fn join(State(room): State<Arc<Room>>, upgrade: WebSocketUpgrade) -> Response {
    if room.board().people().len() >= MAX_PEOPLE {
        return (StatusCode::SERVICE_UNAVAILABLE, "the board is full\n").into_response();
    }
    upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .on_upgrade(async move |socket| Seat::take(room).serve(socket).await)
}

/// A person's place at the board; dropping it is leaving.
struct Seat {
    room: Arc<Room>,
    person: Person,
    told: broadcast::Receiver<Utf8Bytes>,
    _taken: TaskTrackerToken,
}

impl Seat {
    fn take(room: Arc<Room>) -> Self {
        let (person, told) = {
            let mut board = room.board();
            let person = board.enter();
            room.tell(&Tell::People { people: board.people() });
            (person, room.told.subscribe())
        };
        Self { _taken: room.seats.token(), room, person, told }
    }

    /// Everything, for a page that knows nothing or has missed something.
    fn welcome(&mut self) -> Message {
        let board = self.room.board();
        self.told = self.room.told.subscribe();
        let hello = json!({
            "type": "hello",
            "you": self.person,
            "people": board.people(),
            "strokes": board.strokes(),
            "key": self.room.key,
            "generation": self.room.generation,
        });
        Message::Text(hello.to_string().into())
    }

    async fn serve(mut self, mut socket: WebSocket) {
        let mut hello = Some(self.welcome());
        loop {
            if let Some(hello) = hello.take()
                && socket.send(hello).await.is_err()
            {
                return;
            }
            tokio::select! {
                () = self.room.closing.cancelled() => {
                    let over = CloseFrame { code: close_code::AWAY, reason: "the session is over".into() };
                    socket.send(Message::Close(Some(over))).await.ok();
                    return;
                }
                told = self.told.recv() => match told {
                    Ok(text) => {
                        if socket.send(Message::Text(text)).await.is_err() { return }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => hello = Some(self.welcome()),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                said = socket.recv() => match said {
                    Some(Ok(Message::Text(text))) => self.room.hear(self.person.id, &text),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut board = self.room.board();
        board.leave(self.person.id);
        self.room.tell(&Tell::People { people: board.people() });
    }
}

impl Room {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, by: board::PersonId, text: &str) {
        let Ok(say) = serde_json::from_str(text) else { return };
        let mut board = self.board();
        if let Some(tell) = board.hear(by, say) {
            self.tell(&tell);
        }
    }

    fn tell(&self, tell: &Tell) {
        if let Ok(text) = serde_json::to_string(tell) {
            // Nobody listening is no error.
            self.told.send(text.into()).ok();
        }
    }
}

fn restore(file: &Path) -> Board {
    let Ok(text) = std::fs::read(file) else { return Board::default() };
    match serde_json::from_slice(&text) {
        Ok(strokes) => Board::restore(strokes),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "The saved board cannot be read; a fresh one is used.");
            Board::default()
        }
    }
}

fn save(board: &Board, file: &Path) -> anyhow::Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let text = serde_json::to_vec(board.strokes())?;
    std::fs::write(file, text).with_context(|| format!("cannot save {}", file.display()))
}
