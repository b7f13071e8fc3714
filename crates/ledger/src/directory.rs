//! Where things listen: sessions' allocations and the replicas of the service. A registry to look things up in, not a
//! place where anything is decided; in Consul it is the catalogue.

pub mod consul;

use std::collections::HashMap;
use std::net::SocketAddr;

use bivouac_protocol::{Generation, Route, SessionId};
use parking_lot::RwLock;

use crate::Error;

pub use consul::ConsulDirectory;

/// A replica of the service, as proxies find it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replica {
    /// Identity of its registration.
    pub id: String,
    /// Its internal listener, where links are accepted.
    pub address: SocketAddr,
}

/// The registry.
#[async_trait::async_trait]
pub trait Directory: Send + Sync + 'static {
    /// The registered addresses of one generation of a session: its default port's, and those of its further ports that
    /// are registered already. Each one's phase is `Ready`: readiness is not known here, whoever uses it has to bear a
    /// refused connection. What the template says about the traffic is not known here either: the record tells.
    async fn locate(&self, session: &SessionId, generation: Generation) -> Result<Option<Route>, Error>;

    /// The replicas of the service that are registered now. Lists only add.
    async fn replicas(&self) -> Result<Vec<Replica>, Error>;
}

/// The registry of the embedded mode.
#[derive(Debug, Default)]
pub struct MemoryDirectory {
    routes: RwLock<HashMap<SessionId, Route>>,
    replicas: RwLock<Vec<Replica>>,
}

impl MemoryDirectory {
    /// Registers a child process, as Nomad does with an allocation.
    pub fn register(&self, route: Route) {
        self.routes.write().insert(route.session.clone(), route);
    }

    /// Removes a generation's registration.
    pub fn deregister(&self, session: &SessionId, generation: Generation) {
        let mut routes = self.routes.write();
        if routes.get(session).is_some_and(|route| route.generation == generation) {
            routes.remove(session);
        }
    }

    /// Registers the one replica of this process.
    pub fn register_replica(&self, replica: Replica) {
        self.replicas.write().push(replica);
    }
}

#[async_trait::async_trait]
impl Directory for MemoryDirectory {
    async fn locate(&self, session: &SessionId, generation: Generation) -> Result<Option<Route>, Error> {
        Ok(self.routes.read().get(session).filter(|route| route.generation == generation).cloned())
    }

    async fn replicas(&self) -> Result<Vec<Replica>, Error> {
        Ok(self.replicas.read().clone())
    }
}
