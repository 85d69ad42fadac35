//! The only place where the generated messages become ours and back.

use bytes::{Bytes, BytesMut};
use peerage_machine::{Malformed, Message};
use peerage_wire::PeerId;
use peerage_wire::proto::rpc::v1 as proto;
use peerage_wire::proto::rpc::v1::packet::Body as Wire;
use prost::Message as _;

use crate::accounts::Kind;
use crate::fast::{self, Packets, Paper, Several};
use crate::packet::{
    Ack, Body, Call, Destination, Form, Item, Lanes, Limits, MAX_COMMAND, MAX_GROUP, MAX_GROUPS, MAX_SEVERAL,
    Open, Opened, Packet, SessionId, Shape, Stream,
};
use crate::status::{Code, MAX_DETAIL_BYTES, MAX_DETAILS, MAX_STATUS_MESSAGE, Status};

/// The longest packet: a message of [`crate::Limits::message_bytes`] at most, and what is said of it.
pub(crate) const MAX_PACKET: usize = 2 << 20;
/// The longest packet that is neither a call, a reply nor messages of a stream. Those hold byte strings, which share the
/// packet's memory; what else there is takes many times its bytes when decoded.
const MAX_SMALL: usize = 128 << 10;

/// The highest number of an item that anybody may say it has: at a million a second, after 146,000 years.
const MAX_SEQ: u64 = 1 << 62;

const WHAT: &str = "rpc packet";

fn wrong(why: impl ToString) -> Malformed {
    Malformed::new(WHAT, why)
}

impl Message for Packet {
    fn encoded_len(&self) -> usize {
        match &self.0 {
            Form::Sent(bytes) => bytes.len(),
            Form::Read(_, size) => *size,
            Form::Several(packets) => packets.whole().len(),
        }
    }

    fn encode(&self, into: &mut BytesMut) {
        match &self.0 {
            Form::Sent(bytes) => into.extend_from_slice(bytes),
            Form::Read(body, _) => to_wire(body).encode_raw(into),
            Form::Several(packets) => into.extend_from_slice(packets.whole()),
        }
    }

    fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Form::Sent(bytes) => bytes.clone(),
            Form::Read(body, _) => to_bytes(&to_wire(body)),
            Form::Several(packets) => packets.whole().clone(),
        }
    }

    fn into_bytes(self) -> Bytes {
        match self.0 {
            Form::Sent(bytes) => bytes,
            Form::Read(body, _) => to_bytes(&to_wire(&body)),
            Form::Several(packets) => packets.whole().clone(),
        }
    }

    fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        read(bytes).map(Self)
    }
}

impl From<Body> for Packet {
    fn from(body: Body) -> Self {
        Self(Form::Sent(to_bytes(&to_wire(&body))))
    }
}

impl Packet {
    /// An item that is encoded already.
    pub(crate) const fn encoded(bytes: Bytes) -> Self {
        Self(Form::Sent(bytes))
    }

    /// What it says, one thing after the other, each with its size in bytes. Where messages move as values, it is read here.
    pub(crate) fn into_bodies(self) -> Bodies {
        let read = match self.0 {
            Form::Sent(bytes) => read(bytes),
            form => Ok(form),
        };
        match read {
            Ok(Form::Read(body, size)) => Bodies::One(Some(Ok((body, size)))),
            Ok(Form::Several(packets)) => Bodies::Several(packets),
            Ok(Form::Sent(_)) => Bodies::One(None),
            Err(malformed) => Bodies::One(Some(Err(malformed))),
        }
    }
}

/// What a packet says.
pub(crate) enum Bodies {
    One(Option<Result<(Body, usize), Malformed>>),
    Several(Packets),
}

impl Iterator for Bodies {
    type Item = Result<(Body, usize), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::One(body) => body.take(),
            Self::Several(packets) => packets.next().map(|(from, to)| read_one_of(packets.whole(), from, to)),
        }
    }
}

/// An item as it is sent.
pub(crate) fn encode_item(paper: &mut Paper, seq: u64, bulk: bool, item: &Item) -> Bytes {
    fast::encode(paper, seq, bulk, item).unwrap_or_else(|| encode_slowly(seq, bulk, item))
}

/// An item, by the generated code.
pub(crate) fn encode_slowly(seq: u64, bulk: bool, item: &Item) -> Bytes {
    to_bytes(&proto::Packet { seq, bulk, body: Some(item_to_wire(item)) })
}

/// An answer as the journal keeps it.
pub(crate) fn answer_to_bytes(result: &Result<Bytes, Box<Status>>) -> Bytes {
    let (status, payload) = match result {
        Ok(payload) => (None, payload.clone()),
        Err(status) => (Some(status_to_wire(status)), Bytes::new()),
    };
    proto::Reply { to: 0, status, payload }.encode_to_vec().into()
}

/// An answer from the journal.
pub(crate) fn answer_from_bytes(bytes: Bytes) -> Option<Result<Bytes, Box<Status>>> {
    let reply = proto::Reply::decode(bytes).ok()?;
    match status_from_wire(reply.status.as_ref()).ok()? {
        Some(status) => Some(Err(Box::new(status))),
        None => Some(Ok(reply.payload)),
    }
}

fn to_bytes(wire: &proto::Packet) -> Bytes {
    let mut bytes = BytesMut::with_capacity(wire.encoded_len());
    wire.encode_raw(&mut bytes);
    bytes.freeze()
}

fn read(bytes: Bytes) -> Result<Form, Malformed> {
    let len = bytes.len();
    if len > MAX_PACKET {
        return Err(wrong(format!("it has {len} bytes, the limit is {MAX_PACKET}")));
    }
    if let Some(body) = fast::decode(&bytes, 0, len) {
        return Ok(Form::Read(body, len));
    }
    match fast::several(&bytes) {
        Some(packets) => Ok(Form::Several(packets)),
        None => read_slowly(bytes),
    }
}

fn too_much(bytes: usize) -> Malformed {
    wrong(format!("the packets in it take {bytes} bytes, the limit is {MAX_SEVERAL}"))
}

/// One of several, which is there in these bytes.
fn read_one_of(bytes: &Bytes, from: usize, to: usize) -> Result<(Body, usize), Malformed> {
    if let Some(body @ Body::Item { bulk: false, .. }) = fast::decode(bytes, from, to) {
        return Ok((body, to - from));
    }
    match read_slowly(bytes.slice(from..to))? {
        Form::Read(body @ (Body::Item { bulk: false, .. } | Body::Ack(_)), size) => Ok((body, size)),
        _ => Err(wrong("among several packets is one that has to come by itself")),
    }
}

/// What a packet says, by the generated code.
pub(crate) fn read_slowly(bytes: Bytes) -> Result<Form, Malformed> {
    let len = bytes.len();
    let wire = proto::Packet::decode(bytes).map_err(wrong)?;
    let body = wire.body.ok_or_else(|| wrong("it is of no known kind"))?;
    let is_long = matches!(body, Wire::Call(_) | Wire::Reply(_) | Wire::Items(_) | Wire::Offers(_));
    if !is_long && len > MAX_SMALL {
        return Err(wrong(format!("it has {len} bytes, the limit for its kind is {MAX_SMALL}")));
    }
    if let Wire::Several(proto::Several { packets }) = body {
        if wire.seq != 0 {
            return Err(wrong("what is no item has a number"));
        }
        let bytes = packets.iter().map(|packet| fast::one_of_len(packet.len())).sum();
        if bytes > MAX_SEVERAL {
            return Err(too_much(bytes));
        }
        if packets.iter().any(Bytes::is_empty) {
            return Err(wrong("among several packets is one of no bytes"));
        }
        let mut block = BytesMut::new();
        let mut several = Several::of(&mut block, bytes);
        packets.iter().for_each(|packet| several.put(packet));
        return fast::several(&several.done()).map(Form::Several).ok_or_else(|| wrong("it is of no packets"));
    }
    from_wire(wire.seq, wire.bulk, body).map(|body| Form::Read(body, len))
}

fn to_wire(body: &Body) -> proto::Packet {
    let (seq, bulk, body) = match body {
        Body::Item { seq, bulk, item } => (*seq, *bulk, item_to_wire(item)),
        Body::Open(open) => (0, false, Wire::Open(open_to_wire(open))),
        Body::Opened(opened) => (0, false, Wire::Opened(opened_to_wire(opened))),
        Body::Refused { status, session_lost } => {
            let status = Some(status_to_wire(status));
            (0, false, Wire::Refused(proto::Refused { status, session_lost: *session_lost }))
        }
        Body::Ended(status) => (0, false, Wire::Ended(proto::Ended { status: Some(status_to_wire(status)) })),
        Body::Enrol { token } => (0, false, Wire::Enrol(proto::Enrol { token: token.clone() })),
        Body::Enrolled { kind, confirmed } => {
            let kind = kind_to_wire(*kind);
            (0, false, Wire::Enrolled(proto::Enrolled { kind, confirmed: *confirmed }))
        }
        Body::Ack(Ack { up_to, bulk_up_to, done }) => {
            (0, false, Wire::Ack(proto::Ack { up_to: *up_to, bulk_up_to: *bulk_up_to, done: *done }))
        }
    };
    proto::Packet { seq, bulk, body: Some(body) }
}

fn item_to_wire(item: &Item) -> Wire {
    match item {
        Item::Call(call) => Wire::Call(call_to_wire(call)),
        Item::Reply { to, result } => {
            let (status, payload) = match result {
                Ok(payload) => (None, payload.clone()),
                Err(status) => (Some(status_to_wire(status)), Bytes::new()),
            };
            Wire::Reply(proto::Reply { to: *to, status, payload })
        }
        Item::Items { stream: Stream { call, to_caller }, count, items } => {
            let (call, to_caller, count, items) = (*call, *to_caller, *count, items.clone());
            Wire::Items(proto::Items { call, to_caller, count, items })
        }
        Item::End { stream: Stream { call, to_caller }, status } => Wire::End(proto::End {
            call: *call,
            to_caller: *to_caller,
            status: status.as_deref().map(status_to_wire),
        }),
        Item::Credit { stream: Stream { call, to_caller }, bulk, messages, bytes } => {
            let (call, to_caller, bulk) = (*call, *to_caller, *bulk);
            Wire::Credit(proto::Credit { call, to_caller, bulk, messages: *messages, bytes: *bytes })
        }
        Item::Cancel { call } => Wire::Cancel(proto::Cancel { call: *call }),
        Item::Offers(resources) => Wire::Offers(proto::Offers { resources: resources.clone() }),
        Item::Caller { caller, peer, kind, session } => Wire::Caller(proto::Caller {
            caller: *caller,
            peer: Bytes::copy_from_slice(peer.as_bytes()),
            kind: kind_to_wire(*kind),
            session: Bytes::copy_from_slice(&session.0),
        }),
        Item::Gone { caller } => Wire::Gone(proto::Gone { caller: *caller }),
        Item::Leave => Wire::Leave(proto::Leave {}),
    }
}

fn call_to_wire(call: &Call) -> proto::Call {
    let (node, group) = match &call.to {
        Destination::Peer => (Bytes::new(), Bytes::new()),
        Destination::Node(node) => (Bytes::copy_from_slice(node.as_bytes()), Bytes::new()),
        Destination::Group(group) => (Bytes::new(), group.clone()),
    };
    proto::Call {
        command: call.command.clone(),
        payload: call.payload.clone(),
        node,
        group,
        timeout_micros: call.timeout_micros,
        flags: call.shape.bits(),
        caller: call.caller,
        origin: call.origin,
    }
}

fn open_to_wire(open: &Open) -> proto::Open {
    proto::Open {
        session: open.session.map(|session| Bytes::copy_from_slice(&session.0)).unwrap_or_default(),
        lanes: Some(lanes_to_wire(open.lanes)),
        groups: open.groups.clone(),
    }
}

fn opened_to_wire(opened: &Opened) -> proto::Opened {
    let limits = opened.limits;
    proto::Opened {
        session: Bytes::copy_from_slice(&opened.session.0),
        resumed: opened.resumed,
        from_journal: opened.from_journal,
        acknowledged: opened.acknowledged,
        lanes: Some(lanes_to_wire(opened.lanes)),
        limits: Some(proto::Limits {
            calls: limits.calls,
            call_bytes: limits.call_bytes,
            streams: limits.streams,
            stream_messages: limits.stream_messages,
            stream_bytes: limits.stream_bytes,
            message_bytes: limits.message_bytes,
        }),
        grace_millis: opened.grace_millis,
        kind: kind_to_wire(opened.kind),
    }
}

fn lanes_to_wire(lanes: Lanes) -> proto::Lanes {
    let Lanes { arrived, bulk_arrived, sent, bulk_sent } = lanes;
    proto::Lanes { arrived, bulk_arrived, sent, bulk_sent }
}

/// Fields of a status are anybody's to set; what is too long would be taken for malformed by who reads it.
fn status_to_wire(status: &Status) -> proto::Status {
    let mut fitting = Status::new(status.code, status.message.as_str());
    for (kind, value) in &status.details {
        fitting = fitting.with_detail(kind.as_str(), value.clone());
    }
    let details = fitting.details.into_iter().map(|(kind, value)| proto::Detail { kind, value }).collect();
    let (code, may_have_run) = (status.code.number(), status.may_have_run);
    proto::Status { code, message: fitting.message, may_have_run, details }
}

pub(crate) fn kind_to_wire(kind: Kind) -> i32 {
    match kind {
        Kind::User => proto::Kind::User,
        Kind::Node => proto::Kind::Node,
    }
    .into()
}

fn from_wire(seq: u64, bulk: bool, body: Wire) -> Result<Body, Malformed> {
    if let Some(item) = item_from_wire(bulk, &body)? {
        if seq == 0 {
            return Err(wrong("an item has no number"));
        }
        return Ok(Body::Item { seq, bulk, item });
    }
    if seq != 0 {
        return Err(wrong("what is no item has a number"));
    }
    Ok(match body {
        Wire::Open(open) => Body::Open(open_from_wire(open)?),
        Wire::Opened(opened) => Body::Opened(Box::new(opened_from_wire(&opened)?)),
        Wire::Refused(refused) => {
            let status = status_from_wire(refused.status.as_ref())?.ok_or_else(no_status)?;
            Body::Refused { status, session_lost: refused.session_lost }
        }
        Wire::Ended(ended) => Body::Ended(status_from_wire(ended.status.as_ref())?.ok_or_else(no_status)?),
        Wire::Enrol(enrol) => Body::Enrol { token: enrol.token },
        Wire::Enrolled(enrolled) => {
            Body::Enrolled { kind: kind_from_wire(enrolled.kind)?, confirmed: enrolled.confirmed }
        }
        Wire::Ack(proto::Ack { up_to, bulk_up_to, done }) => Body::Ack(Ack { up_to, bulk_up_to, done }),
        _ => return Err(wrong("it is of no known kind")),
    })
}

fn no_status() -> Malformed {
    wrong("a refusal has no status")
}

/// `None` for what is no item.
fn item_from_wire(bulk: bool, body: &Wire) -> Result<Option<Item>, Malformed> {
    let item = match body {
        Wire::Items(items) => {
            if items.count == 0 || (bulk && items.count != 1) {
                return Err(wrong(format!("{} messages in one packet", items.count)));
            }
            let stream = Stream { call: items.call, to_caller: items.to_caller };
            return Ok(Some(Item::Items { stream, count: items.count, items: items.items.clone() }));
        }
        Wire::End(end) => {
            let stream = Stream { call: end.call, to_caller: end.to_caller };
            return Ok(Some(Item::End {
                stream,
                status: status_from_wire(end.status.as_ref())?.map(Box::new),
            }));
        }
        Wire::Call(call) => Item::Call(Box::new(call_from_wire(call)?)),
        Wire::Reply(reply) => {
            let result = match status_from_wire(reply.status.as_ref())? {
                Some(status) => Err(Box::new(status)),
                None => Ok(reply.payload.clone()),
            };
            Item::Reply { to: reply.to, result }
        }
        Wire::Credit(credit) => Item::Credit {
            stream: Stream { call: credit.call, to_caller: credit.to_caller },
            bulk: credit.bulk,
            messages: credit.messages,
            bytes: credit.bytes,
        },
        Wire::Cancel(cancel) => Item::Cancel { call: cancel.call },
        Wire::Offers(offers) => Item::Offers(offers.resources.clone()),
        Wire::Caller(caller) => Item::Caller {
            caller: caller.caller,
            peer: peer(&caller.peer)?,
            kind: kind_from_wire(caller.kind)?,
            session: session(&caller.session)?,
        },
        Wire::Gone(gone) => Item::Gone { caller: gone.caller },
        Wire::Leave(_) => Item::Leave,
        _ => return Ok(None),
    };
    if bulk {
        return Err(wrong("only bulk data has a place in the bulk lane"));
    }
    Ok(Some(item))
}

fn call_from_wire(call: &proto::Call) -> Result<Call, Malformed> {
    if call.command.len() > MAX_COMMAND {
        let len = call.command.len();
        return Err(wrong(format!("a command's name has {len} bytes, the limit is {MAX_COMMAND}")));
    }
    if std::str::from_utf8(&call.command).is_err() {
        return Err(wrong("a command's name is no UTF-8"));
    }
    let to = match (call.node.is_empty(), call.group.is_empty()) {
        (true, true) => Destination::Peer,
        (false, true) => Destination::Node(peer(&call.node)?),
        (true, false) if call.group.len() <= MAX_GROUP => Destination::Group(call.group.clone()),
        (true, false) => return Err(wrong("a group's name is too long")),
        (false, false) => return Err(wrong("a call goes to a node and to a group")),
    };
    let shape = Shape::from_bits(call.flags)
        .ok_or_else(|| wrong(format!("a call's flags are {:#x}, which are none", call.flags)))?;
    Ok(Call {
        command: call.command.clone(),
        payload: call.payload.clone(),
        to,
        timeout_micros: call.timeout_micros,
        shape,
        caller: call.caller,
        origin: call.origin,
    })
}

fn open_from_wire(open: proto::Open) -> Result<Open, Malformed> {
    if open.groups.len() > MAX_GROUPS {
        return Err(wrong(format!("a node serves {} groups, the limit is {MAX_GROUPS}", open.groups.len())));
    }
    if let Some(group) = open.groups.iter().find(|group| group.is_empty() || group.len() > MAX_GROUP) {
        return Err(wrong(format!("a group's name has {} bytes", group.len())));
    }
    let session = if open.session.is_empty() { None } else { Some(session(&open.session)?) };
    Ok(Open { session, lanes: lanes_from_wire(open.lanes)?, groups: open.groups })
}

fn opened_from_wire(opened: &proto::Opened) -> Result<Opened, Malformed> {
    let limits = opened.limits.ok_or_else(|| wrong("a session has no limits"))?;
    Ok(Opened {
        session: session(&opened.session)?,
        resumed: opened.resumed,
        from_journal: opened.from_journal,
        acknowledged: opened.acknowledged,
        lanes: lanes_from_wire(opened.lanes)?,
        limits: Limits {
            calls: limits.calls,
            call_bytes: limits.call_bytes,
            streams: limits.streams,
            stream_messages: limits.stream_messages,
            stream_bytes: limits.stream_bytes,
            message_bytes: limits.message_bytes,
        },
        grace_millis: opened.grace_millis,
        kind: kind_from_wire(opened.kind)?,
    })
}

fn lanes_from_wire(lanes: Option<proto::Lanes>) -> Result<Lanes, Malformed> {
    let proto::Lanes { arrived, bulk_arrived, sent, bulk_sent } = lanes.unwrap_or_default();
    if let Some(number) = [arrived, bulk_arrived, sent, bulk_sent].iter().find(|number| **number > MAX_SEQ) {
        return Err(wrong(format!("no session has {number} items")));
    }
    Ok(Lanes { arrived, bulk_arrived, sent, bulk_sent })
}

fn status_from_wire(status: Option<&proto::Status>) -> Result<Option<Status>, Malformed> {
    let Some(status) = status else { return Ok(None) };
    let bytes: usize = status.details.iter().map(|detail| detail.kind.len() + detail.value.len()).sum();
    if status.message.len() > MAX_STATUS_MESSAGE
        || status.details.len() > MAX_DETAILS
        || bytes > MAX_DETAIL_BYTES
    {
        return Err(wrong("a status is too long"));
    }
    let mut read = Status::new(Code::from_number(status.code), status.message.clone());
    read.may_have_run = status.may_have_run;
    read.details = status.details.iter().map(|detail| (detail.kind.clone(), detail.value.clone())).collect();
    Ok(Some(read))
}

pub(crate) fn kind_from_wire(kind: i32) -> Result<Kind, Malformed> {
    match proto::Kind::try_from(kind) {
        Ok(proto::Kind::User) => Ok(Kind::User),
        Ok(proto::Kind::Node) => Ok(Kind::Node),
        _ => Err(wrong(format!("kind {kind} is none"))),
    }
}

fn peer(bytes: &Bytes) -> Result<PeerId, Malformed> {
    let key = <[u8; 32]>::try_from(bytes.as_ref())
        .map_err(|_| wrong(format!("a key has {} bytes, not 32", bytes.len())))?;
    Ok(PeerId::from_bytes(key))
}

fn session(bytes: &Bytes) -> Result<SessionId, Malformed> {
    let id = <[u8; 16]>::try_from(bytes.as_ref())
        .map_err(|_| wrong(format!("a session has {} bytes, not 16", bytes.len())))?;
    Ok(SessionId(id))
}
