//! A peer: an endpoint, and the protocols on it.

use std::sync::Arc;
use std::time::Duration;

use peerage_identity::Identity;
use peerage_machine::Machine;
use peerage_net::{
    BindError, Builder, CloseReport, Closed, Config, DialError, DrainReport, Endpoint, HostError, Hosted,
    InstanceSpec, Maintained, MemoryTransport, Sink, Snapshot, Start, Transport,
};
use peerage_overlay::{Mesh, MeshConfig, OpenError};
use peerage_rpc::{Broker, BrokerBuilder, Client, Node, PartyBuilder};
use peerage_wire::{Address, PeerId, Suite};

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

    /// Where it can be reached: what others pass to [`Mesh::join`].
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

    /// A broker on this peer, in the making: give it a name, commands, a store, and start it. Whoever is to reach it needs one
    /// of the peer's addresses.
    pub fn broker(&self) -> BrokerBuilder {
        Broker::builder().endpoint(&self.endpoint)
    }

    /// A user of that broker, in the making; its account is of this peer's key.
    pub fn client(&self, broker: PeerId, addresses: impl Into<Vec<Address>>) -> PartyBuilder<Client> {
        Client::builder().endpoint(&self.endpoint).broker(broker, addresses)
    }

    /// A node of that broker, in the making; its account is of this peer's key.
    pub fn node(&self, broker: PeerId, addresses: impl Into<Vec<Address>>) -> PartyBuilder<Node> {
        Node::builder().endpoint(&self.endpoint).broker(broker, addresses)
    }

    /// Runs a machine of one's own as the instance `spec`, whose
    /// [`on_return`](InstanceSpec::on_return) says what becomes of links to peers that come back.
    ///
    /// # Errors
    /// [`HostError`]: its name is taken, what the peer would say of itself is too long, or the peer is closed.
    pub fn host<M: Machine + Send + 'static>(
        &self,
        spec: InstanceSpec,
        make: impl FnOnce(Start) -> M,
        sink: impl Sink<M>,
    ) -> Result<Hosted<M>, HostError> {
        self.endpoint.host(spec, make, sink)
    }

    /// Has a link to whoever listens at `address`, and gives who that is. A link that ends is not dialled again. See
    /// [`Endpoint::connect`].
    ///
    /// # Errors
    /// [`DialError`], with the reason that the other end has too, where there is one.
    pub async fn connect(&self, address: &Address) -> Result<PeerId, DialError> {
        self.endpoint.connect(address).await
    }

    /// As [`Peer::connect`], and nobody else will do.
    ///
    /// # Errors
    /// [`DialError`]; [`Why::WrongPeer`](peerage_machine::Why::WrongPeer) when somebody else answers.
    pub async fn connect_to(&self, peer: PeerId, address: &Address) -> Result<PeerId, DialError> {
        self.endpoint.connect_to(peer, address).await
    }

    /// Keeps a link to whoever listens at `address`, dialled again when it ends for a reason that may pass, until what
    /// this gives is dropped. See [`Endpoint::maintain`] for the reasons.
    pub fn maintain(&self, address: &Address) -> Maintained {
        self.endpoint.maintain(address)
    }

    /// As [`Peer::maintain`], to this peer and no other. Without addresses it waits for the peer to come.
    pub fn maintain_to(&self, peer: PeerId, addresses: &[Address]) -> Maintained {
        self.endpoint.maintain_to(peer, addresses)
    }

    /// Waits until a link is up. What a protocol needs to be ready its own handle says: [`Mesh::ready`].
    ///
    /// # Errors
    /// The peer is closed, or closes meanwhile.
    pub async fn ready(&self) -> Result<(), Closed> {
        self.endpoint.ready().await
    }

    /// What a dashboard needs: links, bytes, counters.
    pub fn snapshot(&self) -> Snapshot {
        self.endpoint.snapshot()
    }

    /// The endpoint, for all that it can do besides.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes no new links from now on, and waits, at most for `grace`, until all that was sent is written; says what was
    /// left. Links stay until [`Peer::close`]. See [`Endpoint::drain`].
    pub async fn drain(&self, grace: Duration) -> DrainReport {
        self.endpoint.drain(grace).await
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

    /// Connections within the process: `mem://` addresses of this space.
    pub fn memory(self, transport: &MemoryTransport) -> Self {
        Self { builder: self.builder.memory(transport), ..self }
    }

    /// The cipher suites that links may have, whoever dials; the first is the one to dial with. Without this, all, the
    /// fastest on this processor first.
    pub fn suites(self, suites: impl Into<Vec<Suite>>) -> Self {
        Self { builder: self.builder.suites(suites), ..self }
    }

    /// Changes limits and times: `.configure(|config| config.max_links = 100)`.
    pub fn configure(self, change: impl FnOnce(&mut Config)) -> Self {
        Self { builder: self.builder.configure(change), ..self }
    }

    /// Limits and times, all of them; undoes what was said of them and of suites before.
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
