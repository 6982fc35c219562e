//! The forwarding service on undecoded bytes.
//!
//! [`RawCodec`] gives and takes each gRPC message as [`Bytes`]; a server of [`forward_server`] sees a request as one
//! piece of memory, copied once, out of the connection's frames.

use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

pub use generated::{forward_client, forward_server};

#[allow(
    clippy::default_constructed_unit_structs,
    missing_docs,
    unreachable_pub,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/forwardrpc.Forward.rs"));
}

/// Size of the codec's read and write buffers, in bytes: large enough that a batch is not copied through many small ones.
const BUFFER: usize = 256 << 10;

/// A gRPC codec that passes message bytes through.
#[derive(Debug, Default, Clone, Copy)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, BUFFER)
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, BUFFER)
    }
}
