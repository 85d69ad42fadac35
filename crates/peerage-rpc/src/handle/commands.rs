//! The commands that are run here.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use prost::Message;

use super::command::{Command, Declaration, Form, Method, decode_parameters, encode};
use super::context::{AtParty, Context, Place};
use super::desk::theirs;
use super::stream::{Receiver, Sender};
use crate::packet::{MAX_COMMAND, Shape};
use crate::status::Status;

/// Why a set of commands makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandsError {
    /// Two have the same name.
    #[error("there are two commands `{0}`")]
    Twice(String),
    /// A name is too long, or empty.
    #[error("`{name}` has {} bytes; a command's name has 1 to {MAX_COMMAND}", name.len())]
    Name {
        /// The name.
        name: String,
    },
}

pub(super) type Running = Pin<Box<dyn Future<Output = Result<Bytes, Status>> + Send>>;
type Start<M> = Box<dyn Fn(Context<M>, Bytes) -> Result<Running, Status> + Send + Sync>;

/// A command's name, to be found by the bytes that come: it is in the order of its bytes, as they are.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name(String);

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

struct Entry<M: Place> {
    declaration: Declaration,
    start: Start<M>,
}

/// Commands and their handlers, which are async functions; see [`crate::Command`].
///
/// Handlers of an instance share one task: one that blocks, or computes for long, holds up all others, so it should leave that
/// to [`tokio::task::spawn_blocking`]. A handler that panics answers [`crate::Code::Internal`], and harms nobody. When
/// nobody waits for its answer any more, or its time is over, it is dropped at the place where it waits.
pub struct Commands<M: Place = AtParty> {
    entries: BTreeMap<Name, Entry<M>>,
    fault: Option<CommandsError>,
}

/// Commands that belong together, as generated code has them.
pub trait Service<M: Place = AtParty> {
    /// Adds them all.
    fn register(self, into: &mut Commands<M>);
}

impl<M: Place> Default for Commands<M> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), fault: None }
    }
}

impl<M: Place> Commands<M> {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    fn add(&mut self, name: &str, declaration: Declaration, start: Start<M>) {
        let fault = if name.is_empty() || name.len() > MAX_COMMAND {
            Some(CommandsError::Name { name: name.to_owned() })
        } else {
            let before = self.entries.insert(Name(name.to_owned()), Entry { declaration, start });
            before.map(|_| CommandsError::Twice(name.to_owned()))
        };
        self.fault = self.fault.take().or(fault);
    }

    pub(super) fn check(&self) -> Result<(), CommandsError> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// A command with one reply, or one way.
    pub fn request<Q, R, H, F>(&mut self, method: Method<Q, R>, handler: H)
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        H: Fn(Context<M>, Q) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, Status>> + Send + 'static,
    {
        let Method { name, declaration, .. } = method.answering_once();
        let start: Start<M> = Box::new(move |ctx, bytes| {
            declaration.check_fields(name, &bytes)?;
            let running = handler(ctx, decode_parameters(name, bytes)?);
            Ok(Box::pin(async move { Ok(encode(&running.await?)) }))
        });
        self.add(name, declaration, start);
    }

    /// A command that answers with a stream, which ends when the handler does.
    pub fn server_stream<Q, R, H, F>(&mut self, method: Method<Q, R>, handler: H)
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        H: Fn(Context<M>, Q, Sender<R>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let Method { name, declaration, .. } = method.with(Form::ServerStream);
        let start: Start<M> = Box::new(move |ctx, bytes| {
            declaration.check_fields(name, &bytes)?;
            let parameters = decode_parameters(name, bytes)?;
            let sender = sender(&ctx);
            let running = handler(ctx, parameters, sender);
            Ok(Box::pin(async move { running.await.map(|()| Bytes::new()) }))
        });
        self.add(name, declaration, start);
    }

    /// A command that takes a stream and replies once.
    pub fn client_stream<Q, R, H, F>(&mut self, method: Method<Q, R>, handler: H)
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        H: Fn(Context<M>, Receiver<Q>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, Status>> + Send + 'static,
    {
        let Method { name, declaration, .. } = method.with(Form::ClientStream);
        let start: Start<M> = Box::new(move |ctx, _| {
            let receiver = receiver(&ctx, name, declaration)?;
            let running = handler(ctx, receiver);
            Ok(Box::pin(async move { Ok(encode(&running.await?)) }))
        });
        self.add(name, declaration, start);
    }

    /// A command that takes a stream and answers with one, which ends when the handler does.
    pub fn channel<Q, R, H, F>(&mut self, method: Method<Q, R>, handler: H)
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        H: Fn(Context<M>, Receiver<Q>, Sender<R>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let Method { name, declaration, .. } = method.with(Form::Channel);
        let start: Start<M> = Box::new(move |ctx, _| {
            let (receiver, sender) = (receiver(&ctx, name, declaration)?, sender(&ctx));
            let running = handler(ctx, receiver, sender);
            Ok(Box::pin(async move { running.await.map(|()| Bytes::new()) }))
        });
        self.add(name, declaration, start);
    }

    /// A command with one reply, or one way, whose parameters and reply are taken and given as they are on the wire. What the
    /// declaration says of fields counts.
    pub fn untyped<H, F>(&mut self, name: &str, declaration: Declaration, handler: H)
    where
        H: Fn(Context<M>, Bytes) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, Status>> + Send + 'static,
    {
        let named = name.to_owned();
        let start: Start<M> = Box::new(move |ctx, bytes| {
            declaration.check_fields(&named, &bytes)?;
            Ok(Box::pin(handler(ctx, bytes)))
        });
        self.add(name, declaration, start);
    }

    /// A typed command with one reply, or one way.
    pub fn command<C, H, F>(&mut self, handler: H)
    where
        C: Command,
        H: Fn(Context<M>, C) -> F + Send + Sync + 'static,
        F: Future<Output = Result<C::Reply, Status>> + Send + 'static,
    {
        self.request(Method::<C, C::Reply>::of(), handler);
    }

    /// Begins to run a command, if it is there and the caller may call it like that.
    pub(super) fn start(
        &self,
        ctx: Context<M>,
        command: &[u8],
        payload: Bytes,
        shape: Shape,
    ) -> Result<Running, Status> {
        let found = self.entries.get_key_value(command).ok_or_else(|| unknown(command))?;
        let (Name(name), Entry { declaration, start }) = found;
        declaration.check_caller(name, ctx.caller())?;
        declaration.check_shape(name, shape)?;
        M::before_run(&ctx, name)?;
        start(ctx, payload)
    }
}

fn unknown(command: &[u8]) -> Status {
    match std::str::from_utf8(command) {
        Ok(name) => Status::unimplemented(format!("there is no command `{name}`")),
        Err(_) => Status::invalid_argument("the command's name is not UTF-8"),
    }
}

fn sender<M: Place, R>(ctx: &Context<M>) -> Sender<R> {
    let stream = theirs(ctx.key(), false);
    Sender::new(ctx.line(), stream, ctx.line().desk().room_of(stream), ctx.seal().clone())
}

fn receiver<M: Place, Q: Message + Default>(
    ctx: &Context<M>,
    name: &'static str,
    declaration: Declaration,
) -> Result<Receiver<Q>, Status> {
    let stream = theirs(ctx.key(), false);
    let inbox = ctx.line().desk().inbox(stream);
    let inbox = inbox.ok_or_else(|| Status::cancelled("the call is over"))?;
    let decode = move |bytes: Bytes| {
        declaration.check_fields(name, &bytes)?;
        decode_parameters(name, bytes)
    };
    Ok(Receiver::new(ctx.line(), stream, inbox, None, Box::new(decode), ctx.seal().clone()))
}

impl<M: Place> fmt::Debug for Commands<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.entries.keys().map(|Name(name)| name).collect();
        f.debug_tuple("Commands").field(&names).finish()
    }
}

/// What a builder offers for commands.
macro_rules! command_methods {
    ($m:ty) => {
        /// Runs a typed command, which has one reply or none.
        pub fn command<C, H, F>(mut self, handler: H) -> Self
        where
            C: Command,
            H: Fn(Context<$m>, C) -> F + Send + Sync + 'static,
            F: Future<Output = Result<C::Reply, Status>> + Send + 'static,
        {
            self.commands.command::<C, H, F>(handler);
            self
        }

        /// Runs a typed command that answers with a stream, which ends when the handler does.
        pub fn server_stream<C, H, F>(mut self, handler: H) -> Self
        where
            C: Command,
            H: Fn(Context<$m>, C, Sender<C::Reply>) -> F + Send + Sync + 'static,
            F: Future<Output = Result<(), Status>> + Send + 'static,
        {
            self.commands.server_stream(Method::<C, C::Reply>::of(), handler);
            self
        }

        /// Runs a typed command that takes a stream and replies once.
        pub fn client_stream<C, H, F>(mut self, handler: H) -> Self
        where
            C: Command,
            H: Fn(Context<$m>, Receiver<C>) -> F + Send + Sync + 'static,
            F: Future<Output = Result<C::Reply, Status>> + Send + 'static,
        {
            self.commands.client_stream(Method::<C, C::Reply>::of(), handler);
            self
        }

        /// Runs a typed command that takes a stream and answers with one, which ends when the handler does.
        pub fn channel<C, H, F>(mut self, handler: H) -> Self
        where
            C: Command,
            H: Fn(Context<$m>, Receiver<C>, Sender<C::Reply>) -> F + Send + Sync + 'static,
            F: Future<Output = Result<(), Status>> + Send + 'static,
        {
            self.commands.channel(Method::<C, C::Reply>::of(), handler);
            self
        }

        /// Runs a command whose parameters and reply are as they are on the wire.
        pub fn untyped<H, F>(mut self, name: &str, declaration: Declaration, handler: H) -> Self
        where
            H: Fn(Context<$m>, Bytes) -> F + Send + Sync + 'static,
            F: Future<Output = Result<Bytes, Status>> + Send + 'static,
        {
            self.commands.untyped(name, declaration, handler);
            self
        }

        /// Runs the commands of a service.
        pub fn service(mut self, service: impl Service<$m>) -> Self {
            service.register(&mut self.commands);
            self
        }
    };
}

pub(super) use command_methods;
