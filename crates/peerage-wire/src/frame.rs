//! What is inside a record: frames, each after its length as a varint.
//!
//! A frame is a `peerage.link.v1.Frame`: a piece of a message, or a control. Pieces of messages are what links carry
//! by the million, so they are coded by hand here, byte for byte as prost does it; the tests compare the two.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use prost::Message;

use crate::fields::{self, Value};
use crate::hello::{InstanceError, check_instance};
use crate::limits::{MAX_CONTROL, MAX_DETAIL, MAX_FRAGMENT, MAX_FRAME, MAX_INSTANCES};
use crate::proto::link::v1::{self as proto, control::Kind};

/// The head of a data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct DataHeader {
    /// The sender's number for the channel.
    pub channel: u32,
    /// The order of service: 0 interactive, 1 control, 2 bulk. Other values are passed on: whoever reads them decides.
    pub class: u32,
    /// On the first fragment of a message that has several: the length of the whole message in bytes. Otherwise 0.
    pub total: u64,
}

/// One frame of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum FrameRef<'a> {
    /// A message, or a piece of one.
    Data {
        /// Its head.
        header: DataHeader,
        /// At most [`MAX_FRAGMENT`] bytes, in the record's plaintext. Whatever is kept, is copied out.
        payload: &'a [u8],
    },
    /// A control, its lists and texts within the limits.
    Control(Kind),
    /// A control of a kind that a later version may have. It is of no consequence.
    UnknownControl,
}

// The keys of the fields: tag << 3 | wire type.
const CHANNEL: u8 = 1 << 3;
const CLASS: u8 = 2 << 3;
const TOTAL: u8 = 3 << 3;
const PAYLOAD: u8 = 4 << 3 | 2;
const CONTROL: u8 = 15 << 3 | 2;

/// Bytes that [`put_data`] appends, the length before the frame among them.
#[inline]
pub fn data_frame_len(header: DataHeader, payload_len: usize) -> usize {
    let body = data_body_len(header, payload_len);
    varint_len(body as u64) + body
}

#[inline]
fn data_body_len(header: DataHeader, payload_len: usize) -> usize {
    let number = |value: u64| if value == 0 { 0 } else { 1 + varint_len(value) };
    let payload = if payload_len == 0 { 0 } else { 1 + varint_len(payload_len as u64) + payload_len };
    number(u64::from(header.channel)) + number(u64::from(header.class)) + number(header.total) + payload
}

/// Appends a data frame and the length before it. The other end refuses a payload of more than [`MAX_FRAGMENT`]
/// bytes: longer messages travel as several fragments.
#[inline]
pub fn put_data(into: &mut BytesMut, header: DataHeader, payload: &[u8]) {
    let body = data_body_len(header, payload.len());
    let mut head = Head::default();
    head.varint(body as u64);
    for (key, value) in
        [(CHANNEL, u64::from(header.channel)), (CLASS, u64::from(header.class)), (TOTAL, header.total)]
    {
        if value != 0 {
            head.byte(key);
            head.varint(value);
        }
    }
    if !payload.is_empty() {
        head.byte(PAYLOAD);
        head.varint(payload.len() as u64);
    }
    into.reserve(head.used + payload.len());
    into.extend_from_slice(head.as_slice());
    into.extend_from_slice(payload);
}

/// All of a data frame but its payload: five varints of at most ten bytes and four keys, so that the buffer of the
/// record is touched twice and not nine times.
struct Head {
    bytes: [u8; 64],
    used: usize,
}

impl Default for Head {
    fn default() -> Self {
        Self { bytes: [0; 64], used: 0 }
    }
}

impl Head {
    #[inline]
    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.used) {
            *place = byte;
            self.used += 1;
        }
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }
}

/// Bytes that a varint of this value has.
#[inline]
pub fn varint_len(value: u64) -> usize {
    // Seven bits a byte: 1 + floor(log2(value) / 7), without a division.
    (((63 - (value | 1).leading_zeros()) * 9 + 73) / 64) as usize
}

/// Bytes that [`put_control`] appends, the length before the frame among them.
pub fn control_frame_len(kind: &Kind) -> usize {
    let body = control_body_len(within_limits(kind).encoded_len());
    varint_len(body as u64) + body
}

fn control_body_len(control: usize) -> usize {
    1 + varint_len(control as u64) + control
}

/// Appends a control frame and the length before it, with texts cut as [`within_limits`] does.
pub fn put_control(into: &mut BytesMut, kind: &Kind) {
    let kind = within_limits(kind);
    let control = kind.encoded_len();
    let body = control_body_len(control);
    into.reserve(varint_len(body as u64) + body);
    prost::encoding::encode_varint(body as u64, into);
    into.put_u8(CONTROL);
    prost::encoding::encode_varint(control as u64, into);
    kind.encode(into);
}

/// The control as it is sent: texts for people cut to [`MAX_DETAIL`] bytes, and those of refusals left away where the
/// whole would still exceed [`MAX_CONTROL`]. Reasons and numbers stay. Borrowed where nothing is to be cut.
pub fn within_limits(kind: &Kind) -> Cow<'_, Kind> {
    let details_fit = |refused: &[proto::Refusal]| refused.iter().all(|refusal| fits(&refusal.detail));
    let fits = match kind {
        Kind::Accept(accept) => details_fit(&accept.refused) && kind.encoded_len() <= MAX_CONTROL,
        Kind::Refuse(refuse) => {
            fits(&refuse.detail) && details_fit(&refuse.refused) && kind.encoded_len() <= MAX_CONTROL
        }
        Kind::Closed(closed) => fits(&closed.detail),
        Kind::Goodbye(goodbye) => fits(&goodbye.detail),
        _ => true,
    };
    if fits { Cow::Borrowed(kind) } else { Cow::Owned(shortened(kind.clone())) }
}

fn fits(detail: &str) -> bool {
    detail.len() <= MAX_DETAIL
}

fn shortened(mut kind: Kind) -> Kind {
    match &mut kind {
        Kind::Accept(accept) => accept.refused.iter_mut().for_each(|refusal| cut(&mut refusal.detail)),
        Kind::Refuse(refuse) => {
            cut(&mut refuse.detail);
            refuse.refused.iter_mut().for_each(|refusal| cut(&mut refusal.detail));
        }
        Kind::Closed(closed) => cut(&mut closed.detail),
        Kind::Goodbye(goodbye) => cut(&mut goodbye.detail),
        _ => {}
    }
    if kind.encoded_len() > MAX_CONTROL
        && let Kind::Accept(proto::Accept { refused, .. }) | Kind::Refuse(proto::Refuse { refused, .. }) =
            &mut kind
    {
        refused.iter_mut().for_each(|refusal| refusal.detail.clear());
    }
    kind
}

fn cut(detail: &mut String) {
    let end = (0..=MAX_DETAIL.min(detail.len())).rev().find(|end| detail.is_char_boundary(*end));
    detail.truncate(end.unwrap_or(0));
}

/// The frames of one record's plaintext, in order. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// The frames of this plaintext.
    #[inline]
    pub fn new(plaintext: &'a [u8]) -> Self {
        Self { rest: plaintext }
    }

    #[inline]
    fn step(&mut self) -> Result<FrameRef<'a>, FrameError> {
        let length = fields::varint(&mut self.rest)?;
        if length > MAX_FRAME as u64 {
            return Err(FrameError::Frame { length, limit: MAX_FRAME });
        }
        parse(fields::take(&mut self.rest, length)?)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<FrameRef<'a>, FrameError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = self.step();
        if frame.is_err() {
            self.rest = &[];
        }
        Some(frame)
    }
}

impl std::iter::FusedIterator for Frames<'_> {}

/// One frame without the length before it.
#[inline]
fn parse(frame: &[u8]) -> Result<FrameRef<'_>, FrameError> {
    let mut header = DataHeader::default();
    let mut payload: &[u8] = &[];
    let mut rest = frame;
    while let Some((tag, value)) = fields::next(&mut rest)? {
        match (tag, value) {
            // Numbers wider than the field lose their upper bits, as protobuf has it.
            (1, Value::Varint(value)) => header.channel = value as u32,
            (2, Value::Varint(value)) => header.class = value as u32,
            (3, Value::Varint(value)) => header.total = value,
            (4, Value::Length(bytes)) => {
                if bytes.len() > MAX_FRAGMENT {
                    return Err(FrameError::Fragment { length: bytes.len(), limit: MAX_FRAGMENT });
                }
                payload = bytes;
            }
            (15, Value::Length(_)) => return parse_control(frame),
            (1..=4 | 15, _) => return Err(FrameError::WireType { tag }),
            _ => {}
        }
    }
    Ok(FrameRef::Data { header, payload })
}

/// A frame in which there is a control. Rare and small, so the generated code may read it, once it is known that it
/// will not allocate much: an empty refusal is two bytes here and forty there.
fn parse_control(frame: &[u8]) -> Result<FrameRef<'static>, FrameError> {
    let mut refusals = 0;
    let mut rest = frame;
    while let Some((tag, value)) = fields::next(&mut rest)? {
        let (15, Value::Length(control)) = (tag, value) else { continue };
        if control.len() > MAX_CONTROL {
            return Err(FrameError::Control { length: control.len(), limit: MAX_CONTROL });
        }
        let mut kinds = control;
        while let Some((tag, value)) = fields::next(&mut kinds)? {
            refusals += match (tag, value) {
                (1, Value::Length(accept)) => fields::count(accept, 1)?,
                (2, Value::Length(refuse)) => fields::count(refuse, 3)?,
                _ => 0,
            };
        }
    }
    if refusals > MAX_INSTANCES {
        return Err(FrameError::Refusals { count: refusals, limit: MAX_INSTANCES });
    }
    let frame =
        proto::Frame::decode(frame).map_err(|error| FrameError::Malformed { why: error.to_string() })?;
    if frame.channel != 0 || frame.class != 0 || frame.total != 0 || !frame.payload.is_empty() {
        return Err(FrameError::Mixed);
    }
    let Some(kind) = frame.control.and_then(|control| control.kind) else {
        return Ok(FrameRef::UnknownControl);
    };
    check_control(&kind)?;
    Ok(FrameRef::Control(kind))
}

fn check_control(kind: &Kind) -> Result<(), FrameError> {
    let refusals =
        |refused: &[proto::Refusal]| refused.iter().try_for_each(|refusal| check_detail(&refusal.detail));
    match kind {
        Kind::Accept(accept) => refusals(&accept.refused),
        Kind::Refuse(refuse) => {
            check_detail(&refuse.detail)?;
            refusals(&refuse.refused)
        }
        Kind::Open(open) => {
            let instance = open.instance.as_ref().ok_or(FrameError::NoInstance { channel: open.channel })?;
            Ok(check_instance(instance)?)
        }
        Kind::Closed(closed) => check_detail(&closed.detail),
        Kind::Goodbye(goodbye) => check_detail(&goodbye.detail),
        Kind::Credit(_)
        | Kind::Ping(_)
        | Kind::Pong(_)
        | Kind::Opened(_)
        | Kind::Interest(_)
        | Kind::Reclaim(_)
        | Kind::Returned(_) => Ok(()),
    }
}

fn check_detail(detail: &str) -> Result<(), FrameError> {
    if !fits(detail) {
        return Err(FrameError::Detail { length: detail.len(), limit: MAX_DETAIL });
    }
    Ok(())
}

/// Why a plaintext is not a sequence of frames. Always the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A number has more than ten bytes or 64 bits.
    #[error("a varint has more than 64 bits")]
    Varint,
    /// A field's key is out of protobuf's range.
    #[error("{key} is no key of a field")]
    Key {
        /// The key.
        key: u64,
    },
    /// Something says that it is longer than what there is.
    #[error("{needed} more bytes were announced and {left} are left")]
    Truncated {
        /// Bytes announced.
        needed: u64,
        /// Bytes there are.
        left: usize,
    },
    /// A field has not the type that it should have.
    #[error("field {tag} of the frame is of the wrong type")]
    WireType {
        /// The field's number.
        tag: u32,
    },
    /// A group that does not end, or ends without a beginning.
    #[error("group {tag} does not match")]
    Group {
        /// The field's number.
        tag: u32,
    },
    /// Groups within groups.
    #[error("groups are more than {limit} deep")]
    Depth {
        /// The bound.
        limit: u32,
    },
    /// The frame is too long.
    #[error("the frame is {length} bytes, the limit is {limit}")]
    Frame {
        /// Bytes announced.
        length: u64,
        /// The bound.
        limit: usize,
    },
    /// The payload is too long.
    #[error("the fragment is {length} bytes, the limit is {limit}")]
    Fragment {
        /// Its bytes.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// The control is too long.
    #[error("the control is {length} bytes, the limit is {limit}")]
    Control {
        /// Its bytes.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// A text for people is too long.
    #[error("the detail is {length} bytes, the limit is {limit}")]
    Detail {
        /// Its bytes.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// More refusals than there can be instances.
    #[error("there are {count} refusals, the limit is {limit}")]
    Refusals {
        /// How many.
        count: usize,
        /// The bound.
        limit: usize,
    },
    /// A control, and a piece of a message, in one frame.
    #[error("the frame has a control and data")]
    Mixed,
    /// `Open` without what it opens.
    #[error("the opening of channel {channel} does not say what instance")]
    NoInstance {
        /// The number that the sender gave it.
        channel: u32,
    },
    /// `Open` of something out of bounds.
    #[error("{0}")]
    Instance(#[from] InstanceError),
    /// The control is not protobuf, or not this one.
    #[error("the control is malformed: {why}")]
    Malformed {
        /// What the decoder said.
        why: String,
    },
}
