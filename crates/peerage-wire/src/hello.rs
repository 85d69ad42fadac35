//! The payload of the second and third message of the handshake, checked.

use bytes::Bytes;
use prost::Message;

use crate::frame::FrameError;
use crate::limits::{
    MAX_ADDRESSES, MAX_HELLO, MAX_INSTANCES, MAX_NAME, MAX_PARAMETERS, MAX_PROTOCOL, MAX_SOFTWARE,
};
use crate::proto::link::v1 as proto;
use crate::{Address, PeerId, fields};

/// Who a peer says it is, and what it can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The key that names it.
    pub identity: PeerId,
    /// That key's signature over the X25519 static key of the handshake.
    pub signature: [u8; 64],
    /// Drawn anew at every start of the endpoint.
    pub incarnation: [u8; 16],
    /// For people: name and version of the program, at most [`MAX_SOFTWARE`] bytes.
    pub software: String,
    /// What it will take.
    pub limits: Limits,
    /// Where it listens, at most [`MAX_ADDRESSES`]. Those that did not parse are left out.
    pub addresses: Vec<Address>,
    /// What it runs, at most [`MAX_INSTANCES`]; an instance's place is its channel.
    pub instances: Vec<Instance>,
}

/// What the sender of a [`Hello`] will take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// The longest message, in bytes.
    pub max_message: u64,
    /// The credit that each channel starts with, in bytes: so much for interactive messages, and as much again for
    /// bulk.
    pub window: u64,
    /// The most channels open at once.
    pub max_channels: u32,
    /// The most messages a second, over all channels; 0 when it is as many as there is credit for.
    pub max_messages_per_second: u64,
    /// The most controls a second, without `Accept`, `Refuse`, `Goodbye` and a `Credit` of
    /// [`LEAST_CREDIT`](crate::limits::LEAST_CREDIT) or more; 0 when there is no limit.
    pub max_controls_per_second: u32,
    /// The most links of its endpoint, those in their handshake included; a count. 0: it does not say.
    pub max_links: u32,
    /// The most links that one address may have open to it; a count. 0: it does not say.
    pub max_links_per_address: u32,
    /// The most inbound connections in their handshake at once; a count. 0: it does not say.
    pub max_handshakes: u32,
    /// From the first byte to both sides' `Accept`, in milliseconds. 0: it does not say.
    pub handshake_timeout_ms: u32,
}

impl From<Limits> for proto::Limits {
    fn from(limits: Limits) -> Self {
        let Limits {
            max_message,
            window,
            max_channels,
            max_messages_per_second,
            max_controls_per_second,
            max_links,
            max_links_per_address,
            max_handshakes,
            handshake_timeout_ms,
        } = limits;
        Self {
            max_message,
            window,
            max_channels,
            max_messages_per_second,
            max_controls_per_second,
            max_links,
            max_links_per_address,
            max_handshakes,
            handshake_timeout_ms,
        }
    }
}

impl From<proto::Limits> for Limits {
    fn from(limits: proto::Limits) -> Self {
        let proto::Limits {
            max_message,
            window,
            max_channels,
            max_messages_per_second,
            max_controls_per_second,
            max_links,
            max_links_per_address,
            max_handshakes,
            handshake_timeout_ms,
        } = limits;
        Self {
            max_message,
            window,
            max_channels,
            max_messages_per_second,
            max_controls_per_second,
            max_links,
            max_links_per_address,
            max_handshakes,
            handshake_timeout_ms,
        }
    }
}

/// One protocol under one name. Two ends meet in it when all four are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance {
    /// "mesh", "dict", …: 1 to [`MAX_PROTOCOL`] bytes.
    pub protocol: String,
    /// The network's name, at most [`MAX_NAME`] bytes.
    pub name: String,
    /// The protocol's version.
    pub version: u32,
    /// What both ends must agree on, in the protocol's own encoding, at most [`MAX_PARAMETERS`] bytes.
    pub parameters: Bytes,
}

impl Hello {
    /// As protobuf. What [`Hello::check`] complains of, the other end refuses.
    pub fn encode(&self) -> Vec<u8> {
        let message = proto::Hello {
            identity: Bytes::copy_from_slice(self.identity.as_bytes()),
            signature: Bytes::copy_from_slice(&self.signature),
            incarnation: Bytes::copy_from_slice(&self.incarnation),
            software: self.software.clone(),
            limits: Some(self.limits.into()),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            instances: self.instances.iter().map(proto::Instance::from).collect(),
        };
        message.encode_to_vec()
    }

    /// From protobuf. Addresses that do not parse are left out, because a newer peer may know schemes that we do not;
    /// all else must be as it should.
    ///
    /// # Errors
    /// Whatever is wrong with it first.
    pub fn decode(bytes: &[u8]) -> Result<Self, HelloError> {
        if bytes.len() > MAX_HELLO {
            return Err(HelloError::TooLong { length: bytes.len(), limit: MAX_HELLO });
        }
        // Before decoding, because an empty instance is two bytes here and ninety in memory.
        let addresses = fields::count(bytes, 6).map_err(malformed)?;
        let instances = fields::count(bytes, 7).map_err(malformed)?;
        check_counts(addresses, instances)?;
        let message =
            proto::Hello::decode(bytes).map_err(|error| HelloError::Malformed { why: error.to_string() })?;
        Self::try_from(message)
    }

    /// Whether the other end will accept it.
    ///
    /// # Errors
    /// The limit that it exceeds.
    pub fn check(&self) -> Result<(), HelloError> {
        check_counts(self.addresses.len(), self.instances.len())?;
        check_software(&self.software)?;
        for (channel, instance) in self.instances.iter().enumerate() {
            instance.check().map_err(|error| HelloError::Instance { channel, error })?;
        }
        let length = self.encode().len();
        if length > MAX_HELLO {
            return Err(HelloError::TooLong { length, limit: MAX_HELLO });
        }
        Ok(())
    }
}

impl TryFrom<proto::Hello> for Hello {
    type Error = HelloError;

    fn try_from(message: proto::Hello) -> Result<Self, HelloError> {
        check_counts(message.addresses.len(), message.instances.len())?;
        check_software(&message.software)?;
        let limits = message.limits.ok_or(HelloError::NoLimits)?;
        let instances = message.instances.into_iter().enumerate();
        Ok(Self {
            identity: PeerId::from_bytes(exact("identity", &message.identity)?),
            signature: exact("signature", &message.signature)?,
            incarnation: exact("incarnation", &message.incarnation)?,
            software: message.software,
            limits: limits.into(),
            addresses: message.addresses.iter().filter_map(|text| text.parse().ok()).collect(),
            instances: instances
                .map(|(channel, instance)| {
                    Instance::try_from(instance).map_err(|error| HelloError::Instance { channel, error })
                })
                .collect::<Result<_, _>>()?,
        })
    }
}

fn check_counts(addresses: usize, instances: usize) -> Result<(), HelloError> {
    if addresses > MAX_ADDRESSES {
        return Err(HelloError::Addresses { count: addresses, limit: MAX_ADDRESSES });
    }
    if instances > MAX_INSTANCES {
        return Err(HelloError::Instances { count: instances, limit: MAX_INSTANCES });
    }
    Ok(())
}

fn check_software(software: &str) -> Result<(), HelloError> {
    if software.len() > MAX_SOFTWARE {
        return Err(HelloError::Software { length: software.len(), limit: MAX_SOFTWARE });
    }
    Ok(())
}

fn exact<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], HelloError> {
    bytes.try_into().map_err(|_| HelloError::Length { field, found: bytes.len(), expected: N })
}

fn malformed(error: FrameError) -> HelloError {
    HelloError::Malformed { why: error.to_string() }
}

impl Instance {
    /// Whether the other end will accept it.
    ///
    /// # Errors
    /// The limit that it exceeds.
    pub fn check(&self) -> Result<(), InstanceError> {
        check_parts(&self.protocol, &self.name, &self.parameters)
    }
}

impl TryFrom<proto::Instance> for Instance {
    type Error = InstanceError;

    fn try_from(message: proto::Instance) -> Result<Self, InstanceError> {
        check_instance(&message)?;
        let proto::Instance { protocol, name, version, parameters } = message;
        Ok(Self { protocol, name, version, parameters })
    }
}

impl From<&Instance> for proto::Instance {
    fn from(instance: &Instance) -> Self {
        let Instance { protocol, name, version, parameters } = instance.clone();
        Self { protocol, name, version, parameters }
    }
}

pub(crate) fn check_instance(instance: &proto::Instance) -> Result<(), InstanceError> {
    check_parts(&instance.protocol, &instance.name, &instance.parameters)
}

fn check_parts(protocol: &str, name: &str, parameters: &[u8]) -> Result<(), InstanceError> {
    if protocol.is_empty() || protocol.len() > MAX_PROTOCOL {
        return Err(InstanceError::Protocol { length: protocol.len(), limit: MAX_PROTOCOL });
    }
    if name.len() > MAX_NAME {
        return Err(InstanceError::Name { length: name.len(), limit: MAX_NAME });
    }
    if parameters.len() > MAX_PARAMETERS {
        return Err(InstanceError::Parameters { length: parameters.len(), limit: MAX_PARAMETERS });
    }
    Ok(())
}

/// Why bytes are not a [`Hello`], or a [`Hello`] will not be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// Too long as a whole.
    #[error(
        "the hello is {length} bytes, the limit is {limit}: it has too many instances, or too long parameters"
    )]
    TooLong {
        /// Its bytes.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// Not protobuf, or not this message.
    #[error("the hello is malformed: {why}")]
    Malformed {
        /// What the decoder said.
        why: String,
    },
    /// A field of fixed length has another.
    #[error("the hello's {field} is {found} bytes, it should be {expected}")]
    Length {
        /// Which field.
        field: &'static str,
        /// Its bytes.
        found: usize,
        /// What it should have.
        expected: usize,
    },
    /// The description of the program is too long.
    #[error("the hello's software is {length} bytes, the limit is {limit}")]
    Software {
        /// Its bytes.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// It does not say what its sender takes.
    #[error("the hello has no limits")]
    NoLimits,
    /// Too many addresses.
    #[error("the hello has {count} addresses, the limit is {limit}")]
    Addresses {
        /// How many.
        count: usize,
        /// The bound.
        limit: usize,
    },
    /// Too many instances.
    #[error("the hello has {count} instances, the limit is {limit}")]
    Instances {
        /// How many.
        count: usize,
        /// The bound.
        limit: usize,
    },
    /// An instance is out of bounds.
    #[error("instance {channel} of the hello: {error}")]
    Instance {
        /// Its place.
        channel: usize,
        /// What is wrong with it.
        error: InstanceError,
    },
}

/// Why an [`Instance`] will not be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// No protocol, or a long one.
    #[error("the protocol's name is {length} bytes, it should be 1 to {limit}")]
    Protocol {
        /// Its bytes.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// A long name.
    #[error("the network's name is {length} bytes, the limit is {limit}")]
    Name {
        /// Its bytes.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// Long parameters.
    #[error("the parameters are {length} bytes, the limit is {limit}")]
    Parameters {
        /// Their bytes.
        length: usize,
        /// The bound.
        limit: usize,
    },
}
