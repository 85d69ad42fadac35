//! Two peers in one process: one says hello, the other answers.
//!
//! `cargo run --example hello`

use anyhow::Result;
use peerage::Peer;

#[tokio::main]
async fn main() -> Result<()> {
    let alice = Peer::builder().listen("tcp://127.0.0.1:0".parse()?).bind().await?;
    let bob = Peer::builder().listen("tcp://127.0.0.1:0".parse()?).bind().await?;
    let (hers, his) = (alice.mesh("greetings")?, bob.mesh("greetings")?);

    his.join(&alice.addresses()).await?;
    hers.ready().await?;

    hers.broadcast("Hello, everybody!").await?;
    let heard = his.recv().await?;
    println!("bob heard {:?} from {}", String::from_utf8_lossy(heard.body()), heard.origin.short());

    heard.reply("Hello, Alice!").await?;
    let answer = hers.recv().await?;
    println!("alice heard {:?} from {}", String::from_utf8_lossy(answer.body()), answer.origin.short());

    println!("alice: {}", alice.close().await);
    println!("bob: {}", bob.close().await);
    Ok(())
}
