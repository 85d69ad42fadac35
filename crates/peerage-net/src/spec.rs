//! What a host and a protocol agree on.

use std::sync::Arc;

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_machine::{
    CallId, Incarnation, InstanceName, Machine, Now, OnReturn, OpId, Seed, StoreError, Write,
};
use peerage_wire::Address;
use peerage_wire::hello::Instance;

use crate::WeakHosted;

/// What an instance is called, and how it is hosted. Peers meet in it when name, version and parameters are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceSpec {
    /// The protocol and the network's name.
    pub name: InstanceName,
    /// The protocol's version.
    pub version: u32,
    /// What both ends must agree on, in the protocol's own encoding; at most 1024 bytes.
    pub parameters: Bytes,
    /// What becomes of its link to a peer that comes back. A side's own choice; the peer is not told.
    pub on_return: OnReturn,
}

impl From<&InstanceSpec> for Instance {
    fn from(spec: &InstanceSpec) -> Self {
        Self {
            protocol: spec.name.protocol.clone(),
            name: spec.name.name.clone(),
            version: spec.version,
            parameters: spec.parameters.clone(),
        }
    }
}

/// What a machine is made from.
#[derive(Clone, Debug)]
pub struct Start {
    /// When.
    pub now: Now,
    /// Randomness of its own.
    pub seed: Seed,
    /// Who we are, for signing.
    pub identity: Arc<Identity>,
    /// This start of the endpoint.
    pub incarnation: Incarnation,
    /// Where the endpoint listens.
    pub addresses: Vec<Address>,
}

/// How a sink answers what its machine wants kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAnswer {
    /// What became of it. The machine hears it in the same turn.
    Now(Result<(), StoreError>),
    /// The answer will come by [`crate::Hosted::stored`], once, from whatever thread. Should the instance close
    /// first, nobody is there to hear it.
    Later,
}

/// Where a machine's events and answers go. Called while the machine is locked: it must return quickly, must not
/// call back, must not wait for a thread that may (a store's: to flush or end it is for whoever closes the instance, afterwards),
/// and must not own a handle of the endpoint or the instance, which would then own themselves.
pub trait Sink<M: Machine>: Send + 'static {
    /// The way back to the machine, for what answers later: told once, before anything else. The machine hears nothing by
    /// it until [`crate::Endpoint::host`] has taken it in. As it stands, nobody wants to know.
    fn hosted(&mut self, machine: WeakHosted<M>) {
        drop(machine);
    }

    /// The machine tells the application.
    fn event(&mut self, event: M::Event);

    /// A question ended.
    fn answer(&mut self, call: CallId, answer: M::Answer);

    /// The machine wants this kept, all or nothing. This is no place to wait for a disk: whoever writes to one hands the
    /// batch on, answers [`StoreAnswer::Later`], and tells by [`crate::Hosted::stored`] when it is written. As it stands,
    /// nothing is kept, and the machine hears [`StoreError::Absent`].
    fn store(&mut self, op: OpId, batch: Vec<Write>) -> StoreAnswer {
        let _ = (op, batch);
        StoreAnswer::Now(Err(StoreError::Absent))
    }

    /// The instance is closed: nothing follows.
    fn closed(&mut self);
}
