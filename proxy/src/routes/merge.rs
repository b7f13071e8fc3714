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
    /// Takes the route if it is of a newer generation, or of the same one and further. Whether it was taken.
    pub(crate) fn push(&mut self, route: &Arc<Route>) -> bool {
        let retracted = self.over.as_ref().is_some_and(|over| over.generation >= route.generation);
        let better = self
            .route
            .as_ref()
            .is_none_or(|held| (route.generation, route.phase) > (held.generation, held.phase));
        let taken = better && !retracted;
        if taken {
            self.route = Some(route.clone());
        }
        taken
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

#[cfg(test)]
mod tests {
    use bivouac_protocol::{Endpoint, Protocol, ReasonCode, RoutePhase, SessionId};
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Message {
        Push(u64, RoutePhase),
        Retract(u64, bool),
    }

    fn route(generation: u64, phase: RoutePhase) -> Arc<Route> {
        Arc::new(Route::new(
            "aaaaaaaaaaaaaaaaaaaa".parse::<SessionId>().unwrap(),
            Generation(generation),
            format!("alloc-{generation}").parse().unwrap(),
            "http".parse().unwrap(),
            Endpoint {
                address: ([127, 0, 0, 1], 20_000 + u16::try_from(generation).unwrap()).into(),
                protocol: Protocol::Http,
                phase,
            },
        ))
    }

    fn over(generation: u64, ended: bool) -> Over {
        Over { generation: Generation(generation), ended, reason: Some(ReasonCode::Idle.into()), wake: false }
    }

    fn apply(messages: &[Message]) -> Known {
        let mut known = Known::default();
        for message in messages {
            match message {
                Message::Push(generation, phase) => known.push(&route(*generation, *phase)),
                Message::Retract(generation, ended) => known.retract(&over(*generation, *ended)),
            };
        }
        known
    }

    fn messages() -> impl Strategy<Value = Vec<Message>> {
        let phase = prop_oneof![Just(RoutePhase::Starting), Just(RoutePhase::Ready)];
        let message = prop_oneof![
            (1u64..6, phase).prop_map(|(generation, phase)| Message::Push(generation, phase)),
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
    fn a_forgotten_route_may_be_learned_again() {
        let mut known = Known::default();
        let ready = route(1, RoutePhase::Ready);
        assert!(known.push(&ready));
        assert!(known.forget(&ready));
        assert!(!known.forget(&ready));
        assert!(known.push(&route(1, RoutePhase::Starting)));
    }
}
