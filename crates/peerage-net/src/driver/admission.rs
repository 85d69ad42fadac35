//! Whether a connection becomes a link, and what of others then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use peerage_machine::{Direction, Incarnation, LinkId, Why};
use peerage_wire::Address;
use peerage_wire::hello::Hello;

use super::Driver;
use crate::clock::Clock;
use crate::hub::Verdict;
use crate::link_handle::{Command, Known, LinkHandle};
use crate::source::Source;

impl Driver {
    pub(super) fn greet(&mut self, hello: Hello) {
        let (peer, incarnation) = (hello.identity, Incarnation(hello.incarnation));
        tracing::Span::current().record("peer", tracing::field::display(peer.short()));
        let known = Known {
            peer,
            incarnation,
            addresses: hello.addresses,
            software: hello.software,
            suite: self.link.suite(),
            since: Clock::wall(),
        };
        // Set once: a link greets once.
        let _ = self.handle.known.set(known);
        self.decide(None);
    }

    /// Admits the connection, refuses it, or asks the link that is in its way, which tells with [`Command::Probed`].
    fn decide(&mut self, mut gone: Option<LinkId>) {
        let Some(known) = self.handle.known.get() else { return };
        loop {
            match self.shared.consider(&self.handle, known.peer, known.incarnation, gone) {
                Verdict::Admit => return self.link.admit(),
                Verdict::Refuse(why) => return self.link.refuse(why),
                Verdict::Ask(rival) if rival.ask(Command::Probe(Arc::clone(&self.handle))) => return,
                // Its task has just ended. There is no third: the hub keeps one link that counts.
                Verdict::Ask(rival) => gone = Some(rival.id),
            }
        }
    }

    /// The link that was in this connection's way has been asked.
    pub(super) fn probed(&mut self, rival: LinkId, alive: bool) {
        if !self.link.is_deciding() {
            return;
        }
        if alive {
            self.link.refuse(Why::Duplicate);
        } else {
            self.decide(Some(rival));
        }
        // What came meanwhile waits to be read.
        self.stalled = false;
        self.go_on();
    }

    /// Another connection would take this link's place, if the peer has lost it.
    pub(super) fn probe(&mut self, asker: Arc<LinkHandle>) {
        self.probers.push(asker);
        let now = self.shared.clock.mono();
        self.link.probe(now);
    }

    /// Those who asked whether the peer still has this link are told.
    pub(super) fn tell_probers(&mut self, alive: bool) {
        for asker in std::mem::take(&mut self.probers) {
            // A connection that is over needs no telling.
            asker.ask(Command::Probed { rival: self.handle.id, alive });
        }
    }

    /// The peer says where it sees us. Only whom we chose to dial has a vote.
    pub(super) fn observed(&self, observed: Option<Address>) {
        let (Some(seen), Some(voter), Direction::Outbound) = (observed, self.ip, self.handle.direction)
        else {
            return;
        };
        if self.shared.own.observed(voter, &seen) {
            self.shared.tell_addresses();
        }
    }

    pub(super) fn up(&mut self, rtt: Option<Duration>) {
        self.handshake_over();
        let handle = Arc::clone(&self.handle);
        let Some(known) = handle.known.get() else { return };
        if let Some(rtt) = rtt {
            self.store_rtt(rtt);
        }
        let established = self.shared.established(&handle, known.peer, known.incarnation);
        self.add_waiters(established.waiters);
        if established.gives_way {
            return self.link.close(Why::Duplicate);
        }
        // Before anybody hears of this link: no instance ever sees two to one peer that did not ask for it.
        for (old, why) in established.replaced {
            old.detach(&why);
            old.ask(Command::Close(Box::new(why)));
        }
        for old in established.superseded {
            old.supersede();
        }
        self.was_up = true;
        self.handle.up.store(true, Ordering::Release);
        self.shared.counters.links_up.add(1);
        tracing::debug!(software = known.software, "link up");
        self.shared.linked.notify_waiters();
        if let Some(ip) = self.ip {
            self.shared.vouch(Source::from(ip));
        }
        let dial = self.dial.take().map(|dial| *dial);
        self.add_waiters(dial);
        let now = self.shared.clock.mono();
        self.link.set_held(now, self.handle.is_held());
        self.open_deferred();
        self.answer_waiters();
    }
}
