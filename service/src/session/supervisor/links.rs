//! What proxies say, and how they are spoken to.

use bivouac_protocol::link::{FenceEcho, FromProxy, FromService};
use bivouac_protocol::{BootId, Phase, SessionId};
use jiff::Timestamp;
use tokio::time::Instant;

use super::Supervisor;
use crate::link::LinkEvent;
use crate::session::attempt::{Echo, Input};
use crate::session::evidence::LinkId;

impl Supervisor {
    pub(super) fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { link, peer } => {
                tracing::info!(proxy.boot = %peer.boot, "A proxy has linked.");
                self.evidence.linked(peer.boot.clone(), link);
                self.links.insert(link, peer);
                self.measure_links();
                self.tell_everything(link);
            }
            LinkEvent::Said { link, message } => self.on_message(link, message),
            LinkEvent::Down { link } => self.on_down(link),
        }
    }

    /// A link is lost: what was said on it no longer holds, fences that it carried included.
    fn on_down(&mut self, link: LinkId) {
        let Some(peer) = self.links.remove(&link) else { return };
        if peer.leaving {
            tracing::info!(proxy.boot = %peer.boot, "A proxy has left.");
        } else {
            tracing::warn!(proxy.boot = %peer.boot, "A proxy's link is lost; until it is back nothing is stopped for idleness.");
        }
        self.evidence.lost(&peer.boot, link);
        self.measure_links();
        self.lose_attempts();
        self.settle_all();
    }

    fn on_message(&mut self, link: LinkId, message: FromProxy) {
        let Some(boot) = self.links.get(&link).map(|peer| peer.boot.clone()) else { return };
        match message {
            FromProxy::Activity(activity) => {
                self.evidence.activity(&boot, link, &activity, Instant::now());
                self.correct(link, &activity.session);
                self.settle(&activity.session);
            }
            FromProxy::StateEnd => {
                self.evidence.complete(&boot, link);
                self.measure_links();
                self.settle_all();
            }
            FromProxy::Fenced(echo) => self.on_echo(&echo, |e| Input::Fenced(&boot, e)),
            FromProxy::Busy(echo) => self.on_echo(&echo, Input::Busy),
            FromProxy::Knock(echo) => self.on_echo(&echo, Input::Knock),
            FromProxy::Wake { session, generation } => self.outside.wake(session, generation, link),
            FromProxy::Resolve { session } => {
                // What is known here may be old: somebody else may have claimed it since.
                let routed = self.sessions.get(&session).is_some_and(|known| known.facts.route().is_some());
                if self.sessions.contains_key(&session) {
                    self.tell_of(link, &session);
                }
                if !routed {
                    self.read_record(&session);
                }
            }
            FromProxy::FirstByte { session, generation } => {
                if let Some(known) =
                    self.sessions.get_mut(&session).filter(|s| s.facts.generation() == generation)
                {
                    let first_byte = &mut known.facts.seen.first_byte;
                    *first_byte = first_byte.or(Some(Timestamp::now()));
                    self.settle(&session);
                }
            }
            FromProxy::Goodbye => {
                if let Some(peer) = self.links.get_mut(&link) {
                    peer.leaving = true;
                }
                self.outside.farewell(boot, link);
            }
            FromProxy::Hello { .. } | FromProxy::Proof { .. } | FromProxy::Ping => {}
        }
    }

    /// Shows how many links are up, and how many members are not heard on any.
    pub(super) fn measure_links(&self) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let boots = || self.members.iter().flat_map(|members| &members.value.boots);
        let metrics = &self.outside.metrics;
        metrics.links.set(gauge(self.links.len()));
        metrics.members.set(gauge(boots().count()));
        metrics.members_silent.set(gauge(boots().filter(|boot| !self.evidence.is_heard(boot)).count()));
    }

    /// A proxy that was away may count a generation that is over by now: tell it.
    fn correct(&mut self, link: LinkId, id: &SessionId) {
        let over = |session: &super::Session| session.facts.phase() > Phase::Running;
        if self.sessions.get(id).is_some_and(over) {
            self.tell_of(link, id);
        }
    }

    fn on_echo<'a>(&mut self, echo: &FenceEcho, input: impl FnOnce(Echo) -> Input<'a>) {
        self.on_attempt(&echo.session, input(Echo { generation: echo.generation, tag: echo.tag }));
    }

    /// Says something to one proxy. A link whose queue is full is closed: a message that is left out would leave the
    /// proxy with a state that nobody knows.
    pub(super) fn tell(&mut self, link: LinkId, message: FromService) {
        let full = self.links.get(&link).is_some_and(|peer| peer.sender.try_send(message).is_err());
        if full {
            tracing::warn!("A proxy's link does not keep up and is closed.");
            if let Some(peer) = self.links.get(&link) {
                peer.close.cancel();
            }
        }
    }

    pub(super) fn tell_all(&mut self, message: &FromService) {
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in links {
            self.tell(link, message.clone());
        }
    }

    /// The links of a boot; there may be an old one that is not yet known to be dead.
    pub(super) fn tell_boot(&mut self, boot: &BootId, message: &FromService) {
        let links: Vec<_> =
            self.links.iter().filter(|(_, peer)| peer.boot == *boot).map(|(link, _)| *link).collect();
        for link in links {
            self.tell(link, message.clone());
        }
    }
}
