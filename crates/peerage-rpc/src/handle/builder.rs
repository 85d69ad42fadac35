//! How clients and nodes are made.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_net::{Builder as EndpointBuilder, Endpoint, Shards};
use peerage_wire::{Address, PeerId};

use super::command::{Command, Declaration, Method};
use super::commands::{Commands, Service, command_methods};
use super::context::{AtParty, Context};
use super::party::{Admitted, ConnectError, Party, StartError};
use super::stream::{Receiver, Sender};
use crate::accounts::Invite;
use crate::credentials::Credentials;
use crate::fit::LEAST_MAX_MESSAGE;
use crate::packet::{MAX_GROUP, MAX_GROUPS};
use crate::party::PartyConfig;
use crate::status::Status;

/// A user's session with a broker. It calls the broker and nodes, by the methods of [`Party`] and [`crate::Target`], and runs
/// commands that the broker calls.
#[derive(Clone, Debug)]
pub struct Client(Party);

/// A node's session with a broker. It runs commands for users, who are named by their keys, and calls whom it wants by the
/// methods of [`Party`] and [`crate::Target`].
#[derive(Clone, Debug)]
pub struct Node(Party);

impl Deref for Client {
    type Target = Party;

    fn deref(&self) -> &Party {
        &self.0
    }
}

impl Deref for Node {
    type Target = Party;

    fn deref(&self) -> &Party {
        &self.0
    }
}

impl From<Party> for Client {
    fn from(party: Party) -> Self {
        Self(party)
    }
}

impl From<Party> for Node {
    fn from(party: Party) -> Self {
        Self(party)
    }
}

impl Client {
    /// Connects with credentials that were kept: [`crate::credentials::default_location`], say.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(credentials: Credentials) -> Result<Self, ConnectError> {
        Self::builder().credentials(credentials).connect().await
    }

    /// Makes one.
    pub fn builder() -> PartyBuilder<Self> {
        PartyBuilder::new()
    }
}

impl Node {
    /// Makes one.
    pub fn builder() -> PartyBuilder<Self> {
        PartyBuilder::new()
    }
}

type Change<A, B> = Box<dyn FnOnce(A) -> B + Send>;

/// Makes a [`Client`] or a [`Node`].
#[must_use]
pub struct PartyBuilder<P> {
    identity: Option<Identity>,
    endpoint: Option<Endpoint>,
    change: Vec<Change<EndpointBuilder, EndpointBuilder>>,
    broker: Option<(PeerId, Vec<Address>)>,
    network: String,
    groups: Vec<String>,
    timeout: Option<Duration>,
    change_party: Vec<Change<PartyConfig, PartyConfig>>,
    commands: Commands<AtParty>,
    kind: PhantomData<fn() -> P>,
}

impl<P: From<Party>> Default for PartyBuilder<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: From<Party>> PartyBuilder<P> {
    /// As [`Client::builder`] and [`Node::builder`].
    pub fn new() -> Self {
        Self {
            identity: None,
            endpoint: None,
            change: Vec::new(),
            broker: None,
            network: String::new(),
            groups: Vec::new(),
            timeout: None,
            change_party: Vec::new(),
            commands: Commands::new(),
            kind: PhantomData,
        }
    }

    /// Who it is: its account is this key's. Needed, unless there is an endpoint.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Uses an endpoint that is there, instead of one of its own. That may run other protocols, too.
    pub fn endpoint(mut self, endpoint: &Endpoint) -> Self {
        self.endpoint = Some(endpoint.clone());
        self
    }

    /// Changes the endpoint of its own: its transports, its times and bounds. As it stands, it runs on the runtime that starts
    /// it, so that calls and links share threads.
    pub fn with_endpoint(
        mut self,
        change: impl FnOnce(EndpointBuilder) -> EndpointBuilder + Send + 'static,
    ) -> Self {
        self.change.push(Box::new(change));
        self
    }

    /// Who it is, who the broker is, where it listens, and what it calls its network, as they were kept.
    pub fn credentials(self, credentials: Credentials) -> Self {
        let Credentials { identity, broker, addresses, network } = credentials;
        self.identity(identity).broker(broker, addresses).network(network)
    }

    /// Who the broker is, and where it listens. Nobody else will do.
    pub fn broker(mut self, broker: PeerId, addresses: impl Into<Vec<Address>>) -> Self {
        self.broker = Some((broker, addresses.into()));
        self
    }

    /// What the broker calls its network. Empty, if this is not called.
    pub fn network(mut self, name: impl Into<String>) -> Self {
        self.network = name.into();
        self
    }

    /// Changes how it dials the broker.
    pub fn configure(mut self, change: impl FnOnce(&mut PartyConfig) + Send + 'static) -> Self {
        self.change_party.push(Box::new(|mut config| {
            change(&mut config);
            config
        }));
        self
    }

    /// How long answers may take where a call does not say. For as long as it takes, if this is not called; a call never
    /// outlives its session.
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    command_methods!(AtParty);

    async fn begin(mut self, enrol: Option<Bytes>) -> Result<Party, StartError> {
        self.commands.check()?;
        let (broker, addresses) =
            self.broker.filter(|(_, addresses)| !addresses.is_empty()).ok_or(StartError::NoBroker)?;
        let is_good = |group: &String| (1..=MAX_GROUP).contains(&group.len());
        if self.groups.len() > MAX_GROUPS || !self.groups.iter().all(is_good) {
            return Err(StartError::Groups);
        }
        let is_own = self.endpoint.is_none();
        let endpoint = match self.endpoint {
            Some(endpoint) => endpoint,
            None => {
                let mut builder = Endpoint::builder().configure(|config| config.shards = Shards::Ambient);
                if let Some(identity) = self.identity {
                    builder = builder.identity(identity);
                }
                for change in self.change {
                    builder = change(builder);
                }
                builder.bind().await?
            }
        };
        let takes = endpoint.config().link.max_message;
        if takes < LEAST_MAX_MESSAGE {
            return Err(StartError::MaxMessage(takes));
        }
        let mut config = PartyConfig::new(broker, addresses);
        config.groups = std::mem::take(&mut self.groups);
        for change in self.change_party {
            config = change(config);
        }
        config.enrol = enrol;
        let mut party = Party::start(&endpoint, is_own, &self.network, config, self.commands)?;
        party.set_timeout(self.timeout);
        Ok(party)
    }

    /// Starts it. It dials at once, and again until it has a session, and whenever it loses its link: see
    /// [`Party::ready`].
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(self) -> Result<P, StartError> {
        Ok(P::from(self.begin(None).await?))
    }

    /// Starts it, and waits until its session is open.
    ///
    /// # Errors
    /// [`ConnectError`]: the broker takes no session, or cannot be reached.
    pub async fn connect(self) -> Result<P, ConnectError> {
        let party = self.begin(None).await?;
        if let Err(status) = party.ready().await {
            party.close().await;
            return Err(status.into());
        }
        Ok(P::from(party))
    }

    /// Shows the invite's token to its broker, once: what comes of it is the account of the identity's key. The key itself stays
    /// here. Enrolling again with the same key and token is harmless.
    ///
    /// # Errors
    /// [`ConnectError`]: the token is not good, or the broker cannot be reached.
    pub async fn enrol(mut self, invite: &Invite) -> Result<Admitted, ConnectError> {
        self.broker = Some((invite.broker, invite.addresses.clone()));
        self.network.clone_from(&invite.network);
        let token = Bytes::copy_from_slice(invite.token.as_bytes());
        let party = self.begin(Some(token)).await?;
        let admitted = party.enrolled().await;
        party.close().await;
        Ok(admitted?)
    }
}

impl PartyBuilder<Node> {
    /// Serves calls to a group, too: any of its nodes may get them. At most 16, with names of at most 64 bytes.
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.groups.push(name.into());
        self
    }
}

impl<P> fmt::Debug for PartyBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartyBuilder")
            .field("broker", &self.broker)
            .field("network", &self.network)
            .field("groups", &self.groups)
            .field("commands", &self.commands)
            .finish_non_exhaustive()
    }
}
