//! What a session prints: the last lines and, with `follow`, what comes until it ends.

mod followers;
mod pump;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bivouac_protocol::Generation;
use bivouac_protocol::token::Verb;
pub use followers::Followers;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use pump::Pump;
use tokio::sync::watch;

use super::Control;
use super::auth::Caller;
use super::input::{Id, Query, invalid};
use super::problem::{Code, Problem};
use super::sessions::find;
use crate::backend::Run;
use crate::backend::logs::{LogError, Output, Reading, Wanted};
use crate::session::view::{State as Phase, View};

/// Lines from the end, if nothing is said.
const USUAL_TAIL: usize = 200;
/// The most that can be asked for.
const LONGEST_TAIL: usize = 10_000;

type Changes = watch::Receiver<Arc<View>>;
type Log = BoxStream<'static, Result<Bytes, LogError>>;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    output: Output,
    tail: usize,
    follow: bool,
}

impl Asked {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let query = Query::parse(query, &["stream", "follow", "tail"])?;
        let output = match query.one("stream")? {
            None | Some("stdout") => Output::Stdout,
            Some("stderr") => Output::Stderr,
            Some(_) => return Err(invalid("stream", "must be stdout or stderr")),
        };
        let follow = query.flag("follow")?;
        let rule = format!("must be a number of lines from 0 to {LONGEST_TAIL}");
        let tail = query.parsed("tail", &rule)?.unwrap_or(USUAL_TAIL);
        if tail > LONGEST_TAIL {
            return Err(invalid("tail", &rule));
        }
        Ok(Self { output, tail, follow })
    }

    fn wanted(self, changes: Changes, generation: Generation) -> Wanted {
        let follow = self.follow.then(|| over(changes, generation));
        Wanted { output: self.output, tail: self.tail, follow }
    }
}

/// `GET /v1/sessions/{id}/logs`
pub(crate) async fn read(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let asked = Asked::parse(query.as_deref())?;
    let view = find(&control, &caller, Verb::Logs, &id).await?;
    let place = control.followers.admit(&id, caller.name())?;
    let log = open(&control, asked, &view).await?;
    let shutdown = control.shutdown.clone();
    let cut = async move {
        tokio::select! {
            () = shutdown.cancelled_owned() => "the service stops",
            () = caller.over() => "the token does not open the API any more",
        }
    };
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    let body = Body::from_stream(Pump { log, cut: cut.boxed(), place }.start());
    Ok((headers, body).into_response())
}

/// The log of the session's current run.
async fn open(control: &Arc<Control>, asked: Asked, view: &Arc<View>) -> Result<Log, Problem> {
    let unplaced = view.allocation.is_none() && view.state != Phase::Ended;
    let Some(changes) = control.sessions.watch(&view.id) else {
        // Purged since it was found.
        return Err(gone("its record was removed"));
    };
    if !unplaced {
        return log_of(control, asked, view, changes).await.map_err(Problem::from);
    }
    if !asked.follow {
        return Ok(stream::empty().boxed());
    }
    let (control, view) = (Arc::clone(control), Arc::clone(view));
    let placed = async move {
        match placed(changes.clone(), view.generation).await {
            Some(view) => log_of(&control, asked, &view, changes).await,
            None => Ok(stream::empty().boxed()),
        }
    };
    Ok(stream::once(placed).try_flatten().boxed())
}

async fn log_of(control: &Control, asked: Asked, view: &View, changes: Changes) -> Result<Log, LogError> {
    let run = Run { session: view.id.clone(), generation: view.generation };
    let wanted = asked.wanted(changes, run.generation);
    let reading = control.backend.logs(&run, view.allocation.as_ref(), wanted).await?;
    Ok(reading.map_or_else(|| stream::empty().boxed(), |reading: Reading| reading.into_stream().boxed()))
}

/// The session once its run has somewhere to print to, or has ended; `None` if another run has begun.
async fn placed(mut changes: Changes, generation: Generation) -> Option<Arc<View>> {
    let decided = |view: &Arc<View>| {
        view.generation > generation || view.state == Phase::Ended || view.allocation.is_some()
    };
    let view = changes.wait_for(decided).await.ok()?;
    (view.generation == generation).then(|| Arc::clone(&view))
}

/// Resolves when the run is over.
fn over(mut changes: Changes, generation: Generation) -> BoxFuture<'static, ()> {
    async move {
        // An error means that the record was purged.
        let over = |view: &Arc<View>| view.generation > generation || view.state == Phase::Ended;
        drop(changes.wait_for(over).await);
    }
    .boxed()
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Gone(detail) => gone(&detail),
            LogError::Unavailable(cause) => Self::new(
                Code::ClusterUnavailable,
                "The cluster, or the session's node, does not answer; the session is not affected. Try again in a moment.",
            )
            .because(cause),
            LogError::Denied(cause) => Self::new(
                Code::ClusterUnavailable,
                "The service may not read logs in Nomad: its token needs the capability read-logs in the namespace of the \
                 session's job.",
            )
            .because(cause),
        }
    }
}

fn gone(detail: &str) -> Problem {
    Problem::new(
        Code::LogsGone,
        format!(
            "The session's logs are not kept any more ({detail}). What ended badly tells its last lines in `reason`; to \
             keep all of them, have the backend send them elsewhere."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_which_lines() {
        let asked = |query| Asked::parse(Some(query)).map_err(|problem| problem.code());
        let usual = Asked { output: Output::Stdout, tail: USUAL_TAIL, follow: false };
        assert_eq!(asked(""), Ok(usual));
        let chosen = Asked { output: Output::Stderr, tail: 0, follow: true };
        assert_eq!(asked("stream=stderr&follow=true&tail=0"), Ok(chosen));
        for query in ["stream=both", "follow=yes", "tail=-1", "tail=10001", "tail=1&tail=2", "tail="] {
            assert_eq!(asked(query), Err("invalid_field"), "{query}");
        }
        assert_eq!(asked("lines=3"), Err("unknown_field"));
    }
}
