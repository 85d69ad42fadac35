//! The broker's process: notes of users, in a file, and the administrator's desk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use peerage::rpc::accounts::{Confirmation, Kind, NewInvite};
use peerage::rpc::{Broker, BrokerRef, Context, Model, Sender, Status};
use peerage::store::{RedbStore, Store};
use peerage::{Identity, PeerId};
use serde_json::{Value, json};

use super::child::{Ask, CLOSE, Obey};
use super::commands::{Nodes, Note, Nothing, Read, Write};
use super::party::micros_since;

/// How long a node that has gone may take to come back for what it was given.
const NODE_GRACE: Duration = Duration::from_secs(1);

/// How long an invite is good.
const INVITE: Duration = Duration::from_secs(600);

/// Before each note's key.
const NOTES: &[u8] = b"note/";

/// Each user's notes. The store has the same, as of the last batch that was written.
struct Board(Mutex<BTreeMap<PeerId, Vec<String>>>);

impl Board {
    fn load(store: &dyn Store) -> Result<Self> {
        let mut board: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, text) in store.scan(NOTES)? {
            let peer = key.get(NOTES.len()..NOTES.len() + 32).context("a note of nobody's")?;
            let notes = board.entry(PeerId::from_bytes(peer.try_into()?)).or_default();
            notes.push(String::from_utf8(text.to_vec())?);
        }
        Ok(Self(Mutex::new(board)))
    }

    fn write(ctx: &Context<Self>, text: &str) -> Result<Nothing, Status> {
        let mut board = ctx.model().0.lock().unwrap_or_else(PoisonError::into_inner);
        let notes = board.entry(ctx.peer()).or_default();
        let place = (notes.len() as u64).to_be_bytes();
        let key = [NOTES, ctx.peer().as_bytes(), place.as_slice()].concat();
        // In one batch with the session's own record that this command is done: that makes it once.
        ctx.batch().put(key, text.to_owned())?;
        notes.push(text.to_owned());
        Ok(Nothing {})
    }

    fn notes(&self, peer: PeerId) -> Vec<String> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.get(&peer).cloned().unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }
}

impl Model for Board {
    type Session = ();
    type Node = ();
    type Offers = Nodes;

    fn resources(&self, broker: &BrokerRef<Self>, _: PeerId) -> Option<Nodes> {
        Some(Nodes { keys: broker.nodes().iter().map(ToString::to_string).collect() })
    }
}

/// The process.
#[derive(Default)]
pub(super) struct BrokerRole(Mutex<Option<Broker<Board>>>);

impl BrokerRole {
    fn broker(&self) -> Result<Broker<Board>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().context("the broker has not begun")
    }

    async fn begin(&self, ask: &Ask) -> Result<Value> {
        let start = Instant::now();
        let folder = Path::new(ask.text("folder")?);
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(folder.join("broker.redb"))?);
        let board = Board::load(&*store)?;
        let notes = board.len();
        let broker = Broker::builder()
            .model(board)
            .identity(Identity::load_or_create(folder.join("broker.pem"), None)?)
            .listen(ask.text("listen")?.parse()?)
            .network("demo")
            .store(store)
            .journal(true)
            .configure(|config| config.node_grace = NODE_GRACE)
            .command::<Write, _, _>(|ctx, write| async move { Board::write(&ctx, write.text()) })
            .server_stream::<Read, _, _>(|ctx: Context<Board>, _, to: Sender<Note>| async move {
                to.send_all(ctx.model().notes(ctx.peer()).into_iter().map(|text| Note { text })).await
            })
            .start()
            .await?;
        let address = broker.endpoint().addresses().pop().context("it listens")?.to_string();
        let (key, accounts) = (broker.peer_id().to_string(), broker.accounts().len());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(broker);
        Ok(
            json!({ "address": address, "key": key, "accounts": accounts, "notes": notes, "micros": micros_since(start) }),
        )
    }
}

impl Obey for BrokerRole {
    async fn obey(&self, ask: &Ask) -> Result<Value> {
        Ok(match ask.what() {
            "begin" => self.begin(ask).await?,
            "invite" => {
                let kind = if ask.text("kind")? == "node" { Kind::Node } else { Kind::User };
                let label = ask.text("label")?.to_owned();
                let new = NewInvite { kind, label, ttl: INVITE, confirmation: Confirmation::ByAdministrator };
                json!({ "invite": self.broker()?.invite_as(new).await?.to_string() })
            }
            "confirm" => {
                self.broker()?.confirm(&ask.text("key")?.parse()?).await?;
                json!({})
            }
            CLOSE => {
                self.broker()?.close().await;
                json!({})
            }
            _ => return ask.unknown(),
        })
    }
}
