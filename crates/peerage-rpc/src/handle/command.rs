//! What a command is, to those who call it and to those who run it.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::presence;
use crate::accounts::Kind;
use crate::event::Caller;
use crate::packet::Shape;
use crate::status::Status;

/// What flows in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Request,
    OneWay,
    ServerStream,
    ClientStream,
    Channel,
}

impl Form {
    pub(crate) const fn shape(self) -> Shape {
        match self {
            Self::Request => Shape::REQUEST,
            Self::OneWay => Shape::ONE_WAY,
            Self::ServerStream => Shape::STREAM_DOWN,
            Self::ClientStream => Shape::STREAM_UP,
            Self::Channel => Shape::STREAM_UP.and(Shape::STREAM_DOWN),
        }
    }
}

/// What a command asks of its callers, checked before its handler runs, wherever that is.
#[derive(Clone, Copy)]
#[must_use]
pub struct Declaration {
    pub(crate) form: Form,
    required: &'static [(u32, &'static str)],
    nodes_only: bool,
    may_call: Option<fn(&Caller) -> bool>,
    pub(crate) idempotent: bool,
}

impl Declaration {
    const fn of(form: Form) -> Self {
        Self { form, required: &[], nodes_only: false, may_call: None, idempotent: false }
    }

    /// Parameters, and one reply.
    pub const fn request() -> Self {
        Self::of(Form::Request)
    }

    /// No reply. One-way commands of a caller are run one after the other, in the order in which they were sent.
    pub const fn one_way() -> Self {
        Self::of(Form::OneWay)
    }

    /// Parameters, and a stream of messages to the caller.
    pub const fn server_stream() -> Self {
        Self::of(Form::ServerStream)
    }

    /// A stream of messages from the caller, and one reply.
    pub const fn client_stream() -> Self {
        Self::of(Form::ClientStream)
    }

    /// A stream of messages each way.
    pub const fn channel() -> Self {
        Self::of(Form::Channel)
    }

    /// Fields, by number and name, that must be there in the parameters, or in each message of a stream from the caller. A
    /// call without one is answered as an invalid argument that names it.
    ///
    /// Protobuf leaves out a plain field that has its default value, so that a zero cannot be told from nothing: declare
    /// these fields `optional`.
    pub const fn required(mut self, fields: &'static [(u32, &'static str)]) -> Self {
        self.required = fields;
        self
    }

    /// Only nodes may call it, and the broker.
    pub const fn nodes_only(mut self) -> Self {
        self.nodes_only = true;
        self
    }

    /// Only callers of which this is true may call it: whose account is on a list, say.
    pub const fn accounts(mut self, may_call: fn(&Caller) -> bool) -> Self {
        self.may_call = Some(may_call);
        self
    }

    /// It may be run again when nobody knows whether it was: a node that dies with it, or leaves, is replaced by another of its group, or by
    /// its own next start within [`crate::BrokerConfig::node_grace`]; three times run in all, and no longer than the call's own time. Calls with
    /// streams or bulk data, and one-way commands, are run once all the same.
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    pub(crate) fn check_caller(&self, name: &str, caller: &Caller) -> Result<(), Status> {
        if self.nodes_only && caller.kind == Some(Kind::User) {
            return Err(Status::permission_denied(format!("`{name}` is for nodes only")));
        }
        if self.may_call.is_some_and(|may_call| !may_call(caller)) {
            return Err(Status::permission_denied(format!("`{name}` is not for this account")));
        }
        Ok(())
    }

    pub(crate) fn check_shape(&self, name: &str, shape: Shape) -> Result<(), Status> {
        let streams = |shape: Shape| (shape.has(Shape::STREAM_UP), shape.has(Shape::STREAM_DOWN));
        if streams(shape) != streams(self.form.shape()) {
            let what = match self.form {
                Form::Request | Form::OneWay => "takes and sends no stream",
                Form::ServerStream => "sends a stream, and takes none",
                Form::ClientStream => "takes a stream, and sends none",
                Form::Channel => "takes and sends a stream",
            };
            return Err(Status::invalid_argument(format!("`{name}` {what}")));
        }
        if shape.has(Shape::ONE_WAY) && self.form != Form::OneWay {
            return Err(Status::invalid_argument(format!("`{name}` has a reply, and was sent one way")));
        }
        Ok(())
    }

    pub(crate) fn check_fields(&self, name: &str, parameters: &[u8]) -> Result<(), Status> {
        match presence::missing(self.required, parameters) {
            Some(field) => Err(Status::invalid_argument(format!("`{name}` needs `{field}`"))),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declaration")
            .field("form", &self.form)
            .field("required", &self.required)
            .field("nodes_only", &self.nodes_only)
            .field("idempotent", &self.idempotent)
            .finish_non_exhaustive()
    }
}

/// A typed command: its parameters are the message that implements this.
///
/// ```
/// use peerage_rpc::{Command, Declaration};
///
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct Divide {
///     #[prost(double, optional, tag = "1")]
///     dividend: Option<f64>,
///     #[prost(double, optional, tag = "2")]
///     divisor: Option<f64>,
/// }
///
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct Quotient {
///     #[prost(double, tag = "1")]
///     value: f64,
/// }
///
/// impl Command for Divide {
///     const NAME: &'static str = "divide";
///     type Reply = Quotient;
///     fn declaration() -> Declaration {
///         Declaration::request().required(&[(1, "dividend"), (2, "divisor")]).idempotent()
///     }
/// }
/// ```
pub trait Command: Message + Default + 'static {
    /// What it is called; at most 128 bytes.
    const NAME: &'static str;
    /// The reply, or each message of the stream to the caller; `()` for one-way commands.
    type Reply: Message + Default + 'static;

    /// What it asks of its callers. A request, if this is not implemented.
    fn declaration() -> Declaration {
        Declaration::request()
    }
}

/// A command by its name, for code that is generated: several may have parameters of the same type.
pub struct Method<Q, R> {
    pub(crate) name: &'static str,
    pub(crate) declaration: Declaration,
    types: PhantomData<fn(Q) -> R>,
}

impl<Q, R> Method<Q, R> {
    /// The command of that name, at most 128 bytes.
    pub const fn new(name: &'static str, declaration: Declaration) -> Self {
        Self { name, declaration, types: PhantomData }
    }

    /// What it is called.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The same, and that is what flows, whatever was declared.
    pub(crate) fn with(mut self, form: Form) -> Self {
        self.declaration.form = form;
        self
    }

    /// The same, without streams.
    pub(crate) fn answering_once(self) -> Self {
        let form = if self.declaration.form == Form::OneWay { Form::OneWay } else { Form::Request };
        self.with(form)
    }
}

impl<C: Command> Method<C, C::Reply> {
    /// A typed command's.
    pub fn of() -> Self {
        Self::new(C::NAME, C::declaration())
    }
}

impl<Q, R> Clone for Method<Q, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q, R> Copy for Method<Q, R> {}

impl<Q, R> fmt::Debug for Method<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Method").field(&self.name).finish()
    }
}

/// Parameters or a reply, as they are on the wire.
pub(crate) fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    if length == 0 {
        return Bytes::new();
    }
    let on_sheet = |sheet: &RefCell<BytesMut>| {
        // A message of the application's own kind may encode another while it is encoded.
        let mut sheet = sheet.try_borrow_mut().ok()?;
        // One that panicked may have left a part.
        sheet.clear();
        sheet.reserve(length);
        message.encode_raw(&mut *sheet);
        Some(sheet.split().freeze())
    };
    let on_sheet = (length <= SHARED).then(|| SHEET.try_with(on_sheet).ok().flatten()).flatten();
    on_sheet.unwrap_or_else(|| message.encode_to_vec().into())
}

/// Messages of at most so many bytes share memory.
const SHARED: usize = 256;

thread_local! {
    /// Where they are written: parameters and replies are gone as soon as they are in a packet, and their room serves again.
    static SHEET: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(4 << 10));
}

/// What a caller sent; wrong bytes are its fault.
pub(crate) fn decode_parameters<Q: Message + Default>(name: &str, bytes: Bytes) -> Result<Q, Status> {
    Q::decode(bytes).map_err(|error| {
        Status::invalid_argument(format!("the parameters of `{name}` are malformed: {error}"))
    })
}

/// What was answered; wrong bytes are the other end's fault.
pub(crate) fn decode_reply<R: Message + Default>(bytes: Bytes) -> Result<R, Status> {
    R::decode(bytes)
        .map_err(|error| Status::data_loss(format!("the reply is malformed: {error}")).may_have_run())
}
