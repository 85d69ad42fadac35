//! The task that runs handlers: one for each instance.
//!
//! A call costs no task. Its handler is polled where it is taken from the queue; only one that has to wait gets a place among
//! those that are polled again. What ends in one round goes to the machine together.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use bytes::Bytes;

use super::commands::{Commands, Running};
use super::context::{Context, Here, Place};
use super::desk::{Desk, Task, Work, theirs};
use super::inbox::lock;
use super::line::Done;
use super::sealed::{self, Seal};
use super::seals::Taken;
use super::slot::Slot;
use super::stream::too_long;
use crate::event::{Run, RunKey};
use crate::packet::Shape;
use crate::status::Status;

/// So many that are done go to the machine at once.
const BATCH: usize = 256;
/// Rounds without a pause for others on the same thread.
const ROUNDS: u32 = 64;

enum Job {
    Handler { run: RunKey, running: Running, shape: Shape, seal: Seal },
    Task(Task),
}

struct Waiting {
    job: Job,
    slot: Arc<Slot>,
    waker: Waker,
}

struct Crew<M: Place> {
    here: Arc<Here<M>>,
    desk: Arc<Desk>,
    commands: Commands<M>,
    /// The place of the next handler.
    spare: (Arc<Slot>, Waker),
    next: u64,
    waiting: HashMap<u64, Waiting>,
    /// Where a run waits.
    runs: BTreeMap<RunKey, u64>,
    done: Vec<Done>,
    /// Bulk data that follows the replies of those.
    bulk: BTreeMap<RunKey, Task>,
    /// The longest reply.
    limit: u64,
}

/// Runs handlers until the instance is closed.
pub(super) async fn work<M: Place>(here: Arc<Here<M>>, commands: Commands<M>) {
    let desk = Arc::clone(here.line.desk());
    let spare = Slot::new(0, &desk);
    let mut crew = Crew {
        here,
        desk: Arc::clone(&desk),
        commands,
        spare,
        next: 1,
        waiting: HashMap::new(),
        runs: BTreeMap::new(),
        done: Vec::new(),
        bulk: BTreeMap::new(),
        limit: 0,
    };
    let (mut work, mut woken) = (Vec::new(), Vec::new());
    let mut rounds = 0;
    while desk.take(&mut work, &mut woken).await {
        crew.limit = desk.limits().message_bytes;
        work.drain(..).for_each(|work| crew.take(work));
        woken.drain(..).for_each(|number| crew.poll_again(number));
        crew.complete();
        rounds += 1;
        if rounds == ROUNDS || !tokio::task::coop::has_budget_remaining() {
            rounds = 0;
            tokio::task::yield_now().await;
        }
    }
    for work in work {
        if let Work::Callback(callback) = work {
            harmlessly(callback);
        }
    }
}

impl<M: Place> Crew<M> {
    fn take(&mut self, work: Work) {
        match work {
            Work::Run(run) => self.run(*run),
            Work::Cancelled(run) => self.cancel(run),
            Work::Callback(callback) => {
                harmlessly(callback);
            }
            Work::Task(task) => {
                let number = self.keep(Job::Task(task));
                self.poll_again(number);
            }
            Work::News(news) => {
                harmlessly(|| M::news(&self.here, news));
            }
        }
        if self.done.len() >= BATCH {
            self.complete();
        }
    }

    fn run(&mut self, mut run: Run) {
        let mut seal = None;
        if run.shape.has(Shape::SEALED) {
            let none = || Err(Status::unimplemented("a broker runs no sealed calls"));
            let taken =
                self.desk.seals.get().map_or_else(|| Taken::Answer(none()), |seals| seals.take(&mut run));
            match taken {
                Taken::Call(call) => seal = Some(call),
                Taken::Answer(result) => return self.over(run.key, run.shape, None, result),
            }
        }
        let ctx = Context::new(&self.here, &self.spare.0, &run, seal.clone());
        let Run { key, command, payload, shape, .. } = run;
        let commands = &self.commands;
        let started = harmlessly(|| commands.start(ctx, &command, payload, shape));
        let mut running = match started.unwrap_or_else(|| Err(panicked(&command))) {
            Ok(running) => running,
            Err(status) => return self.over(key, shape, seal, Err(status)),
        };
        let mut cx = TaskContext::from_waker(&self.spare.1);
        match harmlessly(|| running.as_mut().poll(&mut cx)) {
            Some(Poll::Ready(result)) => {
                harmlessly(|| drop(running));
                self.over(key, shape, seal, result);
            }
            None => {
                harmlessly(|| drop(running));
                self.over(key, shape, seal, Err(panicked(&command)));
            }
            Some(Poll::Pending) => {
                let number = self.keep(Job::Handler { run: key, running, shape, seal });
                self.runs.insert(key, number);
            }
        }
    }

    /// What waits gets the spare place, as it has been polled with that one's waker if at all.
    fn keep(&mut self, job: Job) -> u64 {
        let (slot, waker) = self.renew();
        let number = slot.number;
        self.waiting.insert(number, Waiting { job, slot, waker });
        number
    }

    /// Takes the spare place away, for a new one.
    fn renew(&mut self) -> (Arc<Slot>, Waker) {
        let spare = Slot::new(self.next, &self.desk);
        self.next += 1;
        std::mem::replace(&mut self.spare, spare)
    }

    fn poll_again(&mut self, number: u64) {
        let Some(waiting) = self.waiting.get_mut(&number) else { return };
        waiting.slot.unqueue();
        let mut cx = TaskContext::from_waker(&waiting.waker);
        match &mut waiting.job {
            Job::Task(task) => {
                if matches!(harmlessly(|| task.as_mut().poll(&mut cx)), Some(Poll::Pending)) {
                    return;
                }
                let waiting = self.waiting.remove(&number);
                harmlessly(|| drop(waiting));
            }
            Job::Handler { running, .. } => {
                let result = match harmlessly(|| running.as_mut().poll(&mut cx)) {
                    Some(Poll::Pending) => return,
                    Some(Poll::Ready(result)) => result,
                    None => Err(Status::internal("the command's handler panicked")),
                };
                let Some(Waiting { job: Job::Handler { run, running, shape, seal }, slot, .. }) =
                    self.waiting.remove(&number)
                else {
                    return;
                };
                self.runs.remove(&run);
                harmlessly(|| drop(running));
                self.settle(run, shape, &seal, result, &slot);
            }
        }
    }

    /// The one that the spare place was for is over.
    fn over(&mut self, run: RunKey, shape: Shape, seal: Seal, result: Result<Bytes, Status>) {
        let slot = if self.spare.0.is_free() { Arc::clone(&self.spare.0) } else { self.renew().0 };
        self.settle(run, shape, &seal, result, &slot);
        // It may have woken itself, which is of no interest to the next.
        slot.unqueue();
    }

    fn settle(&mut self, run: RunKey, shape: Shape, seal: &Seal, result: Result<Bytes, Status>, slot: &Slot) {
        let limit = if seal.is_some() { self.limit.saturating_sub(sealed::OVERHEAD) } else { self.limit };
        let result = result.and_then(|reply| {
            if reply.len() as u64 > limit {
                Err(too_long("the reply", reply.len(), limit))
            } else {
                Ok(reply)
            }
        });
        // What it staged is for a success; and the place is another's soon.
        let writes = Some(slot.take_writes()).filter(|_| result.is_ok()).unwrap_or_default();
        let bulk = lock(&slot.reply_bulk).take().filter(|_| result.is_ok());
        let has_streams = shape.has_streams();
        let mut has_no_bulk = shape.has(Shape::BULK_DOWN) && bulk.is_none();
        let result = match seal {
            None => result,
            Some(call) => {
                let result = sealed::within(limit, result);
                if shape.has(Shape::STREAM_DOWN) {
                    call.finish(&*self.here.line, theirs(run, false), result.as_ref().err().cloned());
                }
                if std::mem::take(&mut has_no_bulk) {
                    call.finish(&*self.here.line, theirs(run, true), result.as_ref().err().cloned());
                }
                if shape.has(Shape::ONE_WAY) { call.seal_outcome(result) } else { call.seal_answer(result) }
            }
        };
        self.done.push(Done { run, result, writes, has_streams, has_no_bulk });
        self.bulk.extend(bulk.map(|bulk| (run, bulk)));
    }

    fn cancel(&mut self, run: RunKey) {
        let Some(waiting) = self.runs.remove(&run).and_then(|number| self.waiting.remove(&number)) else {
            return;
        };
        waiting.slot.cancel();
        harmlessly(|| drop(waiting));
        self.desk.close_flow(theirs(run, false));
        self.desk.close_flow(theirs(run, true));
    }

    fn complete(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let ended: Vec<_> = self.done.iter().filter(|done| done.has_streams).map(|done| done.run).collect();
        self.here.line.complete(&mut self.done);
        self.done.clear();
        for run in ended {
            self.desk.close_flow(theirs(run, false));
            match self.bulk.remove(&run) {
                // Which ends its stream itself.
                Some(bulk) => self.desk.push(Work::Task(bulk)),
                None => self.desk.close_flow(theirs(run, true)),
            }
        }
    }
}

fn panicked(command: &[u8]) -> Status {
    tracing::error!(command = %String::from_utf8_lossy(command), "a command's handler panicked");
    Status::internal("the command's handler panicked")
}

/// Runs what is the application's; `None` when it panics, which has been printed then.
fn harmlessly<R>(run: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}
