//! The processes of the bench, as who measures sees them: this program, with a role. They take orders by their input, one on
//! a line, and answer by their output; each ends with its input, or after [`LIFE`].

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use peerage_wire::Suite;
use tokio::sync::mpsc;

/// The longest that a part lives, whatever becomes of who started it.
const LIFE: Duration = Duration::from_secs(300);

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    Broker,
    Node,
    Client,
    Crowd,
}

/// The name of a suite among the arguments.
pub(crate) fn name_of(suite: Suite) -> &'static str {
    match suite {
        Suite::ChaChaPoly => "chacha",
        Suite::AesGcm => "aes",
    }
}

/// A process under way, which ends when this is dropped.
pub(crate) struct Part {
    role: Role,
    child: Child,
    orders: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl Part {
    pub(crate) fn start(role: Role, suite: Suite, more: &[&str]) -> Result<Self> {
        let name = format!("{role:?}").to_lowercase();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["rpc-part", &name, "--suite", name_of(suite)])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting the process of the {name}"))?;
        let said = child.stdout.take().context("it has no output")?;
        Ok(Self { role, orders: child.stdin.take(), said: BufReader::new(said), child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn tell(&mut self, order: &str) -> Result<()> {
        let orders = self.orders.as_mut().context("it takes no orders any more")?;
        writeln!(orders, "{order}").with_context(|| format!("telling the {:?} to {order}", self.role))
    }

    /// The words of the next line that it says.
    pub(crate) fn hear(&mut self) -> Result<Vec<String>> {
        let mut line = String::new();
        let read = self.said.read_line(&mut line).with_context(|| format!("hearing the {:?}", self.role))?;
        ensure!(read > 0, "the process of the {:?} ended", self.role);
        Ok(line.split_whitespace().map(str::to_owned).collect())
    }

    /// Gives an order, and the numbers that come of it.
    pub(crate) fn ask<const N: usize>(&mut self, order: &str) -> Result<[f64; N]> {
        self.tell(order)?;
        let words = self.hear()?;
        let numbers: Result<Vec<f64>, _> = words.iter().map(|word| word.parse()).collect();
        let numbers =
            numbers.with_context(|| format!("the {:?}, told to {order}, said {words:?}", self.role))?;
        match numbers.try_into() {
            Ok(numbers) => Ok(numbers),
            Err(_) => bail!("the {:?}, told to {order}, said {words:?}", self.role),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Its input ends, and so should it; one that hangs is not waited for.
        drop(self.orders.take());
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // It is ours, and has had its second.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The orders of this process; they end when whoever gives them is gone.
pub(crate) struct Orders(mpsc::UnboundedReceiver<String>);

impl Orders {
    /// Reads them from now on; ends the process when its time is over.
    pub(crate) fn take() -> Self {
        let (into, orders) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lines() {
                let Ok(line) = line else { break };
                if into.send(line).is_err() {
                    break;
                }
            }
        });
        std::thread::spawn(|| {
            std::thread::sleep(LIFE);
            eprintln!("error: a process of the bench lived longer than {LIFE:?}");
            std::process::exit(1);
        });
        Self(orders)
    }

    pub(crate) async fn next(&mut self) -> Option<Vec<String>> {
        let line = self.0.recv().await?;
        Some(line.split_whitespace().map(str::to_owned).collect())
    }
}

/// One word of an order.
pub(crate) fn word<T: FromStr>(words: &[String], at: usize) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let word = words.get(at).with_context(|| format!("{words:?} is too short"))?;
    word.parse().with_context(|| format!("{word:?} of {words:?}"))
}
