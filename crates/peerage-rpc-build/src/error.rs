//! What can be wrong with files and options.

use std::fmt;

use crate::plan::MAX_COMMAND;

/// Why nothing was generated. Its debug form is the message itself, for that is what cargo shows of a build script's error.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A file cannot be read, or is not as `.proto` files are.
    #[error("{0}")]
    Parse(String),
    /// An option names a service or method that is in no file.
    #[error("there is no method and no service `{name}`; methods are called `package.Service/Method`")]
    UnknownMethod {
        /// The name.
        name: String,
    },
    /// An option names a message that is in no file.
    #[error("there is no message `{name}`; messages are called `package.Message`")]
    UnknownMessage {
        /// The name.
        name: String,
    },
    /// A required field is not in its message.
    #[error("`{message}` has no field `{field}`")]
    UnknownField {
        /// The message.
        message: String,
        /// The field.
        field: String,
    },
    /// A required field that has its default value looks as if it were missing.
    #[error(
        "`{message}.{field}` is left out when it has its default value: declare it `optional` to require it"
    )]
    NoPresence {
        /// The message.
        message: String,
        /// The field.
        field: String,
    },
    /// A method cannot be one-way.
    #[error(
        "`{method}` cannot be one-way: it takes or sends a stream, or does not return google.protobuf.Empty"
    )]
    NotOneWay {
        /// The method.
        method: String,
    },
    /// A command's name is too long for the wire.
    #[error("the command `{name}` has {} bytes; a command's name has at most {MAX_COMMAND}", name.len())]
    NameTooLong {
        /// The name.
        name: String,
    },
    /// A message is called as what is generated for a service.
    #[error("`{name}` is generated for the service `{service}`, and there is a message of that name")]
    NameTaken {
        /// The name that both would have.
        name: String,
        /// The service.
        service: String,
    },
    /// The code cannot be written.
    #[error("cannot write the code: {0}")]
    Write(String),
}

impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
