//! Whom to call, and how.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::oneshot;

use super::call::{Call, Draft, Made, Pending};
use super::command::{Command, Form, Method, decode_reply, encode};
use super::desk::{Expected, Flow, ReplyTo};
use super::inbox::Inbox;
use super::line::{Line, Way};
use super::stream::{ClientStream, Receiver, Sender};
use crate::packet::Shape;
use crate::status::Status;

/// A one-way command that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sent {
    /// Its number in the session; [`crate::FailedSend`] has it when the command is not run.
    pub number: u64,
}

/// Somebody who can be called: the broker, a node, any node of a group, or from a broker a session. Cheap to clone.
#[derive(Clone)]
pub struct Target {
    line: Arc<dyn Line>,
    way: Way,
    timeout: Option<Duration>,
    idempotent: bool,
    is_sealed: bool,
}

impl Target {
    pub(super) fn new(line: Arc<dyn Line>, way: Way) -> Self {
        Self { line, way, timeout: None, idempotent: false, is_sealed: false }
    }

    /// The same way with the same options to somebody else.
    pub(super) fn by(&self, way: Way) -> Self {
        Self { way, ..self.clone() }
    }

    /// The same, and calls to it may take so long unless they say otherwise; streams in all.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// The same, and whatever is called may be run again when nobody knows whether it was.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// The same, and what is called is sealed between this party and the node: the broker carries calls, replies, streams, bulk data and
    /// the statuses of handlers without being able to read or change them, and learns who calls whom, when and how much. The
    /// first call makes a channel, which takes two calls more.
    ///
    /// Only from a client or a node to a node by its key: other calls fail as [`crate::Code::FailedPrecondition`]. A node that has
    /// forgotten the channel does not run the call, which is then made once more in a new one; a call with a stream or bulk data
    /// fails as [`crate::Code::FailedPrecondition`] instead, and can be made again. What does not open is
    /// [`crate::Code::DataLoss`]. Sealed calls are never run by another node: [`Target::idempotent`] makes no difference.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.is_sealed = true;
        self
    }

    fn draft<Q, R>(&self, method: Method<Q, R>, payload: Bytes) -> Draft {
        let declaration = &method.declaration;
        self.raw_draft(
            Bytes::from_static(method.name.as_bytes()),
            payload,
            declaration.form.shape(),
            declaration.idempotent,
        )
    }

    fn raw_draft(&self, command: Bytes, payload: Bytes, shape: Shape, idempotent: bool) -> Draft {
        let shape = if idempotent || self.idempotent { shape.and(Shape::IDEMPOTENT) } else { shape };
        let (line, way) = (Arc::clone(&self.line), self.way.clone());
        let (timeout, is_sealed) = (self.timeout, self.is_sealed);
        Draft { line, way, command, payload, shape, timeout, is_sealed, secret: None }
    }

    // --- one reply ---

    /// Calls a command that has one reply: await what this gives.
    ///
    /// Requests of a session start in the order in which they are made, after the one-way commands before them, and run
    /// beside each other. While too many are under way, the call waits for its turn; without a session it fails at once.
    pub fn call<C: Command>(&self, command: C) -> Call<C::Reply> {
        self.request(Method::of(), command)
    }

    /// As [`Target::call`], for generated code.
    pub fn request<Q: Message, R: Message + Default + 'static>(
        &self,
        method: Method<Q, R>,
        parameters: Q,
    ) -> Call<R> {
        Call {
            draft: self.draft(method.with(Form::Request), encode(&parameters)),
            read: decode_reply,
            bulk: None,
        }
    }

    /// As [`Target::call`], by name, with parameters and reply as they are on the wire.
    pub fn call_untyped(&self, command: impl Into<String>, parameters: impl Into<Bytes>) -> Call<Bytes> {
        let draft = self.raw_draft(command.into().into(), parameters.into(), Shape::REQUEST, false);
        Call { draft, read: Ok, bulk: None }
    }

    /// Calls, goes on, and has `then` called with the answer: see [`Call::then`].
    pub fn call_then<C: Command>(
        &self,
        command: C,
        then: impl FnOnce(Result<C::Reply, Status>) + Send + 'static,
    ) {
        self.call(command).then(then);
    }

    // --- one way ---

    /// Sends a command that has no reply, as soon as there is room for it. One-way commands of a session are run one after
    /// the other, in the order in which they were sent, each once, also across lost links. Returns when it is on its way;
    /// `flush` waits until it is done.
    ///
    /// # Errors
    /// There is no session, or the parameters are too long.
    pub async fn send<C: Command>(&self, command: C) -> Result<Sent, Status> {
        self.send_draft(self.draft(Method::<C, C::Reply>::of().with(Form::OneWay), encode(&command))).await
    }

    /// As [`Target::send`], for generated code.
    ///
    /// # Errors
    /// As [`Target::send`].
    pub async fn post<Q: Message, R>(&self, method: Method<Q, R>, parameters: Q) -> Result<Sent, Status> {
        self.send_draft(self.draft(method.with(Form::OneWay), encode(&parameters))).await
    }

    /// As [`Target::send`], by name, with parameters as they are on the wire.
    ///
    /// # Errors
    /// As [`Target::send`].
    pub async fn send_untyped(
        &self,
        command: impl Into<String>,
        parameters: impl Into<Bytes>,
    ) -> Result<Sent, Status> {
        self.send_draft(self.raw_draft(command.into().into(), parameters.into(), Shape::ONE_WAY, false)).await
    }

    async fn send_draft(&self, draft: Draft) -> Result<Sent, Status> {
        let made = self.open(draft, Expected::default()).await?;
        Ok(Sent { number: made.placed.seq })
    }

    /// As [`Target::send`], if there is room now.
    ///
    /// # Errors
    /// As [`Target::send`], or [`crate::Code::ResourceExhausted`]: too much is under way; or it is to be sealed, and there is no channel yet.
    pub fn try_send<C: Command>(&self, command: &C) -> Result<Sent, Status> {
        let mut draft = self.draft(Method::<C, C::Reply>::of().with(Form::OneWay), encode(command));
        draft.secure_now()?;
        draft.place_now(&mut Expected::default()).map(|made| Sent { number: made.placed.seq })
    }

    // --- streams ---

    /// Calls a command that answers with a stream of messages.
    ///
    /// # Errors
    /// There is no session, or the parameters are too long. What the other end says comes by the stream.
    pub async fn server_stream<C: Command>(&self, command: C) -> Result<Receiver<C::Reply>, Status> {
        self.open_server_stream(Method::of(), command).await
    }

    /// As [`Target::server_stream`], for generated code.
    ///
    /// # Errors
    /// As [`Target::server_stream`].
    pub async fn open_server_stream<Q: Message, R: Message + Default + 'static>(
        &self,
        method: Method<Q, R>,
        parameters: Q,
    ) -> Result<Receiver<R>, Status> {
        let inbox = Arc::<Inbox>::default();
        let data = Flow { inbox: Some(Arc::clone(&inbox)), room: None };
        let expected = Expected { data, ..Expected::default() };
        let made =
            self.open(self.draft(method.with(Form::ServerStream), encode(&parameters)), expected).await?;
        Ok(Receiver::of_caller(&self.line, &made, inbox))
    }

    /// Calls a command that takes a stream of messages and replies once.
    ///
    /// # Errors
    /// There is no session.
    pub async fn client_stream<C: Command>(&self) -> Result<ClientStream<C, C::Reply>, Status> {
        self.open_client_stream(Method::of()).await
    }

    /// As [`Target::client_stream`], for generated code.
    ///
    /// # Errors
    /// As [`Target::client_stream`].
    pub async fn open_client_stream<Q: Message, R: Message + Default + 'static>(
        &self,
        method: Method<Q, R>,
    ) -> Result<ClientStream<Q, R>, Status> {
        let (reply, answered) = oneshot::channel();
        let room = Arc::default();
        let data = Flow { inbox: None, room: Some(Arc::clone(&room)) };
        let expected = Expected { reply: ReplyTo::Waiting(reply), data, ..Expected::default() };
        let made = self.open(self.draft(method.with(Form::ClientStream), Bytes::new()), expected).await?;
        let pending = Pending::new(&self.line, &made, answered);
        let sender = Sender::new(&self.line, made.placed.stream(false), room, made.seal.clone());
        Ok(ClientStream { sender, pending, types: std::marker::PhantomData })
    }

    /// Calls a command that takes a stream of messages and answers with one.
    ///
    /// # Errors
    /// There is no session.
    pub async fn channel<C: Command>(&self) -> Result<(Sender<C>, Receiver<C::Reply>), Status> {
        self.open_channel(Method::of()).await
    }

    /// As [`Target::channel`], for generated code.
    ///
    /// # Errors
    /// As [`Target::channel`].
    pub async fn open_channel<Q: Message, R: Message + Default + 'static>(
        &self,
        method: Method<Q, R>,
    ) -> Result<(Sender<Q>, Receiver<R>), Status> {
        let (inbox, room) = (Arc::<Inbox>::default(), Arc::default());
        let data = Flow { inbox: Some(Arc::clone(&inbox)), room: Some(Arc::clone(&room)) };
        let expected = Expected { data, ..Expected::default() };
        let made = self.open(self.draft(method.with(Form::Channel), Bytes::new()), expected).await?;
        let sender = Sender::new(&self.line, made.placed.stream(false), room, made.seal.clone());
        Ok((sender, Receiver::of_caller(&self.line, &made, inbox)))
    }

    async fn open(&self, mut draft: Draft, mut expected: Expected) -> Result<Made, Status> {
        draft.secure().await?;
        draft.make(&mut expected).await
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("way", &self.way).finish_non_exhaustive()
    }
}
