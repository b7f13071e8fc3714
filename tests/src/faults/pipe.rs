//! One connection through the fault proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Action, Mode, Progress, Rule, Shared};

/// Passes bytes both ways until either end closes, or a fault ends the connection; whether it was a fault.
pub(super) async fn both(
    client: impl AsyncRead + AsyncWrite + Unpin,
    server: impl AsyncRead + AsyncWrite + Unpin,
    shared: &Shared,
) -> bool {
    let doomed: Mutex<Option<Arc<Rule>>> = Mutex::default();
    let cut = AtomicBool::new(false);
    let (client_in, client_out) = tokio::io::split(client);
    let (server_in, server_out) = tokio::io::split(server);
    let requests = requests(client_in, server_out, shared, &doomed, &cut);
    let answers = answers(server_in, client_out, shared, &doomed, &cut);
    tokio::pin!(requests, answers);
    tokio::select! {
        () = &mut requests => if !cut.load(Ordering::SeqCst) { answers.await },
        () = &mut answers => if !cut.load(Ordering::SeqCst) { requests.await },
    }
    cut.load(Ordering::SeqCst)
}

async fn requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
    doomed: &Mutex<Option<Arc<Rule>>>,
    cut: &AtomicBool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let chunk = &buffer[..read];
        if begins_a_request(chunk)
            && let Some(rule) = shared.triggered(chunk)
        {
            match rule.action {
                Action::LoseAnswer => *doomed.lock() = Some(rule),
                Action::Drop => {
                    rule.progress.send_replace(Progress::Done);
                    cut.store(true, Ordering::SeqCst);
                    return;
                }
                Action::Hold => {
                    let mut progress = rule.progress.subscribe();
                    let _ = progress.wait_for(|now| *now >= Progress::Released).await;
                    rule.progress.send_replace(Progress::Done);
                }
            }
        }
        if !pass(chunk, &mut to, shared).await {
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
    doomed: &Mutex<Option<Arc<Rule>>>,
    cut: &AtomicBool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(rule) = doomed.lock().take() {
            // An answer is on its way, so the request was carried out; nobody will learn of it.
            rule.progress.send_replace(Progress::Done);
            cut.store(true, Ordering::SeqCst);
            return;
        }
        if !pass(&buffer[..read], &mut to, shared).await {
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn pass(chunk: &[u8], to: &mut (impl AsyncWrite + Unpin), shared: &Shared) -> bool {
    let mode = *shared.mode.borrow();
    match mode {
        Mode::Blackhole => return true,
        Mode::Delay(by) => crate::elapse(by).await,
        Mode::Pass | Mode::Refuse => {}
    }
    to.write_all(chunk).await.is_ok() && to.flush().await.is_ok()
}

/// Clients write a request's head in one piece, so a chunk that starts with a method is the start of a request.
fn begins_a_request(chunk: &[u8]) -> bool {
    [b"GET ".as_slice(), b"PUT ", b"POST ", b"DELETE ", b"HEAD "]
        .iter()
        .any(|method| chunk.starts_with(method))
}
