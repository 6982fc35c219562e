//! Source `flux`.
mod populate;
mod upload;
