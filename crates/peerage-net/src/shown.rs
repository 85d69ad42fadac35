//! What of addresses gets into logs.

use std::fmt;

use peerage_machine::Why;

use crate::hub::Shared;

/// In place of what is not shown.
const HIDDEN: &str = "hidden";

/// Something with an address in it, or not.
pub(crate) struct Shown<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str(HIDDEN),
        }
    }
}

impl Shared {
    /// As a log shows what has an address in it.
    pub(crate) fn shown<T>(&self, value: T) -> Shown<T> {
        Shown(self.config.log_addresses.then_some(value))
    }

    /// As a log shows a reason, some of which have an address in them.
    pub(crate) fn shown_why(&self, why: &Why) -> String {
        if self.config.log_addresses { why.to_string() } else { why.label().to_owned() }
    }
}
