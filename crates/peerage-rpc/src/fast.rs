//! Calls, replies and messages of streams, read and written without generated code.
//!
//! These three are nearly all that there is, and the generated code costs more than half of what a broker does with one.
//! The format is that of `proto/peerage/rpc/v1/rpc.proto`; tests compare both ways, and what is not plainly one of the three
//! is left to the generated code.

use bytes::{BufMut as _, Bytes, BytesMut};
use peerage_wire::PeerId;

use crate::packet::{Body, Call, Destination, Item, MAX_COMMAND, MAX_GROUP, MAX_SEVERAL, Shape, Stream};

const SEQ: u8 = 1 << 3;
const BULK: u8 = 2 << 3;
const CALL: u8 = 10 << 3 | 2;
const REPLY: u8 = 11 << 3 | 2;
const ITEMS: u8 = 12 << 3 | 2;

const fn varint_len(value: u64) -> usize {
    if value < 0x80 {
        return 1;
    }
    // Each byte holds seven bits.
    (63 - value.leading_zeros() as usize) / 7 + 1
}

/// Writes fields, one behind the other, into room that was measured before.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn put(&mut self, byte: u8) {
        if let Some((first, rest)) = std::mem::take(&mut self.0).split_first_mut() {
            *first = byte;
            self.0 = rest;
        }
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.put((value & 0x7f) as u8);
    }

    /// A key and what follows it, which mostly takes one byte.
    #[inline]
    fn put_head(&mut self, key: u8, value: u64) {
        if value >= 0x80 {
            self.put(key);
            self.put_varint(value);
        } else if let Some((head, rest)) = std::mem::take(&mut self.0).split_first_chunk_mut() {
            *head = [key, value as u8];
            self.0 = rest;
        }
    }

    fn put_number(&mut self, tag: u8, value: u64) {
        if value != 0 {
            self.put_head(tag << 3, value);
        }
    }

    fn put_bytes(&mut self, tag: u8, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.put_head(tag << 3 | 2, bytes.len() as u64);
            if let Some((place, rest)) = std::mem::take(&mut self.0).split_at_mut_checked(bytes.len()) {
                place.copy_from_slice(bytes);
                self.0 = rest;
            }
        }
    }
}

/// A number's field, when it is not 0.
const fn number_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// A field of bytes, when there are any.
const fn bytes_len(len: usize) -> usize {
    if len == 0 { 0 } else { 1 + varint_len(len as u64) + len }
}

/// Small packets share blocks of so many bytes, which an allocator still counts among the small ones that it hands out at once.
const BLOCK: usize = 1000;
/// The longest of them, in bytes.
const LONGEST_IN_BLOCK: usize = 256;
/// Room for several packets as one, more than twice: one may still be under way. A power of two, for as much is taken each time.
const SEVERAL_BLOCK: usize = 16 << 10;

/// Where packets are written. Small ones that follow each other lie in one block, which stays as long as any of them does:
/// memory for each of them by itself costs more than writing it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paper {
    block: BytesMut,
    /// For several packets as one: those are gone soon, and their room serves again.
    several: BytesMut,
}

impl Paper {
    /// A place for so many bytes, all of them 0, which it need not share when they are many.
    fn sheet(&mut self, bytes: usize) -> BytesMut {
        if bytes > LONGEST_IN_BLOCK {
            return BytesMut::zeroed(bytes);
        }
        if self.block.len() < bytes {
            self.block = BytesMut::zeroed(BLOCK);
        }
        self.block.split_to(bytes)
    }

    /// Several packets as one, which take so many bytes together by [`one_of_len`].
    pub(crate) fn several(&mut self, len: usize) -> Several<'_> {
        if self.several.capacity() == 0 {
            self.several.reserve(SEVERAL_BLOCK);
        }
        Several::of(&mut self.several, len)
    }

    /// Lets the rest of the blocks go.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The packet of an item, when it is one of the three.
pub(crate) fn encode(paper: &mut Paper, seq: u64, bulk: bool, item: &Item) -> Option<Bytes> {
    let (tag, len) = match item {
        Item::Call(call) => (CALL, call_len(call)),
        Item::Reply { to, result: Ok(payload) } => (REPLY, number_len(*to) + bytes_len(payload.len())),
        Item::Items { stream, count, items } => {
            let stream = number_len(stream.call) + number_len(u64::from(stream.to_caller));
            (ITEMS, stream + number_len(u64::from(*count)) + bytes_len(items.len()))
        }
        _ => return None,
    };
    let whole = number_len(seq) + number_len(u64::from(bulk)) + 1 + varint_len(len as u64) + len;
    let mut sheet = paper.sheet(whole);
    let mut writer = Writer(&mut sheet);
    writer.put_number(1, seq);
    writer.put_number(2, u64::from(bulk));
    writer.put_head(tag, len as u64);
    match item {
        Item::Call(call) => put_call(&mut writer, call),
        Item::Reply { to, result: Ok(payload) } => {
            writer.put_number(1, *to);
            writer.put_bytes(3, payload);
        }
        Item::Items { stream, count, items } => {
            writer.put_number(1, stream.call);
            writer.put_number(2, u64::from(stream.to_caller));
            writer.put_number(3, u64::from(*count));
            writer.put_bytes(4, items);
        }
        _ => {}
    }
    Some(sheet.freeze())
}

fn node(call: &Call) -> &[u8] {
    match &call.to {
        Destination::Node(node) => node.as_bytes(),
        Destination::Peer | Destination::Group(_) => &[],
    }
}

fn group(call: &Call) -> &[u8] {
    match &call.to {
        Destination::Group(group) => group,
        Destination::Peer | Destination::Node(_) => &[],
    }
}

fn call_len(call: &Call) -> usize {
    bytes_len(call.command.len())
        + bytes_len(call.payload.len())
        + bytes_len(node(call).len())
        + bytes_len(group(call).len())
        + number_len(call.timeout_micros)
        + number_len(u64::from(call.shape.bits()))
        + number_len(call.caller)
        + number_len(call.origin)
}

fn put_call(writer: &mut Writer<'_>, call: &Call) {
    writer.put_bytes(1, &call.command);
    writer.put_bytes(2, &call.payload);
    writer.put_bytes(3, node(call));
    writer.put_bytes(4, group(call));
    writer.put_number(5, call.timeout_micros);
    writer.put_number(6, u64::from(call.shape.bits()));
    writer.put_number(7, call.caller);
    writer.put_number(8, call.origin);
}

/// The tag of several packets, and of each of them.
const SEVERAL: [u8; 2] = [20 << 3 & 0x7f | 2 | 0x80, 20 >> 4];
const ONE_OF: u8 = 1 << 3 | 2;

/// What a packet of so many bytes takes among several.
pub(crate) const fn one_of_len(len: usize) -> usize {
    bytes_len(len)
}

/// Several packets as one.
pub(crate) struct Several<'a>(&'a mut BytesMut);

impl<'a> Several<'a> {
    /// Begins one in an empty block, of packets that take so many bytes by [`one_of_len`].
    pub(crate) fn of(block: &'a mut BytesMut, len: usize) -> Self {
        block.reserve(SEVERAL.len() + varint_len(len as u64) + len);
        block.put_slice(&SEVERAL);
        put_varint(block, len as u64);
        Self(block)
    }

    pub(crate) fn put(&mut self, packet: &[u8]) {
        self.0.put_u8(ONE_OF);
        put_varint(self.0, packet.len() as u64);
        self.0.put_slice(packet);
    }

    pub(crate) fn done(self) -> Bytes {
        self.0.split().freeze()
    }
}

fn put_varint(block: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        block.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    block.put_u8(value as u8);
}

/// The packets of which one is made, if it is plainly made of several, and not too much.
pub(crate) fn several(packet: &Bytes) -> Option<Packets> {
    let mut fields =
        Fields::of(packet, SEVERAL.len(), packet.len()).filter(|_| packet.starts_with(&SEVERAL))?;
    let len = usize::try_from(fields.varint()?).ok()?;
    let at = fields.at;
    if packet.len() - at != len || len > MAX_SEVERAL {
        return None;
    }
    while !fields.is_over() {
        fields.one_of()?;
    }
    Some(Packets { packet: packet.clone(), at })
}

/// Packets that came as one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packets {
    packet: Bytes,
    at: usize,
}

impl Packets {
    /// What they came as.
    pub(crate) fn whole(&self) -> &Bytes {
        &self.packet
    }

    /// From where to where the next is.
    pub(crate) fn next(&mut self) -> Option<(usize, usize)> {
        let mut fields = Fields::of(&self.packet, self.at, self.packet.len())?;
        let (from, to) = fields.one_of()?;
        self.at = to;
        Some((from, to))
    }
}

/// Walks over fields of one byte's tag.
struct Fields<'a> {
    /// The packet, up to where the fields end.
    bytes: &'a [u8],
    at: usize,
}

enum Value {
    Number(u64),
    /// From where to where.
    Bytes(usize, usize),
}

impl<'a> Fields<'a> {
    fn of(packet: &'a [u8], at: usize, end: usize) -> Option<Self> {
        Some(Self { bytes: packet.get(..end)?, at })
    }

    const fn is_over(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Nearly every number takes one byte.
    #[inline]
    fn varint(&mut self) -> Option<u64> {
        match self.byte()? {
            byte if byte < 0x80 => Some(u64::from(byte)),
            byte => self.long_varint(byte),
        }
    }

    fn long_varint(&mut self, first: u8) -> Option<u64> {
        let mut value = u64::from(first & 0x7f);
        for shift in (7..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        // The tenth byte is rare and has rules of its own.
        None
    }

    /// From where to where the bytes of a field are.
    #[inline]
    fn span(&mut self) -> Option<(usize, usize)> {
        let len = usize::try_from(self.varint()?).ok()?;
        let (from, to) = (self.at, self.at.checked_add(len)?);
        self.at = to;
        (to <= self.bytes.len()).then_some((from, to))
    }

    /// One of several packets, which is not empty.
    #[inline]
    fn one_of(&mut self) -> Option<(usize, usize)> {
        if self.byte()? != ONE_OF {
            return None;
        }
        self.span().filter(|(from, to)| from < to)
    }

    /// The next field; `Some(None)` at the end. Always in line: what is done with a field decides what of this is needed.
    #[inline(always)]
    fn next(&mut self) -> Option<Option<(u8, Value)>> {
        let Some(key) = self.byte() else { return Some(None) };
        let value = match key & 0x87 {
            0 => Value::Number(self.varint()?),
            2 => {
                let (from, to) = self.span()?;
                Value::Bytes(from, to)
            }
            _ => return None,
        };
        Some(Some((key, value)))
    }
}

/// What a packet says, there in these bytes, if it is plainly one of the three items. `None` says nothing: the generated code
/// decides.
#[inline]
pub(crate) fn decode(bytes: &Bytes, from: usize, end: usize) -> Option<Body> {
    let mut fields = Fields::of(bytes, from, end)?;
    let (mut seq, mut bulk) = (0, false);
    loop {
        match fields.next()?? {
            (SEQ, Value::Number(value)) => seq = value,
            (BULK, Value::Number(value)) => bulk = value != 0,
            // The body is the last field, once.
            (kind, Value::Bytes(from, to)) if to == end && seq != 0 => {
                let body = Fields::of(bytes, from, to)?;
                let item = match kind {
                    CALL if !bulk => Item::Call(Box::new(call(bytes, body)?)),
                    REPLY if !bulk => reply(bytes, body)?,
                    ITEMS => items(bytes, body, bulk)?,
                    _ => return None,
                };
                return Some(Body::Item { seq, bulk, item });
            }
            _ => return None,
        }
    }
}

#[inline]
fn call(bytes: &Bytes, mut fields: Fields<'_>) -> Option<Call> {
    let (mut command, mut payload) = (Bytes::new(), Bytes::new());
    let (mut to, mut flags) = (Destination::Peer, 0);
    let (mut timeout_micros, mut caller, mut origin) = (0, 0, 0);
    while let Some((key, value)) = fields.next()? {
        match (key >> 3, value) {
            (1, Value::Bytes(from, end)) if end - from <= MAX_COMMAND => command = bytes.slice(from..end),
            (2, Value::Bytes(from, end)) => payload = bytes.slice(from..end),
            (3, Value::Bytes(from, end)) if to == Destination::Peer => {
                let key: [u8; 32] = bytes.get(from..end)?.try_into().ok()?;
                to = Destination::Node(PeerId::from_bytes(key));
            }
            (4, Value::Bytes(from, end))
                if to == Destination::Peer && (1..=MAX_GROUP).contains(&(end - from)) =>
            {
                to = Destination::Group(bytes.slice(from..end));
            }
            (5, Value::Number(value)) => timeout_micros = value,
            (6, Value::Number(value)) => flags = u32::try_from(value).ok()?,
            (7, Value::Number(value)) => caller = value,
            (8, Value::Number(value)) => origin = value,
            _ => return None,
        }
    }
    // Nearly every name is of letters alone, which is seen sooner.
    if !command.is_ascii() {
        std::str::from_utf8(&command).ok()?;
    }
    let shape = Shape::from_bits(flags)?;
    Some(Call { command, payload, to, timeout_micros, shape, caller, origin })
}

#[inline]
fn reply(bytes: &Bytes, mut fields: Fields<'_>) -> Option<Item> {
    let (mut to, mut payload) = (0, Bytes::new());
    while let Some((key, value)) = fields.next()? {
        match (key >> 3, value) {
            (1, Value::Number(value)) => to = value,
            (3, Value::Bytes(from, end)) => payload = bytes.slice(from..end),
            _ => return None,
        }
    }
    Some(Item::Reply { to, result: Ok(payload) })
}

#[inline]
fn items(bytes: &Bytes, mut fields: Fields<'_>, bulk: bool) -> Option<Item> {
    let mut stream = Stream { call: 0, to_caller: false };
    let (mut count, mut items) = (0, Bytes::new());
    while let Some((key, value)) = fields.next()? {
        match (key >> 3, value) {
            (1, Value::Number(value)) => stream.call = value,
            (2, Value::Number(value)) => stream.to_caller = value != 0,
            (3, Value::Number(value)) => count = u32::try_from(value).ok()?,
            (4, Value::Bytes(from, end)) => items = bytes.slice(from..end),
            _ => return None,
        }
    }
    let is_count = count > 0 && (!bulk || count == 1);
    is_count.then_some(Item::Items { stream, count, items })
}

#[cfg(test)]
mod tests {
    use peerage_machine::Message as _;
    use proptest::prelude::*;

    use super::*;
    use crate::convert::{encode_slowly, read_slowly};
    use crate::packet::{Body, Form, Packet};

    fn some_bytes(most: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 1..200_u64, Just(u64::MAX >> 1), any::<u64>()]
    }

    fn destination() -> impl Strategy<Value = Destination> {
        prop_oneof![
            Just(Destination::Peer),
            any::<[u8; 32]>().prop_map(|key| Destination::Node(PeerId::from_bytes(key))),
            "[a-z]{1,64}".prop_map(|name| Destination::Group(Bytes::from(name))),
        ]
    }

    fn item() -> impl Strategy<Value = Item> {
        let call = ("[a-zé]{0,60}", some_bytes(300), destination(), number(), 0..128_u32, number(), number());
        let call = call.prop_map(|(command, payload, to, timeout_micros, flags, caller, origin)| {
            let shape = Shape::from_bits(flags).unwrap_or_default();
            let command = command.into();
            Item::Call(Box::new(Call { command, payload, to, timeout_micros, shape, caller, origin }))
        });
        let reply =
            (number(), some_bytes(300)).prop_map(|(to, payload)| Item::Reply { to, result: Ok(payload) });
        let stream = (number(), any::<bool>()).prop_map(|(call, to_caller)| Stream { call, to_caller });
        let items = (stream, 1..5_000_u32, some_bytes(300));
        let items = items.prop_map(|(stream, count, items)| Item::Items { stream, count, items });
        prop_oneof![call, reply, items]
    }

    proptest! {
        #[test]
        fn what_is_written_by_hand_is_what_the_generated_code_writes(seq in 1..u64::MAX, item in item()) {
            let by_hand = encode(&mut Paper::default(), seq, false, &item).expect("one of the three");
            let size = by_hand.len();
            prop_assert_eq!(&by_hand, &encode_slowly(seq, false, &item));
            if let Some(read) = decode(&by_hand, 0, size) {
                prop_assert_eq!(&read, &Body::Item { seq, bulk: false, item: item.clone() });
            } else {
                // Only numbers of ten bytes are left to the generated code.
                prop_assert!(by_hand.len() > 9);
            }
            let packet = Packet::decode(by_hand);
            prop_assert_eq!(packet, Ok(Packet(Form::Read(Body::Item { seq, bulk: false, item }, size))));
        }

        #[test]
        fn whatever_is_read_by_hand_the_generated_code_reads_the_same(
            seq in 1..1_000_u64,
            item in item(),
            cut in any::<proptest::sample::Index>(),
            flip in any::<(proptest::sample::Index, u8)>(),
            tail in some_bytes(4),
        ) {
            let mut bytes = encode_slowly(seq, false, &item).to_vec();
            let at = flip.0.index(bytes.len());
            bytes[at] ^= flip.1;
            bytes.truncate(cut.index(bytes.len()) + 1);
            bytes.extend_from_slice(&tail);
            let bytes = Bytes::from(bytes);
            let size = bytes.len();
            if let Some(body) = decode(&bytes, 0, size) {
                prop_assert_eq!(read_slowly(bytes), Ok(Form::Read(body, size)));
            }
        }
    }
}
