//! The end of a link, and what is told of it and counted.

use std::sync::atomic::{AtomicU64, Ordering};

use peerage_machine::Why;

use super::bytes::HangingUp;
use super::{Driver, Waiting};
use crate::dropped::Dropped;

impl Driver {
    pub(super) fn closed(&mut self, why: Why) {
        if self.over.is_some() {
            return;
        }
        self.handshake_over();
        self.shared.counters.ended(self.was_up, &why);
        tracing::debug!(why = self.shared.shown_why(&why), was_up = self.was_up, "link ended");
        self.over = Some(Box::new(why.clone()));
        // Before anybody hears of the end: who looks then sees all of it.
        self.report();
        let stats = self.link.stats();
        let unsent = self.taken.saturating_sub(stats.messages_sent + stats.messages_dropped);
        if unsent > 0 {
            self.shared.counters.dropped(Dropped::LinkEnded, unsent);
        }
        self.handle.up.store(false, Ordering::Release);
        self.handle.detach(&why);
        for channel in self.channels.values() {
            // Those that another link's task has told already have forgotten this one.
            channel.instance.down(self.handle.id, why.clone());
        }
        let late = self.handle.shut_mail();
        let peer = self.link.peer();
        if let Some(peer) = peer {
            let waiters = self.shared.detached(&self.handle, peer);
            self.add_waiters(waiters);
        }
        late.into_iter().for_each(|command| self.too_late(command));
        self.tell_probers(false);
        for Waiting { waiter, .. } in std::mem::take(&mut self.waiters) {
            self.reroute(waiter);
        }
        if why == Why::Duplicate
            && let Some(peer) = peer
            && let Some(dial) = self.dial.take()
        {
            // The link that stays instead, or that is on its way, serves as well; should it go, this address does.
            let dial = dial.or_dial(vec![self.handle.remote.clone()]);
            self.dial = self.shared.await_peer(peer, dial).err().map(Box::new);
        }
    }

    /// Totals, for whoever looks.
    pub(super) fn report(&mut self) {
        let stats = self.link.stats();
        let counters = &self.handle.counters;
        // Nobody else sets them: what is there was reported.
        let reported = |counter: &AtomicU64, total: u64| total - counter.swap(total, Ordering::Relaxed);
        self.shared.counters.messages_sent.add(reported(&counters.messages_sent, stats.messages_sent));
        let received = reported(&counters.messages_received, stats.messages_received);
        self.shared.counters.messages_received.add(received);
        let late = stats.late_fragments - counters.late_fragments.load(Ordering::Relaxed);
        if late > 0 {
            self.shared.counters.dropped(Dropped::LateFragments, late);
            counters.late_fragments.store(stats.late_fragments, Ordering::Relaxed);
        }
        let dropped = stats.messages_dropped - std::mem::replace(&mut self.dropped, stats.messages_dropped);
        if dropped > 0 {
            self.shared.counters.dropped(Dropped::ChannelEnded, dropped);
        }
        counters.unsent_bytes.store(self.unsent.len() as u64, Ordering::Relaxed);
        let (messages, bytes) = self.link.queued();
        counters.queued_messages.store(messages, Ordering::Relaxed);
        counters.queued_bytes.store(bytes, Ordering::Relaxed);
        counters.held_bytes.store(self.link.held_bytes(), Ordering::Relaxed);
        let (windows, room) = self.link.borrowed_bytes();
        counters.borrowed_bytes.store(windows + room, Ordering::Relaxed);
    }

    /// Leaves in good order, as far as the peer lets it.
    pub(super) async fn hang_up(mut self: Box<Self>) {
        let mut hanging_up = HangingUp::now();
        std::future::poll_fn(|cx| self.poll_hang_up(cx, &mut hanging_up)).await;
        self.report();
        let Self { shared, handle, ip, stream, .. } = *self;
        // The connection is gone before anybody hears that it is.
        drop(stream);
        shared.unseat(&handle, ip);
    }
}
