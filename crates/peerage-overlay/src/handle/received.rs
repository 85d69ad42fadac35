//! A message in the hands of the application.

use std::ops::Deref;

use super::mesh::Mesh;
use crate::mesh::{IntoParts, Message, WhisperError};

/// A [`Message`], and the mesh to answer on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Received {
    pub(super) message: Message,
    pub(super) mesh: Mesh,
}

impl Received {
    /// Answers whoever said it, neighbour or not, with a whisper. Returns when the sender has it.
    ///
    /// # Errors
    /// [`WhisperError`]; after `TimedOut` it may have arrived.
    pub async fn reply(&self, parts: impl IntoParts) -> Result<(), WhisperError> {
        self.mesh.whisper(self.message.origin, parts).await
    }

    /// The message alone.
    pub fn into_message(self) -> Message {
        self.message
    }
}

impl Deref for Received {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// Whether a handler took a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It did: nobody else gets it.
    Taken,
    /// It did not: the next handler gets it, and after the last [`Mesh::recv`].
    Passed,
}

/// Why [`Mesh::recv`] gave no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The reader was too slow: the oldest messages were dropped. The next call goes on after them.
    #[error("{missed} messages were dropped because they were not read in time")]
    Lagged {
        /// How many.
        missed: u64,
    },
    /// The mesh is closed and all messages were taken.
    #[error("the mesh is closed")]
    Closed,
}
