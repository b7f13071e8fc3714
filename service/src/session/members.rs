//! The member proxies: who they are, and by which rules one is removed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bivouac_ledger::LockSession;
use bivouac_protocol::BootId;
use bivouac_protocol::link::FromService;
use bivouac_protocol::member::{Member, RemovalCause};
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::{Instant, interval, sleep};

use super::supervisor::News;
use super::{LinkId, Outside};

/// Longest blocking read.
const WAIT: Duration = Duration::from_secs(30);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows the list of members.
pub(super) async fn follow(outside: Arc<Outside>) {
    let mut index = 0;
    loop {
        let asked = Instant::now();
        match outside.members.watch(index, WAIT).await {
            Ok(Some(members)) => {
                if members.index <= index && asked.elapsed() < WAIT {
                    // As if the ledger had been restored: nothing but a list shows which records have gone back.
                    outside.relist.notify_one();
                }
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

impl Outside {
    /// Whether a proxy is heard by this replica.
    pub(super) async fn is_heard(&self, boot: &BootId) -> bool {
        let (reply, answer) = oneshot::channel();
        self.tell(News::IsHeard(boot.clone(), reply));
        answer.await.unwrap_or(true)
    }

    /// A proxy said goodbye with nothing open.
    pub(super) fn farewell(self: &Arc<Self>, boot: BootId, link: LinkId) {
        let outside = Arc::clone(self);
        self.tracker.spawn(async move {
            match outside.members.remove(&boot, RemovalCause::Goodbye, Timestamp::now()).await {
                Ok(_) => outside.tell(News::Tell(link, FromService::Farewell)),
                Err(error) => {
                    tracing::warn!(proxy.boot = %boot, %error, "A proxy's goodbye is not recorded yet.")
                }
            }
        });
    }
}
