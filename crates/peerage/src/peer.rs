//! A peer: an endpoint, and the protocols on it.

use std::sync::Arc;

use peerage_identity::Identity;
use peerage_net::{BindError, Builder, CloseReport, Config, Endpoint, Snapshot, Transport};
use peerage_overlay::{Mesh, MeshConfig, OpenError};
use peerage_wire::{Address, PeerId};

/// One identity with its links, and whatever runs on them. Cheap to clone: clones are the same peer.
#[derive(Clone, Debug)]
pub struct Peer {
    endpoint: Endpoint,
}

impl Peer {
    /// A peer in the making.
    pub fn builder() -> PeerBuilder {
        PeerBuilder { builder: Endpoint::builder(), has_identity: false }
    }

    /// Its name: its public key.
    pub fn id(&self) -> PeerId {
        self.endpoint.peer_id()
    }

    /// Where it listens: what others pass to [`Mesh::join`].
    pub fn addresses(&self) -> Vec<Address> {
        self.endpoint.addresses()
    }

    /// Opens the mesh of this name, with the defaults of [`MeshConfig::named`].
    ///
    /// # Errors
    /// When the name is empty or too long, the peer runs a mesh of this name already, or is closed.
    pub fn mesh(&self, name: &str) -> Result<Mesh, OpenError> {
        self.mesh_with(MeshConfig::named(name))
    }

    /// Opens a mesh.
    ///
    /// # Errors
    /// When a value of the configuration is out of bounds, the peer runs a mesh of this name already, or is closed.
    pub fn mesh_with(&self, config: MeshConfig) -> Result<Mesh, OpenError> {
        Mesh::open(&self.endpoint, config)
    }

    /// What a dashboard needs: links, bytes, counters.
    pub fn snapshot(&self) -> Snapshot {
        self.endpoint.snapshot()
    }

    /// The endpoint, for all that it can do besides.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Says goodbye on every link, lets queues drain within [`Config::close_grace`], and reports what was cut.
    pub async fn close(&self) -> CloseReport {
        self.endpoint.close().await
    }
}

impl From<Endpoint> for Peer {
    fn from(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

/// A peer in the making.
#[must_use = "nothing happens before `bind`"]
pub struct PeerBuilder {
    builder: Builder,
    has_identity: bool,
}

impl PeerBuilder {
    /// Who the peer is. Without this, `bind` makes a new identity, which ends with the peer;
    /// [`Identity::load_or_create`] keeps one in a file.
    pub fn identity(self, identity: Identity) -> Self {
        Self { builder: self.builder.identity(identity), has_identity: true }
    }

    /// Listen here too, for instance on `tcp://127.0.0.1:0` for any free port. Without any address the peer only dials.
    pub fn listen(self, address: Address) -> Self {
        Self { builder: self.builder.listen(address), ..self }
    }

    /// Tell others to dial here, too, and first: the outward address of a router that passes connections on.
    pub fn announce(self, address: Address) -> Self {
        Self { builder: self.builder.announce(address), ..self }
    }

    /// One more way to connect, besides TCP.
    pub fn transport(self, transport: Arc<dyn Transport>) -> Self {
        Self { builder: self.builder.transport(transport), ..self }
    }

    /// Times and bounds.
    pub fn config(self, config: Config) -> Self {
        Self { builder: self.builder.config(config), ..self }
    }

    /// Starts the peer.
    ///
    /// # Errors
    /// [`BindError`] says which address, and why.
    pub async fn bind(self) -> Result<Peer, BindError> {
        let builder = if self.has_identity {
            self.builder
        } else {
            self.builder
                .identity(Identity::generate().map_err(|error| BindError::Entropy(error.to_string()))?)
        };
        builder.bind().await.map(Peer::from)
    }
}
