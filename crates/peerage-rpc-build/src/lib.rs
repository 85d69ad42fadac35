//! Build support for `peerage-rpc`: what a `.proto` file says of services, in Rust. Nobody needs `protoc`.
//!
//! In `build.rs`:
//!
//! ```no_run
//! fn main() -> Result<(), peerage_rpc_build::BuildError> {
//!     peerage_rpc_build::configure()
//!         .required("calculator.DivideRequest", ["dividend", "divisor"])
//!         .compile(&["proto/calculator.proto"], &["proto"])
//! }
//! ```
//!
//! and in the program, which depends on `peerage-rpc` and `prost`:
//!
//! ```ignore
//! mod calculator {
//!     include!(concat!(env!("OUT_DIR"), "/calculator.rs"));
//! }
//! ```
//!
//! For `service Calculator`, beside the messages, there are then
//!
//! | | |
//! |---|---|
//! | `trait Calculator` | an async method for each `rpc`, with the call's context and what the caller sent |
//! | `CalculatorServer` | adds an implementation to a broker or a node: `.service(CalculatorServer::new(mine))` |
//! | `CalculatorClient` | calls it: `CalculatorClient::new(&client)` at the broker, `&client.node(key)`, `&client.group("calc")` |
//!
//! and for each form of `rpc`
//!
//! | `.proto` | the server's method | the client's method |
//! |---|---|---|
//! | `rpc A(Q) returns (R)` | `a(&self, ctx, request: Q) -> Result<R, Status>` | `a(&self, request: Q) -> Call<R>` |
//! | `rpc A(Q) returns (stream R)` | `a(&self, ctx, request: Q, to: Sender<R>) -> Result<(), Status>` | `a(&self, request: Q)`, a `Receiver<R>` |
//! | `rpc A(stream Q) returns (R)` | `a(&self, ctx, from: Receiver<Q>) -> Result<R, Status>` | `a(&self)`, a `ClientStream<Q, R>` |
//! | `rpc A(stream Q) returns (stream R)` | `a(&self, ctx, from: Receiver<Q>, to: Sender<R>) -> Result<(), Status>` | `a(&self)`, a `Sender<Q>` and a `Receiver<R>` |
//! | the first, [`Builder::one_way`] | `a(&self, ctx, request: Q) -> Result<(), Status>` | `a(&self, request: Q)`, a `Sent` |
//!
//! A handler's stream ends when its method returns. On the wire, a command is called `package.Service/Method`, and
//! `option idempotency_level = IDEMPOTENT` or `NO_SIDE_EFFECTS` declares it idempotent.
//!
//! # Guarantees
//!
//! - The same files and options give the same code.
//! - What the builder is told is checked against the files: a method, a message or a field that is not there is an error, as is
//!   a required field whose absence cannot be told from its default value.
//! - Comments of the `.proto` are the documentation of what is made of it.
//!
//! # Non-guarantees
//!
//! - The generated code is for the `peerage-rpc` of the same version.
//!
//! # Limits
//!
//! A command's name has at most [`MAX_COMMAND`] bytes: package, service and method together, with two separators.

mod builder;
mod error;
mod generate;
mod plan;

pub use builder::{Builder, configure};
pub use error::BuildError;
pub use generate::Generator;
pub use plan::MAX_COMMAND;
