//! Instances on one link: which are up, and who waits for them.

use std::sync::Arc;

use peerage_machine::{LinkInfo, OnReturn, Why};

use super::{Channel, Driver, State, Waiting};
use crate::hosted::Instance;
use crate::link_handle::InstanceKey;
use crate::scratch::lock;
use crate::waiter::Waiter;

/// What an instance ends with on a link that a newer incarnation of its peer has superseded; the peer is told so.
const SUPERSEDED: &str = "another start of the peer has a newer link";

impl Driver {
    /// Offers the peer what was hosted since the hello, as soon as that has a clear meaning: when both sides have
    /// accepted, and after the end of an earlier instance of the same name.
    pub(super) fn open_deferred(&mut self) {
        if !self.was_up {
            return;
        }
        for instance in std::mem::take(&mut self.deferred) {
            if self.handle.bars(&*instance) {
                continue;
            }
            let is_namesake = |channel: &Channel| {
                matches!(channel.state, State::Closing(_))
                    && channel.instance.spec().name == instance.spec().name
            };
            if self.channels.values().any(is_namesake) {
                self.deferred.push(instance);
            } else {
                self.open(instance);
            }
        }
    }

    fn open(&mut self, instance: Arc<dyn Instance>) {
        let number = self.link.open(instance.spec().into());
        self.channels.insert(number, Channel { instance, state: State::Offered });
    }

    pub(super) fn channel_up(&mut self, number: u32) {
        let Some(channel) = self.channels.get_mut(number) else { return };
        let Some(known) = self.handle.known.get() else { return };
        if let State::Closing(detail) = &channel.state {
            self.link.close_channel(self.shared.clock.mono(), number, detail);
            self.channels.remove(number);
            return self.open_deferred();
        }
        // A link that has given way, or is about to, is nobody's: the other one is.
        if !self.was_up || self.handle.is_detached() {
            return;
        }
        if self.handle.bars(&*channel.instance) {
            self.link.close_channel(self.shared.clock.mono(), number, SUPERSEDED);
            self.channels.remove(number);
            return self.answer_waiters();
        }
        channel.state = State::Up;
        let instance = Arc::clone(&channel.instance);
        lock(&self.handle.open).insert(instance.key(), Arc::clone(&instance));
        let info = LinkInfo {
            peer: known.peer,
            incarnation: known.incarnation,
            addresses: known.addresses.clone(),
            direction: self.handle.direction,
            rtt: self.link.rtt(),
            parameters: instance.spec().parameters.clone(),
            credit: self.shared.config.queue_bytes,
            max_message: self.link.max_message(),
            since: known.since,
        };
        instance.up(&self.handle, number, info);
        if self.handle.is_detached() {
            // Taken away while it came up; who took it may have been too early to tell this instance.
            instance.down(self.handle.id, Why::Duplicate);
        } else if self.handle.bars(&*instance) {
            instance.down(self.handle.id, Why::Superseded);
            self.close_instance(instance.key(), SUPERSEDED);
        }
        self.answer_waiters();
    }

    /// Leaves the link to the instances that coexist with those on the newer one.
    pub(super) fn superseded(&mut self) {
        let instances = self.channels.values().map(|channel| &channel.instance);
        let (stay, go): (Vec<_>, Vec<_>) =
            instances.cloned().partition(|instance| instance.spec().on_return == OnReturn::Coexist);
        for instance in go {
            self.close_instance(instance.key(), SUPERSEDED);
        }
        self.deferred.retain(|instance| !self.handle.bars(&**instance));
        self.handle.release_all_but(&stay.iter().map(|instance| instance.key()).collect::<Vec<_>>());
        self.answer_waiters();
    }

    /// An instance is not, or no longer, open with the peer.
    pub(super) fn channel_not_up(&mut self, number: u32, why: Why) {
        let Some(channel) = self.channels.get_mut(number) else { return };
        match channel.state {
            State::Closing(_) => {
                self.link.close_channel(self.shared.clock.mono(), number, "");
                self.channels.remove(number);
                self.open_deferred();
            }
            State::Up => {
                channel.state = State::Down(Box::new(why.clone()));
                let instance = Arc::clone(&channel.instance);
                lock(&self.handle.open).remove(instance.key());
                instance.down(self.handle.id, why);
                self.handle.release(instance.key());
            }
            State::Offered | State::Down(_) => channel.state = State::Down(Box::new(why)),
        }
        self.answer_waiters();
    }

    /// Ends an instance on this link. One whose offer the peer has yet to answer is ended when it has: until then
    /// there is no common number by which to tell the peer.
    pub(super) fn close_instance(&mut self, key: InstanceKey, detail: &str) {
        self.handle.release(key);
        lock(&self.handle.open).remove(key);
        self.deferred.retain(|instance| instance.key() != key);
        let mut ended = Vec::new();
        for (number, channel) in self.channels.iter_mut() {
            if channel.instance.key() != key {
                continue;
            }
            match channel.state {
                State::Offered => channel.state = State::Closing(detail.to_owned()),
                State::Closing(_) => {}
                State::Up | State::Down(_) => ended.push(number),
            }
        }
        for number in ended {
            self.link.close_channel(self.shared.clock.mono(), number, detail);
            self.channels.remove(number);
        }
        self.answer_waiters();
    }

    pub(super) fn add_waiters(&mut self, waiters: impl IntoIterator<Item = Waiter>) {
        self.waiters.extend(waiters.into_iter().map(|waiter| Waiting { waiter, until: None }));
    }

    /// Tells those who wait for an instance on this link, as far as it is known by now. Who has waited for the peer's
    /// word on it for as long as a handshake may take hears that: the peer may live, and never say.
    pub(super) fn answer_waiters(&mut self) {
        if !self.was_up || self.over.is_some() || self.handle.is_detached() {
            return;
        }
        let now = self.shared.clock.mono();
        let patience = self.shared.link_config.handshake_timeout;
        for Waiting { waiter, until } in std::mem::take(&mut self.waiters) {
            let Some(waiter) = self.answer_waiter(waiter) else { continue };
            match until {
                Some(until) if now >= until => {
                    self.handle.release(waiter.key());
                    waiter.failed(Why::TimedOut {
                        what: "the peer's word on an offered instance",
                        after: patience,
                    });
                }
                until => {
                    let until = until.or(Some(now + patience));
                    self.waiters.push(Waiting { waiter, until });
                }
            }
        }
    }

    /// Gives the waiter back when there is nothing to say yet.
    fn answer_waiter(&mut self, waiter: Waiter) -> Option<Waiter> {
        let key = waiter.key();
        if self.handle.is_superseded() && !waiter.coexists() {
            self.handle.release(key);
            self.shared.reroute(self.link.peer(), waiter, Why::Superseded);
            return None;
        }
        let channel = self.channels.values().find(|channel| channel.instance.key() == key);
        let state = channel.map(|channel| &channel.state);
        let fails = match (state, waiter.instance()) {
            (_, None) | (Some(State::Up), _) => {
                self.handle.hold(key);
                let back = waiter.done(&self.handle).err();
                if back.is_some() {
                    // The instance has closed the channel, or lost the link, and word of it is on its way here.
                    self.handle.release(key);
                }
                return back;
            }
            (Some(State::Offered), _) => return Some(waiter),
            (Some(State::Down(why)), _) => Why::clone(why),
            (Some(State::Closing(_)), _) => Why::NotUp,
            (None, Some(instance)) => {
                if self.deferred.iter().any(|deferred| deferred.key() == key) {
                    return Some(waiter);
                }
                // It closed its channel on this link, and wants one again.
                if self.shared.runs(key) {
                    self.open(Arc::clone(instance));
                    return Some(waiter);
                }
                Why::NotUp
            }
        };
        self.handle.release(key);
        waiter.failed(fails);
        None
    }
}
