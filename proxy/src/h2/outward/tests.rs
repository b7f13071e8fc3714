use futures::FutureExt;
use h2::{RecvStream, client, server};
use http::{HeaderValue, Request, Response};

use super::*;

/// What was sent on a stream, as the other end gets it. `window`: how much it takes without a word.
async fn stream(announced: Option<u64>, window: u32) -> (Outward, RecvStream) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(async move {
        let mut wire = server::handshake(far).await.unwrap();
        let (_, mut respond) = wire.accept().await.unwrap().unwrap();
        let stream = respond.send_response(Response::new(()), false).unwrap();
        tokio::spawn(async move { while wire.accept().await.is_some() {} });
        stream
    });
    let mut builder = client::Builder::new();
    let (mut requests, wire) = builder.initial_window_size(window).handshake::<_, Bytes>(near).await.unwrap();
    tokio::spawn(wire);
    let request = Request::builder().uri("http://a/").body(()).unwrap();
    let (response, _) = requests.send_request(request, true).unwrap();
    let body = response.await.unwrap().into_body();
    (Outward::new(serving.await.unwrap(), announced, false, Duration::from_millis(100)), body)
}

async fn read(mut body: RecvStream) -> Result<(Vec<u8>, usize, Option<HeaderMap>), h2::Error> {
    let (mut bytes, mut frames) = (Vec::new(), 0);
    while let Some(piece) = body.data().await {
        bytes.extend_from_slice(&piece?);
        frames += 1;
    }
    Ok((bytes, frames, body.trailers().await?))
}

#[tokio::test]
async fn the_last_piece_is_the_end() {
    let (mut outward, body) = stream(Some(6), 1000).await;
    for piece in [&b"abc"[..], b"", b"def"] {
        outward.send(Bytes::from_static(piece)).await.unwrap();
    }
    outward.end(None).await.unwrap();
    outward.end(None).await.unwrap();
    assert_eq!(read(body).await.unwrap(), (b"abcdef".to_vec(), 2, None));
}

#[tokio::test]
async fn what_is_flushed_is_on_its_way() {
    let (mut outward, mut body) = stream(None, 1000).await;
    outward.send(Bytes::from_static(b"abc")).await.unwrap();
    assert!(body.data().now_or_never().is_none());
    outward.flush().await.unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), "abc");
    outward.end(None).await.unwrap();
    assert!(body.data().await.is_none_or(|piece| piece.unwrap().is_empty()));
}

#[tokio::test]
async fn trailers_are_those_that_may_pass() {
    let (mut outward, body) = stream(None, 1000).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-bivouac-user", HeaderValue::from_static("forged"));
    outward.send(Bytes::from_static(b"abc")).await.unwrap();
    outward.end(Some(trailers)).await.unwrap();
    let (bytes, _, trailers) = read(body).await.unwrap();
    assert_eq!((bytes, trailers.unwrap().len()), (b"abc".to_vec(), 1));
}

#[tokio::test]
async fn a_body_that_is_not_as_announced_does_not_look_whole() {
    for sent in [&b"ab"[..], b"abcd"] {
        let (mut outward, body) = stream(Some(3), 1000).await;
        let sent = async { outward.send(Bytes::from_static(sent)).await.and(outward.end(None).await) }.await;
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(body).await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
    }
}

#[tokio::test]
async fn nobody_is_waited_for_who_makes_no_room() {
    let (mut outward, _body) = stream(None, 10).await;
    outward.send(Bytes::from_static(b"more than there is room for")).await.unwrap();
    assert_eq!(outward.flush().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}
