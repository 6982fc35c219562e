//! How metrics come in: gRPC, unary and streamed ([`grpc`]), and legacy JSON ([`import`]).

mod activity;
mod body;
pub mod grpc;
pub mod import;

pub(crate) use activity::Activity;
