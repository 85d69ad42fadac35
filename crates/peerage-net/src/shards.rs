//! Where links and machines run.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::config::Shards as Choice;
use crate::error::BindError;
use crate::scratch::lock;

/// How many tasks there are.
#[derive(Debug, Default)]
struct Tasks {
    count: AtomicUsize,
    /// Told whenever one ends.
    ended: Notify,
}

/// One task, until it is dropped.
struct Alive(Arc<Tasks>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        self.0.ended.notify_waiters();
    }
}

/// The runtimes of an endpoint.
#[derive(Debug)]
pub(crate) struct Shards {
    handles: Vec<Handle>,
    next: AtomicUsize,
    tasks: Arc<Tasks>,
    threads: Mutex<Vec<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Shards {
    pub(crate) fn start(choice: Choice, name: &str) -> Result<Self, BindError> {
        let failed = |error: std::io::Error| BindError::Shard(error.to_string());
        let mut handles = Vec::new();
        let mut threads = Vec::new();
        match choice {
            Choice::Ambient => {
                let handle = Handle::try_current().map_err(|error| BindError::Shard(error.to_string()))?;
                handles.push(handle);
            }
            Choice::Threads(count) => {
                for index in 0..count.max(1) {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
                    handles.push(runtime.handle().clone());
                    let (stop, stopped) = oneshot::channel::<()>();
                    let thread = std::thread::Builder::new()
                        .name(format!("peerage-{name}-{index}"))
                        .spawn(move || {
                            // Ends when asked, or when the endpoint is gone and its sender with it.
                            let _ = runtime.block_on(stopped);
                        })
                        .map_err(failed)?;
                    threads.push((stop, thread));
                }
            }
        }
        Ok(Self { handles, next: AtomicUsize::new(0), tasks: Arc::default(), threads: Mutex::new(threads) })
    }

    /// Runs a link on the next shard.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(handle) = self.handles.get(next % self.handles.len().max(1)) {
            // In a box: what counts it has room for it twice, once before it begins.
            handle.spawn(self.counted(Box::pin(task)));
        }
    }

    /// Runs what belongs to the endpoint as a whole on the first shard.
    pub(crate) fn spawn_first(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Option<tokio::task::JoinHandle<()>> {
        // In a box, as above.
        self.handles.first().map(|handle| handle.spawn(self.counted(Box::pin(task))))
    }

    /// Counts a task from now until it is done or dropped. Whatever an endpoint spawns is counted.
    pub(crate) fn counted<F: Future>(&self, task: F) -> impl Future<Output = F::Output> + use<F> {
        self.tasks.count.fetch_add(1, Ordering::SeqCst);
        let alive = Alive(Arc::clone(&self.tasks));
        async move {
            let done = task.await;
            drop(alive);
            done
        }
    }

    /// How many tasks there are.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.count.load(Ordering::SeqCst)
    }

    /// Returns when there are none.
    pub(crate) async fn idle(&self) {
        loop {
            // Made before the look, so that no end is missed in between.
            let ended = self.tasks.ended.notified();
            if self.tasks() == 0 {
                return;
            }
            ended.await;
        }
    }

    /// Stops the threads, with whatever tasks they still have.
    pub(crate) fn stop(&self) {
        let threads = std::mem::take(&mut *lock(&self.threads));
        for (stop, thread) in threads {
            // A thread that is gone needs no telling.
            let _ = stop.send(());
            // The last handle may be dropped on a shard itself, by a task; a thread cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}
