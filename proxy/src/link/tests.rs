use bivouac_ledger::directory::MemoryDirectory;
use bivouac_protocol::link::{FromProxy, FromService, agree};
use bivouac_protocol::proof::{Challenge, End, Proof};
use bivouac_protocol::{BootId, Generation, RoutePhase};
use futures::{SinkExt, StreamExt};
use secrecy::SecretString;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::testing::{Camp, tag};

const PATIENCE: Duration = Duration::from_secs(5);

/// The other end of a link, spoken by hand.
struct Replica {
    listener: TcpListener,
    secret: SecretString,
}

struct Peer(WebSocketStream<TcpStream>, BootId);

impl Replica {
    /// A replica that the directory names, and a proxy that keeps links to what the directory names.
    async fn of(camp: &Camp, secret: &str) -> Self {
        Self::among(camp, secret, 0).await
    }

    /// The same, and so many others that nobody can connect to.
    async fn among(camp: &Camp, secret: &str, dead: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let directory = Arc::new(MemoryDirectory::default());
        let own = listener.local_addr().unwrap();
        let dead = (1..=dead).map(|n| ([127, 0, 1, n], 1).into());
        for address in dead.chain([own]) {
            directory.register_replica(bivouac_ledger::directory::Replica { id: "r".to_owned(), address });
        }
        let ledger: Arc<dyn bivouac_ledger::Ledger> = camp.wire.clone();
        let parts = Arc::new(Parts {
            table: camp.table.clone(),
            routes: camp.routes.clone(),
            resolver: Arc::new(Resolver::new(camp.table.clone(), ledger.clone(), directory.clone())),
            lifter: Arc::new(Lifter::new(camp.table.clone(), camp.routes.clone(), ledger)),
            access: camp.admission.access().clone(),
            secrets: SecretString::from("the secret").into(),
            membership: camp.membership.subscribe(),
            farewell: Notify::new(),
        });
        tokio::spawn(keep(parts, directory));
        Self { listener, secret: secret.into() }
    }

    /// Accepts a link, up to the proxy's proof.
    async fn accept(&self) -> Option<Peer> {
        let (stream, _) = self.listener.accept().await.unwrap();
        let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let mut peer = Peer(socket, BootId::random());
        let Some(FromProxy::Hello { versions, boot, challenge: theirs }) = peer.next().await else {
            panic!("a link begins with a hello");
        };
        peer.1 = boot;
        let ours = Challenge::random();
        peer.say(&FromService::Welcome {
            version: agree(versions).unwrap(),
            replica: "r".to_owned(),
            challenge: ours.clone(),
            proof: Proof::make(&self.secret, End::Service, &theirs, &ours),
        })
        .await;
        let Some(FromProxy::Proof { proof }) = peer.next().await else { return None };
        assert!(proof.is(&Proof::make(&self.secret, End::Proxy, &theirs, &ours)));
        Some(peer)
    }
}

impl Peer {
    async fn say(&mut self, message: &FromService) {
        self.0.send(Message::text(serde_json::to_string(message).unwrap())).await.unwrap();
    }

    /// The next message that is not a ping; `None` once the link is closed.
    async fn next(&mut self) -> Option<FromProxy> {
        loop {
            let received = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a ping at least")?;
            match serde_json::from_str(received.ok()?.to_text().ok()?).ok()? {
                FromProxy::Ping => {}
                message => return Some(message),
            }
        }
    }

    async fn state(&mut self) -> Vec<FromProxy> {
        let mut state = Vec::new();
        loop {
            match self.next().await.unwrap() {
                FromProxy::StateEnd => return state,
                message => state.push(message),
            }
        }
    }
}

async fn until(condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect("it comes true");
}

#[tokio::test]
async fn a_link_tells_the_full_state_both_ways_and_a_lost_one_is_lifted_from() {
    let camp = Camp::new();
    camp.run(false).await;
    camp.push(1, RoutePhase::Ready);
    camp.directory.register(camp.route(1, RoutePhase::Ready));
    drop(camp.admit().await.unwrap());

    let replica = Replica::of(&camp, "the secret").await;
    let mut peer = replica.accept().await.unwrap();
    let state = peer.state().await;
    assert!(
        matches!(&state[..], [FromProxy::Activity(activity)] if activity.session == camp.id && activity.open == 0)
    );
    peer.say(&FromService::Route(camp.route(2, RoutePhase::Starting))).await;
    assert_eq!(camp.table.outbox.up(), 0, "nothing counts before the end of the full state");
    peer.say(&FromService::RoutesEnd).await;
    peer.say(&FromService::Fence(camp.fence_order(2, 1))).await;
    assert!(matches!(peer.next().await, Some(FromProxy::Fenced(echo)) if echo.tag == tag(1)));
    assert_eq!(camp.table.outbox.up(), 1);
    let routed = camp.table.peek(&camp.id, |_, state| state.known.route().map(|route| route.generation));
    assert_eq!(routed.flatten(), Some(Generation(2)));

    // The record still runs generation 1: generation 2 was never claimed, so nothing can be lifted and the fence stays.
    camp.end(bivouac_protocol::ReasonCode::Idle).await;
    camp.run(false).await;
    drop(peer);
    until(|| !camp.table.is_fenced_by(&camp.id, tag(1))).await;
    let mut again = replica.accept().await.unwrap();
    again.state().await;
}

#[tokio::test]
async fn a_replica_that_does_not_know_the_secret_is_told_nothing() {
    let camp = Camp::new();
    let replica = Replica::of(&camp, "another secret").await;
    assert!(replica.accept().await.is_none());
    assert!(replica.accept().await.is_none(), "it tries again");
    assert_eq!(camp.table.outbox.up(), 0);
}

#[tokio::test]
async fn those_that_cannot_be_reached_do_not_keep_the_others_waiting() {
    let camp = Camp::new();
    let replica = Replica::among(&camp, "the secret", 100).await;
    for _ in 0..3 {
        let linked = async { replica.accept().await.unwrap().state().await };
        tokio::time::timeout(Duration::from_secs(3), linked)
            .await
            .expect("it is dialled, whoever else is dead");
    }
}

#[tokio::test]
async fn another_boot_is_another_link() {
    let camp = Camp::new();
    let replica = Replica::of(&camp, "the secret").await;
    let mut first = replica.accept().await.unwrap();
    first.state().await;
    camp.membership.send_replace(Membership::Joining);
    camp.table.end_epoch();
    camp.table.outbox.close_all();
    assert_eq!(first.next().await, None);
    let (boot, epoch): (BootId, _) = ("another".parse().unwrap(), camp.table.begin_epoch());
    camp.membership.send_replace(Membership::Joined { boot: boot.clone(), epoch });
    let second = replica.accept().await.unwrap();
    assert_eq!(second.1, boot);
}
