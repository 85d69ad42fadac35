//! A user who keeps notes at the broker (`rpc_broker`), and has nodes (`rpc_node`) work: the broker prints an invite for it:
//! `cargo run --example rpc_client -- INVITE`, and later without. Then one types.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use peerage::rpc::Client;
use peerage_examples::notes::{DivideRequest, Note, NotesClient, TailRequest, WorkerClient};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

const HELP: &str =
    "note TEXT, notes, divide A B [NODE], tail N, file PATH; the end of the input, or Ctrl-C, leaves";

async fn obey(client: &Client, line: &str) -> Result<()> {
    let notes = NotesClient::new(client);
    let worker = WorkerClient::new(&client.group("workers").with_timeout(Duration::from_secs(60)));
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "note" => {
            // One-way: in order, and once, whatever becomes of the link and the broker meanwhile.
            notes.write(Note { text: Some(rest.to_owned()) }).await?;
        }
        "notes" => {
            for (number, note) in (1..).zip(notes.list(()).await?.notes) {
                println!("{number}. {}", note.text());
            }
        }
        "divide" => {
            let mut words = rest.split_whitespace();
            let mut number = || words.next().context(HELP)?.parse::<f64>().context(HELP);
            let request = DivideRequest { dividend: Some(number()?), divisor: Some(number()?) };
            let worker = match words.next() {
                Some(node) => WorkerClient::new(&client.node(node.parse()?)),
                None => worker,
            };
            println!("{}", worker.divide(request).await?.quotient);
        }
        "tail" => {
            let mut lines = worker.tail(TailRequest { lines: rest.parse().context(HELP)? }).await?;
            while let Some(line) = lines.recv().await {
                println!("{}", line?.text);
            }
        }
        "file" => {
            let file = tokio::fs::File::open(rest).await.with_context(|| format!("opening {rest}"))?;
            let (reply, mut loud) = worker.shout(()).bulk(file).bulk_reply().await?;
            let mut start = vec![0; 60];
            let read = loud.read(&mut start).await?;
            start.truncate(read);
            println!(
                "{} bytes in {} lines: {:?}…",
                reply.bytes,
                reply.lines,
                String::from_utf8_lossy(&start)
            );
            let rest = tokio::io::copy(&mut loud, &mut tokio::io::sink()).await?;
            println!("{} bytes came back", read as u64 + rest);
        }
        _ => bail!(HELP),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let credentials =
        peerage_examples::credentials::<Client>("peerage-user", std::env::args().nth(1)).await?;
    let client = Client::connect(credentials).await?;
    println!("* {HELP}");
    let mut typed = BufReader::new(tokio::io::stdin()).lines();
    let mut standing = client.standing();
    loop {
        tokio::select! {
            line = typed.next_line() => {
                let Some(line) = line? else { break };
                if let Err(error) = obey(&client, line.trim()).await {
                    println!("* {error:#}");
                }
            }
            changed = standing.changed() => {
                changed?;
                println!("* {:?}", *standing.borrow_and_update());
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    // Notes that are on their way arrive first.
    println!("* {} calls were cut", client.close().await.cut);
    Ok(())
}
