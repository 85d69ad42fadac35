//! A node that works for users: divides, tails a log, takes files. The broker (`rpc_broker`) prints an invite for it:
//! `cargo run --example rpc_node -- INVITE`, and later without. Several may run, each with a home of its own
//! (`PEERAGE_HOME=/tmp/second`); users who ask for any of the group get the one that has least to do.

use std::time::Duration;

use anyhow::Result;
use peerage::rpc::{Context, Node, Sender, Status};
use peerage_examples::notes::{
    DivideReply, DivideRequest, FileReply, Line, TailRequest, Worker, WorkerServer,
};

struct Hands;

impl Worker for Hands {
    async fn divide(&self, ctx: Context, request: DivideRequest) -> Result<DivideReply, Status> {
        // Both are there: the build script requires them.
        let (dividend, divisor) = (request.dividend(), request.divisor());
        println!("* {} divides {dividend} by {divisor}", ctx.peer().short());
        if divisor == 0.0 {
            return Err(Status::invalid_argument("division by zero"));
        }
        Ok(DivideReply { quotient: dividend / divisor })
    }

    async fn tail(&self, ctx: Context, request: TailRequest, to: Sender<Line>) -> Result<(), Status> {
        println!("* {} tails {} lines", ctx.peer().short(), request.lines);
        for number in 1..=request.lines {
            tokio::time::sleep(Duration::from_millis(200)).await;
            // Waits while the user takes none; fails when it has gone.
            to.send(Line { text: format!("line {number}: all is well") }).await?;
        }
        Ok(())
    }

    async fn shout(&self, ctx: Context, (): ()) -> Result<FileReply, Status> {
        let mut file = ctx.bulk().ok_or_else(|| Status::invalid_argument("there is no file"))?;
        let (mut reply, mut loud) = (FileReply::default(), Vec::new());
        while let Some(piece) = file.piece().await {
            let piece = piece?;
            reply.bytes += piece.len() as u64;
            reply.lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
            loud.extend(piece.to_ascii_uppercase());
        }
        println!("* {} sent a file of {} bytes", ctx.peer().short(), reply.bytes);
        ctx.reply_bulk(std::io::Cursor::new(loud))?;
        Ok(reply)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let credentials = peerage_examples::credentials::<Node>("peerage-node", std::env::args().nth(1)).await?;
    let name = credentials.identity.peer_id();
    let node = Node::builder()
        .credentials(credentials)
        .group("workers")
        .service(WorkerServer::new(Hands))
        .connect()
        .await?;
    println!("* this node is {name}; Ctrl-C stops it, and the next time it needs no invite");
    let mut standing = node.standing();
    loop {
        tokio::select! {
            changed = standing.changed() => {
                changed?;
                println!("* {:?}", *standing.borrow_and_update());
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    println!("* {} calls were cut", node.close().await.cut);
    Ok(())
}
