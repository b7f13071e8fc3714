//! The event stream: server-sent events into typed ones.

use bytes::Buf;
use futures::{Stream, StreamExt};
use serde::Deserialize;

use crate::Reply;
use crate::error::Error;
use crate::model::{Session, SessionPage};

/// Something that the service told us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What was there before cannot be resumed: forget it, a snapshot follows.
    Reset,
    /// Everything that is known now.
    Snapshot(Vec<Session>),
    /// One session changed.
    Session(Box<Session>),
    /// A kind of event that this client does not know.
    Other(String),
}

/// A snapshot is a list on the stream of all sessions and a single one on a session's own stream.
#[derive(Deserialize)]
#[serde(untagged)]
enum Snapshot {
    All(SessionPage),
    One(Box<Session>),
}

pub(crate) fn decode<S, B>(bytes: S) -> impl Stream<Item = Result<Reply<Event>, Error>> + Send
where
    S: Stream<Item = Result<B, reqwest::Error>> + Send,
    B: Buf + Send,
{
    sse_stream::SseByteStream::new(bytes).filter_map(async |item| match item {
        Ok(sse) => event(sse).transpose(),
        Err(error) => Some(Err(Error::Stream(error))),
    })
}

/// One event; `None` for a block without data (keep-alives, ids alone).
fn event(sse: sse_stream::Sse) -> Result<Option<Reply<Event>>, Error> {
    let name = sse.event.unwrap_or_default();
    let Some(json) = sse.data else {
        return Ok((name == "reset").then(|| reply(Event::Reset, String::new())));
    };
    let value = match name.as_str() {
        "reset" => Event::Reset,
        "session" => Event::Session(parse(&json)?),
        "snapshot" => Event::Snapshot(match parse(&json)? {
            Snapshot::All(page) => page.sessions,
            Snapshot::One(session) => vec![*session],
        }),
        _ => Event::Other(name),
    };
    Ok(Some(reply(value, json)))
}

fn reply(value: Event, json: String) -> Reply<Event> {
    Reply { value, json }
}

fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, Error> {
    serde_json::from_str(json)
        .map_err(|error| Error::Foreign { address: "the event stream".into(), detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = r#"{"id":"abcdefghijklmnopqrst","key":"doc-1","namespace":"default","generation":2,
        "template":"whiteboard","state":"ready","reason":null,"waiting_for":null,"url":"http://x.localhost/",
        "labels":{},"user":null,"allocation":null,"node":null,"timeline":{},"alive":null,"added_later":1,
        "policy":{"idle_timeout":"30s","startup_timeout":"1m","stop_grace":"2s","port":"http"}}"#;

    async fn decoded(wire: &str) -> Vec<Result<Reply<Event>, Error>> {
        // In pieces, as the network delivers it.
        let pieces: Vec<_> = wire.as_bytes().chunks(7).map(Ok::<_, reqwest::Error>).collect();
        decode(futures::stream::iter(pieces)).collect().await
    }

    #[tokio::test]
    async fn a_reset_a_snapshot_and_changes_are_told_in_order() {
        let one = SESSION.replace('\n', "");
        let wire = format!(
            "event: reset\ndata: {{}}\n\n: keep-alive\n\nid: 1\nevent: snapshot\ndata: {{\"sessions\":[{one}]}}\n\n\
             event: snapshot\ndata: {one}\n\nevent: session\ndata: {one}\n\nevent: new-kind\ndata: {{}}\n\n"
        );
        let events: Vec<_> = decoded(&wire).await.into_iter().map(|event| event.unwrap().value).collect();
        let Event::Session(session) = &events[3] else { panic!("{events:?}") };
        assert_eq!(session.generation.0, 2);
        let snapshot = Event::Snapshot(vec![(**session).clone()]);
        let expected =
            [Event::Reset, snapshot.clone(), snapshot, events[3].clone(), Event::Other("new-kind".into())];
        assert_eq!(events, expected);
    }

    #[tokio::test]
    async fn what_is_not_json_is_an_error_and_not_silence() {
        let events = decoded("event: session\ndata: <html>\n\n").await;
        assert!(matches!(events.as_slice(), [Err(Error::Foreign { .. })]), "{events:?}");
    }
}
