//! The address book: who was known, kept in the host's store for the next start.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{Effect, OpId, StoreError, Write};

use super::{Membership, Timer};
use crate::mesh::convert::{decode_book, encode_book};
use crate::mesh::links::Cx;
use crate::mesh::packet::Contact;
use crate::mesh::passive::Source;

/// Where it is kept.
pub(crate) const BOOK: &[u8] = b"mesh/book";

/// From the first neighbour to the first time.
const FIRST_SAVE: Duration = Duration::from_secs(5);

impl Membership {
    pub(super) fn arm_save(&mut self, cx: &Cx<'_>) {
        if self.keeps && !self.timers.is_armed(&Timer::Save) {
            // Whoever runs for seconds only is to know somebody next time.
            let usual = self.config.save_every;
            let every = if self.saved.is_none() { usual.min(FIRST_SAVE) } else { usual };
            let wait = self.rng.jitter(every, 0.2);
            self.timers.arm(Timer::Save, cx.now.mono + wait);
        }
    }

    /// Writes neighbours, and then others, those first that failed least.
    pub(super) fn save(&mut self, cx: &mut Cx<'_>) {
        if self.saving.is_none() {
            let neighbours = self.active.values().filter_map(|link| cx.links.contact(*link));
            let mut all: Vec<Contact> = neighbours.filter(|it| !it.addresses.is_empty()).collect();
            all.extend(self.passive.contacts().into_iter().cloned());
            all.truncate(self.config.passive_view);
            let book = encode_book(&all);
            let hash = blake3::hash(&book);
            if self.saved != Some(hash) {
                let op = cx.ids.op();
                self.saving = Some(op);
                self.saved = Some(hash);
                let batch = vec![Write { key: Bytes::from_static(BOOK), value: Some(book) }];
                cx.out.push(Effect::Store { op, batch });
            }
        }
        self.arm_save(cx);
    }

    pub(crate) fn stored(&mut self, op: OpId, result: &Result<(), StoreError>, cx: &mut Cx<'_>) {
        if self.saving != Some(op) {
            return;
        }
        self.saving = None;
        match result {
            Ok(()) => {}
            // Nothing will be kept, however often it is written.
            Err(StoreError::Absent) => {
                self.timers.cancel(&Timer::Save);
                self.keeps = false;
            }
            Err(_) => {
                self.saved = None;
                cx.out.count("mesh_unsaved_total", 1);
            }
        }
    }

    /// What an earlier start wrote. Whoever is in it is asked now.
    pub(crate) fn restore(&mut self, stored: &BTreeMap<Bytes, Bytes>, cx: &mut Cx<'_>) {
        let Some(book) = stored.get(BOOK) else { return };
        let Some(contacts) = decode_book(book.clone(), self.config.passive_view) else {
            return cx.out.count("mesh_unreadable_book_total", 1);
        };
        self.saved = Some(blake3::hash(book));
        for contact in contacts.into_iter().filter(|contact| contact.peer != self.me.peer) {
            self.passive.add(contact, Source::Kept, cx.now.mono, &mut self.rng);
        }
        self.settle(cx);
    }
}
