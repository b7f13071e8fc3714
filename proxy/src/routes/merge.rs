//! What is known of one session's route, merged from whatever arrives in whatever order. Pure.

use std::sync::Arc;

use bivouac_protocol::{Generation, Reason, Route};

/// The end of a generation, as far as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Over {
    /// The last generation that is over.
    pub(crate) generation: Generation,
    /// Whether its allocation is known to be over as well.
    pub(crate) ended: bool,
    pub(crate) reason: Option<Reason>,
    /// Whether a request may wake it.
    pub(crate) wake: bool,
}

/// The best route of one session, and the generation below which there will never be one again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    route: Option<Arc<Route>>,
    over: Option<Over>,
}

impl Known {
    /// Takes what is new in the route: a newer generation, or of the same one a port that was not known or has come
    /// further. Whether anything was taken.
    pub(crate) fn push(&mut self, route: &Arc<Route>) -> bool {
        if self.over.as_ref().is_some_and(|over| over.generation >= route.generation) {
            return false;
        }
        let taken = match &self.route {
            Some(held) if held.generation == route.generation && held.allocation == route.allocation => {
                joined(held, route).map(Arc::new)
            }
            Some(held) if (route.generation, route.phase) <= (held.generation, held.phase) => None,
            _ => Some(route.clone()),
        };
        let news = taken.is_some();
        self.route = taken.or_else(|| self.route.take());
        news
    }

    /// Closes every generation up to this one, for ever. Whether anything changed.
    pub(crate) fn retract(&mut self, over: &Over) -> bool {
        let news = self
            .over
            .as_ref()
            .is_none_or(|known| (over.generation, over.ended) > (known.generation, known.ended));
        if news {
            let earlier = self.over.take().filter(|known| known.generation == over.generation);
            let reason = over.reason.clone().or(earlier.and_then(|known| known.reason));
            self.over = Some(Over { reason, ..over.clone() });
        }
        let routed = self.route.take_if(|route| route.generation <= over.generation).is_some();
        news || routed
    }

    /// Drops exactly this route, which turned out not to lead there; it may be learned again.
    pub(crate) fn forget(&mut self, wrong: &Route) -> bool {
        self.route
            .take_if(|route| route.generation == wrong.generation && route.allocation == wrong.allocation)
            .is_some()
    }

    /// Forgets whatever says that this generation is over: the ledger, which decides, has gone back to it.
    pub(crate) fn reopen(&mut self, generation: Generation) {
        self.over.take_if(|over| over.generation >= generation);
        self.route.take_if(|route| route.generation > generation);
    }

    pub(crate) fn route(&self) -> Option<&Arc<Route>> {
        self.route.as_ref()
    }

    pub(crate) fn over(&self) -> Option<&Over> {
        self.over.as_ref()
    }

    /// Whether this generation is over: told so, or because a later one has been placed.
    pub(crate) fn is_over(&self, generation: Generation) -> bool {
        self.over.as_ref().is_some_and(|over| over.generation >= generation)
            || self.route.as_ref().is_some_and(|route| route.generation > generation)
    }
}

/// Two words on the same allocation as one: each port has come as far as either says. `None`: the second one says
/// nothing new.
fn joined(held: &Route, told: &Route) -> Option<Route> {
    let (mut joined, mut news) = (held.clone(), false);
    if told.phase > held.phase {
        (joined.address, joined.protocol, joined.phase) = (told.address, told.protocol, told.phase);
        news = true;
    }
    for (label, endpoint) in &told.further {
        if held.further.get(label).is_none_or(|known| known.phase < endpoint.phase) {
            joined.further.insert(label.clone(), *endpoint);
            news = true;
        }
    }
    news.then_some(joined)
}

#[cfg(test)]
mod tests {
    use bivouac_protocol::{Endpoint, Protocol, ReasonCode, RoutePhase, SessionId};
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Message {
        Push(u64, RoutePhase, Vec<(u16, RoutePhase)>),
        Retract(u64, bool),
    }

    fn endpoint(generation: u64, port: u16, phase: RoutePhase) -> Endpoint {
        let number = 20_000 + 10 * u16::try_from(generation).unwrap() + port;
        Endpoint { address: ([127, 0, 0, 1], number).into(), protocol: Protocol::Http, phase }
    }

    fn route(generation: u64, phase: RoutePhase) -> Arc<Route> {
        with_further(generation, phase, &[])
    }

    fn with_further(generation: u64, phase: RoutePhase, further: &[(u16, RoutePhase)]) -> Arc<Route> {
        let mut route = Route::new(
            "aaaaaaaaaaaaaaaaaaaa".parse::<SessionId>().unwrap(),
            Generation(generation),
            format!("alloc-{generation}").parse().unwrap(),
            "http".parse().unwrap(),
            endpoint(generation, 0, phase),
        );
        let labelled = |(port, phase): &(u16, RoutePhase)| {
            (format!("p{port}").parse().unwrap(), endpoint(generation, *port, *phase))
        };
        route.further = further.iter().map(labelled).collect();
        Arc::new(route)
    }

    fn over(generation: u64, ended: bool) -> Over {
        Over { generation: Generation(generation), ended, reason: Some(ReasonCode::Idle.into()), wake: false }
    }

    fn apply(messages: &[Message]) -> Known {
        let mut known = Known::default();
        for message in messages {
            match message {
                Message::Push(generation, phase, further) => {
                    known.push(&with_further(*generation, *phase, further))
                }
                Message::Retract(generation, ended) => known.retract(&over(*generation, *ended)),
            };
        }
        known
    }

    fn messages() -> impl Strategy<Value = Vec<Message>> {
        let phase = || prop_oneof![Just(RoutePhase::Starting), Just(RoutePhase::Ready)];
        // A port is told of once, or not at all.
        let further = prop::collection::btree_map(1u16..4, phase(), 0..3)
            .prop_map(|ports| ports.into_iter().collect::<Vec<_>>());
        let message = prop_oneof![
            (1u64..6, phase(), further)
                .prop_map(|(generation, phase, further)| Message::Push(generation, phase, further)),
            (1u64..6, any::<bool>()).prop_map(|(generation, ended)| Message::Retract(generation, ended)),
        ];
        prop::collection::vec(message, 0..12)
    }

    proptest! {
        #[test]
        fn any_order_of_the_same_messages_leads_to_the_same_route(
            (told, shuffled) in messages().prop_flat_map(|told| (Just(told.clone()), Just(told).prop_shuffle()))
        ) {
            prop_assert_eq!(apply(&told), apply(&shuffled));
        }

        #[test]
        fn a_repeated_message_changes_nothing(told in messages()) {
            let twice: Vec<_> = told.iter().flat_map(|message| [message.clone(), message.clone()]).collect();
            prop_assert_eq!(apply(&told), apply(&twice));
        }

        #[test]
        fn a_retracted_generation_stays_retracted(told in messages(), generation in 1u64..6) {
            let mut known = apply(&told);
            known.retract(&over(generation, true));
            known.push(&route(generation, RoutePhase::Ready));
            prop_assert!(known.is_over(Generation(generation)));
            prop_assert!(known.route().is_none_or(|route| route.generation > Generation(generation)));
        }
    }

    #[test]
    fn each_port_has_come_as_far_as_anybody_has_said() {
        let mut known = Known::default();
        let (starting, ready) = (RoutePhase::Starting, RoutePhase::Ready);
        assert!(known.push(&with_further(1, starting, &[(1, starting)])));
        assert!(known.push(&with_further(1, ready, &[(1, starting)])), "the default port is ready");
        assert!(known.push(&with_further(1, starting, &[(1, ready)])), "a further port is ready");
        assert!(known.push(&with_further(1, starting, &[(2, starting)])), "one more port is known");
        assert!(!known.push(&with_further(1, ready, &[(1, ready), (2, starting)])), "nothing is new");
        let all = with_further(1, ready, &[(1, ready), (2, starting)]);
        assert_eq!(known.route(), Some(&all));
    }

    #[test]
    fn a_forgotten_route_may_be_learned_again() {
        let mut known = Known::default();
        let ready = route(1, RoutePhase::Ready);
        assert!(known.push(&ready));
        assert!(known.forget(&ready));
        assert!(!known.forget(&ready));
        assert!(known.push(&route(1, RoutePhase::Starting)));
    }
}
