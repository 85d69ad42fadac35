//! Who may talk: each command, each way it can be wrong, and that nothing is lost by a restart.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{Rng, Seed, UnixMillis, Write};
use peerage_rpc::accounts::{
    Accounts, AccountsConfig, ConfirmError, Confirmation, DataError, Denied, EnrolError, Enrolled,
    InviteError, InviteId, Kind, MAX_DATA, MAX_LABEL, NewInvite, ReinstateError, Standing, SuspendError,
    Token, Unknown, UnknownInvite,
};
use peerage_wire::PeerId;
use proptest::collection::vec;
use proptest::prelude::*;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn at(hours: u64) -> UnixMillis {
    UnixMillis(NOW.0 + hours * 3_600_000)
}

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes([number; 32])
}

fn rng() -> Rng {
    Seed::from_u64(1).rng()
}

fn new(confirmation: Confirmation) -> NewInvite {
    NewInvite { kind: Kind::User, label: "Ada".to_owned(), ttl: HOUR, confirmation }
}

fn small() -> AccountsConfig {
    AccountsConfig { accounts: 3, invites: 3, remember: 24 * HOUR }
}

/// A table and what a store has of it.
struct Kept {
    accounts: Accounts,
    config: AccountsConfig,
    store: BTreeMap<Bytes, Bytes>,
    rng: Rng,
}

impl Kept {
    fn new(config: AccountsConfig) -> Self {
        Self { accounts: Accounts::new(config.clone()), config, store: BTreeMap::new(), rng: rng() }
    }

    fn write(&mut self, writes: Vec<Write>) {
        for Write { key, value } in writes {
            match value {
                Some(value) => self.store.insert(key, value),
                None => self.store.remove(&key),
            };
        }
    }

    fn invite(&mut self, now: UnixMillis, new: NewInvite) -> Token {
        let (token, writes) = self.accounts.invite(now, new, &mut self.rng).unwrap();
        self.write(writes);
        token
    }

    fn enrol(&mut self, now: UnixMillis, peer: PeerId, token: &Token) -> Enrolled {
        let (enrolled, writes) = self.accounts.enrol(now, peer, token.as_bytes()).unwrap();
        self.write(writes);
        enrolled
    }

    /// An account that acts.
    fn active(&mut self, number: u8) -> PeerId {
        let token = self.invite(NOW, new(Confirmation::AtOnce));
        self.enrol(NOW, peer(number), &token);
        peer(number)
    }

    fn reloaded(&self) -> Accounts {
        let records = self.store.iter().map(|(key, value)| (key.clone(), value.clone()));
        Accounts::load(self.config.clone(), records).unwrap()
    }
}

#[test]
fn a_trusted_newcomer_acts_at_once_and_another_when_confirmed() {
    let mut kept = Kept::new(AccountsConfig::default());
    let token = kept.invite(NOW, new(Confirmation::AtOnce));
    let enrolled = kept.enrol(at(0), peer(1), &token);
    assert_eq!(enrolled, Enrolled { kind: Kind::User, standing: Standing::Active, again: false });
    let account = kept.accounts.may_act(&peer(1)).unwrap();
    assert_eq!((account.label.as_str(), account.enrolled_at, &account.data[..]), ("Ada", NOW, &[][..]));

    let invite = NewInvite { kind: Kind::Node, ..new(Confirmation::ByAdministrator) };
    let token = kept.invite(NOW, invite);
    let enrolled = kept.enrol(NOW, peer(2), &token);
    assert_eq!(enrolled, Enrolled { kind: Kind::Node, standing: Standing::Unconfirmed, again: false });
    assert_eq!(kept.accounts.may_act(&peer(2)), Err(Denied::Unconfirmed));
    kept.accounts.confirm(at(1), &peer(2)).unwrap();
    assert_eq!(kept.accounts.may_act(&peer(2)).unwrap().changed_at, at(1));
    assert_eq!(kept.accounts.may_act(&peer(3)), Err(Denied::Unknown));
}

#[test]
fn a_token_makes_one_account() {
    let mut kept = Kept::new(AccountsConfig::default());
    let token = kept.invite(NOW, new(Confirmation::AtOnce));
    kept.enrol(NOW, peer(1), &token);
    assert_eq!(kept.accounts.enrol(NOW, peer(2), token.as_bytes()), Err(EnrolError::UsedToken));
    // Who did not hear the answer asks again, even when the invite's time is over.
    let again = Enrolled { kind: Kind::User, standing: Standing::Active, again: true };
    assert_eq!(kept.accounts.enrol(at(2), peer(1), token.as_bytes()), Ok((again, Vec::new())));
    // And whoever was removed does not get in by it again.
    kept.accounts.remove(&peer(1)).unwrap();
    assert_eq!(kept.accounts.enrol(NOW, peer(1), token.as_bytes()), Err(EnrolError::UsedToken));
    assert_eq!(kept.accounts.may_act(&peer(1)), Err(Denied::Unknown));
}

#[test]
fn tokens_that_nobody_gave_are_unknown_whatever_they_are() {
    let mut kept = Kept::new(AccountsConfig::default());
    let token = kept.invite(NOW, new(Confirmation::AtOnce));
    let mut near = *token.as_bytes();
    near[15] ^= 1;
    let id = *InviteId::of(token.as_bytes()).as_bytes();
    for wrong in [&near[..], &[], &near[..15], &id, &[0; 1000]] {
        assert_eq!(kept.accounts.enrol(NOW, peer(1), wrong), Err(EnrolError::UnknownToken));
    }
    kept.enrol(NOW, peer(1), &token);
}

#[test]
fn a_token_is_good_until_it_expires() {
    let mut kept = Kept::new(AccountsConfig::default());
    let (late, in_time) =
        (kept.invite(NOW, new(Confirmation::AtOnce)), kept.invite(NOW, new(Confirmation::AtOnce)));
    kept.enrol(UnixMillis(at(1).0 - 1), peer(1), &in_time);
    let expired = Err(EnrolError::ExpiredToken { at: at(1) });
    assert_eq!(kept.accounts.enrol(at(1), peer(2), late.as_bytes()), expired);
    // It says so for as long as it is remembered.
    let remembered = 1 + 7 * 24;
    assert_eq!(kept.accounts.next_expiry(), Some(at(remembered)));
    assert_eq!(kept.accounts.expire(UnixMillis(at(remembered).0 - 1)), []);
    assert_eq!(kept.accounts.enrol(at(2), peer(2), late.as_bytes()), expired);
    assert_eq!(kept.accounts.expire(at(remembered)).len(), 2);
    assert_eq!(kept.accounts.enrol(NOW, peer(2), late.as_bytes()), Err(EnrolError::UnknownToken));
    assert_eq!(kept.accounts.next_expiry(), None);
    kept.accounts.may_act(&peer(1)).unwrap();
}

#[test]
fn who_has_an_account_wastes_no_invite() {
    let mut kept = Kept::new(AccountsConfig::default());
    let first = kept.active(1);
    let token = kept.invite(NOW, new(Confirmation::AtOnce));
    let error = kept.accounts.enrol(NOW, first, token.as_bytes()).unwrap_err();
    assert_eq!(error, EnrolError::AlreadyEnrolled { standing: Standing::Active });
    assert_eq!(kept.enrol(NOW, peer(2), &token).standing, Standing::Active);
}

#[test]
fn a_suspended_account_does_not_act_until_it_is_reinstated() {
    let mut kept = Kept::new(AccountsConfig::default());
    let one = kept.active(1);
    kept.accounts.suspend(at(1), &one).unwrap();
    assert_eq!(kept.accounts.may_act(&one), Err(Denied::Suspended));
    assert_eq!(kept.accounts.suspend(at(1), &one), Err(SuspendError::Suspended { peer: one }));
    let error = ConfirmError::Standing { peer: one, standing: Standing::Suspended };
    assert_eq!(kept.accounts.confirm(at(1), &one), Err(error));
    kept.accounts.reinstate(at(2), &one).unwrap();
    kept.accounts.may_act(&one).unwrap();
    let error = ReinstateError::Standing { peer: one, standing: Standing::Active };
    assert_eq!(kept.accounts.reinstate(at(2), &one), Err(error));
    let error = ConfirmError::Standing { peer: one, standing: Standing::Active };
    assert_eq!(kept.accounts.confirm(at(2), &one), Err(error));
}

#[test]
fn commands_about_nobody_say_so() {
    let mut accounts = Accounts::new(AccountsConfig::default());
    let unknown = Unknown { peer: peer(1) };
    assert_eq!(accounts.confirm(NOW, &peer(1)), Err(unknown.into()));
    assert_eq!(accounts.suspend(NOW, &peer(1)), Err(unknown.into()));
    assert_eq!(accounts.reinstate(NOW, &peer(1)), Err(unknown.into()));
    assert_eq!(accounts.remove(&peer(1)), Err(unknown));
    assert_eq!(accounts.set_data(NOW, &peer(1), Bytes::new()), Err(unknown.into()));
    assert_eq!(accounts.withdraw(&InviteId::from_bytes([0; 32])), Err(UnknownInvite));
}

#[test]
fn a_removed_key_may_be_invited_anew_and_has_nothing_of_what_was() {
    let mut kept = Kept::new(AccountsConfig::default());
    let one = kept.active(1);
    kept.accounts.set_data(NOW, &one, Bytes::from_static(b"secret")).unwrap();
    kept.accounts.suspend(NOW, &one).unwrap();
    let (was, _) = kept.accounts.remove(&one).unwrap();
    assert_eq!((was.standing, &was.data[..]), (Standing::Suspended, &b"secret"[..]));
    kept.active(1);
    assert_eq!(kept.accounts.may_act(&one).unwrap().data.len(), 0);
}

#[test]
fn an_applications_data_is_bounded() {
    let mut kept = Kept::new(AccountsConfig::default());
    let one = kept.active(1);
    let longest = Bytes::from(vec![7; MAX_DATA]);
    kept.accounts.set_data(at(1), &one, longest.clone()).unwrap();
    let error = kept.accounts.set_data(NOW, &one, Bytes::from(vec![0; MAX_DATA + 1])).unwrap_err();
    assert_eq!(error, DataError::TooLong { length: MAX_DATA + 1, limit: MAX_DATA });
    let account = kept.accounts.account(&one).unwrap();
    assert_eq!((&account.data, account.changed_at), (&longest, at(1)));
}

#[test]
fn invites_that_make_no_sense_are_refused() {
    let mut accounts = Accounts::new(AccountsConfig::default());
    let long = NewInvite { label: "x".repeat(MAX_LABEL + 1), ..new(Confirmation::AtOnce) };
    let error = accounts.invite(NOW, long, &mut rng()).unwrap_err();
    assert_eq!(error, InviteError::Label { length: MAX_LABEL + 1, limit: MAX_LABEL });
    let short = NewInvite { ttl: Duration::from_micros(999), ..new(Confirmation::AtOnce) };
    assert_eq!(accounts.invite(NOW, short, &mut rng()), Err(InviteError::Ttl));
    let for_ever = NewInvite { ttl: Duration::MAX, ..new(Confirmation::AtOnce) };
    accounts.invite(NOW, for_ever, &mut rng()).unwrap();
    // A generator that starts anew.
    assert_eq!(accounts.invite(NOW, new(Confirmation::AtOnce), &mut rng()), Err(InviteError::Repeated));
}

#[test]
fn accounts_are_bounded_and_an_invite_without_room_stays_good() {
    let mut kept = Kept::new(small());
    for number in 1..=3 {
        kept.active(number);
    }
    let token = kept.invite(NOW, new(Confirmation::AtOnce));
    let refused = kept.accounts.enrol(NOW, peer(4), token.as_bytes());
    assert_eq!(refused, Err(EnrolError::Full { limit: 3 }));
    kept.accounts.remove(&peer(1)).unwrap();
    kept.enrol(NOW, peer(4), &token);
}

#[test]
fn invites_are_bounded_and_those_that_are_over_make_room() {
    let mut kept = Kept::new(small());
    let used = kept.invite(NOW, new(Confirmation::AtOnce));
    kept.enrol(NOW, peer(1), &used);
    let open = kept.invite(NOW, new(Confirmation::AtOnce));
    let long = NewInvite { ttl: 10 * HOUR, ..new(Confirmation::AtOnce) };
    kept.invite(NOW, long.clone());
    kept.invite(NOW, long.clone());
    // The used one is forgotten, and no other.
    assert_eq!(kept.accounts.enrol(NOW, peer(2), used.as_bytes()), Err(EnrolError::UnknownToken));
    let full = kept.accounts.invite(NOW, long.clone(), &mut kept.rng);
    assert_eq!(full, Err(InviteError::Full { limit: 3 }));
    // As soon as one has expired, there is room.
    kept.invite(at(1), long.clone());
    assert_eq!(kept.accounts.enrol(NOW, peer(2), open.as_bytes()), Err(EnrolError::UnknownToken));
    assert_eq!(kept.accounts.invites(None).count(), 3);
    // Or is withdrawn.
    let id = *kept.accounts.invites(None).next().unwrap().0;
    kept.accounts.withdraw(&id).unwrap();
    kept.invite(at(1), long);
}

#[test]
fn a_withdrawn_invite_lets_nobody_in() {
    let mut kept = Kept::new(AccountsConfig::default());
    let token = kept.invite(NOW, new(Confirmation::AtOnce));
    let (was, _) = kept.accounts.withdraw(&InviteId::of(token.as_bytes())).unwrap();
    assert_eq!((was.label.as_str(), was.used_by), ("Ada", None));
    assert_eq!(kept.accounts.enrol(NOW, peer(1), token.as_bytes()), Err(EnrolError::UnknownToken));
    assert_eq!(kept.accounts.next_expiry(), None);
}

#[test]
fn accounts_are_listed_by_pages_in_the_order_of_their_keys() {
    let mut kept = Kept::new(AccountsConfig::default());
    for number in [5, 1, 4, 2, 3] {
        kept.active(number);
    }
    let mut pages = Vec::new();
    let mut last = None;
    loop {
        let page: Vec<PeerId> = kept.accounts.list(last.as_ref()).take(2).map(|(peer, _)| *peer).collect();
        last = page.last().copied();
        if page.is_empty() {
            break;
        }
        pages.push(page);
    }
    assert_eq!(pages, [vec![peer(1), peer(2)], vec![peer(3), peer(4)], vec![peer(5)]]);
    assert_eq!((kept.accounts.len(), kept.accounts.is_empty()), (5, false));
}

#[test]
fn a_token_is_not_shown_and_not_kept() {
    let mut kept = Kept::new(AccountsConfig::default());
    let token = kept.invite(NOW, new(Confirmation::AtOnce));
    assert_eq!(format!("{token:?}"), "Token(…)");
    let holds = |bytes: &Bytes| bytes.windows(Token::LEN).any(|part| part == token.as_bytes());
    assert!(!kept.store.is_empty());
    assert!(!kept.store.iter().any(|(key, value)| holds(key) || holds(value)));
}

/// The records' bytes: brokers of later versions read them.
#[test]
fn records_have_the_bytes_that_are_pinned_here() {
    let mut kept = Kept::new(AccountsConfig::default());
    let token = kept.invite(UnixMillis(1000), new(Confirmation::ByAdministrator));
    assert_eq!(hex(token.as_bytes()), "718d3188d524dc99f6ac27f0c1aa5cad");
    kept.enrol(UnixMillis(2000), peer(1), &token);
    let writes = kept.accounts.set_data(UnixMillis(3000), &peer(1), Bytes::from_static(b"data")).unwrap();
    kept.write(writes);
    let found: Vec<(String, String)> = kept.store.iter().map(|(key, value)| (hex(key), hex(value))).collect();
    let hash = "9d339dd370e46924fd4a5ff22903878a74144571ef60a70499470f7d65c50f73";
    let (account, invite) = (hex(b"rpc/accounts/a/") + &"01".repeat(32), hex(b"rpc/accounts/i/") + hash);
    let used = "0801120341646118e80720e8e4db013220".to_owned() + &"01".repeat(32);
    assert_eq!(found, [(account, "080110011a0341646122046461746128d00f30b817".to_owned()), (invite, used)]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn records_that_make_no_sense_are_named() {
    let mut kept = Kept::new(AccountsConfig::default());
    kept.active(1);
    let (account, record) = kept.store.iter().find(|(key, _)| key.starts_with(b"rpc/accounts/a/")).unwrap();
    let (invite, used) = kept.store.iter().find(|(key, _)| key.starts_with(b"rpc/accounts/i/")).unwrap();
    let load = |key: &[u8], value: &[u8]| {
        let record = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        Accounts::load(AccountsConfig::default(), [record]).map(drop)
    };
    load(account, record).unwrap();
    load(invite, used).unwrap();
    let fails = |key: &[u8], value: &[u8], what: &str| {
        let error = load(key, value).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(error.key, key.escape_ascii().to_string());
    };
    fails(b"rpc/other", record, "none of the accounts'");
    fails(b"rpc/accounts/x/1", record, "neither an account nor an invite");
    fails(&account[..account.len() - 1], record, "31 bytes, not 32");
    fails(account, &[8, 1], "standing 0 is none");
    fails(account, &[16, 2], "kind 0 is none");
    fails(account, &[8, 9, 16, 2], "kind 9 is none");
    fails(account, &record[..record.len() - 1], "");
    let long = [&[8, 1, 16, 2, 26, 0x81, 0x01][..], &[b'x'; 129]].concat();
    fails(account, &long, "129 bytes");
    let much = [&[8, 1, 16, 2, 34, 0x81, 0x20][..], &[0; 4097]].concat();
    fails(account, &much, "4097 bytes");
    fails(invite, &[8, 1, 50, 1, 0], "32 bytes");
    fails(invite, &[8, 3], "kind 3 is none");
}

#[derive(Clone, Debug)]
enum Operation {
    Invite { ttl: u64, confirmed: bool, node: bool },
    Withdraw { token: usize },
    Enrol { peer: u8, token: usize },
    Confirm(u8),
    Suspend(u8),
    Reinstate(u8),
    Remove(u8),
    SetData(u8, usize),
    Pass { hours: u64 },
    Expire,
}

fn operation() -> impl Strategy<Value = Operation> {
    let peer = || 0..6_u8;
    prop_oneof![
        4 => (0..30_u64, any::<bool>(), any::<bool>())
            .prop_map(|(ttl, confirmed, node)| Operation::Invite { ttl, confirmed, node }),
        1 => (0..8_usize).prop_map(|token| Operation::Withdraw { token }),
        8 => (peer(), 0..8_usize).prop_map(|(peer, token)| Operation::Enrol { peer, token }),
        3 => peer().prop_map(Operation::Confirm),
        2 => peer().prop_map(Operation::Suspend),
        2 => peer().prop_map(Operation::Reinstate),
        2 => peer().prop_map(Operation::Remove),
        2 => (peer(), 0..MAX_DATA + 10).prop_map(|(peer, length)| Operation::SetData(peer, length)),
        2 => (0..20_u64).prop_map(|hours| Operation::Pass { hours }),
        2 => Just(Operation::Expire),
    ]
}

/// What should be, told in the simplest words.
#[derive(Default)]
struct Model {
    standing: BTreeMap<PeerId, Standing>,
    /// Tokens that have made an account.
    used: Vec<Token>,
}

impl Model {
    fn put(&mut self, number: u8, standing: Standing) {
        self.standing.insert(peer(number), standing);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_table_loaded_from_its_records_is_the_live_one_after_every_command(
        operations in vec(operation(), 1..60),
    ) {
        let mut kept = Kept::new(small());
        let mut model = Model::default();
        let (mut now, mut tokens) = (NOW, Vec::<(Token, bool)>::new());
        for operation in operations {
            let before = kept.accounts.clone();
            // The newest tokens are the likeliest.
            let pick = |back: usize| tokens.len().checked_sub(back + 1).and_then(|at| tokens.get(at)).cloned();
            let writes = match operation.clone() {
                Operation::Invite { ttl, confirmed, node } => {
                    let kind = if node { Kind::Node } else { Kind::User };
                    let confirmation =
                        if confirmed { Confirmation::AtOnce } else { Confirmation::ByAdministrator };
                    let invite = NewInvite {
                        kind,
                        label: format!("number {}", tokens.len()),
                        ttl: Duration::from_secs(ttl * 3600),
                        confirmation,
                    };
                    kept.accounts.invite(now, invite, &mut kept.rng).ok().map(|(token, writes)| {
                        tokens.push((token, confirmed));
                        writes
                    })
                }
                Operation::Withdraw { token } => pick(token).and_then(|(token, _)| {
                    kept.accounts.withdraw(&InviteId::of(token.as_bytes())).ok().map(|(_, writes)| writes)
                }),
                Operation::Enrol { peer: number, token } => pick(token).and_then(|(token, confirmed)| {
                    let (enrolled, writes) = kept.accounts.enrol(now, peer(number), token.as_bytes()).ok()?;
                    if enrolled.again {
                        assert!(writes.is_empty() && model.used.contains(&token));
                    } else {
                        assert!(!model.used.contains(&token), "a token made two accounts");
                        model.used.push(token);
                        let standing = if confirmed { Standing::Active } else { Standing::Unconfirmed };
                        assert_eq!(model.standing.insert(peer(number), standing), None);
                    }
                    Some(writes)
                }),
                Operation::Confirm(number) => {
                    let is_due = model.standing.get(&peer(number)) == Some(&Standing::Unconfirmed);
                    let done = kept.accounts.confirm(now, &peer(number)).ok();
                    prop_assert_eq!(done.is_some(), is_due);
                    done.inspect(|_| model.put(number, Standing::Active))
                }
                Operation::Suspend(number) => {
                    let done = kept.accounts.suspend(now, &peer(number)).ok();
                    let is_due =
                        model.standing.get(&peer(number)).is_some_and(|standing| *standing != Standing::Suspended);
                    prop_assert_eq!(done.is_some(), is_due);
                    done.inspect(|_| model.put(number, Standing::Suspended))
                }
                Operation::Reinstate(number) => {
                    let is_due = model.standing.get(&peer(number)) == Some(&Standing::Suspended);
                    let done = kept.accounts.reinstate(now, &peer(number)).ok();
                    prop_assert_eq!(done.is_some(), is_due);
                    done.inspect(|_| model.put(number, Standing::Active))
                }
                Operation::Remove(number) => {
                    let done = kept.accounts.remove(&peer(number)).ok().map(|(_, writes)| writes);
                    prop_assert_eq!(done.is_some(), model.standing.remove(&peer(number)).is_some());
                    done
                }
                Operation::SetData(number, length) => {
                    kept.accounts.set_data(now, &peer(number), Bytes::from(vec![number; length])).ok()
                }
                Operation::Pass { hours } => {
                    now = UnixMillis(now.0 + hours * 3_600_000);
                    None
                }
                Operation::Expire => {
                    let writes = kept.accounts.expire(now);
                    prop_assert!(kept.accounts.next_expiry().is_none_or(|at| at > now));
                    Some(writes)
                }
            };
            match writes {
                Some(writes) => kept.write(writes),
                None => prop_assert_eq!(&kept.accounts, &before, "it failed and changed something"),
            }
            prop_assert_eq!(&kept.reloaded(), &kept.accounts, "after {:?}", operation);
            let found: BTreeMap<PeerId, Standing> =
                kept.accounts.list(None).map(|(peer, account)| (*peer, account.standing)).collect();
            prop_assert_eq!(&found, &model.standing);
            for (peer, standing) in &found {
                prop_assert_eq!(kept.accounts.may_act(peer).is_ok(), *standing == Standing::Active);
            }
            prop_assert!(kept.accounts.len() <= 3 && kept.accounts.invites(None).count() <= 3);
        }
    }
}
