//! Several namespaces, each with a stream of its own, told as one: everything is known once it is known of each.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::backend::Observation;

/// Which of the namespaces are not whole at the moment.
#[derive(Debug)]
pub(super) struct Scopes {
    open: Mutex<BTreeSet<String>>,
}

impl Scopes {
    pub(super) fn new(namespaces: &[String]) -> Self {
        Self { open: Mutex::new(namespaces.iter().cloned().collect()) }
    }

    /// Whether what one namespace's stream tells is to be told of all.
    pub(super) fn passes(&self, scope: &str, observation: &Observation) -> bool {
        let mut open = self.open.lock();
        match observation {
            Observation::Synced => {
                open.remove(scope);
                open.is_empty()
            }
            Observation::Missed | Observation::Interrupted(_) => {
                open.insert(scope.to_owned());
                true
            }
            Observation::Job { .. } | Observation::Blocked { .. } | Observation::Allocation { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::nomad::Settings;

    #[test]
    fn a_confined_service_starts_nothing_elsewhere() {
        let within = |own: &str, namespaces: &[&str]| {
            let namespaces: Vec<_> = namespaces.iter().map(|&name| name.to_owned()).collect();
            let settings = Settings { namespace: own.to_owned(), ..Settings::new("c") }.within(&namespaces);
            (settings.namespace, settings.watched.join(","))
        };
        assert_eq!(within("platform", &[]), ("platform".to_owned(), "*".to_owned()));
        assert_eq!(within("platform", &["a", "b"]), ("a".to_owned(), "a,b".to_owned()));
        assert_eq!(within("b", &["a", "b"]), ("b".to_owned(), "a,b".to_owned()));
    }

    #[test]
    fn all_is_known_once_each_namespace_is() {
        let scopes = Scopes::new(&["a".to_owned(), "b".to_owned()]);
        let interrupted = Observation::Interrupted("gone".to_owned());
        assert!(!scopes.passes("a", &Observation::Synced), "b is not known yet");
        assert!(scopes.passes("b", &Observation::Synced));
        assert!(scopes.passes("a", &interrupted) && scopes.passes("b", &interrupted));
        assert!(!scopes.passes("b", &Observation::Synced), "a is still away");
        assert!(scopes.passes("a", &Observation::Synced));
        assert!(scopes.passes("a", &Observation::Synced), "again, after a stream that only went on");
    }
}
