//! What whispers hold, against what they may.

use super::Direct;
use crate::mesh::config::MeshConfig;
use crate::mesh::holdings::Audit;

impl Direct {
    pub(crate) fn audit(&self, limits: &MeshConfig, audit: &mut Audit) {
        // One that is alone may be as long as a message can be.
        let message = limits.max_message + 4096;
        audit.part("whispers on their way", self.calls.len(), limits.whispers.0);
        audit.amount("bytes of whispers", self.bytes, limits.whispers.1.max(message) + message);
        audit.part("whispers of others", self.relays.len(), limits.relays);
        audit.part("whispers remembered", self.delivered.len(), limits.relays);
        audit.part("routes", self.routes.len(), limits.routes);
        audit.part("whispers being checked", self.verifying.len(), limits.verifying.0);
        audit.amount(
            "bytes of whispers being checked",
            self.verifying_bytes,
            limits.verifying.1.max(message),
        );
    }
}
