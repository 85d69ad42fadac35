//! Who is a neighbour: HyParView (Leitão, Pereira, Rodrigues, DSN 2007), with slack instead of evictions.
//!
//! A peer looks for `active_view` neighbours and accepts `active_slack` more, so whoever looks finds room without
//! pushing out others. An *urgent* request, of a peer that has no neighbour and was refused three times, gets one of a
//! few places that are there for nobody else: see `places`.
//! Whoever refuses or lets go names others to try.

mod audit;
mod book;
mod diversity;
mod places;
mod probe;
mod survey;
mod upkeep;
mod words;

pub(crate) use book::BOOK;
pub(crate) use places::GUESTS;

use std::collections::BTreeMap;
use std::sync::Arc;

use peerage_machine::{CallId, DialId, Instant, LinkId, OpId, Rng, Seed, Side, Target, Timers, Why};
use peerage_wire::{Address, PeerId};

use super::config::MeshConfig;
use super::direct::Directory;
use super::error::JoinError;
use super::event::{Loss, MeshAnswer};
use super::links::{Cx, Need};
use super::lru::Lru;
use super::packet::{Contact, MAX_CONTACT_ADDRESSES, Words};
use super::passive::{Passive, Source, back_off};

/// Contacts that are remembered.
pub(crate) const MAX_JOINED_BY: usize = 64;
/// Joins pending at once.
pub(crate) const MAX_JOINS: usize = 16;
/// Contacts named in a refusal or a goodbye.
const OTHERS: usize = 8;
/// Refusals while alone after which a request is urgent.
const URGENT_AFTER: u32 = 3;
/// Dials and requests of membership at once.
pub(crate) const MAX_PENDING: usize = 32;
/// Walks whose answers find back through us.
pub(crate) const MAX_WALKS: usize = 256;
/// Neighbours whose links broke and that are tried again, in case the network was cut in two.
pub(crate) const MAX_LOST: usize = 16;
/// What a contact takes in memory with four addresses of 255 bytes, and a reason beside it.
pub(crate) const CONTACT_BYTES: usize = 1536;
/// Attempts to reach a lost neighbour: 1, 2, 4, 8, 16 and then 30 s apart.
const LOST_ATTEMPTS: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// A view is short.
    Refill,
    /// A neighbour told us to: the peer is new, or says so.
    Invited,
    /// A neighbour is to be exchanged.
    Rotate,
    /// Perhaps the peer is in another part of a split mesh. `again` if one of those it names may be asked in turn.
    Merge { again: bool },
}

#[derive(Clone, Debug)]
enum Dial {
    Contact { address: Address, join: Option<CallId> },
    Check { address: Address },
    Peer { peer: PeerId, reason: Reason },
}

#[derive(Clone, Debug)]
struct Join {
    /// Dials that have not ended.
    open: usize,
    reached: bool,
    failures: Vec<(Address, Why)>,
}

#[derive(Clone, Debug)]
struct Lost {
    contact: Contact,
    retry_at: Instant,
    attempts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Shuffle,
    Rejoin,
    Refill,
    Lost,
    Contact,
    Probe,
    Save,
    Asked(LinkId),
    Join(CallId),
}

/// A change of the neighbours, for the other parts of the machine.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Up(LinkId, PeerId),
    Down(LinkId, PeerId, Loss),
}

#[derive(Debug)]
pub(crate) struct Membership {
    config: Arc<MeshConfig>,
    me: Contact,
    rng: Rng,
    timers: Timers<Timer>,
    active: BTreeMap<PeerId, LinkId>,
    passive: Passive,
    /// Where this peer joined, and who was there.
    contacts: Vec<(Address, Option<PeerId>)>,
    dials: BTreeMap<DialId, Dial>,
    asked: BTreeMap<LinkId, Reason>,
    joins: BTreeMap<CallId, Join>,
    walks: Lru<u64, LinkId>,
    own_walk: Option<u64>,
    lost: Vec<Lost>,
    /// Until then a full view stays as it is.
    settled_until: Instant,
    /// Until then nobody loses a place for another one's urgency.
    spared_until: Instant,
    /// Refused since there is no neighbour.
    refused_alone: u32,
    rejoins: u32,
    hungry: u32,
    /// When a neighbour was found to be gone last.
    broken: Option<Instant>,
    /// What was written last, and the operation that is under way.
    saved: Option<blake3::Hash>,
    saving: Option<OpId>,
    /// Whether the host keeps anything.
    keeps: bool,
    /// Whether the last shuffle told of anybody new.
    learnt: bool,
    /// Neighbours that fell silent and others that did not answer, since the last attempt that went well.
    failed: u32,
    /// Who is to be visited because most are gone, and when that was found last.
    unvisited: Vec<Contact>,
    surveyed: Option<Instant>,
    /// When the neighbours are to be looked at.
    probe_at: Instant,
    changes: Vec<Change>,
}

impl Membership {
    pub(crate) fn new(config: Arc<MeshConfig>, me: PeerId, addresses: Vec<Address>, seed: &Seed) -> Self {
        Self {
            me: Contact { peer: me, addresses: cut(addresses) },
            rng: seed.fork("mesh membership").rng(),
            timers: Timers::new(),
            active: BTreeMap::new(),
            passive: Passive::new(config.passive_view),
            contacts: Vec::new(),
            dials: BTreeMap::new(),
            asked: BTreeMap::new(),
            joins: BTreeMap::new(),
            walks: Lru::new(MAX_WALKS),
            own_walk: None,
            lost: Vec::new(),
            settled_until: Instant::START + config.move_after,
            spared_until: Instant::START,
            refused_alone: 0,
            rejoins: 0,
            hungry: 0,
            broken: None,
            saved: None,
            saving: None,
            keeps: true,
            learnt: true,
            failed: 0,
            unvisited: Vec::new(),
            surveyed: None,
            probe_at: Instant::START,
            changes: Vec::new(),
            config,
        }
    }

    pub(crate) fn neighbours(&self) -> impl Iterator<Item = (PeerId, LinkId)> {
        self.active.iter().map(|(peer, link)| (*peer, *link))
    }

    pub(crate) fn is_neighbour(&self, peer: &PeerId) -> bool {
        self.active.contains_key(peer)
    }

    pub(crate) fn known(&self) -> usize {
        self.passive.len()
    }

    pub(crate) fn footprint(&self) -> u64 {
        let contacts = self.passive.len() + self.unvisited.len() + self.lost.len() + self.contacts.len();
        let failures: usize = self.joins.values().map(|join| join.failures.len()).sum();
        ((contacts + failures) * CONTACT_BYTES
            + (self.walks.len() + self.dials.len() + self.asked.len()) * 512) as u64
    }

    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub(crate) fn own_addresses(&mut self, addresses: Vec<Address>) {
        self.me.addresses = cut(addresses);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.deadline()
    }

    // What the application asks.

    pub(crate) fn join(&mut self, contacts: Vec<Address>, cx: &mut Cx<'_>) -> Result<CallId, JoinError> {
        if contacts.is_empty() {
            return Err(JoinError::NoContacts);
        }
        let limit = MAX_JOINED_BY;
        if contacts.len() > limit {
            return Err(JoinError::TooMany { named: contacts.len(), limit });
        }
        if self.joins.len() >= MAX_JOINS {
            return Err(JoinError::Busy { pending: self.joins.len(), limit: MAX_JOINS });
        }
        let call = cx.ids.call();
        self.joins.insert(call, Join { open: contacts.len(), reached: false, failures: Vec::new() });
        self.timers.arm(Timer::Join(call), cx.now.mono + self.config.join_within);
        for address in contacts {
            if !self.contacts.iter().any(|(known, _)| *known == address) {
                if self.contacts.len() >= limit {
                    self.contacts.remove(0);
                }
                self.contacts.push((address.clone(), None));
            }
            let dial = cx.ids.dial();
            self.dials.insert(dial, Dial::Contact { address: address.clone(), join: Some(call) });
            cx.out.dial(dial, Target::Address(address));
        }
        if !self.active.is_empty() {
            self.answer_joins(cx);
        }
        self.arm_contact_check(cx);
        Ok(call)
    }

    pub(crate) fn cancel(&mut self, call: CallId) -> bool {
        self.timers.cancel(&Timer::Join(call));
        self.joins.remove(&call).is_some()
    }

    pub(crate) fn leave(&mut self, cx: &mut Cx<'_>) {
        if self.keeps {
            self.save(cx);
        }
        for (peer, link) in std::mem::take(&mut self.active) {
            cx.control(link, Words::Disconnect { leaving: true, others: Vec::new() });
            cx.links.unneed(cx.now.mono, link, Need::Neighbour, cx.out);
            self.changes.push(Change::Down(link, peer, Loss::Leaving));
        }
        for link in std::mem::take(&mut self.asked).into_keys() {
            cx.links.unneed(cx.now.mono, link, Need::Asked, cx.out);
        }
        for call in std::mem::take(&mut self.joins).into_keys() {
            cx.out.answer(call, MeshAnswer::Joined(Err(JoinError::Closed)));
        }
        self.dials.clear();
        self.timers.clear();
    }

    // What the world tells.

    /// Whether the dial was one of ours.
    pub(crate) fn dialed(&mut self, dial: DialId, link: LinkId, cx: &mut Cx<'_>) -> bool {
        let Some(dial) = self.dials.remove(&dial) else { return false };
        let Some(peer) = cx.links.get(link).map(|link| link.peer) else {
            self.dial_over(dial, Why::NotUp, cx);
            return true;
        };
        match dial {
            Dial::Contact { address, join } => {
                self.note_contact(&address, peer);
                if let Some(join) = join.and_then(|call| self.joins.get_mut(&call)) {
                    join.open = join.open.saturating_sub(1);
                    join.reached = true;
                }
                if !self.active.contains_key(&peer) {
                    let urgent = self.is_urgent();
                    self.expect_answer(link, Reason::Refill, cx);
                    cx.control(link, Words::Join { urgent });
                }
            }
            Dial::Check { address } => {
                self.note_contact(&address, peer);
                self.ask_on(link, peer, Reason::Merge { again: true }, cx);
            }
            Dial::Peer { peer, reason } => self.ask_on(link, peer, reason, cx),
        }
        true
    }

    /// Whether the dial was one of ours.
    pub(crate) fn dial_failed(&mut self, dial: DialId, why: Why, cx: &mut Cx<'_>) -> bool {
        let Some(dial) = self.dials.remove(&dial) else { return false };
        self.dial_over(dial, why, cx);
        true
    }

    fn dial_over(&mut self, dial: Dial, why: Why, cx: &mut Cx<'_>) {
        match dial {
            Dial::Contact { address, join } => {
                if why == Why::SelfDial {
                    self.contacts.retain(|(known, _)| *known != address);
                }
                if let Some(call) = join
                    && let Some(join) = self.joins.get_mut(&call)
                {
                    join.open = join.open.saturating_sub(1);
                    join.failures.push((address, why));
                    if join.open == 0 && !join.reached {
                        self.timers.cancel(&Timer::Join(call));
                        let failures = self.joins.remove(&call).map(|join| join.failures).unwrap_or_default();
                        cx.out.answer(call, MeshAnswer::Joined(Err(JoinError::Unreachable { failures })));
                    }
                }
            }
            Dial::Check { .. } => {}
            Dial::Peer { peer, .. } => {
                self.unanswered(&peer, cx.now.mono);
            }
        }
        self.settle(cx);
    }

    pub(crate) fn down(&mut self, link: LinkId, contact: Contact, why: Why, cx: &mut Cx<'_>) {
        let peer = contact.peer;
        if self.asked.remove(&link).is_some() {
            self.timers.cancel(&Timer::Asked(link));
            self.unanswered(&peer, cx.now.mono);
        }
        if self.active.get(&peer) == Some(&link) {
            self.active.remove(&peer);
            self.hungry = 0;
            // Who closes the mesh on the link leaves it, even if its goodbye was lost with the channel.
            let left = matches!(why, Why::ChannelClosed { by: Side::Them, .. });
            if left || matches!(why, Why::Shutdown { .. }) {
                self.passive.remove(&peer);
            } else {
                self.broken = Some(cx.now.mono);
                // Others may have lost the same one.
                self.passive.try_again(cx.now.mono);
                self.remember_lost(contact.clone(), cx);
                let source = self.source_of(&contact.peer, false, cx);
                self.passive.add(contact, source, cx.now.mono + back_off(1), &mut self.rng);
            }
            let loss = if left { Loss::Left } else { Loss::Link(why) };
            self.changes.push(Change::Down(link, peer, loss));
        }
        self.settle(cx);
    }

    pub(crate) fn on_timer(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Shuffle => self.shuffle(cx),
                Timer::Refill => self.settle(cx),
                Timer::Rejoin => self.rejoin(cx),
                Timer::Lost => self.retry_lost(cx),
                Timer::Contact => self.check_contact(cx),
                Timer::Probe => self.probe(cx),
                Timer::Save => self.save(cx),
                Timer::Asked(link) => {
                    if self.asked.remove(&link).is_some() {
                        if let Some(peer) = cx.links.get(link).map(|link| link.peer) {
                            self.unanswered(&peer, now);
                        }
                        cx.links.unneed(cx.now.mono, link, Need::Asked, cx.out);
                        self.settle(cx);
                    }
                }
                Timer::Join(call) => {
                    if let Some(join) = self.joins.remove(&call) {
                        let error =
                            JoinError::TimedOut { after: self.config.join_within, failures: join.failures };
                        cx.out.answer(call, MeshAnswer::Joined(Err(error)));
                    }
                }
            }
        }
    }

    // What follows.

    fn add_active(&mut self, link: LinkId, peer: PeerId, guest: bool, cx: &mut Cx<'_>) {
        if self.active.insert(peer, link).is_some() {
            return;
        }
        self.settled_until = cx.now.mono + self.rng.jitter(self.config.move_after, 0.5);
        self.passive.remove(&peer);
        self.lost.retain(|lost| lost.contact.peer != peer);
        if let Some(it) = cx.links.get_mut(link) {
            (it.since, it.guest) = (cx.now.mono, guest);
        }
        cx.links.need(link, Need::Neighbour, cx.out);
        self.changes.push(Change::Up(link, peer));
        self.refused_alone = 0;
        self.rejoins = 0;
        self.failed = 0;
        self.arm_probe(cx);
        self.arm_save(cx);
        self.arm_contact_check(cx);
        self.answer_joins(cx);
    }

    fn answer_joins(&mut self, cx: &mut Cx<'_>) {
        for call in std::mem::take(&mut self.joins).into_keys() {
            self.timers.cancel(&Timer::Join(call));
            cx.out.answer(call, MeshAnswer::Joined(Ok(())));
        }
    }

    fn random_neighbour(&mut self, but: Option<LinkId>) -> Option<LinkId> {
        let others: Vec<LinkId> = self.active.values().copied().filter(|link| Some(*link) != but).collect();
        self.rng.pick(&others).copied()
    }

    fn others(&mut self, but: &PeerId, cx: &Cx<'_>) -> Vec<Contact> {
        let mut all: Vec<Contact> = self.active.values().filter_map(|link| cx.links.contact(*link)).collect();
        all.extend(self.passive.sample(OTHERS, &mut self.rng));
        all.retain(|contact| contact.peer != *but && !contact.addresses.is_empty());
        self.rng.sample(all, OTHERS)
    }

    fn is_known(&self, peer: &PeerId) -> bool {
        *peer == self.me.peer || self.active.contains_key(peer) || self.passive.contains(peer)
    }

    fn learn(&mut self, contacts: Vec<Contact>, teller: PeerId, cx: &Cx<'_>) {
        for contact in contacts {
            if contact.peer != self.me.peer && !self.active.contains_key(&contact.peer) {
                self.passive.add(contact, Source::Told(teller), cx.now.mono, &mut self.rng);
            }
        }
    }

    fn is_urgent(&self) -> bool {
        self.active.is_empty() && self.refused_alone >= URGENT_AFTER
    }

    fn pending(&self) -> usize {
        self.asked.len() + self.dials.len()
    }

    /// Asks a peer to be a neighbour, on the link that there is or a new one.
    fn ask(&mut self, contact: Contact, reason: Reason, cx: &mut Cx<'_>) {
        if self.is_busy_with(&contact.peer, cx)
            || self.pending() >= MAX_PENDING
            || contact.peer == self.me.peer
        {
            return;
        }
        if let Some(link) = cx.links.to(&contact.peer) {
            self.ask_on(link, contact.peer, reason, cx);
        } else if !contact.addresses.is_empty() {
            let dial = cx.ids.dial();
            self.dials.insert(dial, Dial::Peer { peer: contact.peer, reason });
            cx.out.dial(dial, Target::Peer { peer: contact.peer, addresses: contact.addresses });
        }
    }

    fn ask_on(&mut self, link: LinkId, peer: PeerId, reason: Reason, cx: &mut Cx<'_>) {
        if !self.active.contains_key(&peer) {
            let urgent = self.is_urgent();
            if let Some(it) = cx.links.get_mut(link) {
                it.invited = reason == Reason::Invited;
            }
            self.expect_answer(link, reason, cx);
            cx.control(link, Words::Neighbour { urgent });
        }
    }

    fn expect_answer(&mut self, link: LinkId, reason: Reason, cx: &mut Cx<'_>) {
        self.asked.insert(link, reason);
        self.timers.arm(Timer::Asked(link), cx.now.mono + self.config.answer_within);
        cx.links.need(link, Need::Asked, cx.out);
    }
}

impl Directory for Membership {
    fn contact(&self, peer: &PeerId) -> Option<Contact> {
        let lost = || self.lost.iter().map(|lost| &lost.contact).find(|it| it.peer == *peer);
        self.passive.find(peer).or_else(lost).cloned()
    }
}

fn cut(mut addresses: Vec<Address>) -> Vec<Address> {
    addresses.truncate(MAX_CONTACT_ADDRESSES);
    addresses
}
