//! Who leads, and who the members are: two things to follow in the ledger for as long as the process lives.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::LockSession;
use bivouac_ledger::leader::{self, Leadership};
use bivouac_protocol::BootId;
use bivouac_protocol::member::{Member, RemovalCause};
use jiff::Timestamp;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::Outside;
use super::supervisor::News;

/// Longest blocking read.
const WAIT: Duration = Duration::from_secs(30);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// How this replica is called in the lock and in logs.
pub type ReplicaName = String;

/// Campaigns, leads, and campaigns again, until `shutdown`; then the lock is freed at once.
pub(super) async fn lead(outside: Arc<Outside>, replica: ReplicaName, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let leadership = tokio::select! {
            leadership = campaign(&outside, &replica) => leadership,
            () = shutdown.cancelled() => return,
        };
        outside.tell(News::Leadership(Some(leadership.clone())));
        tokio::select! {
            () = renew(&outside, &leadership) => {}
            () = shutdown.cancelled() => {}
        }
        outside.tell(News::Leadership(None));
        if let Err(error) = outside.ledger.close_session(&leadership.session).await {
            tracing::warn!(%error, "The leader's lock is not freed; it expires by itself.");
        }
    }
}

/// Waits until the lock is free and takes it.
async fn campaign(outside: &Outside, replica: &str) -> Leadership {
    loop {
        match leader::acquire(&outside.ledger, replica).await {
            Ok(Some(leadership)) => return leadership,
            Ok(None) => wait_for_vacancy(outside).await,
            Err(error) => {
                tracing::debug!(%error, "The leader's lock cannot be asked for.");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn wait_for_vacancy(outside: &Outside) {
    let mut index = 0;
    loop {
        match outside.ledger.watch(leader::KEY, index, WAIT).await {
            Ok(Some(entry)) if entry.holder.is_some() => index = entry.index,
            Ok(_) => return,
            Err(_) => return sleep(PAUSE).await,
        }
    }
}

/// Returns when the leadership is over: its session is gone, or could not be renewed for so long that another may have
/// the lock. The lock itself is checked by every commit; this only ends the attempts.
async fn renew(outside: &Outside, leadership: &Leadership) {
    let mut renewed = Instant::now();
    let mut ticks = interval(leader::TTL / 4);
    loop {
        ticks.tick().await;
        match outside.ledger.renew_session(&leadership.session).await {
            Ok(true) => renewed = Instant::now(),
            Ok(false) => return,
            Err(_) if renewed.elapsed() >= leader::TTL => return,
            Err(error) => tracing::warn!(%error, "The leadership is not renewed yet."),
        }
    }
}

/// Follows the list of members.
pub(super) async fn follow_members(outside: Arc<Outside>) {
    let mut index = 0;
    loop {
        match outside.members.watch(index, WAIT).await {
            Ok(Some(members)) => {
                index = members.index;
                outside.tell(News::Members(members));
            }
            Ok(None) => sleep(PAUSE).await,
            Err(error) => {
                tracing::debug!(%error, "The members cannot be read.");
                sleep(PAUSE).await;
            }
        }
    }
}

/// How often the members that are not heard are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Since when this replica has had no sign of life of a member.
struct Silence {
    since: Instant,
    vouched_at: Option<Timestamp>,
}

/// Removes proxies that are known to be dead, or presumed so. Any replica may: the rules are the same everywhere, and a
/// proxy that lives after all joins again.
pub(super) async fn remove_the_dead(outside: Arc<Outside>) {
    let mut silent: HashMap<BootId, Silence> = HashMap::new();
    let mut ticks = interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let Ok(members) = outside.members.list().await else { continue };
        silent.retain(|boot, _| members.iter().any(|member| member.boot == *boot));
        for member in members {
            if outside.is_heard(&member.boot).await {
                silent.remove(&member.boot);
                if session_lives(&outside, &member).await == Some(false) {
                    vouch(&outside, &member.boot).await;
                }
                continue;
            }
            let vouched_at = member.vouched_at;
            let known = silent.get(&member.boot).filter(|silence| silence.vouched_at == vouched_at);
            let since = known.map_or_else(Instant::now, |silence| silence.since);
            silent.insert(member.boot.clone(), Silence { since, vouched_at });
            if let Some(cause) = cause_of_death(&outside, &member, since).await {
                remove(&outside, &member.boot, cause).await;
            }
        }
    }
}

/// The rule by which a silent member is removed, if one applies.
async fn cause_of_death(outside: &Outside, member: &Member, silent_since: Instant) -> Option<RemovalCause> {
    if let Some(allocation) = &member.allocation
        && outside.backend.is_over(allocation).await.is_ok_and(|over| over)
    {
        return Some(RemovalCause::AllocationOver);
    }
    let patience = outside.settings.presume_dead_after?.max(2 * LOOK_EVERY);
    let dead = silent_since.elapsed() >= patience && session_lives(outside, member).await == Some(false);
    dead.then_some(RemovalCause::PresumedDead)
}

/// Whether the member's Consul session lives; `None`: the ledger does not say.
async fn session_lives(outside: &Outside, member: &Member) -> Option<bool> {
    match &member.session {
        Some(session) => outside.ledger.session_lives(&LockSession(session.clone())).await.ok(),
        None => Some(false),
    }
}

async fn vouch(outside: &Outside, boot: &BootId) {
    if let Err(error) = outside.members.vouch(boot, Timestamp::now()).await {
        tracing::debug!(proxy.boot = %boot, %error, "A proxy without a Consul session is not vouched for yet.");
    }
}

async fn remove(outside: &Outside, boot: &BootId, cause: RemovalCause) {
    match outside.members.remove(boot, cause, Timestamp::now()).await {
        Ok(_) => tracing::warn!(proxy.boot = %boot, ?cause, "A silent proxy is removed from the members."),
        Err(error) => tracing::warn!(proxy.boot = %boot, %error, "A silent proxy is not removed yet."),
    }
}
