//! A call that is being made.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use peerage_wire::PeerId;
use tokio::io::AsyncRead;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::bulk::{self, BulkReader, Held, Source};
use super::desk::{Callback, Expected, Flow, ReplyTo, Work, answered};
use super::inbox::Inbox;
use super::line::{Line, Way};
use super::sealed::{Seal, Secret};
use super::seals::Seals;
use super::stream::too_long;
use crate::packet::{Destination, Shape};
use crate::party::{NotPlaced, Placed, Placing};
use crate::status::Status;

/// A call before it is made.
pub(super) struct Draft {
    pub(super) line: Arc<dyn Line>,
    pub(super) way: Way,
    pub(super) command: Bytes,
    pub(super) payload: Bytes,
    pub(super) shape: Shape,
    pub(super) timeout: Option<Duration>,
    /// It is to be sealed.
    pub(super) is_sealed: bool,
    /// The channel for that, once it is known.
    pub(super) secret: Option<Arc<Secret>>,
}

/// A call that was made.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) placed: Placed,
    pub(super) seal: Seal,
}

impl Draft {
    /// Finds the channel of a call that is to be sealed.
    pub(super) async fn secure(&mut self) -> Result<(), Status> {
        if !self.is_sealed {
            return Ok(());
        }
        let (seals, node) = self.sealed_to()?;
        let (seals, line) = (Arc::clone(seals), Arc::clone(&self.line));
        let channel = seals.channel(&line, node);
        self.secret = Some(match self.timeout {
            None => channel.await?,
            Some(timeout) => {
                let begun = Instant::now();
                let over = Status::deadline_exceeded("there was no sealed channel in time");
                let secret = tokio::time::timeout(timeout, channel).await.unwrap_or(Err(over))?;
                self.timeout = Some(timeout.saturating_sub(begun.elapsed()));
                secret
            }
        });
        Ok(())
    }

    /// As [`Draft::secure`], if the channel is there already.
    pub(super) fn secure_now(&mut self) -> Result<(), Status> {
        if self.is_sealed {
            let (seals, node) = self.sealed_to()?;
            let none = || Status::failed_precondition("there is no sealed channel to the node yet");
            self.secret = Some(seals.known(&node).ok_or_else(none)?);
        }
        Ok(())
    }

    fn sealed_to(&self) -> Result<(&Arc<Seals>, PeerId), Status> {
        let only =
            |what| Status::failed_precondition(format!("a sealed call goes from a party to a node: {what}"));
        match (self.line.desk().seals.get(), &self.way) {
            (None, _) => Err(only("this is a broker")),
            (_, Way::Group(_)) => {
                Err(only("of a group, the broker would have to know which; pick one by its key"))
            }
            (_, Way::Peer | Way::Session(_)) => Err(only("the broker is none")),
            (Some(seals), Way::Node(node)) => Ok((seals, *node)),
        }
    }

    /// Hands it to the machine.
    fn hand_over(&self, timeout: Option<Duration>, expected: &mut Expected) -> Result<Made, NotPlaced> {
        let placing =
            |command, payload, shape| Placing { command, payload, to: Destination::Peer, shape, timeout };
        let (command, payload) = (self.command.clone(), self.payload.clone());
        if !self.is_sealed {
            let placing = placing(command, payload, self.shape);
            let placed = self.line.place(&self.way, placing, expected)?;
            return Ok(Made { placed, seal: None });
        }
        let none = || NotPlaced::NotOpen(Status::internal("a call is to be sealed without a channel"));
        let secret = self.secret.as_ref().ok_or_else(none)?;
        // It can be run by nobody else, nor in another channel.
        let shape = self.shape.without(Shape::IDEMPOTENT).and(Shape::SEALED);
        let made = secret.call(command, payload, shape, |payload, call| {
            expected.seal = Some(Arc::clone(call));
            let placed = self.line.place(&self.way, placing(Bytes::new(), payload, shape), expected)?;
            Ok(Made { placed, seal: Some(Arc::clone(call)) })
        });
        made.unwrap_or_else(|status| Err(NotPlaced::NotOpen(status)))
    }

    /// Makes it: now if nobody waits for room, and otherwise in its turn.
    pub(super) async fn make(&self, expected: &mut Expected) -> Result<Made, Status> {
        if !self.is_crowded()
            && let Some(made) = self.try_place(expected)?
        {
            return Ok(made);
        }
        self.place(expected).await
    }

    /// Makes it now; `None` when there is no room.
    pub(super) fn try_place(&self, expected: &mut Expected) -> Result<Option<Made>, Status> {
        self.try_within(self.timeout, expected)
    }

    fn try_within(&self, timeout: Option<Duration>, expected: &mut Expected) -> Result<Option<Made>, Status> {
        match self.hand_over(timeout, expected) {
            Ok(made) => Ok(Some(made)),
            Err(NotPlaced::Full(_)) => Ok(None),
            Err(NotPlaced::NotOpen(status)) => Err(status),
            Err(NotPlaced::TooLong { bytes, limit }) => {
                Err(too_long("the call", usize::try_from(bytes).unwrap_or(usize::MAX), limit))
            }
        }
    }

    /// Makes it now, or says why not.
    pub(super) fn place_now(&self, expected: &mut Expected) -> Result<Made, Status> {
        self.try_place(expected)?.ok_or_else(|| Status::resource_exhausted("too many calls are under way"))
    }

    /// Makes it as soon as there is room. Those who wait for that are served one after the other; its time runs meanwhile.
    pub(super) async fn place(&self, expected: &mut Expected) -> Result<Made, Status> {
        let until = self.timeout.map(|timeout| Instant::now() + timeout);
        let placed = async move {
            let _place = Place { line: Arc::clone(&self.line), way: self.way.clone() };
            let turnstile = self.line.desk().stand(&self.way);
            let _turn = turnstile.turn.lock().await;
            loop {
                // Made before the try, so that no room is missed in between.
                let slots = self.line.desk().slots.notified();
                let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
                match self.try_within(timeout, expected)? {
                    Some(made) => return Ok(made),
                    None => slots.await,
                }
            }
        };
        let Some(until) = until else { return placed.await };
        let over = Status::deadline_exceeded("there was no room for the call in time");
        tokio::time::timeout_at(until, placed).await.unwrap_or(Err(over))
    }

    /// Whether others already wait for room that way.
    pub(super) fn is_crowded(&self) -> bool {
        self.line.desk().standing(&self.way).is_some()
    }
}

/// A place among those who wait for room.
struct Place {
    line: Arc<dyn Line>,
    way: Way,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.desk().leave(&self.way);
    }
}

/// A call that was made: dropping it cancels the call.
pub(super) struct Pending {
    line: Arc<dyn Line>,
    placed: Placed,
    answered: oneshot::Receiver<crate::event::Answer>,
    is_over: bool,
}

impl Pending {
    pub(super) fn new(
        line: &Arc<dyn Line>,
        made: &Made,
        answered: oneshot::Receiver<crate::event::Answer>,
    ) -> Self {
        Self { line: Arc::clone(line), placed: made.placed, answered, is_over: false }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        let answer = std::task::ready!(Pin::new(&mut self.answered).poll(cx));
        self.is_over = true;
        Poll::Ready(answered(answer))
    }

    pub(super) async fn answer(mut self) -> Result<Bytes, Status> {
        std::future::poll_fn(|cx| self.poll_answer(cx)).await
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_over {
            self.line.desk().forget(self.placed);
            self.line.cancel(self.placed);
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&self.placed).finish()
    }
}

/// Reads a reply.
pub(super) type Read<R> = fn(Bytes) -> Result<R, Status>;

/// A call with one reply: await it. Dropped while it is awaited, the call is cancelled.
#[must_use = "a call is made when it is awaited"]
pub struct Call<R> {
    pub(super) draft: Draft,
    pub(super) read: Read<R>,
    pub(super) bulk: Option<Source>,
}

impl<R> Call<R> {
    /// How long the answer may take. What runs the command is told, and stopped when the time is over.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.draft.timeout = Some(timeout);
        self
    }

    /// The command may be run again when nobody knows whether it was.
    pub fn idempotent(mut self) -> Self {
        self.draft.shape = self.draft.shape.and(Shape::IDEMPOTENT);
        self
    }

    /// Sends what this reads beside the parameters, however much it is: `ctx.bulk()` reads it at the other end.
    pub fn bulk(mut self, reader: impl AsyncRead + Send + 'static) -> Self {
        self.draft.shape = self.draft.shape.and(Shape::BULK_UP);
        self.bulk = Some(Box::pin(reader));
        self
    }

    /// Sends these bytes beside the parameters.
    pub fn bulk_bytes(self, bytes: impl Into<Bytes>) -> Self {
        self.bulk(Held(bytes.into()))
    }

    /// Takes bulk data beside the reply. Await it for both.
    pub fn bulk_reply(mut self) -> BulkCall<R> {
        self.draft.shape = self.draft.shape.and(Shape::BULK_DOWN);
        BulkCall { call: self }
    }

    /// Has `then` called with the answer, and goes on. Functions are called one after the other, by a task of the instance,
    /// as answers come; they should be quick. One that panics harms nobody.
    pub fn then(self, then: impl FnOnce(Result<R, Status>) + Send + 'static)
    where
        R: 'static,
    {
        if self.draft.is_sealed {
            let desk = Arc::clone(self.draft.line.desk());
            let calling = self.into_future();
            return desk.push(Work::Task(Box::pin(async move { then(calling.await) })));
        }
        let Self { draft, read, bulk } = self;
        let line = Arc::clone(&draft.line);
        let callback = Callback::new(move |answer: Result<Bytes, Status>| then(answer.and_then(read)));
        let (mut expected, room) = expecting(ReplyTo::Callback(callback), bulk.is_some(), None);
        if !draft.is_crowded() {
            match draft.try_place(&mut expected) {
                Ok(Some(made)) => return start_bulk(&line, &made, bulk, room),
                Ok(None) => {}
                Err(status) => return refuse(&line, expected, status),
            }
        }
        let desk = Arc::clone(line.desk());
        desk.push(Work::Task(Box::pin(async move {
            match draft.place(&mut expected).await {
                Ok(made) => start_bulk(&line, &made, bulk, room),
                Err(status) => refuse(&line, expected, status),
            }
        })));
    }
}

/// What a call expects, and where it hears of room for bulk data.
fn expecting(
    reply: ReplyTo,
    sends_bulk: bool,
    bulk_inbox: Option<Arc<Inbox>>,
) -> (Expected, Option<Arc<Notify>>) {
    let room = sends_bulk.then(Arc::<Notify>::default);
    let bulk = Flow { inbox: bulk_inbox, room: room.clone() };
    (Expected { reply, bulk, ..Expected::default() }, room)
}

fn start_bulk(line: &Arc<dyn Line>, made: &Made, source: Option<Source>, room: Option<Arc<Notify>>) {
    if let (Some(source), Some(room)) = (source, room) {
        let seal = made.seal.clone();
        let task = bulk::pump(Arc::clone(line), made.placed.stream(true), room, seal, source);
        line.desk().push(Work::Task(Box::pin(task)));
    }
}

fn refuse(line: &Arc<dyn Line>, expected: Expected, status: Status) {
    if let ReplyTo::Callback(callback) = expected.reply {
        line.desk().push(Work::Callback(Box::new(move || callback.call(Err(status)))));
    }
}

type Later<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

enum Stage {
    Draft(Draft),
    Queued(Later<Pending>),
    Waiting(Pending),
    Sealed(Later<(Bytes, Made)>),
    Over,
}

/// A call under way: the answer, when it comes.
#[must_use = "a call is made when it is awaited"]
pub struct Calling<R> {
    stage: Stage,
    read: Read<R>,
    bulk: Option<Source>,
    bulk_inbox: Option<Arc<Inbox>>,
    /// The call, if it is sealed and answered.
    made: Option<Made>,
}

impl<R> Calling<R> {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Draft(draft) => match self.start(draft) {
                    Ok(stage) => self.stage = stage,
                    Err(status) => return Poll::Ready(Err(status)),
                },
                Stage::Queued(mut queued) => match queued.as_mut().poll(cx) {
                    Poll::Ready(Ok(pending)) => self.stage = Stage::Waiting(pending),
                    Poll::Ready(Err(status)) => return Poll::Ready(Err(status)),
                    Poll::Pending => {
                        self.stage = Stage::Queued(queued);
                        return Poll::Pending;
                    }
                },
                Stage::Waiting(mut pending) => {
                    let answer = pending.poll_answer(cx);
                    if answer.is_pending() {
                        self.stage = Stage::Waiting(pending);
                    }
                    return answer;
                }
                Stage::Sealed(mut sealed) => match sealed.as_mut().poll(cx) {
                    Poll::Ready(answered) => {
                        return Poll::Ready(answered.map(|(bytes, made)| {
                            self.made = Some(made);
                            bytes
                        }));
                    }
                    Poll::Pending => {
                        self.stage = Stage::Sealed(sealed);
                        return Poll::Pending;
                    }
                },
                Stage::Over => return Poll::Ready(Err(Status::internal("the call was over already"))),
            }
        }
    }

    fn start(&mut self, draft: Draft) -> Result<Stage, Status> {
        let (reply, answered) = oneshot::channel();
        let bulk = self.bulk.take();
        if draft.is_sealed {
            return Ok(Stage::Sealed(Box::pin(call_sealed(draft, bulk, self.bulk_inbox.clone()))));
        }
        let (mut expected, room) =
            expecting(ReplyTo::Waiting(reply), bulk.is_some(), self.bulk_inbox.clone());
        let line = Arc::clone(&draft.line);
        if !draft.is_crowded()
            && let Some(made) = draft.try_place(&mut expected)?
        {
            start_bulk(&line, &made, bulk, room);
            return Ok(Stage::Waiting(Pending::new(&line, &made, answered)));
        }
        Ok(Stage::Queued(Box::pin(async move {
            let made = draft.place(&mut expected).await?;
            start_bulk(&line, &made, bulk, room);
            Ok(Pending::new(&line, &made, answered))
        })))
    }
}

/// A sealed call: makes a channel if there is none, and once more if the node has forgotten it, and so has not run the call.
async fn call_sealed(
    mut draft: Draft,
    mut bulk: Option<Source>,
    bulk_inbox: Option<Arc<Inbox>>,
) -> Result<(Bytes, Made), Status> {
    // What was sent of bulk data is not there to be sent again, nor is who reads some of another call.
    let mut may_repeat = bulk.is_none() && bulk_inbox.is_none();
    let line = Arc::clone(&draft.line);
    let until = draft.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        draft.secure().await?;
        let (reply, answered) = oneshot::channel();
        let (mut expected, room) = expecting(ReplyTo::Waiting(reply), bulk.is_some(), bulk_inbox.clone());
        let made = draft.make(&mut expected).await?;
        start_bulk(&line, &made, bulk.take(), room);
        match Pending::new(&line, &made, answered).answer().await {
            Err(_) if may_repeat && made.seal.as_ref().is_some_and(|seal| seal.is_unknown()) => {
                may_repeat = false;
                draft.timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
            }
            answer => return answer.map(|bytes| (bytes, made)),
        }
    }
}

impl<R> Future for Calling<R> {
    type Output = Result<R, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let read = self.read;
        self.poll_bytes(cx).map(|answer| answer.and_then(read))
    }
}

impl<R> IntoFuture for Call<R> {
    type Output = Result<R, Status>;
    type IntoFuture = Calling<R>;

    fn into_future(self) -> Calling<R> {
        let Self { draft, read, bulk } = self;
        Calling { stage: Stage::Draft(draft), read, bulk, bulk_inbox: None, made: None }
    }
}

/// A call with bulk data beside the reply: await it for both. Dropped while it is awaited, the call is cancelled; dropping
/// the reader ends the interest in the rest.
#[must_use = "a call is made when it is awaited"]
pub struct BulkCall<R> {
    call: Call<R>,
}

impl<R: Send + 'static> IntoFuture for BulkCall<R> {
    type Output = Result<(R, BulkReader), Status>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Call { draft, read, bulk } = self.call;
        Box::pin(async move {
            let inbox = Arc::<Inbox>::default();
            let line = Arc::clone(&draft.line);
            let bulk_inbox = Some(Arc::clone(&inbox));
            let mut calling = Calling { stage: Stage::Draft(draft), read, bulk, bulk_inbox, made: None };
            let mut placed = None;
            let bytes = std::future::poll_fn(|cx| {
                let answer = calling.poll_bytes(cx);
                if let Stage::Waiting(pending) = &calling.stage {
                    placed = Some(pending.placed);
                }
                answer
            })
            .await?;
            let made = calling.made.take().or(placed.map(|placed| Made { placed, seal: None }));
            let made = made.ok_or_else(|| Status::internal("an answer to a call that was not made"))?;
            // Made first, so that a reply that cannot be read ends the interest in the rest.
            let reader = BulkReader::of_caller(&line, &made, inbox);
            Ok((read(bytes)?, reader))
        })
    }
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("command", &self.draft.command)
            .field("way", &self.draft.way)
            .finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for Calling<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calling").finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for BulkCall<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BulkCall").field(&self.call).finish()
    }
}
