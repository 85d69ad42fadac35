//! Two links that are joined without a handshake.

use std::time::Duration;

use peerage_identity::{Opener, Sealer, records_under};
use peerage_machine::{Instant, Side, Why};
use peerage_wire::hello::Hello;
use peerage_wire::{PeerId, Suite};

use super::Link;
use crate::Setup;
use crate::handshake::{Greeted, Opening};

impl Link {
    /// Both ends of a connection, as if they had shaken hands just now: a null handshake, for simulators, which have both
    /// ends in one hand and many links to make. What each would have said of itself is with the other one, records are
    /// sealed under keys that the entropies are, and nobody has proven anything. Both hosts have to admit, and everything
    /// after that is as on any link.
    ///
    /// # Errors
    /// What one of them would have said is against the rules, or no suite is allowed.
    pub fn pair(dialer: Setup, acceptor: Setup, now: Instant) -> Result<(Self, Self), Why> {
        let (mut dialer, theirs) = Self::prepare(dialer, now);
        let (mut acceptor, ours) = Self::prepare(acceptor, now);
        let suite =
            theirs.opening.suites.first().copied().filter(|suite| ours.opening.suites.contains(suite));
        let suite = suite.ok_or_else(|| limit("no cipher suite is allowed by both"))?;
        let (there, here) = (keys(suite, &theirs.opening)?, keys(suite, &ours.opening)?);
        let to_dialer = (ours.hello.clone(), theirs.opening.expected);
        let to_acceptor = (theirs.hello, ours.opening.expected);
        dialer.skip_handshake(now, suite, to_dialer, (there.0, here.1))?;
        acceptor.skip_handshake(now, suite, to_acceptor, (here.0, there.1))?;
        Ok((dialer, acceptor))
    }

    fn skip_handshake(
        &mut self,
        now: Instant,
        suite: Suite,
        (hello, expected): (Hello, Option<PeerId>),
        (sealer, opener): (Sealer, Opener),
    ) -> Result<(), Why> {
        hello.check().map_err(limit)?;
        self.greeted(now, Greeted { hello: Ok(hello), expected, suite, sealer, opener, rtt: Duration::ZERO });
        Ok(())
    }
}

fn keys(suite: Suite, opening: &Opening) -> Result<(Sealer, Opener), Why> {
    records_under(suite, &opening.entropy).map_err(limit)
}

fn limit(what: impl ToString) -> Why {
    Why::Limit { by: Side::Us, what: what.to_string() }
}
