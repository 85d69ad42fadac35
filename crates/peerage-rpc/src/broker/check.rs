//! What must be so within a broker, whatever has happened.

use super::held::STEP;
use super::machine::{BrokerMachine, Sess, Timer};
use crate::accounts::Kind;
use crate::event::SessionKey;

impl BrokerMachine {
    /// What must be so between its tables, whatever has happened: for tests, simulations, and a doubt about a broker
    /// that runs. Takes time in proportion to all that it holds.
    ///
    /// # Errors
    /// What is not so.
    pub fn check(&self) -> Result<(), String> {
        let unopened = self.links.values().filter(|link| link.session.is_none()).count();
        if unopened != self.unopened {
            return Err(format!("{unopened} links have no session, {} are counted", self.unopened));
        }
        let by_peer: usize = self.by_peer.values().map(std::collections::BTreeSet::len).sum();
        if self.by_id.len() != self.sessions.len() || by_peer != self.sessions.len() {
            let (by_id, all) = (self.by_id.len(), self.sessions.len());
            return Err(format!("{all} sessions, {by_id} by name, {by_peer} by peer"));
        }
        self.check_waiting()?;
        self.held.check(self.sessions.values().map(|session| (session.peer, session.counted)))?;
        for (key, session) in &self.sessions {
            self.check_session(*key, session).map_err(|wrong| format!("session {}: {wrong}", key.0))?;
        }
        let is_there = |key: &SessionKey| {
            let session = self.sessions.get(key);
            session.is_some_and(|session| session.kind == Kind::Node && session.talk.session.link().is_some())
        };
        if let Some((peer, _)) = self.nodes.iter().find(|(_, key)| !is_there(key)) {
            return Err(format!("the node {peer} is said to be there, and has no link"));
        }
        for (group, members) in &self.groups {
            let serves =
                |key: &SessionKey| self.sessions.get(key).is_some_and(|node| node.groups.contains(group));
            if members.is_empty() || !members.iter().all(|key| is_there(key) && serves(key)) {
                return Err(format!("the group {group:?} has members that are not there"));
            }
        }
        Ok(())
    }

    fn check_session(&self, key: SessionKey, session: &Sess) -> Result<(), String> {
        session.talk.check()?;
        let held = session.talk.held_bytes();
        let most = self.worst_case.of(session.kind);
        if held > most {
            return Err(format!("{held} bytes are held for it, at most {most} were promised"));
        }
        if held.abs_diff(session.counted) > STEP {
            return Err(format!("{held} bytes are held for it, {} are counted", session.counted));
        }
        match session.talk.session.link() {
            Some(link) if self.links.get(&link).is_none_or(|link| link.session != Some(key)) => {
                return Err(format!("it is carried by {link}, which is not its link"));
            }
            None if !self.timers.is_armed(&Timer::Adrift(key)) => {
                return Err("it has no link, and nobody waits for its party".to_owned());
            }
            _ => {}
        }
        let knows = |node: &SessionKey| self.sessions.get(node).is_some_and(|node| node.knows.contains(&key));
        if !session.introduced_to.iter().all(knows) {
            return Err("it was introduced to a node that does not know it".to_owned());
        }
        for (seq, to, on) in session.talk.passed_on() {
            let node = self.sessions.get(&to);
            if !node.is_some_and(|node| node.talk.passed_here().any(|here| here == (on, key, seq))) {
                return Err(format!("its call {seq} is said to be call {on} of session {}", to.0));
            }
        }
        for (on, from, seq) in session.talk.passed_here() {
            let Some(caller) = self.sessions.get(&from) else { continue };
            let is_known =
                caller.talk.is_one_way(seq) || caller.talk.passed_on().any(|passed| passed == (seq, key, on));
            if !is_known {
                return Err(format!("call {on} to it is said to be call {seq} of session {}", from.0));
            }
        }
        Ok(())
    }
}
