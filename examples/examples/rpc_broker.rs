//! A broker that keeps each user's notes, and brings users and nodes together: `cargo run --example rpc_broker`.
//!
//! It prints what to do in a second and a third terminal. What it keeps is in `peerage-broker/`, here, so that one that is
//! stopped and started again knows its users and their notes; whoever was connected goes on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use peerage::rpc::accounts::{Confirmation, Kind, NewInvite};
use peerage::rpc::{Broker, Context, Status};
use peerage::store::{RedbStore, Store};
use peerage::{Identity, PeerId};
use peerage_examples::notes::{Note, NoteList, Notes, NotesServer};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Each user's notes, in the order in which they were written.
struct Board(Mutex<BTreeMap<PeerId, Vec<Note>>>);

impl Board {
    fn load(store: &dyn Store) -> Result<Self> {
        let mut board: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, text) in store.scan(b"note/")? {
            let peer = key.get(5..37).context("a note of nobody's")?.try_into()?;
            let note = Note { text: Some(String::from_utf8(text.to_vec())?) };
            board.entry(PeerId::from_bytes(peer)).or_default().push(note);
        }
        Ok(Self(Mutex::new(board)))
    }
}

impl Notes<()> for Board {
    async fn write(&self, ctx: Context<()>, note: Note) -> Result<(), Status> {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let notes = board.entry(ctx.peer()).or_default();
        let place = (notes.len() as u64).to_be_bytes();
        let key = [b"note/".as_slice(), ctx.peer().as_bytes(), &place].concat();
        // Written together with the word that the command is done: with the journal, once.
        ctx.batch().put(key, note.text().to_owned())?;
        println!("* {} writes {:?}", ctx.peer().short(), note.text());
        notes.push(note);
        Ok(())
    }

    async fn list(&self, ctx: Context<()>, (): ()) -> Result<NoteList, Status> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(NoteList { notes: board.get(&ctx.peer()).cloned().unwrap_or_default() })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "tcp://127.0.0.1:4040".to_owned());
    std::fs::create_dir_all("peerage-broker")?;
    let store: Arc<dyn Store> = Arc::new(RedbStore::open("peerage-broker/store.redb")?);
    let broker = Broker::builder()
        .identity(Identity::load_or_create("peerage-broker/identity.pem", None)?)
        .listen(address.parse()?)
        .network("notes")
        .service(NotesServer::new(Board::load(&*store)?))
        .store(store)
        .journal(true)
        .start()
        .await?;
    println!("* the broker is {} at {address}", broker.peer_id().short());
    let mut typed = BufReader::new(tokio::io::stdin()).lines();
    loop {
        for (kind, example) in [(Kind::Node, "rpc_node"), (Kind::User, "rpc_client")] {
            let (ttl, confirmation) = (Duration::from_secs(600), Confirmation::AtOnce);
            let invite =
                broker.invite_as(NewInvite { kind, label: String::new(), ttl, confirmation }).await?;
            println!("* for a new {kind}, in another terminal, within ten minutes:");
            println!("cargo run --example {example} -- {invite}");
        }
        println!("* Enter makes two more invites; Ctrl-C, or the end of the input, stops the broker");
        let line = tokio::select! {
            line = typed.next_line() => line?,
            _ = tokio::signal::ctrl_c() => None,
        };
        if line.is_none() {
            break;
        }
    }
    broker.close().await;
    Ok(())
}
