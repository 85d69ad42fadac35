//! Every bound of the format, in bytes unless it says otherwise. Both ends keep to them, and what exceeds one is an
//! error of its sender.

/// The most payload that one data frame carries. A record holds three such fragments and the heads of other channels
/// get in between.
pub const MAX_FRAGMENT: usize = 16_384;

/// The longest `peerage.link.v1.Control`.
pub const MAX_CONTROL: usize = 16_384;

/// The longest frame, without its length: the longest payload or control, and room for its head and for fields that
/// a later version may add.
pub const MAX_FRAME: usize = 16_384 + 256;

/// The longest record, without its length and with its tag: the longest message of the Noise protocol.
pub const MAX_RECORD: usize = 65_535;

/// The tag at the end of a record.
pub const TAG_LEN: usize = 16;

/// The length before a record.
pub const RECORD_LENGTH_LEN: usize = 2;

/// The most plaintext that one record carries.
pub const MAX_PLAINTEXT: usize = MAX_RECORD - TAG_LEN;

/// The longest Noise message of the handshake, without its length. Less than a Noise message may have, because it
/// comes from strangers, and less than 0x5045, so that no length looks like the clear answer's "PE".
pub const MAX_HANDSHAKE_MESSAGE: usize = 16_384;

/// The longest encoded `Hello`: what the second message of the handshake has room for beside a key, an encrypted key
/// and two tags.
pub const MAX_HELLO: usize = MAX_HANDSHAKE_MESSAGE - 96;

/// The most instances in one `Hello`, and the most refusals in one `Accept` or `Refuse`; a count.
pub const MAX_INSTANCES: usize = 256;

/// The most addresses in one `Hello`; a count.
pub const MAX_ADDRESSES: usize = 16;

/// The longest name of an instance.
pub const MAX_NAME: usize = 128;

/// The longest name of a protocol.
pub const MAX_PROTOCOL: usize = 32;

/// The longest parameters of an instance.
pub const MAX_PARAMETERS: usize = 1_024;

/// The longest description of a program.
pub const MAX_SOFTWARE: usize = 128;

/// The longest text for people in a control.
pub const MAX_DETAIL: usize = 256;

/// What a fragment costs of its class's credit beside its payload.
pub const FRAGMENT_COST: u64 = 32;

/// A `Credit` of less than this counts among the controls that the receiver takes so many of a second.
pub const LEAST_CREDIT: u64 = 1_024;
