//! A node's process: it divides, has a log, keeps files, and can toil without end.

use std::sync::Arc;

use anyhow::Result;
use peerage::rpc::credentials::Credentials;
use peerage::rpc::{AtParty, Context, Node, PartyBuilder, Receiver, Sender, Status};
use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::child::{Ask, Obey};
use super::commands::{Divide, Keep, Kept, Line, More, Quotient, Toil, line};
use super::party::Member;

/// The group that all nodes serve.
pub(super) const GROUP: &str = "nodes";

/// How many lines of the log are sent together.
const LINES: u64 = 256;

/// The process.
#[derive(Default)]
pub(super) struct NodeRole(Member<Node>);

fn divide(divide: &Divide) -> Result<Quotient, Status> {
    if divide.divisor() == 0.0 {
        return Err(Status::invalid_argument("division by zero"));
    }
    Ok(Quotient { value: divide.dividend() / divide.divisor() })
}

/// Goes on with the log whenever the caller asks for more.
async fn tail(mut asks: Receiver<More>, to: Sender<Line>) -> Result<(), Status> {
    let mut next = 0;
    while let Some(more) = asks.recv().await {
        let end = next + more?.lines;
        while next < end {
            let until = end.min(next + LINES);
            to.send_all((next..until).map(|number| Line { text: line(number) })).await?;
            next = until;
        }
    }
    Ok(())
}

/// Writes the file as it comes, and reads it from the disk again to send it back: no more than a piece is in memory.
async fn keep(ctx: Context<AtParty>, path: Arc<str>) -> Result<Kept, Status> {
    let disk = |error: std::io::Error| Status::internal(format!("{path}: {error}"));
    let mut bulk = ctx.bulk().ok_or_else(|| Status::invalid_argument("there is no file"))?;
    let options = File::options().read(true).write(true).create(true).truncate(true).open(&*path).await;
    let mut file = options.map_err(disk)?;
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    while let Some(piece) = bulk.piece().await {
        let piece = piece?;
        hasher.update(&piece);
        bytes += piece.len() as u64;
        file.write_all(&piece).await.map_err(disk)?;
    }
    file.flush().await.map_err(disk)?;
    file.rewind().await.map_err(disk)?;
    ctx.reply_bulk(file)?;
    Ok(Kept { bytes, hash: hasher.finalize().as_bytes().to_vec() })
}

fn build(credentials: Credentials, file: Arc<str>) -> PartyBuilder<Node> {
    Node::builder()
        .credentials(credentials)
        .group(GROUP)
        .command::<Divide, _, _>(|_, numbers| async move { divide(&numbers) })
        .channel::<More, _, _>(|_, asks, to| tail(asks, to))
        .command::<Keep, _, _>(move |ctx, _| keep(ctx, Arc::clone(&file)))
        .command::<Toil, _, _>(|_, _| std::future::pending())
}

impl Obey for NodeRole {
    async fn obey(&self, ask: &Ask) -> Result<Value> {
        let file: Arc<str> =
            ask.text("home").map_or_else(|_| Arc::from(""), |home| format!("{home}.kept").into());
        match self.0.obey(ask, |credentials| build(credentials, file)).await? {
            Some(done) => Ok(done),
            None => ask.unknown(),
        }
    }
}
