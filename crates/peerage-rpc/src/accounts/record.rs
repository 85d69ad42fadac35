//! Accounts and invites as they are kept.

use bytes::{BufMut, Bytes, BytesMut};
use peerage_machine::{UnixMillis, Write};
use peerage_wire::PeerId;
use peerage_wire::proto::rpc::v1 as proto;
use prost::Message as _;

use super::{Account, Confirmation, InviteId, LoadError, MAX_DATA, MAX_LABEL, Pending, Standing};
use crate::convert::{kind_from_wire, kind_to_wire};

/// Before every key.
pub(super) const PREFIX: &[u8] = b"rpc/accounts/";
/// Then, for an account, and its key.
const ACCOUNT: &[u8] = b"a/";
/// Then, for an invite, and its name.
const INVITE: &[u8] = b"i/";

/// What a record is of.
pub(super) enum Record {
    Account(PeerId, Account),
    Invite(InviteId, Pending),
}

fn key(table: &[u8], name: &[u8; 32]) -> Bytes {
    let mut key = BytesMut::with_capacity(PREFIX.len() + table.len() + name.len());
    key.put_slice(PREFIX);
    key.put_slice(table);
    key.put_slice(name);
    key.freeze()
}

pub(super) fn write_account(peer: &PeerId, account: Option<&Account>) -> Write {
    let value = account.map(|account| {
        let standing = match account.standing {
            Standing::Unconfirmed => proto::Standing::Unconfirmed,
            Standing::Active => proto::Standing::Active,
            Standing::Suspended => proto::Standing::Suspended,
        };
        let record = proto::AccountRecord {
            kind: kind_to_wire(account.kind),
            standing: standing.into(),
            label: account.label.clone(),
            data: account.data.clone(),
            enrolled_at: account.enrolled_at.0,
            changed_at: account.changed_at.0,
        };
        Bytes::from(record.encode_to_vec())
    });
    Write { key: key(ACCOUNT, peer.as_bytes()), value }
}

pub(super) fn write_invite(id: &InviteId, invite: Option<&Pending>) -> Write {
    let value = invite.map(|invite| {
        let used_by = invite.used_by.map(|peer| Bytes::copy_from_slice(peer.as_bytes()));
        let record = proto::InviteRecord {
            kind: kind_to_wire(invite.kind),
            label: invite.label.clone(),
            invited_at: invite.invited_at.0,
            expires_at: invite.expires_at.0,
            confirmed: invite.confirmation == Confirmation::AtOnce,
            used_by: used_by.unwrap_or_default(),
        };
        Bytes::from(record.encode_to_vec())
    });
    Write { key: key(INVITE, id.as_bytes()), value }
}

pub(super) fn read(key: &[u8], value: Bytes) -> Result<Record, LoadError> {
    let wrong = |why: String| LoadError { key: key.escape_ascii().to_string(), why };
    let rest = key.strip_prefix(PREFIX).ok_or_else(|| wrong("it is none of the accounts'".to_owned()))?;
    let name = |name: &[u8]| -> Result<[u8; 32], LoadError> {
        name.try_into().map_err(|_| wrong(format!("its name has {} bytes, not 32", name.len())))
    };
    if let Some(peer) = rest.strip_prefix(ACCOUNT) {
        let account = read_account(value).map_err(wrong)?;
        Ok(Record::Account(PeerId::from_bytes(name(peer)?), account))
    } else if let Some(id) = rest.strip_prefix(INVITE) {
        let invite = read_invite(value).map_err(wrong)?;
        Ok(Record::Invite(InviteId::from_bytes(name(id)?), invite))
    } else {
        Err(wrong("it is neither an account nor an invite".to_owned()))
    }
}

fn read_account(value: Bytes) -> Result<Account, String> {
    let record = proto::AccountRecord::decode(value).map_err(|error| error.to_string())?;
    let standing = match proto::Standing::try_from(record.standing) {
        Ok(proto::Standing::Unconfirmed) => Standing::Unconfirmed,
        Ok(proto::Standing::Active) => Standing::Active,
        Ok(proto::Standing::Suspended) => Standing::Suspended,
        _ => return Err(format!("standing {} is none", record.standing)),
    };
    if record.data.len() > MAX_DATA {
        return Err(format!("its data is {} bytes, the limit is {MAX_DATA}", record.data.len()));
    }
    Ok(Account {
        kind: kind_from_wire(record.kind).map_err(|error| error.why)?,
        standing,
        label: check_label(record.label)?,
        // Of its own, so that a small part does not keep a large whole.
        data: Bytes::copy_from_slice(&record.data),
        enrolled_at: UnixMillis(record.enrolled_at),
        changed_at: UnixMillis(record.changed_at),
    })
}

fn read_invite(value: Bytes) -> Result<Pending, String> {
    let record = proto::InviteRecord::decode(value).map_err(|error| error.to_string())?;
    let used_by = if record.used_by.is_empty() {
        None
    } else {
        Some(PeerId::try_from(&*record.used_by).map_err(|error| error.to_string())?)
    };
    Ok(Pending {
        kind: kind_from_wire(record.kind).map_err(|error| error.why)?,
        label: check_label(record.label)?,
        invited_at: UnixMillis(record.invited_at),
        expires_at: UnixMillis(record.expires_at),
        confirmation: if record.confirmed { Confirmation::AtOnce } else { Confirmation::ByAdministrator },
        used_by,
    })
}

fn check_label(label: String) -> Result<String, String> {
    if label.len() > MAX_LABEL {
        return Err(format!("its label has {} bytes, the limit is {MAX_LABEL}", label.len()));
    }
    Ok(label)
}
