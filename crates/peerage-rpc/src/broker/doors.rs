//! Links and how they come to a session: opening, going on, enrolling.

use bytes::Bytes;
use peerage_machine::{Effect, Instant, LinkId, LinkInfo, Now, Side, Why};
use peerage_wire::PeerId;

use super::machine::{BrokerMachine, LinkState, Timer};
use crate::accounts::{Denied, Kind, Standing};
use crate::event::{Event, Out, SessionKey};
use crate::fit::is_enough;
use crate::packet::{Body, Lanes, Open, Opened, Packet};
use crate::status::Status;

impl BrokerMachine {
    pub(super) fn on_up(&mut self, now: Instant, link: LinkId, info: LinkInfo, out: &mut Out) {
        let is_stranger = self.accounts.may_act(&info.peer).is_err();
        let state = LinkState { info: Box::new(info), session: None, tries: 0, is_done: false };
        self.links.insert(link, state);
        self.unopened += 1;
        // However many strangers stand at the door, those who have an account come in.
        if is_stranger && self.unopened > self.config.max_unopened {
            let status = Status::resource_exhausted("too many links without a session");
            return self.refuse(link, status, out);
        }
        self.timers.arm(Timer::Unopened(link), now + self.config.open_within);
    }

    pub(super) fn on_down(&mut self, now: Instant, link: LinkId, why: Why, out: &mut Out) {
        let Some(state) = self.links.remove(&link) else { return };
        self.timers.cancel(&Timer::Unopened(link));
        match state.session {
            Some(key) => self.adrift(now, key, link, why, out),
            None => self.unopened = self.unopened.saturating_sub(1),
        }
    }

    pub(super) fn unopened_too_long(&mut self, link: LinkId, out: &mut Out) {
        if self.links.get(&link).is_some_and(|state| state.session.is_none()) {
            out.count("rpc_unopened_total", 1);
            let why = Why::TimedOut { what: "the opening of a session", after: self.config.open_within };
            out.push(Effect::CloseChannel { link, why });
        }
    }

    /// Says no, and lets the link go when it has heard it.
    pub(super) fn refuse(&mut self, link: LinkId, status: Status, out: &mut Out) {
        out.count("rpc_refused_total", 1);
        if let Some(state) = self.links.get_mut(&link) {
            state.is_done = true;
        }
        let detail = status.to_string();
        out.control(link, Packet::from(Body::Refused { status, session_lost: false }));
        out.push(Effect::CloseChannel { link, why: Why::ChannelClosed { by: Side::Us, detail } });
    }

    /// The account of whoever is at the other end may act, or why not.
    fn may_act(&self, peer: &PeerId) -> Result<Kind, Status> {
        match self.accounts.may_act(peer) {
            Ok(account) => Ok(account.kind),
            Err(Denied::Unknown) => {
                Err(Status::unauthenticated(format!("{} has no account here", peer.short())))
            }
            Err(Denied::Unconfirmed) => {
                Err(Status::permission_denied("the account waits for an administrator's confirmation"))
            }
            Err(Denied::Suspended) => Err(Status::permission_denied("the account is suspended")),
        }
    }

    pub(super) fn on_open(&mut self, link: LinkId, open: Open, out: &mut Out) -> Result<(), String> {
        let Some(state) = self.links.get(&link) else { return Ok(()) };
        let info = state.info.clone();
        let kind = match self.may_act(&info.peer) {
            Ok(kind) => kind,
            Err(status) => {
                self.refuse(link, status, out);
                return Ok(());
            }
        };
        if let Err(status) = is_enough("the party's", info.max_message) {
            self.refuse(link, status, out);
            return Ok(());
        }
        let (key, resumed) = match open.session {
            Some(id) => match self.by_id.get(&id).copied() {
                Some(key) if self.sessions.get(&key).is_some_and(|session| session.peer == info.peer) => {
                    (key, true)
                }
                _ if self.superseded.contains(&(id, info.peer)) => {
                    self.refuse(link, super::sessions::taken_over(), out);
                    return Ok(());
                }
                // Somebody else's is none: nobody learns that it is there.
                _ => {
                    let status = Status::unavailable("this broker has no such session");
                    out.control(link, Packet::from(Body::Refused { status, session_lost: true }));
                    return Ok(());
                }
            },
            None => match self.begin(&info, kind, out) {
                Ok(key) => (key, false),
                Err(status) => {
                    self.refuse(link, status, out);
                    return Ok(());
                }
            },
        };
        self.carry(key, link, &info, &open, resumed, out)
    }

    /// The link carries the session from now on.
    fn carry(
        &mut self,
        key: SessionKey,
        link: LinkId,
        info: &LinkInfo,
        open: &Open,
        resumed: bool,
        out: &mut Out,
    ) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&key) else { return Ok(()) };
        let limits = self.config.limits_of(session.kind).within(info.max_message);
        // A new session has nothing, whatever is said.
        let theirs = if resumed { open.lanes } else { Lanes::default() };
        let is_restoring = resumed && !session.journal.is_resumed();
        if !is_restoring {
            session.talk.session.can_resume(theirs).map_err(|fault| fault.to_string())?;
        }
        if resumed && !is_restoring && limits.message_bytes < session.talk.limits.message_bytes {
            return Err("its link takes shorter messages than the one before".to_owned());
        }
        session.talk.limits = limits;
        session.takes = info.max_message;
        let grace = match session.kind {
            Kind::User => self.config.grace,
            Kind::Node => self.config.node_grace,
        };
        if let Some(old) = session.talk.session.link() {
            // The party has a new link, and this one is dead, or will be.
            session.talk.session.adrift();
            if let Some(state) = self.links.get_mut(&old) {
                state.is_done = true;
                out.push(Effect::CloseChannel { link: old, why: Why::Superseded });
            }
        }
        let from_journal = resumed && session.journal.is_restored();
        if from_journal {
            if is_restoring {
                session.journal.resume(&mut session.talk, theirs);
            }
            session.talk.session.allow_gaps(theirs);
        }
        // Before it is carried: what this end has is what it had.
        let lanes = session.talk.session.lanes();
        session.talk.session.carried_by(link, info, theirs).map_err(|fault| fault.to_string())?;
        session.talk.session.wait_for_word();
        let opened = Opened {
            session: session.id,
            resumed,
            from_journal,
            acknowledged: session.talk.session.done(),
            lanes,
            limits,
            grace_millis: u32::try_from(grace.as_millis()).unwrap_or(u32::MAX),
            kind: session.kind,
        };
        let groups = open.groups.iter().map(|group| Bytes::from(group.clone())).collect();
        let (id, peer, kind) = (session.id, session.peer, session.kind);
        out.control(link, Packet::from(Body::Opened(Box::new(opened))));
        if let Some(state) = self.links.get_mut(&link)
            && state.session.replace(key).is_none()
        {
            self.unopened = self.unopened.saturating_sub(1);
        }
        self.timers.cancel(&Timer::Unopened(link));
        self.timers.cancel(&Timer::Adrift(key));
        // Of groups that it does not serve any more, too.
        self.disappears(key);
        if let Some(session) = self.sessions.get_mut(&key) {
            session.groups = groups;
        }
        self.appears(key);
        out.emit(Event::Opened { session: key, id, peer, kind, resumed, limits });
        if resumed {
            // Offers may have come while its party could not be spoken to.
            self.send_offers(key, out);
        } else {
            self.offer_to(key, out);
        }
        self.touch(key);
        Ok(())
    }

    pub(super) fn on_enrol(
        &mut self,
        now: Now,
        link: LinkId,
        token: &Bytes,
        out: &mut Out,
    ) -> Result<(), String> {
        let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
        let peer = state.info.peer;
        match self.accounts.enrol(now.wall, peer, token) {
            Ok((enrolled, writes)) => {
                let (kind, confirmed) = (enrolled.kind, enrolled.standing == Standing::Active);
                self.keep(writes, super::journal::Pending::Enrolled { link, kind, confirmed }, out);
            }
            Err(error) => {
                out.count("rpc_wrong_tokens_total", 1);
                state.tries += 1;
                let is_last = state.tries > self.config.enrol_tries;
                let status = Status::permission_denied(error.to_string());
                if is_last {
                    self.refuse(link, status, out);
                } else {
                    out.control(link, Packet::from(Body::Refused { status, session_lost: false }));
                }
            }
        }
        Ok(())
    }

    /// The newcomer's account is kept: it may know.
    pub(super) fn enrolled(&mut self, link: LinkId, kind: Kind, confirmed: bool, out: &mut Out) {
        if self.links.contains_key(&link) {
            out.control(link, Packet::from(Body::Enrolled { kind, confirmed }));
        }
    }
}
