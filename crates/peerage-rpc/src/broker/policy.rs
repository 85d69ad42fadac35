//! A rule for calls that go to nodes.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::event::Caller;
use crate::packet::{Call, Destination, Shape};
use crate::status::Status;

type Rule = dyn Fn(&Caller, &Destination, Option<&str>) -> Result<(), Status> + Send + Sync;

/// Which calls of parties to nodes a broker passes on: a rule that it asks of each, before a node is chosen, in the order in which
/// they come in each session. It is asked in the broker's own turn, with everything else waiting: it must be quick, and can
/// know only what it brings. One that panics refuses the call.
///
/// It gets the caller; the node or group that is called; and the command, if the broker knows it: of a sealed call it does not, which
/// includes the two that open a channel. What is to hold for sealed calls by their names, their nodes declare
/// ([`crate::Declaration::accounts`]), or the rule refuses all of them. What it says is the call's answer. A call that is passed on
/// again, because its node is gone, is not asked about again, nor what the broker's application calls.
///
/// ```
/// use peerage_rpc::accounts::Kind;
/// use peerage_rpc::{Destination, Policy, Status};
///
/// let policy = Policy::new(|caller, to, command| match to {
///     Destination::Group(group) if &group[..] == b"printers" && caller.kind == Some(Kind::User) => {
///         Err(Status::permission_denied("printers are for nodes"))
///     }
///     _ if command == Some("shut_down") => Err(Status::permission_denied("nobody shuts a node down from here")),
///     _ => Ok(()),
/// });
/// # let _ = policy;
/// ```
#[derive(Clone)]
pub struct Policy(Arc<Rule>);

impl Policy {
    /// This rule. What it needs to look up it takes along; where that changes, behind a lock that is never held for long.
    pub fn new(
        rule: impl Fn(&Caller, &Destination, Option<&str>) -> Result<(), Status> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(rule))
    }

    pub(super) fn ask(&self, caller: &Caller, call: &Call) -> Result<(), Status> {
        let command = match std::str::from_utf8(&call.command) {
            _ if call.shape.has(Shape::SEALED) => None,
            Ok(command) => Some(command),
            // Which is not read either.
            Err(_) => return Err(Status::invalid_argument("the command's name is not UTF-8")),
        };
        catch_unwind(AssertUnwindSafe(|| (self.0)(caller, &call.to, command)))
            .unwrap_or_else(|_| Err(Status::internal("the broker's rule for calls to nodes panicked")))
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").finish_non_exhaustive()
    }
}
