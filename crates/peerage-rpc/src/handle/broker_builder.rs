//! How a broker is made.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_net::{Builder as EndpointBuilder, Endpoint, Start};
use peerage_store::Store;
use peerage_wire::Address;

use super::broker::{Broker, BrokerRef, BrokerShared, BrokerSink};
use super::command::{Command, Declaration, Method};
use super::commands::{Commands, Service, command_methods};
use super::context::{Context, Here};
use super::desk::Desk;
use super::directory::Directory;
use super::keeper::Keeper;
use super::line::{Core, Line};
use super::model::Model;
use super::party::{StartError, spec};
use super::stream::{Receiver, Sender};
use super::worker;
use crate::accounts::{Accounts, AccountsConfig};
use crate::broker::{BrokerConfig, BrokerMachine, JOURNAL_PREFIX};
use crate::fit::LEAST_MAX_MESSAGE;
use crate::status::Status;

impl Broker<()> {
    /// Makes one; [`BrokerBuilder::model`] gives it a model.
    pub fn builder() -> BrokerBuilder<()> {
        BrokerBuilder::new(())
    }
}

/// Makes a [`Broker`].
#[must_use]
pub struct BrokerBuilder<M: Model = ()> {
    identity: Option<Identity>,
    endpoint: Option<Endpoint>,
    listen: Vec<Address>,
    change: Vec<Box<dyn FnOnce(EndpointBuilder) -> EndpointBuilder + Send>>,
    network: String,
    store: Option<Arc<dyn Store>>,
    config: BrokerConfig,
    accounts: AccountsConfig,
    model: M,
    commands: Commands<M>,
}

impl<M: Model> BrokerBuilder<M> {
    fn new(model: M) -> Self {
        Self {
            identity: None,
            endpoint: None,
            listen: Vec::new(),
            change: Vec::new(),
            network: String::new(),
            store: None,
            config: BrokerConfig::default(),
            accounts: AccountsConfig::default(),
            model,
            commands: Commands::new(),
        }
    }

    /// The application's model. Commands are added after this: those added before are forgotten.
    pub fn model<N: Model>(self, model: N) -> BrokerBuilder<N> {
        let Self { identity, endpoint, listen, change, network, store, config, accounts, .. } = self;
        let commands = Commands::new();
        BrokerBuilder {
            identity,
            endpoint,
            listen,
            change,
            network,
            store,
            config,
            accounts,
            model,
            commands,
        }
    }

    /// Who it is: parties know it by this key. Needed, unless there is an endpoint.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Uses an endpoint that is there, instead of one of its own. That may run other protocols, too.
    pub fn endpoint(mut self, endpoint: &Endpoint) -> Self {
        self.endpoint = Some(endpoint.clone());
        self
    }

    /// Listens there, too, on an endpoint of its own.
    pub fn listen(mut self, address: Address) -> Self {
        self.listen.push(address);
        self
    }

    /// Changes the endpoint of its own: its transports, its times and bounds.
    pub fn with_endpoint(
        mut self,
        change: impl FnOnce(EndpointBuilder) -> EndpointBuilder + Send + 'static,
    ) -> Self {
        self.change.push(Box::new(change));
        self
    }

    /// What its network is called: parties must call it the same. Empty, if this is not called.
    pub fn network(mut self, name: impl Into<String>) -> Self {
        self.network = name.into();
        self
    }

    /// Where accounts, the journal and what handlers write are kept. In memory, if this is not called.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Keeps sessions, and what was done in them, in the store: they survive a restart of the broker.
    pub fn journal(mut self, is_on: bool) -> Self {
        self.config.journal = is_on;
        self
    }

    /// Changes its times and bounds.
    pub fn configure(mut self, change: impl FnOnce(&mut BrokerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// How many accounts and invites there may be.
    pub fn accounts(mut self, config: AccountsConfig) -> Self {
        self.accounts = config;
        self
    }

    command_methods!(M);

    /// Starts it.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(self) -> Result<Broker<M>, StartError> {
        let Self {
            identity,
            endpoint,
            listen,
            change,
            network,
            store,
            mut config,
            accounts,
            model,
            commands,
        } = self;
        commands.check()?;
        config.calls_to_nodes = model.calls_to_nodes().or(config.calls_to_nodes);
        let keeper = match store {
            Some(store) => Keeper::of(store).map_err(|error| StartError::Store(error.to_string()))?,
            None => Keeper::in_memory(),
        };
        let keeper = Arc::new(keeper);
        let scan =
            |prefix: &[u8]| keeper.store.scan(prefix).map_err(|error| StartError::Store(error.to_string()));
        let accounts = Accounts::load(accounts, scan(Accounts::PREFIX)?)?;
        let journal = scan(JOURNAL_PREFIX)?;
        let is_own = endpoint.is_none();
        let endpoint = match endpoint {
            Some(endpoint) => endpoint,
            None => {
                let links = config.max_sessions + config.max_unopened;
                let mut builder = Endpoint::builder().configure(|config| config.max_links = links);
                if let Some(identity) = identity {
                    builder = builder.identity(identity);
                }
                builder = listen.into_iter().fold(builder, EndpointBuilder::listen);
                change.into_iter().fold(builder, |builder, change| change(builder)).bind().await?
            }
        };
        let takes = endpoint.config().link.max_message;
        if takes < LEAST_MAX_MESSAGE {
            return Err(StartError::MaxMessage(takes));
        }
        config.limits = config.limits.within(takes);
        let config = config.within_bounds();
        let desk = Arc::<Desk>::default();
        desk.set_limits(config.limits);
        let sink = BrokerSink { desk: Arc::clone(&desk), keeper: Arc::clone(&keeper) };
        let make = |start: Start| BrokerMachine::new(config, accounts, journal, start.now, &start.seed);
        let hosted = endpoint.host(spec(&network), make, sink)?;
        let line: Arc<dyn Line> = Arc::new(Core { hosted: hosted.clone(), desk });
        let directory = Mutex::new(Directory::default());
        let shared = BrokerShared { model, hosted, keeper, network, directory };
        let here = Arc::new(Here::<M> { line, shared });
        tokio::spawn(worker::work(Arc::clone(&here), commands));
        Ok(Broker::own(BrokerRef { here }, is_own.then_some(endpoint)))
    }
}

impl<M: Model> fmt::Debug for BrokerBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerBuilder")
            .field("network", &self.network)
            .field("config", &self.config)
            .field("commands", &self.commands)
            .finish_non_exhaustive()
    }
}
