use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use super::*;

struct Served {
    listener: TcpListener,
    address: SocketAddr,
}

fn serve() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    Served { listener, address }
}

impl Served {
    fn held(&self, role: Role) -> Held<'_> {
        Held { role, address: self.address, descriptor: self.listener.as_fd() }
    }
}

#[tokio::test]
async fn a_successor_gets_the_sockets_and_then_the_word() {
    let data = tempfile::tempdir().unwrap();
    let (plain, admin) = (serve(), serve());
    let held = [plain.held(Role::Plain), admin.held(Role::Admin)];
    let offer = Offer::new(data.path()).unwrap();
    let wanted = [
        (Role::Plain, plain.address),
        (Role::Tls, "127.0.0.1:1".parse().unwrap()),
        (Role::Admin, "127.0.0.1:0".parse().unwrap()),
    ];
    let old = async {
        let mut successor = offer.asked(&held).await;
        successor.is_ready().await.unwrap();
        successor.takes_over().await.unwrap();
    };
    let new = async {
        let mut predecessor = Predecessor::find(data.path(), &wanted).await.unwrap().unwrap();
        let listener = predecessor.socket(Role::Plain).unwrap();
        assert_eq!(listener.local_addr().unwrap(), plain.address);
        assert!(predecessor.socket(Role::Admin).is_some() && predecessor.socket(Role::Tls).is_none());
        predecessor.gives_way().await;
        predecessor.relieve().await;
        listener
    };
    let ((), listener) = tokio::join!(old, new);
    drop((plain, admin));
    let _waiting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.accept().unwrap();
}

#[tokio::test]
async fn a_successor_that_dies_is_noticed_whenever_it_does() {
    let data = tempfile::tempdir().unwrap();
    let plain = serve();
    let (held, wanted) = ([plain.held(Role::Plain)], [(Role::Plain, plain.address)]);
    let offer = Offer::new(data.path()).unwrap();
    let find = || async { Predecessor::find(data.path(), &wanted).await.unwrap().unwrap() };
    let (mut successor, predecessor) = tokio::join!(offer.asked(&held), find());
    drop(predecessor);
    assert!(successor.is_ready().await.is_err());

    let (mut successor, mut predecessor) = tokio::join!(offer.asked(&held), find());
    let dying = async {
        predecessor.gives_way().await;
        drop(predecessor);
    };
    let (taken, ()) = tokio::join!(
        async {
            successor.is_ready().await.unwrap();
            successor.takes_over().await
        },
        dying
    );
    assert!(taken.is_err());
}

#[tokio::test]
async fn where_nobody_serves_there_is_no_predecessor() {
    let data = tempfile::tempdir().unwrap();
    let wanted = [(Role::Plain, "127.0.0.1:1".parse().unwrap())];
    assert!(Predecessor::find(data.path(), &wanted).await.unwrap().is_none());
    drop(Offer::new(data.path()).unwrap());
    assert!(Predecessor::find(data.path(), &wanted).await.unwrap().is_none(), "its socket is left behind");
    let offer = Offer::new(data.path()).unwrap();
    let mode = fs::metadata(socket(data.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(offer);
}

#[tokio::test]
async fn another_address_is_not_handed_over() {
    let data = tempfile::tempdir().unwrap();
    let plain = serve();
    let held = [plain.held(Role::Plain)];
    let offer = Offer::new(data.path()).unwrap();
    let wanted = [(Role::Plain, "127.0.0.1:1".parse().unwrap())];
    tokio::select! {
        _ = offer.asked(&held) => panic!("it was handed over"),
        found = Predecessor::find(data.path(), &wanted) => {
            let error = found.err().unwrap().to_string();
            assert!(error.contains(&plain.address.to_string()) && error.contains("127.0.0.1:1"), "{error}");
        }
    }
}

#[test]
fn what_is_chosen_is_what_was_asked_for() {
    let (plain, tls) = (serve(), serve());
    let held = [plain.held(Role::Plain), tls.held(Role::Tls)];
    let roles = |asked: &[(Role, SocketAddr)]| {
        choose(VERSION, asked, &held).map(|chosen| chosen.iter().map(|held| held.role).collect::<Vec<_>>())
    };
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    assert_eq!(roles(&[(Role::Plain, plain.address)]), Ok(vec![Role::Plain]));
    assert_eq!(roles(&[(Role::Tls, any), (Role::Plain, any)]), Ok(vec![Role::Tls, Role::Plain]));
    assert!(roles(&[(Role::Tls, any)]).is_err() && roles(&[]).is_err());
    assert!(roles(&[(Role::Plain, "0.0.0.0:0".parse().unwrap())]).is_err());
    assert!(choose(VERSION + 1, &[(Role::Plain, any)], &held).is_err());
}
