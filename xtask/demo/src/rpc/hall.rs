//! The processes of the scenario, and how their parent has them do things.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};

use super::child::{CLOSE, Role, SUBCOMMAND};
use crate::process::{Happening, Memory, Process};

/// What an ask may take that says nothing of it.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// How long a process that has closed may take to be gone.
const END: Duration = Duration::from_secs(10);

/// What a process says.
#[derive(Debug)]
enum Word {
    Done(u64, Result<Value, String>),
    At(u64),
}

impl Word {
    fn decode(line: &str) -> Option<Self> {
        let mut value: Value = serde_json::from_str(line).ok()?;
        if let Some(at) = value.get("at").and_then(Value::as_u64) {
            return Some(Self::At(at));
        }
        let id = value.get("id")?.as_u64()?;
        if let Some(why) = value.get("failed").and_then(Value::as_str) {
            return Some(Self::Done(id, Err(why.to_owned())));
        }
        Some(Self::Done(id, Ok(value.get_mut("done")?.take())))
    }
}

/// Those who wait for an answer, by its number.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value, String>>>>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A broker, a node or a client, in a process of its own.
pub(super) struct Member {
    /// What to call it.
    pub(super) name: String,
    /// Where it keeps what is its own.
    pub(super) home: PathBuf,
    /// Its key, once it has enrolled.
    pub(super) key: String,
    process: AsyncMutex<Process>,
    waiting: Waiting,
    at: watch::Receiver<u64>,
    next: AtomicU64,
}

impl Member {
    /// Starts its process.
    pub(super) fn start(role: Role, name: &str, folder: &Path) -> Result<Self> {
        let (sender, mut happenings) = mpsc::unbounded_channel();
        let process = Process::start(&[SUBCOMMAND, role.word()], 0, Word::decode, sender)?;
        let waiting = Waiting::default();
        let (tell_at, at) = watch::channel(0);
        let answers = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Some((_, happening)) = happenings.recv().await {
                match happening {
                    Happening::Said(Word::Done(id, result)) => {
                        if let Some(waits) = lock(&answers).remove(&id) {
                            // Who has given up waiting does not mind.
                            let _ = waits.send(result);
                        }
                    }
                    Happening::Said(Word::At(at)) => {
                        tell_at.send_replace(at);
                    }
                    Happening::Ended => break,
                }
            }
            // Nobody will be answered any more.
            lock(&answers).clear();
        });
        let home = folder.join(name.replace(' ', "-"));
        Ok(Self {
            name: name.to_owned(),
            home,
            key: String::new(),
            process: AsyncMutex::new(process),
            waiting,
            at,
            next: AtomicU64::new(0),
        })
    }

    /// How far it is with what it is at.
    pub(super) fn at(&self) -> watch::Receiver<u64> {
        self.at.clone()
    }

    /// Has it do something, within [`ANSWER`].
    pub(super) async fn ask(&self, what: &str, more: Value) -> Result<Value> {
        self.ask_within(ANSWER, what, more).await
    }

    /// Has it do something; what it said is the answer.
    ///
    /// # Errors
    /// It could not, or is gone, or took longer than `limit`.
    pub(super) async fn ask_within(&self, limit: Duration, what: &str, mut more: Value) -> Result<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(fields) = more.as_object_mut() {
            fields.extend([("id".to_owned(), json!(id)), ("ask".to_owned(), json!(what))]);
        }
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(id, answer);
        self.process.lock().await.tell(&more.to_string()).await;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(result)) => result.map_err(|why| anyhow!("{}: {what}: {why}", self.name)),
            Ok(Err(_)) => bail!("{} ended while it was to {what}{}", self.name, self.said().await),
            Err(_) => bail!("waited {} s for {} to {what}{}", limit.as_secs(), self.name, self.said().await),
        }
    }

    /// What it printed, after something that went wrong.
    async fn said(&self) -> String {
        let printed = self.process.lock().await.printed();
        if printed.is_empty() { String::new() } else { format!("; it said:\n  {}", printed.join("\n  ")) }
    }

    /// SIGKILL, and no word.
    pub(super) async fn kill(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        process.kill()?;
        process.reap(END).await.map(drop)
    }

    /// How much memory it uses, where the system says so.
    pub(super) async fn memory(&self) -> Option<Memory> {
        self.process.lock().await.memory()
    }

    /// Closes it in good order; what was not so.
    pub(super) async fn close(&self) -> Option<String> {
        let closed = self.ask(CLOSE, json!({})).await;
        let ended = self.process.lock().await.reap(END).await;
        match (closed, ended) {
            (Ok(_), Ok(status)) if status.success() => None,
            (Ok(_), Ok(status)) => Some(format!("{}: {status}", self.name)),
            (Err(error), _) | (_, Err(error)) => Some(format!("{error:#}")),
        }
    }
}

/// All of them.
pub(super) struct Hall {
    pub(super) folder: tempfile::TempDir,
    pub(super) broker: Member,
    /// Where the broker listens.
    pub(super) address: String,
    pub(super) nodes: Vec<Member>,
    pub(super) clients: Vec<Member>,
}

impl Hall {
    /// A broker that has begun, in a folder of its own.
    pub(super) async fn begin() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("peerage-demo-").tempdir().context("making a folder")?;
        let broker = Member::start(Role::Broker, "the broker", folder.path())?;
        let mut hall =
            Self { folder, broker, address: String::new(), nodes: Vec::new(), clients: Vec::new() };
        let begun = hall.open("tcp://127.0.0.1:0").await?;
        hall.address = text(&begun, "address")?.to_owned();
        Ok(hall)
    }

    /// Has the broker's process open what there is, and listen.
    async fn open(&self, listen: &str) -> Result<Value> {
        let begin = json!({ "folder": self.folder.path(), "listen": listen });
        self.broker.ask("begin", begin).await
    }

    /// A broker where the last one was, and with what that has left.
    pub(super) async fn another_broker(folder: &Path, address: &str) -> Result<(Member, Value)> {
        let broker = Member::start(Role::Broker, "the second broker", folder)?;
        let begun = broker.ask("begin", json!({ "folder": folder, "listen": address })).await?;
        Ok((broker, begun))
    }

    /// Closes everybody in good order, the broker last; what was not so.
    pub(super) async fn close(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for member in self.clients.iter().chain(&self.nodes).chain([&self.broker]) {
            faults.extend(member.close().await);
        }
        faults
    }
}

/// All of them at once, in their order.
pub(super) async fn all<T: Send>(
    futures: impl Iterator<Item = impl Future<Output = Result<T>>>,
) -> Result<Vec<T>> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(move |cx| {
        let mut is_over = true;
        for (future, done) in futures.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            match future.as_mut().poll(cx) {
                Poll::Ready(Ok(value)) => *done = Some(value),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => is_over = false,
            }
        }
        if is_over {
            Poll::Ready(Ok(done.iter_mut().filter_map(Option::take).collect()))
        } else {
            Poll::Pending
        }
    })
    .await
}

/// A text in an answer.
pub(super) fn text<'a>(answer: &'a Value, field: &str) -> Result<&'a str> {
    let text = answer.get(field).and_then(Value::as_str);
    text.with_context(|| format!("an answer without `{field}`: {answer}"))
}

/// A number in an answer.
pub(super) fn number(answer: &Value, field: &str) -> Result<u64> {
    let number = answer.get(field).and_then(Value::as_u64);
    number.with_context(|| format!("an answer without `{field}`: {answer}"))
}

/// Several in an answer.
pub(super) fn list<'a>(answer: &'a Value, field: &str) -> Result<&'a [Value]> {
    let list = answer.get(field).and_then(Value::as_array).map(Vec::as_slice);
    list.with_context(|| format!("an answer without `{field}`: {answer}"))
}

/// The code of a status in an answer; `None` when it is none.
pub(super) fn code(answer: &Value) -> Option<&str> {
    answer.get("code").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_says_is_told_from_what_it_prints() {
        assert!(matches!(Word::decode(r#"{"at":7}"#), Some(Word::At(7))));
        assert!(matches!(Word::decode(r#"{"id":1,"done":{}}"#), Some(Word::Done(1, Ok(_)))));
        assert!(
            matches!(Word::decode(r#"{"id":2,"failed":"no"}"#), Some(Word::Done(2, Err(why))) if why == "no")
        );
        assert!(Word::decode("thread 'main' panicked").is_none());
        assert!(Word::decode("{}").is_none());
    }
}
