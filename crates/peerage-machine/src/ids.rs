//! Names of things that come and go.

use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $letter:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    )*};
}

ids! {
    /// One link of this endpoint, from up to down; the host gives them out and never gives one twice.
    LinkId "L";
    /// One dial; the machine gives them out.
    DialId "dial-";
    /// One send whose failure the machine wants to hear of; the machine gives them out.
    SendId "send-";
    /// One storage operation; the machine gives them out.
    OpId "op-";
    /// One signature check; the machine gives them out.
    JobId "job-";
    /// One question of the application's; the machine gives them out.
    CallId "call-";
}
