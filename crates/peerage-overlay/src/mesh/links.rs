//! The links of one mesh: who is there, what is queued, and who needs the link.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use peerage_machine::{
    CallId, Class, DialId, Direction, Effect, Instant, JobId, LinkId, LinkInfo, Message as _, Now, OpId,
    SendId,
};
use peerage_wire::{Address, PeerId};

use super::config::MeshConfig;
use super::event::Out;
use super::message::{MessageId, StreamKey};
use super::meter::{self, Meter};
use super::names::{GIVEN_BYTES, Keys, Names, TAKEN_BYTES};
use super::packet::{Contact, MAX_CONTACT_ADDRESSES, MAX_NAME, Notice, Packet, Run, Words};
use super::room::give_back;
use super::score::{Deed, Scores};
use super::spare::QUEUED;

/// How long announcements and summaries wait after a link refused one for want of room.
const CONTROL_PAUSE: Duration = Duration::from_millis(200);
/// Sends that are remembered in case they come back as undelivered, and for how long: hosts say so at once.
pub(crate) const REMEMBERED_SENDS: usize = 4096;
const REMEMBERED_FOR: Duration = Duration::from_millis(100);
/// What a link takes in memory, with four addresses of 255 bytes, and all the numbers that it may give to streams.
const BARE_LINK_BYTES: usize = 1856;
pub(crate) const LINK_BYTES: usize = BARE_LINK_BYTES + MAX_NAME as usize * (GIVEN_BYTES + TAKEN_BYTES);
/// Of messages from here on a link knows whether they are queued; with others it is not worth the memory.
const LARGE: u64 = 16 << 10;
/// How long what a neighbour has pushed may be under way when it is none any more.
const UNDER_WAY: Duration = Duration::from_secs(10);
/// Until the first measurement.
const UNKNOWN_RTT: Duration = Duration::from_millis(100);

/// Why a link is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Its peer is a neighbour.
    Neighbour,
    /// Its peer was asked to be one.
    Asked,
    /// A whisper waits for its result on it.
    Whisper,
}

/// How much the peer of a link may still say.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) control: Meter,
    pub(crate) walks: Meter,
    pub(crate) joins: Meter,
    pub(crate) compares: Meter,
}

impl Meters {
    fn new(now: Instant) -> Self {
        Self {
            control: Meter::new(meter::CONTROL, now),
            walks: Meter::new(meter::WALKS, now),
            joins: Meter::new(meter::JOINS, now),
            compares: Meter::new(meter::COMPARES, now),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: PeerId,
    pub(crate) addresses: Vec<Address>,
    pub(crate) rtt: Duration,
    pub(crate) max_message: u64,
    pub(crate) dialled: bool,
    /// Somebody else asked us to dial it.
    pub(crate) invited: bool,
    /// When it became a neighbour last.
    pub(crate) since: Instant,
    /// Whether it has one of the places that are there for those in need.
    pub(crate) guest: bool,
    pub(crate) meters: Meters,
    /// What may still be queued, and what may be when nothing is.
    room: u64,
    capacity: u64,
    /// Large messages that are queued, each with what will have left the queue when it has; and what was put into it and
    /// has left it so far.
    large: VecDeque<(MessageId, u64)>,
    put: u64,
    left: u64,
    /// Announcements wait until then.
    busy_until: Instant,
    /// When the peer last said something, and since when it is asked whether it is there.
    pub(crate) heard: Instant,
    pub(crate) probed: Option<Instant>,
    names: Names,
    /// Since when an own publish has found no room.
    pub(crate) starved_since: Option<Instant>,
    /// Messages that its peer was asked for and has not sent.
    pub(crate) awaited: u64,
    /// When its peer was a neighbour last.
    let_go: Option<Instant>,
    neighbour: bool,
    asked: bool,
    whispers: u32,
    held: bool,
}

impl Link {
    /// Whether we chose its peer ourselves: we dialled it, and not because somebody told us to.
    pub(crate) fn is_chosen(&self) -> bool {
        self.dialled && !self.invited
    }

    /// Whether it is no stranger who speaks: a neighbour, one that was asked to be, or one that was until a moment ago.
    pub(crate) fn is_no_stranger(&self, now: Instant) -> bool {
        self.neighbour || self.asked || self.let_go.is_some_and(|at| at + UNDER_WAY > now)
    }

    fn is_needed(&self) -> bool {
        self.neighbour || self.asked || self.whispers > 0
    }

    /// Whether so many bytes may be queued. What is longer than the whole queue may go when the queue is empty.
    pub(crate) fn has_room(&self, size: u64) -> bool {
        size <= self.room || self.room >= self.capacity
    }

    /// The same while so much is kept free for what we say ourselves. What keeps the link busy until more comes is for others'
    /// messages all the same.
    pub(crate) fn has_room_beside(&self, size: u64, kept_free: u64) -> bool {
        let most = self.capacity.saturating_sub(QUEUED).max(QUEUED);
        self.has_room(size.saturating_add(kept_free.min(most)))
    }

    pub(crate) fn room(&self) -> u64 {
        self.room
    }

    /// Bytes that may still be queued of what we say ourselves. The last eighth is for what others said, unless it is
    /// our turn.
    pub(crate) fn room_for_own(&self, own_turn: bool) -> u64 {
        self.room.saturating_sub(if own_turn { 0 } else { self.capacity / 8 })
    }

    pub(crate) fn has_room_for_own(&self, size: u64, own_turn: bool) -> bool {
        size <= self.room_for_own(own_turn) || self.room >= self.capacity
    }

    /// Bytes that are queued, as far as the queue goes.
    pub(crate) fn queued(&self) -> u64 {
        self.capacity - self.room
    }

    /// So many bytes have left the queue.
    fn leave(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes);
        while self.large.front().is_some_and(|(_, end)| *end <= self.left) {
            self.large.pop_front();
        }
    }

    /// Large messages of a stream that are queued, by their numbers: whoever asks for them will have them.
    pub(crate) fn queued_of(&self, stream: StreamKey) -> impl Iterator<Item = u64> {
        self.large.iter().filter(move |(id, _)| id.stream() == stream).map(|(id, _)| id.seq)
    }

    /// Whether announcements should wait.
    pub(crate) fn is_busy(&self, now: Instant) -> bool {
        self.busy_until > now
    }
}

/// What was sent, should it come back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sent {
    Broadcast(MessageId),
    Whisper(MessageId),
    Control,
}

/// A send that may come back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remembered {
    id: SendId,
    sent: Sent,
    size: u64,
    at: Instant,
}

#[derive(Debug)]
pub(crate) struct Links {
    /// In boxes: a node of a map has room for eleven, and most peers have seven.
    links: BTreeMap<LinkId, Box<Link>>,
    by_peer: BTreeMap<PeerId, LinkId>,
    pub(crate) sent: VecDeque<Remembered>,
    next_send: u64,
    /// What numbers of links stand for.
    keys: Keys,
    /// What time it is, in this call of the machine's.
    pub(crate) now: Instant,
    pub(crate) scores: Scores,
}

impl Links {
    pub(crate) fn new(config: &MeshConfig) -> Self {
        Self {
            links: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            sent: VecDeque::new(),
            next_send: 0,
            keys: Keys::default(),
            now: Instant::START,
            scores: Scores::new(config.shun_below, config.shun_for),
        }
    }

    pub(crate) fn up(&mut self, now: Instant, link: LinkId, info: &LinkInfo) {
        self.by_peer.insert(info.peer, link);
        self.links.insert(
            link,
            Box::new(Link {
                peer: info.peer,
                addresses: info.addresses.iter().take(MAX_CONTACT_ADDRESSES).cloned().collect(),
                rtt: info.rtt.unwrap_or(UNKNOWN_RTT),
                max_message: info.max_message,
                dialled: info.direction == Direction::Outbound,
                invited: false,
                guest: false,
                since: now,
                meters: Meters::new(now),
                room: info.credit,
                capacity: info.credit,
                large: VecDeque::new(),
                put: 0,
                left: 0,
                busy_until: Instant::START,
                heard: now,
                probed: None,
                names: Names::default(),
                starved_since: None,
                awaited: 0,
                let_go: None,
                neighbour: false,
                asked: false,
                whispers: 0,
                held: false,
            }),
        );
    }

    pub(crate) fn down(&mut self, link: LinkId) -> Option<Link> {
        let gone = self.links.remove(&link)?;
        if self.by_peer.get(&gone.peer) == Some(&link) {
            self.by_peer.remove(&gone.peer);
        }
        Some(*gone)
    }

    pub(crate) fn get(&self, link: LinkId) -> Option<&Link> {
        self.links.get(&link).map(|link| &**link)
    }

    pub(crate) fn get_mut(&mut self, link: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&link).map(|link| &mut **link)
    }

    pub(crate) fn to(&self, peer: &PeerId) -> Option<LinkId> {
        self.by_peer.get(peer).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn footprint(&self) -> u64 {
        let names: usize = self.links.values().map(|link| link.names.footprint()).sum();
        (self.links.len() * BARE_LINK_BYTES + names + self.keys.footprint() + self.sent.len() * 128) as u64
            + self.scores.footprint()
    }

    pub(crate) fn contact(&self, link: LinkId) -> Option<Contact> {
        self.links.get(&link).map(|link| Contact { peer: link.peer, addresses: link.addresses.clone() })
    }

    pub(crate) fn credit(&mut self, link: LinkId, class: Class, bytes: u64) {
        let Some(link) = self.links.get_mut(&link) else { return };
        if class != Class::Control {
            link.room = link.room.saturating_add(bytes).min(link.capacity);
            link.starved_since = None;
            link.leave(bytes);
        }
    }

    /// A dial ended in this link, so the host holds it; it is let go when nobody needs it.
    pub(crate) fn dialled(&mut self, link: LinkId, out: &mut Out) {
        if let Some(it) = self.links.get_mut(&link) {
            it.held = true;
        }
        self.settle(link, out);
    }

    pub(crate) fn need(&mut self, link: LinkId, need: Need, out: &mut Out) {
        if let Some(it) = self.links.get_mut(&link) {
            match need {
                Need::Neighbour => it.neighbour = true,
                Need::Asked => it.asked = true,
                Need::Whisper => it.whispers += 1,
            }
        }
        self.settle(link, out);
    }

    pub(crate) fn unneed(&mut self, now: Instant, link: LinkId, need: Need, out: &mut Out) {
        if let Some(it) = self.links.get_mut(&link) {
            match need {
                Need::Neighbour => {
                    it.neighbour = false;
                    it.let_go = Some(now);
                }
                Need::Asked => it.asked = false,
                Need::Whisper => it.whispers = it.whispers.saturating_sub(1),
            }
        }
        self.settle(link, out);
    }

    fn settle(&mut self, id: LinkId, out: &mut Out) {
        if let Some(link) = self.links.get_mut(&id)
            && link.held != link.is_needed()
        {
            link.held = !link.held;
            out.push(if link.held { Effect::Hold(id) } else { Effect::Release(id) });
        }
    }

    /// Queues a message that needs credit on links that have room for it.
    pub(crate) fn send(&mut self, to: Vec<LinkId>, words: Words, size: u64, sent: Sent, out: &mut Out) {
        if to.is_empty() {
            return;
        }
        for link in &to {
            if let Some(link) = self.links.get_mut(link) {
                link.room = link.room.saturating_sub(size);
                link.put = link.put.saturating_add(size);
                if let Sent::Broadcast(id) = sent
                    && size >= LARGE
                {
                    link.large.push_back((id, link.put));
                }
            }
        }
        let id = self.remember(sent, size);
        out.push(Effect::Send { to, message: Packet(words), class: Class::Interactive, id: Some(id) });
    }

    fn remember(&mut self, sent: Sent, size: u64) -> SendId {
        let id = SendId(self.next_send);
        self.next_send += 1;
        let now = self.now;
        while let Some(oldest) = self.sent.front()
            && (oldest.at + REMEMBERED_FOR < now || self.sent.len() >= REMEMBERED_SENDS)
        {
            self.sent.pop_front();
        }
        give_back(&mut self.sent);
        self.sent.push_back(Remembered { id, sent, size, at: now });
        id
    }

    /// A send came back: its room is free again.
    pub(crate) fn undelivered(&mut self, now: Instant, send: SendId, link: LinkId) -> Option<Sent> {
        let at = self.sent.binary_search_by_key(&send, |it| it.id).ok()?;
        let Remembered { sent, size, .. } = self.sent.get(at).copied()?;
        let link = self.links.get_mut(&link)?;
        link.room = link.room.saturating_add(size).min(link.capacity);
        if let Sent::Broadcast(id) = sent {
            link.large.retain(|(queued, _)| *queued != id);
        }
        link.leave(size);
        if matches!(sent, Sent::Control) {
            link.busy_until = now + CONTROL_PAUSE;
            link.names.refused();
        }
        Some(sent)
    }

    /// Queues a message so that it comes after what was pushed on the link, if the link has room for it.
    pub(crate) fn after_pushes(&mut self, to: LinkId, words: Words, out: &mut Out) {
        let size = Packet(words.clone()).encoded_len() as u64;
        if self.links.get(&to).is_some_and(|link| link.has_room(size)) {
            self.send(vec![to], words, size, Sent::Control, out);
        } else {
            self.control(to, words, out);
        }
    }

    /// Queues a message that needs no credit.
    pub(crate) fn control(&self, to: LinkId, words: Words, out: &mut Out) {
        out.control(to, Packet(words));
    }

    /// The same for what may be said later, or not at all, if the link has no room for it.
    pub(crate) fn control_if_room(&mut self, to: LinkId, words: Words, out: &mut Out) {
        let id = Some(self.remember(Sent::Control, 0));
        out.push(Effect::Send { to: vec![to], message: Packet(words), class: Class::Control, id });
    }

    /// The runs as they are to be announced on the link now.
    pub(crate) fn notices(&mut self, to: LinkId, runs: Vec<Run>, now: Instant) -> Vec<Notice> {
        match self.links.get_mut(&to) {
            Some(link) => runs.into_iter().map(|run| link.names.notice(run, now, &mut self.keys)).collect(),
            None => Vec::new(),
        }
    }

    /// What the peer announced; and how much of it is about nobody knows what.
    pub(crate) fn runs(&mut self, from: LinkId, notices: Vec<Notice>) -> (Vec<Run>, usize) {
        let Some(link) = self.links.get_mut(&from) else { return (Vec::new(), 0) };
        let all = notices.len();
        let runs: Vec<Run> =
            notices.into_iter().filter_map(|notice| link.names.run(notice, &mut self.keys)).collect();
        let known = runs.len();
        (runs, all - known)
    }

    /// See [`Cx::trusts`].
    pub(crate) fn trusts(&self, link: LinkId, origin: &PeerId, now: Instant) -> bool {
        self.links.get(&link).is_some_and(|it| it.peer == *origin || self.scores.is_trusted(&it.peer, now))
    }

    /// The longest round-trip time of these links.
    pub(crate) fn slowest(&self, links: impl Iterator<Item = LinkId>) -> Duration {
        links.filter_map(|link| self.links.get(&link)).map(|link| link.rtt).max().unwrap_or(UNKNOWN_RTT)
    }
}

/// Gives out ids.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    next: u64,
}

impl Ids {
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn dial(&mut self) -> DialId {
        DialId(self.next())
    }

    pub(crate) fn job(&mut self) -> JobId {
        JobId(self.next())
    }

    pub(crate) fn op(&mut self) -> OpId {
        OpId(self.next())
    }

    pub(crate) fn call(&mut self) -> CallId {
        CallId(self.next())
    }
}

/// What every part of the machine works with.
pub(crate) struct Cx<'a> {
    pub(crate) now: Now,
    pub(crate) links: &'a mut Links,
    pub(crate) ids: &'a mut Ids,
    pub(crate) out: &'a mut Out,
}

impl Cx<'_> {
    /// The peer of the link did something that counts.
    pub(crate) fn note(&mut self, link: LinkId, deed: Deed) {
        if let Some(peer) = self.links.get(link).map(|link| link.peer) {
            self.links.scores.note(peer, deed, self.now.mono);
        }
    }

    /// Whether what the peer of the link announces of this origin may be built upon before it has sent any of it.
    pub(crate) fn trusts(&self, link: LinkId, origin: &PeerId) -> bool {
        self.links.trusts(link, origin, self.now.mono)
    }

    /// Whether the peer of the link was relied on in vain of late.
    pub(crate) fn doubts(&self, link: LinkId) -> bool {
        self.links.get(link).is_some_and(|it| self.links.scores.is_doubtful(&it.peer, self.now.mono))
    }

    /// The peer of the link was relied on in vain.
    pub(crate) fn doubt(&mut self, link: LinkId) {
        if let Some(peer) = self.links.get(link).map(|link| link.peer) {
            self.links.scores.fail(peer, self.now.mono);
        }
    }

    pub(crate) fn control(&mut self, to: LinkId, words: Words) {
        self.links.control(to, words, self.out);
    }

    pub(crate) fn fault(&mut self, link: LinkId, what: &'static str) {
        self.note(link, Deed::Invalid);
        self.out.push(Effect::Fault { link, what });
    }
}
