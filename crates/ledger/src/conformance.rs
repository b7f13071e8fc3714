//! What every [`Ledger`] must do, as checks that run against any of them. For tests of implementations: the one in
//! memory, and Consul as it really is.
//!
//! Each check keeps to keys of its own, below `conformance/<run>/`.

mod area;

use std::sync::Arc;
use std::time::Duration;

use bivouac_protocol::Nonce;
use tokio::time::{Instant, timeout};

use crate::{Entry, Error, Index, Ledger, Transaction};
use area::{Area, applied, holds, refused};

/// Longer than any wait for something that happens at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// A rule that was broken, or a ledger that could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// The ledger does not keep this rule.
    #[error("the ledger breaks a rule: {0}")]
    Broken(String),
    /// The ledger did not answer.
    #[error(transparent)]
    Ledger(#[from] Error),
}

/// What a check says.
pub type Verdict = Result<(), Violation>;

/// All rules that need no waiting.
///
/// # Errors
/// The first rule that was broken.
pub async fn rules(ledger: &dyn Ledger, run: &Nonce) -> Verdict {
    reads_and_writes(&Area::new(ledger, run, "writes")).await?;
    transactions(&Area::new(ledger, run, "transactions")).await?;
    locks(&Area::new(ledger, run, "locks")).await?;
    sessions(&Area::new(ledger, run, "sessions")).await?;
    lists(&Area::new(ledger, run, "lists")).await?;
    watches(&Area::new(ledger, run, "watches")).await
}

async fn reads_and_writes(area: &Area<'_>) -> Verdict {
    holds("a key that was never written is absent", area.read("a").await?.is_none())?;
    let first = area.write("a", "1", 0).await?;
    let entry = Entry { key: area.key("a"), value: b"1".to_vec(), index: first, holder: None };
    holds(
        "what was written is read, at the index that the write told",
        area.read("a").await? == Some(entry),
    )?;
    let again = area.send([area.put("a", "2", 0)]).await?;
    refused("a create refuses a key that exists", 0, &again)?;
    let second = area.write("a", "2", first).await?;
    holds("a write that changes something raises the index", second > first)?;
    refused("a write from an old index is refused", 0, &area.send([area.put("a", "3", first)]).await?)?;
    let same = area.write("a", "2", second).await?;
    holds("a write that changes no byte leaves the index alone", same == second)?;
    refused("a delete from an old index is refused", 0, &area.send([area.delete("a", first)]).await?)?;
    applied("a delete from the right index is applied", &area.send([area.delete("a", second)]).await?)?;
    holds("what was deleted is absent", area.read("a").await?.is_none())?;
    applied("a delete of what is absent is applied", &area.send([area.delete("a", second)]).await?)?;
    let third = area.write("a", "2", 0).await?;
    holds("a key that was deleted and is created again has a higher index", third > second)
}

async fn transactions(area: &Area<'_>) -> Verdict {
    let a = area.write("a", "1", 0).await?;
    let b = area.write("b", "1", 0).await?;
    let outcome = area.send([area.check("a", a), area.put("c", "1", 0), area.put("b", "2", a)]).await?;
    refused("the operation that did not hold is told", 2, &outcome)?;
    holds("nothing of a refused transaction is applied", area.read("c").await?.is_none())?;
    refused("a check of a newer index is refused", 0, &area.send([area.check("a", b)]).await?)?;
    refused("a check for absence of what exists is refused", 0, &area.send([area.check("a", 0)]).await?)?;
    refused("a check of what is absent is refused", 0, &area.send([area.check("x", a)]).await?)?;
    let ops = [area.check("a", a), area.check("x", 0), area.put("b", "2", b), area.put("c", "1", 0)];
    let index = applied("a transaction whose checks hold is applied", &area.send(ops).await?)?;
    for name in ["b", "c"] {
        let is = area.read(name).await?.map(|entry| entry.index);
        holds("all that one transaction writes has the index that it told", is == Some(index))?;
    }
    let is = area.read("a").await?.map(|entry| entry.index);
    holds("a check leaves its key alone", is == Some(a))?;
    let twice = area.send([area.put("d", "1", 0), area.put("d", "2", 0)]).await?;
    refused("an operation sees those before it", 1, &twice)?;
    // The index told is that of the write, although the check names a key that changed later.
    let kept = area.send([area.put("a", "1", a), area.check("c", index)]).await?;
    let kept = applied("a write that changes nothing is applied", &kept)?;
    holds("the index told is that of what was written, not of what was checked", kept == a)
}

async fn locks(area: &Area<'_>) -> Verdict {
    let ledger = area.ledger;
    let one = ledger.open_session("conformance one", PATIENCE).await?;
    let two = ledger.open_session("conformance two", PATIENCE).await?;
    let first = applied("a free lock is taken", &area.send([area.lock("l", "1", &one)]).await?)?;
    let entry = area.read("l").await?;
    let held = entry.is_some_and(|e| (e.holder.as_ref(), e.index) == (Some(&one), first));
    holds("a lock's holder is read, at the index of the acquisition", held)?;
    refused("a held lock is not taken by another", 0, &area.send([area.lock("l", "2", &two)]).await?)?;
    let again = applied("the holder may take it again", &area.send([area.lock("l", "1", &one)]).await?)?;
    holds("taking it again with the same value leaves the index alone", again == first)?;
    let second = applied("the holder may change its value", &area.send([area.lock("l", "2", &one)]).await?)?;
    holds("changing its value raises the index", second > first)?;
    applied("a check of the holder holds", &area.send([area.held("l", &one), area.put("x", "1", 0)]).await?)?;
    let outcome = area.send([area.held("l", &two), area.put("y", "1", 0)]).await?;
    refused("a check of another holder is refused", 0, &outcome)?;
    refused(
        "a check of the holder of what is absent is refused",
        0,
        &area.send([area.held("z", &one)]).await?,
    )?;
    let third = area.write("l", "3", second).await?;
    let holder = area.read("l").await?.and_then(|entry| entry.holder);
    holds("a write leaves the lock with its holder", holder.as_ref() == Some(&one))?;
    ledger.close_session(&one).await?;
    let freed = area.read("l").await?;
    let freed = freed.filter(|e| e.holder.is_none() && e.value == b"3").map_or(0, |e| e.index);
    holds("the end of a session frees its lock, keeps the value and raises the index", freed > third)?;
    refused("a session that is over takes no lock", 0, &area.send([area.lock("l", "1", &one)]).await?)?;
    let fourth = area.send([area.lock("l", "3", &two)]).await?;
    let fourth = applied("a lock is free at once when its session is over", &fourth)?;
    holds("every fresh acquisition has a higher index, even with the same value", fourth > freed)?;
    Ok(ledger.close_session(&two).await?)
}

async fn sessions(area: &Area<'_>) -> Verdict {
    let ledger = area.ledger;
    let session = ledger.open_session("conformance", PATIENCE).await?;
    holds("a session that was opened lives", ledger.session_lives(&session).await?)?;
    holds("a session that lives is renewed", ledger.renew_session(&session).await?)?;
    ledger.close_session(&session).await?;
    holds("a session that was closed is gone", !ledger.session_lives(&session).await?)?;
    holds("a session that is gone is not renewed", !ledger.renew_session(&session).await?)?;
    Ok(ledger.close_session(&session).await?)
}

async fn lists(area: &Area<'_>) -> Verdict {
    holds("a prefix without keys has an empty list", area.ledger.list(&area.prefix).await?.is_empty())?;
    area.send([area.put("s/b", "2", 0), area.put("s/a", "1", 0), area.put("sx", "3", 0)]).await?;
    let listed = area.ledger.list(&area.key("s/")).await?;
    let keys: Vec<_> = listed.iter().map(|entry| entry.key.clone()).collect();
    holds("a list has the keys below its prefix, in order", keys == [area.key("s/a"), area.key("s/b")])?;
    holds("a listed entry is what a read gives", listed.first() == area.read("s/a").await?.as_ref())
}

async fn watches(area: &Area<'_>) -> Verdict {
    let watch = |index, wait| async move {
        let answer = timeout(wait + PATIENCE, area.ledger.watch(&area.key("w"), index, wait)).await;
        answer.map_err(|_| Violation::Broken("a watch must be answered".to_owned()))?.map_err(Violation::from)
    };
    holds("a watch from 0 is answered at once", watch(0, PATIENCE * 60).await?.is_none())?;
    let first = area.write("w", "1", 0).await?;
    let seen = watch(0, PATIENCE * 60).await?;
    holds("a watch from 0 tells what there is", seen.is_some_and(|entry| entry.index == first))?;

    let quiet = Duration::from_millis(300);
    let began = Instant::now();
    let seen = watch(first, quiet).await?.map(|entry| entry.index);
    holds("a watch without news tells what there is", seen == Some(first))?;
    holds("a watch without news waits as long as it was told", began.elapsed() >= quiet)?;

    let elsewhere = async {
        area.write("other", "1", 0).await?;
        area.write("w", "2", first).await
    };
    let (seen, second) = tokio::join!(watch(first, PATIENCE * 60), elsewhere);
    let second = second?;
    holds("a watch is answered by a change", seen?.map(|entry| entry.index) == Some(second))?;
    let seen = watch(first, PATIENCE * 60).await?.map(|entry| entry.index);
    holds("a watch from an old index is answered at once", seen == Some(second))?;

    let remove = area.send([area.delete("w", second)]);
    let (seen, removed) = tokio::join!(watch(second, PATIENCE * 60), remove);
    removed?;
    holds("a watch is answered by a deletion", seen?.is_none())?;
    let seen = watch(second, PATIENCE * 60).await?;
    holds("a watch from before a deletion is answered at once", seen.is_none())?;

    let session = area.ledger.open_session("conformance", PATIENCE).await?;
    let third = applied("a free lock is taken", &area.send([area.lock("w", "3", &session)]).await?)?;
    let (seen, closed) = tokio::join!(watch(third, PATIENCE * 60), area.ledger.close_session(&session));
    closed?;
    holds("a watch is answered by the release of a lock", seen?.is_some_and(|entry| entry.holder.is_none()))
}

/// A session that is not renewed ends, frees its locks and wakes whoever watches them. Takes up to three times `ttl`.
///
/// # Errors
/// The first rule that was broken.
pub async fn expiry(ledger: &dyn Ledger, run: &Nonce, ttl: Duration) -> Verdict {
    let area = Area::new(ledger, run, "expiry");
    let session = ledger.open_session("conformance", ttl).await?;
    let began = Instant::now();
    let index = applied("a free lock is taken", &area.send([area.lock("l", "1", &session)]).await?)?;
    let seen = ledger.watch(&area.key("l"), index, ttl * 3).await?;
    holds("the end of a session wakes whoever watches its lock", seen.is_some_and(|e| e.holder.is_none()))?;
    // Told by two clocks: the watcher's may be a little ahead.
    holds("a session lives for its TTL at least", began.elapsed() + Duration::from_millis(100) >= ttl)?;
    holds("a session that was not renewed is gone", !ledger.session_lives(&session).await?)
}

/// Of many that create the same key at once exactly one wins; of many that change it, none is lost.
///
/// # Errors
/// The first rule that was broken.
pub async fn contention(ledger: Arc<dyn Ledger>, run: &Nonce) -> Verdict {
    const RIVALS: usize = 16;
    let mut rivals = tokio::task::JoinSet::new();
    for number in 0..RIVALS {
        let (ledger, run) = (Arc::clone(&ledger), run.clone());
        rivals.spawn(async move {
            let area = Area::new(&*ledger, &run, "contention");
            let created = area.send([area.put("k", &number.to_string(), 0)]).await?;
            loop {
                let (sum, index) = counted(&area).await?;
                let next = area.put("sum", &(sum + 1).to_string(), index);
                if let Transaction::Applied(_) = area.send([next]).await? {
                    return Ok::<_, Violation>(created);
                }
            }
        });
    }
    let mut winners = 0;
    while let Some(rival) = rivals.join_next().await {
        let created = rival.map_err(|error| Violation::Broken(error.to_string()))??;
        winners += usize::from(matches!(created, Transaction::Applied(_)));
    }
    holds("of many that create a key one wins", winners == 1)?;
    let (sum, _) = counted(&Area::new(&*ledger, run, "contention")).await?;
    holds("no change by check-and-set is lost", sum == RIVALS)
}

async fn counted(area: &Area<'_>) -> Result<(usize, Index), Violation> {
    let Some(entry) = area.read("sum").await? else { return Ok((0, 0)) };
    let text = String::from_utf8_lossy(&entry.value).into_owned();
    let sum = text.parse().map_err(|_| Violation::Broken(format!("{text:?} was never written")))?;
    Ok((sum, entry.index))
}
