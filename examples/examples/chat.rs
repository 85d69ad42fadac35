//! A chat without a server: what one types, everybody reads.
//!
//! The first one: `cargo run --example chat`. It prints its address; everybody else names it, or any other:
//! `cargo run --example chat -- tcp://127.0.0.1:PORT`. The end of the input, or Ctrl-C, leaves.

use anyhow::Result;
use peerage::{Address, Event, Events, Mesh, Peer};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main]
async fn main() -> Result<()> {
    let contacts = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<Vec<Address>, _>>()?;
    let peer = Peer::builder().listen("tcp://127.0.0.1:0".parse()?).bind().await?;
    let mesh = peer.mesh("chat")?;
    // Before the mesh joins, or its first neighbours would be missed.
    let events = mesh.events();
    let addresses: Vec<_> = peer.addresses().iter().map(Address::to_string).collect();
    println!("* you are {} at {}", peer.id().short(), addresses.join(" "));
    if !contacts.is_empty() {
        mesh.join(&contacts).await?;
    }
    chat(&mesh, events).await?;
    println!("* {}", peer.close().await);
    Ok(())
}

async fn chat(mesh: &Mesh, mut events: Events) -> Result<()> {
    let mut typed = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = typed.next_line() => match line? {
                Some(line) => {
                    if let Err(error) = mesh.broadcast(line).await {
                        println!("* not sent: {error}");
                    }
                }
                None => return Ok(()),
            },
            message = mesh.recv() => {
                let message = message?;
                println!("{}: {}", message.origin.short(), String::from_utf8_lossy(message.body()));
            }
            event = events.next() => match event {
                Some(Event::NeighbourUp { peer }) => println!("* {} is a neighbour", peer.short()),
                Some(Event::NeighbourLost { peer, why }) => println!("* lost {}: {why}", peer.short()),
                Some(Event::Isolated) => println!("* nobody is left; still trying"),
                Some(_) => {}
                None => return Ok(()),
            },
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}
