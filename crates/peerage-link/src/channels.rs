//! Which instances of the two sides meet on the link, and by which numbers.
//!
//! Each side numbers its own instances: by their place in its `Hello`, then onwards with each `Open`. A channel is up
//! when both sides know both numbers and neither refused.
//!
//! # Why both sides agree in the end
//!
//! `Closed` names one number only, its receiver's, so it must be plain which of that number's channels is meant. It is,
//! because an instance is not offered anew before its last offer was answered and its last channel's end was told:
//! whatever a side says of a channel, it says before it offers what could make the next one. An offer that is closed
//! before its answer is in is withdrawn: should the answer be `Opened`, the peer is told that it comes to nothing,
//! unless it was told already, the channel having been up by the peer's own offer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use peerage_machine::{Few, InstanceName, Refusal, RefusalReason, Side};
use peerage_wire::hello::Instance;
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::refusal::Reason;

#[derive(Debug)]
struct Local {
    instance: Instance,
    /// Whether the peer knows of it, by the `Hello` or an `Open`.
    offered: bool,
    /// Whether the peer has said what it makes of it. What a `Hello` offers is answered by the `Accept`.
    answered: bool,
    /// The peer's number that was refused for want of channels; its answer to this one's offer may still come.
    turned_away: Option<u32>,
    /// The peer's number for it, once the channel is up.
    remote: Option<u32>,
}

/// An instance of the peer's.
#[derive(Debug)]
enum Remote {
    /// It is up with none of this side's, or not yet.
    Alone(Box<Instance>),
    /// The channel is up: it is equal to this side's of that number.
    Met(u32),
}

/// The channels of one link.
#[derive(Debug)]
pub(crate) struct Channels {
    local: Few<u32, Box<Local>>,
    next_local: u32,
    /// Closed before the peer had answered their `Open`; and whether the peer has been told of the end.
    withdrawn: BTreeMap<u32, (Instance, bool)>,
    /// The most that are up at once.
    max: u32,
    /// The peer's instances from its `Hello`, and those that are up, by its numbers. What came with an `Open` and met nothing is not kept, so that there is no end to how often a
    /// peer may try.
    remote: Few<u32, Remote>,
    next_remote: u64,
    /// From this side's `Accept` until the peer's.
    agreed: Option<Box<Agreed>>,
}

/// What this side's `Accept` came to.
#[derive(Debug, Default)]
struct Agreed {
    /// This side's number and the peer's.
    accepted: Vec<(u32, u32)>,
    /// This side's instances that would have met one of the peer's but for the most channels.
    beyond_limit: BTreeSet<u32>,
}

/// What the two `Accept`s come to, in this side's numbers.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) up: Vec<u32>,
    pub(crate) refused: Vec<(u32, Refusal)>,
    /// The peer's numbers of channels that this side agreed to and has closed since.
    pub(crate) gone: Vec<u32>,
}

/// What an `Opened` comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// The channel is up now.
    Up,
    /// It was already.
    Already,
    /// It was, and has been closed here since; the peer knows, or will in good time.
    Over,
    /// This side has closed the instance before it knew that the channel was up.
    Gone,
    /// This side has no room for another channel.
    Full,
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

fn refusal(channel: u32, (reason, detail): (Reason, String)) -> proto::Refusal {
    proto::Refusal { channel, reason: reason.into(), detail }
}

impl Channels {
    pub(crate) fn new(instances: Vec<Instance>, max: u32) -> Self {
        let mut channels = Self {
            local: Few::default(),
            next_local: 0,
            withdrawn: BTreeMap::new(),
            max,
            remote: Few::default(),
            next_remote: 0,
            agreed: None,
        };
        for instance in instances {
            channels.add_local(instance, true);
        }
        channels
    }

    /// How many channels are up.
    fn up(&self) -> usize {
        self.local.values().filter(|local| local.remote.is_some()).count()
    }

    fn limit(&self) -> (Reason, String) {
        (Reason::Limit, format!("{} channels", self.max))
    }

    /// What this side says when it cannot open an instance for want of channels.
    pub(crate) fn full(&self, local: u32) -> Option<Refusal> {
        let (_, limit) = self.limit();
        Some(Refusal {
            by: Side::Us,
            instance: name_of(self.instance(local)?),
            reason: RefusalReason::Limit(limit),
        })
    }

    pub(crate) fn closed_for_limit(&self, remote: u32) -> proto::Closed {
        let (reason, detail) = self.limit();
        proto::Closed { channel: remote, reason: reason.into(), detail }
    }

    /// Whether this side runs this very instance already.
    pub(crate) fn has(&self, instance: &Instance) -> bool {
        self.local.values().any(|local| local.instance == *instance)
    }

    /// One more instance of this side's; `offered` when the peer is told of it already.
    pub(crate) fn add_local(&mut self, instance: Instance, offered: bool) -> u32 {
        let number = self.next_number();
        let local = Local { instance, offered, answered: offered, turned_away: None, remote: None };
        self.local.insert(number, Box::new(local));
        number
    }

    /// Uses up a number.
    pub(crate) fn next_number(&mut self) -> u32 {
        let number = self.next_local;
        self.next_local = self.next_local.saturating_add(1);
        number
    }

    /// Instances of this side's that the peer must still be told of, up to the first that must wait; from now on they
    /// count as offered. Those behind it wait too, because numbers are offered in ascending order.
    pub(crate) fn offer_rest(&mut self, must_wait: impl Fn(&Instance) -> bool) -> Vec<(u32, Instance)> {
        let withdrawn = &self.withdrawn;
        let is_withdrawn =
            |instance: &Instance| withdrawn.values().any(|(withdrawn, _)| withdrawn == instance);
        let rest = self.local.iter_mut().filter(|(_, local)| !local.offered);
        rest.take_while(|(_, local)| !must_wait(&local.instance) && !is_withdrawn(&local.instance))
            .map(|(number, local)| {
                local.offered = true;
                (number, local.instance.clone())
            })
            .collect()
    }

    pub(crate) fn instance(&self, local: u32) -> Option<&Instance> {
        self.local.get(local).map(|local| &local.instance)
    }

    /// The peer's instances from its `Hello`.
    pub(crate) fn greet(&mut self, instances: Vec<Instance>) {
        self.next_remote = instances.len() as u64;
        self.remote =
            (0..).zip(instances.into_iter().map(|instance| Remote::Alone(Box::new(instance)))).collect();
    }

    /// The peer's instances, by its numbers.
    fn theirs(&self) -> impl Iterator<Item = (u32, &Instance)> {
        self.remote.iter().filter_map(|(number, theirs)| match theirs {
            Remote::Alone(instance) => Some((number, &**instance)),
            Remote::Met(local) => Some((number, self.instance(*local)?)),
        })
    }

    /// What this side refuses of the peer's for want of an equal one, in the peer's numbers.
    pub(crate) fn refusals(&self) -> Vec<proto::Refusal> {
        let all = self.theirs();
        all.filter_map(|(number, theirs)| self.best_match(theirs).err().map(|why| refusal(number, why)))
            .collect()
    }

    /// Decides which of the peer's instances meet one of this side's; what it refuses, in the peer's numbers.
    pub(crate) fn accept(&mut self) -> Vec<proto::Refusal> {
        let mut refused = Vec::new();
        let (mut agreed, mut taken) = (Agreed::default(), BTreeSet::new());
        for (number, theirs) in self.theirs() {
            match self.best_match_but(theirs, &taken) {
                Err(why) => refused.push(refusal(number, why)),
                Ok(local) if agreed.accepted.len() < self.max as usize => {
                    taken.insert(local);
                    agreed.accepted.push((local, number));
                }
                Ok(local) => {
                    agreed.beyond_limit.insert(local);
                    refused.push(refusal(number, self.limit()));
                }
            }
        }
        self.agreed = Some(Box::new(agreed));
        refused
    }

    /// This side's instance that meets the peer's and is not up yet, or why none does.
    fn best_match(&self, theirs: &Instance) -> Result<u32, (Reason, String)> {
        self.best_match_but(theirs, &BTreeSet::new())
    }

    fn best_match_but(&self, theirs: &Instance, taken: &BTreeSet<u32>) -> Result<u32, (Reason, String)> {
        let mut why = (Reason::UnknownInstance, String::new());
        for (number, local) in self.local.iter() {
            if !local.offered
                || local.instance.protocol != theirs.protocol
                || local.instance.name != theirs.name
            {
                continue;
            }
            match mismatch(&local.instance, theirs) {
                Some(found) => why = found,
                None if local.remote.is_some() || taken.contains(&number) => {
                    why = (Reason::Limit, "one channel for each instance".to_owned());
                }
                None => return Ok(number),
            }
        }
        Err(why)
    }

    /// Whether both sides offered something and nothing of it meets, nor what was opened here since.
    pub(crate) fn nothing_in_common(&self) -> bool {
        self.local.values().any(|local| local.offered)
            && !self.remote.is_empty()
            && !self.theirs().any(|(_, theirs)| self.has(theirs))
    }

    /// Why this side's instance has no counterpart in the peer's `Hello`, seen from here.
    pub(crate) fn why_not(&self, local: u32) -> Option<Refusal> {
        let ours = self.instance(local)?;
        let reason = self
            .theirs()
            .map(|(_, theirs)| theirs)
            .filter(|theirs| theirs.protocol == ours.protocol && theirs.name == ours.name)
            .find_map(|theirs| {
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
        let offered = self.local.iter().filter(|(_, local)| local.offered);
        let numbers: Vec<u32> = offered.map(|(number, _)| number).collect();
        // A version or a parameter that differs says more than a name that is missing.
        let all: Vec<Refusal> = numbers.into_iter().filter_map(|number| self.why_not(number)).collect();
        all.iter().find(|refusal| refusal.reason != RefusalReason::UnknownInstance).or(all.first()).cloned()
    }

    /// Both sides accepted: pairs what this side agreed to and the peer did not refuse.
    pub(crate) fn settle(&mut self, refused_by_peer: &[proto::Refusal]) -> Settled {
        let told: BTreeMap<u32, &proto::Refusal> =
            refused_by_peer.iter().map(|refusal| (refusal.channel, refusal)).collect();
        let mut settled = Settled::default();
        let Agreed { accepted, beyond_limit } = *self.agreed.take().unwrap_or_default();
        for (local, remote) in accepted {
            if told.contains_key(&local) {
                continue;
            }
            match self.pair(local, remote) {
                true => settled.up.push(local),
                false => settled.gone.push(remote),
            }
        }
        let alone = self.local.iter().filter(|(_, local)| local.offered && local.remote.is_none());
        settled.refused = alone
            .filter_map(|(number, _)| {
                let told = told.get(&number).and_then(|told| self.refusal_told(number, told));
                let full = || beyond_limit.contains(&number).then(|| self.full(number)).flatten();
                Some((number, told.or_else(full).or_else(|| self.why_not(number))?))
            })
            .collect();
        settled
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

    /// Two that are equal are one channel, unless one of them has another or is gone.
    fn pair(&mut self, local: u32, remote: u32) -> bool {
        let Some(ours) = self.local.get_mut(local) else { return false };
        if ours.remote.is_some() || matches!(self.remote.get(remote), Some(Remote::Met(_))) {
            return false;
        }
        ours.remote = Some(remote);
        self.remote.insert(remote, Remote::Met(local));
        true
    }

    /// The peer opens one more instance: this side's number of the channel that is up now, or why it is not.
    ///
    /// # Errors
    /// The refusal to send.
    pub(crate) fn open_remote(&mut self, remote: u32, instance: &Instance) -> Result<u32, (Reason, String)> {
        self.next_remote = u64::from(remote) + 1;
        let local = self.best_match(instance)?;
        if self.up() >= self.max as usize {
            if let Some(local) = self.local.get_mut(local) {
                local.turned_away = Some(remote);
            }
            return Err(self.limit());
        }
        self.pair(local, remote);
        Ok(local)
    }

    /// The peer says that one of ours meets its own number.
    ///
    /// # Errors
    /// The two are not equal, or one of them was never offered or meets another.
    pub(crate) fn opened(&mut self, local: u32, remote: u32) -> Result<Opened, ()> {
        if local >= self.next_local || u64::from(remote) >= self.next_remote {
            return Err(());
        }
        if let Some((_, told)) = self.withdrawn.remove(&local) {
            return Ok(if told { Opened::Over } else { Opened::Gone });
        }
        let Some(ours) = self.local.get_mut(local) else { return Ok(Opened::Over) };
        ours.answered = true;
        let turned_away = ours.turned_away == Some(remote);
        let Some(ours) = self.local.get(local) else { return Ok(Opened::Over) };
        match self.remote.get(remote) {
            Some(Remote::Alone(theirs)) if ours.instance != **theirs => return Err(()),
            Some(Remote::Met(paired)) if *paired != local => return Err(()),
            _ => {}
        }
        match ours.remote {
            Some(paired) if paired == remote => return Ok(Opened::Already),
            Some(_) => return Err(()),
            None if turned_away || self.up() >= self.max as usize => return Ok(Opened::Full),
            None => {}
        }
        self.pair(local, remote);
        Ok(Opened::Up)
    }

    /// The peer closed or refused one of this side's channels; whether it was up.
    pub(crate) fn closed_by_peer(&mut self, local: u32) -> bool {
        self.withdrawn.remove(&local);
        let Some(ours) = self.local.get_mut(local) else { return false };
        ours.answered = true;
        let Some(remote) = ours.remote.take() else { return false };
        self.remote.remove(remote);
        true
    }

    /// This side ends an instance for good; itself and the peer's number when the channel was up.
    pub(crate) fn close_local(&mut self, local: u32) -> Option<(Instance, u32)> {
        let Local { instance, remote, offered, answered, .. } = *self.local.remove(local)?;
        if offered && !answered {
            self.withdrawn.insert(local, (instance.clone(), remote.is_some()));
        }
        let remote = remote?;
        self.remote.remove(remote);
        Some((instance, remote))
    }

    /// Whose message is it: this side's number, when the channel is up; `Err` when the peer never offered it.
    pub(crate) fn route(&self, remote: u32) -> Result<Option<u32>, ()> {
        match self.remote.get(remote) {
            Some(Remote::Met(local)) => Ok(Some(*local)),
            Some(Remote::Alone(_)) => Ok(None),
            None if u64::from(remote) < self.next_remote => Ok(None),
            None => Err(()),
        }
    }

    pub(crate) fn remote_of(&self, local: u32) -> Option<u32> {
        self.local.get(local)?.remote
    }

    pub(crate) fn next_remote(&self) -> u64 {
        self.next_remote
    }
}
