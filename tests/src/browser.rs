//! Headless Chromium, driven over its DevTools protocol: what a person sees is what counts.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use base64::Engine;
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::{World, eventually, guard, http_client};

/// Longest wait for the browser, or for one of its answers.
const SOON: Duration = Duration::from_secs(30);

/// A browser with a fresh profile; ends when dropped.
#[derive(Debug)]
pub struct Browser {
    child: Mutex<Child>,
    port: u16,
    http: reqwest::Client,
    profile: TempDir,
}

/// One page (a window of its own).
#[derive(Debug)]
pub struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next: u64,
}

impl Browser {
    /// Starts it.
    ///
    /// # Panics
    /// When there is no Chromium, or it does not start.
    pub async fn start() -> Self {
        let profile = tempfile::Builder::new().prefix("bivouac-chromium-").tempdir().expect("a folder");
        let mut command = guard::command(binary());
        command
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-background-timer-throttling", "--disable-renderer-backgrounding"])
            .arg("--disable-backgrounding-occluded-windows")
            .args(["--remote-debugging-port=0", "--window-size=1000,700"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = Mutex::new(guard::spawn(command));
        let announced = profile.path().join("DevToolsActivePort");
        let port = eventually("Chromium listens", SOON, async || {
            let text = std::fs::read_to_string(&announced).map_err(|e| e.to_string())?;
            let first = text.lines().next().ok_or("an empty file")?;
            first.parse().map_err(|_| format!("not a port: {first}"))
        })
        .await;
        Self { child, port, http: http_client(SOON), profile }
    }

    /// Opens a page in a window of its own.
    ///
    /// # Panics
    /// When that fails.
    pub async fn open(&self, url: &str) -> Page {
        let about = self.http.get(format!("http://127.0.0.1:{}/json/version", self.port)).send().await;
        let about: Value = about.expect("an answer of Chromium").json().await.expect("JSON");
        let mut whole = Page::connect(about["webSocketDebuggerUrl"].as_str().expect("its WebSocket")).await;
        // Tabs of one window hide each other, and what is hidden is not painted.
        let target = whole.call("Target.createTarget", json!({ "url": url, "newWindow": true })).await;
        let id = target["targetId"].as_str().expect("a target");
        let mut page = Page::connect(&format!("ws://127.0.0.1:{}/devtools/page/{id}", self.port)).await;
        // It begins empty, and may be given to another process on its way to the address.
        eventually(format!("{url} is opened"), SOON, async || {
            let answer = page.try_call("Runtime.evaluate", json!({ "expression": "location.href" })).await?;
            if answer["result"]["value"] == "about:blank" { Err("nothing yet".to_owned()) } else { Ok(()) }
        })
        .await;
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let mut child = self.child.lock();
        let _ = child.kill();
        let _ = child.wait();
        // Its own children end a moment later, and write into the profile until then.
        for _ in 0..50 {
            if std::fs::remove_dir_all(self.profile.path()).is_ok() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

impl Page {
    async fn connect(url: &str) -> Self {
        let (socket, _) = tokio_tungstenite::connect_async(url).await.expect("a connection to Chromium");
        Self { socket, next: 0 }
    }

    /// The value of an expression; a promise is awaited.
    ///
    /// # Panics
    /// When it throws.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// When it does not become true.
    pub async fn shows(&mut self, expression: &str) {
        eventually(format!("the page shows {expression}"), SOON, async || {
            let value = self.evaluate(expression).await;
            if value == true { Ok(()) } else { Err(value.to_string()) }
        })
        .await;
    }

    /// Draws with the mouse: presses at the first point, moves through the others, lets go at the last.
    ///
    /// # Panics
    /// When there is no point.
    pub async fn draw(&mut self, points: &[(f64, f64)]) {
        let (first, last) = (points.first().expect("a point"), points.last().expect("a point"));
        self.mouse("mousePressed", *first).await;
        for point in points {
            self.mouse("mouseMoved", *point).await;
        }
        self.mouse("mouseReleased", *last).await;
    }

    async fn mouse(&mut self, kind: &str, (x, y): (f64, f64)) {
        let params = json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1 });
        self.call("Input.dispatchMouseEvent", params).await;
    }

    /// Saves what it looks like as a PNG.
    ///
    /// # Panics
    /// When it cannot be saved.
    pub async fn screenshot(&mut self, file: &Path) {
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let data = answer["data"].as_str().expect("a picture");
        let picture = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        std::fs::write(file, picture).expect("the picture's file");
    }

    /// Saves a picture for people to look at, where BIVOUAC_TEST_SCREENSHOTS names a folder for them.
    ///
    /// # Panics
    /// When it cannot be saved.
    pub async fn shown_to_people(&mut self, world: &World, name: &str) {
        if let Some(folder) = std::env::var_os("BIVOUAC_TEST_SCREENSHOTS") {
            let kind = if world.is_embedded() { "embedded" } else { "cluster" };
            self.screenshot(&Path::new(&folder).join(format!("{name}-{kind}.png"))).await;
        }
    }

    /// Closes it, as a person closes a window.
    ///
    /// # Panics
    /// When Chromium does not answer.
    pub async fn close(mut self) {
        self.call("Page.close", json!({})).await;
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn try_call(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.next += 1;
        let request = json!({ "id": self.next, "method": method, "params": params });
        self.socket.send(Message::text(request.to_string())).await.expect("a command goes out");
        loop {
            let next = tokio::time::timeout(SOON, self.socket.next()).await.expect("an answer in time");
            let Message::Text(text) = next.expect("a message").expect("a whole message") else { continue };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            if message["id"] == self.next {
                let error = &message["error"];
                return if error.is_null() { Ok(message["result"].clone()) } else { Err(error.to_string()) };
            }
        }
    }
}

fn binary() -> PathBuf {
    let named = std::env::var_os("BIVOUAC_CHROMIUM").map(PathBuf::from);
    let folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut known = folders.iter().flat_map(|folder| names.map(|name| folder.join(name)));
    named
        .or_else(|| known.find(|file| file.is_file()))
        .expect("Chromium is installed (BIVOUAC_CHROMIUM names another)")
}
