use super::*;
use crate::testing::Camp;

fn keeper(camp: &Camp, boots: PathBuf) -> Keeper {
    let identity =
        Identity { host: "host".to_owned(), listen: "127.0.0.1:1".to_owned(), allocation: None, boots };
    Keeper::new(camp.wire.clone(), identity, camp.table.clone())
}

async fn listed(camp: &Camp) -> Vec<BootId> {
    let list = Members::new(camp.wire.clone()).read().await.unwrap().unwrap();
    list.value.boots.into_iter().collect()
}

fn boot(keeper: &Keeper) -> BootId {
    keeper.watch().borrow().boot().cloned().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_start_removes_the_boot_that_died_here_and_no_other() {
    let camp = Camp::new();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let elsewhere = keeper(&camp, there.path().into());
    elsewhere.join().await.unwrap();
    let dead = {
        let dead = keeper(&camp, here.path().into());
        dead.join().await.unwrap();
        boot(&dead)
    };
    let again = keeper(&camp, here.path().into());
    again.join().await.unwrap();
    let mut members = [boot(&elsewhere), boot(&again)];
    members.sort();
    assert_eq!(listed(&camp).await, members);
    let removed = Members::new(camp.wire.clone()).read().await.unwrap().unwrap().value.removed.unwrap();
    assert_eq!((removed.boot, removed.cause), (dead, RemovalCause::LockTaken));
    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 1, "its lock file is gone");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_was_removed_joins_again_as_another_boot() {
    let camp = Camp::new();
    let directory = tempfile::tempdir().unwrap();
    let keeper = Arc::new(keeper(&camp, directory.path().into()));
    keeper.join().await.unwrap();
    let first = boot(&keeper);
    let mut states = keeper.watch();
    states.mark_unchanged();
    let link = camp.table.outbox.open();
    let keeping = keeper.clone();
    tokio::spawn(async move { keeping.keep().await });
    Members::new(camp.wire.clone()).remove(&first, RemovalCause::Forgotten, Timestamp::now()).await.unwrap();
    let is_new = |state: &Membership| state.boot().is_some_and(|boot| *boot != first);
    let joined = states.wait_for(is_new).await.unwrap().clone();
    assert!(link.closed.is_cancelled(), "what it was told was told to another boot");
    assert_eq!(listed(&camp).await, std::slice::from_ref(joined.boot().unwrap()));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_the_ledger() {
    let camp = Camp::new();
    let directory = tempfile::tempdir().unwrap();
    let keeper = Arc::new(keeper(&camp, directory.path().into()));
    camp.cut_wire(true);
    let joining = keeper.clone();
    let joining = tokio::spawn(async move { joining.join().await });
    keeper.watch().wait_for(|state| *state == Membership::Alone).await.unwrap();
    camp.cut_wire(false);
    joining.await.unwrap().unwrap();
    assert_eq!(listed(&camp).await, [boot(&keeper)]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_ended_is_replaced() {
    let camp = Camp::new();
    let directory = tempfile::tempdir().unwrap();
    let keeper = Arc::new(keeper(&camp, directory.path().into()));
    keeper.join().await.unwrap();
    let session = keeper.seat.lock().as_ref().unwrap().session.clone();
    let keeping = keeper.clone();
    tokio::spawn(async move { keeping.keep().await });
    tokio::time::sleep(10 * RENEW_EVERY).await;
    assert!(camp.wire.session_lives(&session).await.unwrap(), "it is renewed");
    camp.wire.close_session(&session).await.unwrap();
    tokio::time::sleep(2 * RENEW_EVERY).await;
    let documents = Members::new(camp.wire.clone()).list().await.unwrap();
    let shown = LockSession(documents[0].session.clone().unwrap());
    assert_ne!(shown, session);
    assert!(camp.wire.session_lives(&shown).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_leaves_nothing_behind() {
    let camp = Camp::new();
    let directory = tempfile::tempdir().unwrap();
    let keeper = keeper(&camp, directory.path().into());
    keeper.join().await.unwrap();
    keeper.leave().await;
    assert_eq!(listed(&camp).await, []);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
