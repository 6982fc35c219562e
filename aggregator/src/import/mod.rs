//! Import: sampler state that others forwarded, merged into the table.
//!
//! Three ways in, all of Veneur's: unary and streamed gRPC ([`grpc`]) and the legacy JSON of `POST /import` ([`http`]). What always holds:
//! - a metric that cannot be merged is skipped, counted by cause, and costs nothing else: neither its batch, nor its connection;
//! - a body that is not framed right is refused before anything of it is taken;
//! - a metric with a stamp is merged at most once, however often, whichever way and in whatever batch it comes ([`DedupBounds`] says for how
//!   long); every gRPC answer says so, and the senders repeat what they have no answer for;
//! - what a leaving global hands over is merged into the interval that it belongs to, or not at all: its senders are told, and bring it to whoever
//!   owns it in the next one;
//! - what was taken is merged whole, also when its sender goes away meanwhile: merging runs in a task of its own.

mod dedup;
mod event;
pub mod grpc;
pub mod http;
mod intake;
mod server;

pub use dedup::DedupBounds;
pub use intake::{Intake, Merge, OpenInterval};
pub use server::serve;
