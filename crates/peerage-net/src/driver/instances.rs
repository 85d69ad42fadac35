//! Instances on one link: which are up, and who waits for them.

use std::sync::Arc;

use peerage_machine::{LinkInfo, Why};

use super::{Channel, Driver, State};
use crate::hosted::Instance;
use crate::link_handle::{InstanceKey, Waiter};
use crate::scratch::lock;

impl Driver {
    /// Offers the peer what was hosted since the hello, as soon as that has a clear meaning: when both sides have
    /// accepted, and after the end of an earlier instance of the same name.
    pub(super) fn open_deferred(&mut self) {
        if !self.was_up {
            return;
        }
        for instance in std::mem::take(&mut self.deferred) {
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
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(known) = self.handle.known.get() else { return };
        if let State::Closing(detail) = &channel.state {
            self.link.close_channel(self.shared.clock.mono(), number, detail);
            self.channels.remove(&number);
            return self.open_deferred();
        }
        // A link that has given way, or is about to, is nobody's: the other one is.
        if !self.was_up || self.handle.is_detached() {
            return;
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
        }
        self.answer_waiters();
    }

    /// An instance is not, or no longer, open with the peer.
    pub(super) fn channel_not_up(&mut self, number: u32, why: Why) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        match channel.state {
            State::Closing(_) => {
                self.link.close_channel(self.shared.clock.mono(), number, "");
                self.channels.remove(&number);
                self.open_deferred();
            }
            State::Up => {
                channel.state = State::Down(why.clone());
                let instance = Arc::clone(&channel.instance);
                lock(&self.handle.open).remove(&instance.key());
                instance.down(self.handle.id, why);
                self.handle.release(instance.key());
            }
            State::Offered | State::Down(_) => channel.state = State::Down(why),
        }
        self.answer_waiters();
    }

    /// Ends an instance on this link. One whose offer the peer has yet to answer is ended when it has: until then
    /// there is no common number by which to tell the peer.
    pub(super) fn close_instance(&mut self, key: InstanceKey, detail: &str) {
        self.handle.release(key);
        lock(&self.handle.open).remove(&key);
        self.deferred.retain(|instance| instance.key() != key);
        let mut ended = Vec::new();
        for (number, channel) in &mut self.channels {
            if channel.instance.key() != key {
                continue;
            }
            match channel.state {
                State::Offered => channel.state = State::Closing(detail.to_owned()),
                State::Closing(_) => {}
                State::Up | State::Down(_) => ended.push(*number),
            }
        }
        for number in ended {
            self.link.close_channel(self.shared.clock.mono(), number, detail);
            self.channels.remove(&number);
        }
        self.answer_waiters();
    }

    /// Tells those who wait for an instance on this link, as far as it is known by now.
    pub(super) fn answer_waiters(&mut self) {
        if !self.was_up || self.over.is_some() || self.handle.is_detached() {
            return;
        }
        for waiter in std::mem::take(&mut self.waiters) {
            self.answer_waiter(waiter);
        }
    }

    fn answer_waiter(&mut self, waiter: Waiter) {
        let key = waiter.key();
        let mut channels = self.channels.values();
        let state = channels.find(|channel| channel.instance.key() == key).map(|channel| &channel.state);
        let fails = match (state, waiter.instance()) {
            (_, None) | (Some(State::Up), _) => {
                self.handle.hold(key);
                if let Err(waiter) = waiter.done(&self.handle) {
                    // The instance has closed the channel, or lost the link, and word of it is on its way here.
                    self.handle.release(key);
                    self.waiters.push(waiter);
                }
                return;
            }
            (Some(State::Offered), _) => return self.waiters.push(waiter),
            (Some(State::Down(why)), _) => why.clone(),
            (Some(State::Closing(_)), _) => Why::NotUp,
            (None, Some(instance)) => {
                if self.deferred.iter().any(|deferred| deferred.key() == key) {
                    return self.waiters.push(waiter);
                }
                // It closed its channel on this link, and wants one again.
                if self.shared.runs(key) {
                    self.open(Arc::clone(instance));
                    return self.waiters.push(waiter);
                }
                Why::NotUp
            }
        };
        self.handle.release(key);
        waiter.failed(fails);
    }
}
