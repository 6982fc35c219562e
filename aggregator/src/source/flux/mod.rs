//! Source `flux`.
mod upload;
