//! Which instances of the two sides meet on the link, and by which numbers.
//!
//! Each side numbers its own instances: by their place in its `Hello`, then onwards with each `Open`. A channel is up
//! when both sides know both numbers and neither refused.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use peerage_machine::{InstanceName, Refusal, RefusalReason, Side};
use peerage_wire::hello::Instance;
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::refusal::Reason;

#[derive(Debug)]
struct Local {
    instance: Instance,
    /// Whether the peer knows of it, by the `Hello` or an `Open`.
    offered: bool,
    /// The peer's number for it, once the channel is up.
    remote: Option<u32>,
}

/// The channels of one link.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    local: BTreeMap<u32, Local>,
    next_local: u32,
    /// The peer's instances that are offered, by its numbers; and this side's number where the channel is up.
    remote: BTreeMap<u32, (Instance, Option<u32>)>,
    next_remote: u32,
}

/// Why one instance does not meet another; `None` when it does.
fn mismatch(ours: &Instance, theirs: &Instance) -> Option<(Reason, String)> {
    if ours.version != theirs.version {
        return Some((Reason::Version, ours.version.to_string()));
    }
    if ours.parameters != theirs.parameters {
        return Some((Reason::Parameters, hex(&ours.parameters)));
    }
    None
}

pub(crate) fn hex(bytes: &Bytes) -> String {
    let mut text: String = bytes.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > 64 {
        text.push('…');
    }
    text
}

pub(crate) fn name_of(instance: &Instance) -> InstanceName {
    InstanceName { protocol: instance.protocol.clone(), name: instance.name.clone() }
}

impl Channels {
    pub(crate) fn new(instances: Vec<Instance>) -> Self {
        let mut channels = Self::default();
        for instance in instances {
            channels.add_local(instance, true);
        }
        channels
    }

    /// One more instance of this side's; `offered` when the peer is told of it already.
    pub(crate) fn add_local(&mut self, instance: Instance, offered: bool) -> u32 {
        let number = self.next_local;
        self.next_local += 1;
        self.local.insert(number, Local { instance, offered, remote: None });
        number
    }

    /// Instances of this side's that the peer must still be told of; from now on they count as offered.
    pub(crate) fn offer_rest(&mut self) -> Vec<(u32, Instance)> {
        let rest = self.local.iter_mut().filter(|(_, local)| !local.offered);
        rest.map(|(number, local)| {
            local.offered = true;
            (*number, local.instance.clone())
        })
        .collect()
    }

    pub(crate) fn instance(&self, local: u32) -> Option<&Instance> {
        self.local.get(&local).map(|local| &local.instance)
    }

    /// The peer's instances from its `Hello`.
    pub(crate) fn greet(&mut self, instances: Vec<Instance>) {
        for instance in instances {
            self.remote.insert(self.next_remote, (instance, None));
            self.next_remote += 1;
        }
    }

    /// What this side refuses of the peer's, in the peer's numbers.
    pub(crate) fn refusals(&self) -> Vec<proto::Refusal> {
        self.remote.iter().filter_map(|(number, (theirs, _))| self.refusal_of(*number, theirs)).collect()
    }

    fn refusal_of(&self, number: u32, theirs: &Instance) -> Option<proto::Refusal> {
        match self.best_match(theirs) {
            Ok(_) => None,
            Err((reason, detail)) => Some(proto::Refusal { channel: number, reason: reason.into(), detail }),
        }
    }

    /// This side's instance that meets the peer's, or why none does.
    fn best_match(&self, theirs: &Instance) -> Result<u32, (Reason, String)> {
        let mut why = (Reason::UnknownInstance, String::new());
        for (number, local) in &self.local {
            if !local.offered
                || local.instance.protocol != theirs.protocol
                || local.instance.name != theirs.name
            {
                continue;
            }
            match mismatch(&local.instance, theirs) {
                None => return Ok(*number),
                Some(found) => why = found,
            }
        }
        Err(why)
    }

    /// Whether both sides run something and nothing of it meets.
    pub(crate) fn nothing_in_common(&self) -> bool {
        !self.local.is_empty()
            && !self.remote.is_empty()
            && self.remote.values().all(|(theirs, _)| self.best_match(theirs).is_err())
    }

    /// Why this side's instance has no counterpart in the peer's `Hello`, seen from here.
    pub(crate) fn why_not(&self, local: u32) -> Option<Refusal> {
        let ours = self.instance(local)?;
        let reason = self
            .remote
            .values()
            .filter(|(theirs, _)| theirs.protocol == ours.protocol && theirs.name == ours.name)
            .find_map(|(theirs, _)| {
                (ours.version != theirs.version)
                    .then(|| RefusalReason::Version {
                        ours: ours.version,
                        theirs: theirs.version.to_string(),
                    })
                    .or_else(|| {
                        (ours.parameters != theirs.parameters).then(|| RefusalReason::Parameters {
                            ours: hex(&ours.parameters),
                            theirs: hex(&theirs.parameters),
                        })
                    })
            })
            .unwrap_or(RefusalReason::UnknownInstance);
        Some(Refusal { by: Side::Them, instance: name_of(ours), reason })
    }

    /// The first refusal, for a link on which nothing meets.
    pub(crate) fn first_why_not(&self) -> Option<Refusal> {
        let numbers: Vec<u32> = self.local.keys().copied().collect();
        // A version or a parameter that differs says more than a name that is missing.
        let all: Vec<Refusal> = numbers.into_iter().filter_map(|number| self.why_not(number)).collect();
        all.iter().find(|refusal| refusal.reason != RefusalReason::UnknownInstance).or(all.first()).cloned()
    }

    /// Both sides accepted: pairs what meets and what the peer did not refuse. Gives the channels that are up and
    /// those that are not, in this side's numbers.
    pub(crate) fn settle(&mut self, refused_by_peer: &[proto::Refusal]) -> (Vec<u32>, Vec<(u32, Refusal)>) {
        let refused: BTreeSet<u32> = refused_by_peer.iter().map(|refusal| refusal.channel).collect();
        let offers: Vec<(u32, Instance)> =
            self.remote.iter().map(|(number, (instance, _))| (*number, instance.clone())).collect();
        let mut up = Vec::new();
        for (remote, instance) in offers {
            if let Ok(local) = self.best_match(&instance)
                && !refused.contains(&local)
                && self.pair(local, remote)
            {
                up.push(local);
            }
        }
        let alone = self.local.iter().filter(|(_, local)| local.offered && local.remote.is_none());
        let down: Vec<u32> = alone.map(|(number, _)| *number).collect();
        let down = down
            .into_iter()
            .filter_map(|number| {
                let told = refused_by_peer.iter().find(|refusal| refusal.channel == number);
                let refusal =
                    told.and_then(|told| self.refusal_told(number, told)).or_else(|| self.why_not(number))?;
                Some((number, refusal))
            })
            .collect();
        (up, down)
    }

    /// What the peer said of one of this side's instances.
    pub(crate) fn refusal_told(&self, local: u32, told: &proto::Refusal) -> Option<Refusal> {
        let ours = self.instance(local)?;
        let theirs: String = told.detail.chars().take(256).collect();
        let reason = match told.reason() {
            Reason::Version => RefusalReason::Version { ours: ours.version, theirs },
            Reason::Parameters => RefusalReason::Parameters { ours: hex(&ours.parameters), theirs },
            Reason::Limit => RefusalReason::Limit(theirs),
            Reason::Unspecified | Reason::UnknownInstance => RefusalReason::UnknownInstance,
        };
        Some(Refusal { by: Side::Them, instance: name_of(ours), reason })
    }

    fn pair(&mut self, local: u32, remote: u32) -> bool {
        let Some(ours) = self.local.get_mut(&local) else { return false };
        let Some((_, theirs)) = self.remote.get_mut(&remote) else { return false };
        if ours.remote.is_some() || theirs.is_some() {
            return false;
        }
        ours.remote = Some(remote);
        *theirs = Some(local);
        true
    }

    /// The peer opens one more instance. `Ok` with this side's number when it is up now; `Err` with the refusal to
    /// send; `None` when the two are paired already, because both sides opened at once.
    pub(crate) fn open_remote(
        &mut self,
        remote: u32,
        instance: Instance,
        max: u32,
    ) -> Result<Option<u32>, (Reason, String)> {
        self.next_remote = self.next_remote.max(remote.saturating_add(1));
        if self.remote.len() >= max as usize {
            return Err((Reason::Limit, format!("{max} channels")));
        }
        let found = self.best_match(&instance);
        // A refused instance is kept too: this side may open its counterpart later.
        self.remote.insert(remote, (instance, None));
        let local = found?;
        Ok(self.pair(local, remote).then_some(local))
    }

    /// The peer says that one of ours meets its own number. Whether the channel is up only now; `Err` when the two are
    /// not equal, or the peer never offered that number.
    pub(crate) fn opened(&mut self, local: u32, remote: u32) -> Result<bool, ()> {
        let Some(ours) = self.local.get(&local) else { return Ok(false) };
        let (theirs, _) = self.remote.get(&remote).ok_or(())?;
        if ours.instance != *theirs {
            return Err(());
        }
        Ok(self.pair(local, remote))
    }

    /// The peer closed or refused one of this side's channels; whether it was up.
    pub(crate) fn closed_by_peer(&mut self, local: u32) -> bool {
        let Some(ours) = self.local.get_mut(&local) else { return false };
        let Some(remote) = ours.remote.take() else { return false };
        self.remote.remove(&remote);
        true
    }

    /// This side ends an instance for good; the peer's number when the channel was up.
    pub(crate) fn close_local(&mut self, local: u32) -> Option<u32> {
        let remote = self.local.remove(&local)?.remote?;
        if let Some((_, paired)) = self.remote.get_mut(&remote) {
            *paired = None;
        }
        Some(remote)
    }

    pub(crate) fn is_up(&self, local: u32) -> bool {
        self.local.get(&local).is_some_and(|local| local.remote.is_some())
    }

    /// Whose message is it: this side's number, when the channel is up; `Err` when the peer never offered it.
    pub(crate) fn route(&self, remote: u32) -> Result<Option<u32>, ()> {
        match self.remote.get(&remote) {
            Some((_, local)) => Ok(*local),
            None if remote < self.next_remote => Ok(None),
            None => Err(()),
        }
    }

    pub(crate) fn remote_of(&self, local: u32) -> Option<u32> {
        self.local.get(&local)?.remote
    }

    pub(crate) fn next_remote(&self) -> u32 {
        self.next_remote
    }
}
