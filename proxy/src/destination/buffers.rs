//! Memory of batches that have been sent, for those that follow.
//!
//! A batch is up to a megabyte. Memory that is asked for anew has to be mapped page by page, and an open batch that outgrows it is copied; what
//! has carried a batch before is as large as batches get, and mapped.
//!
//! What always holds: at most [`MOST`] bytes are kept, over all destinations; they count as nobody's.

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes that are kept.
const MOST: usize = 8 << 20;

/// What is shorter is not worth keeping.
const LEAST: usize = 64 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    /// An empty one, with memory if there is any.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut kept = self.kept.lock();
        let buffer = kept.buffers.pop().unwrap_or_default();
        kept.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps the memory of what was sent, unless somebody still reads it.
    pub(super) fn put(&self, sent: Bytes) {
        let Ok(mut sent) = sent.try_into_mut() else {
            return;
        };
        sent.clear();
        let buffer = Vec::from(sent);
        let capacity = buffer.capacity();
        let mut kept = self.kept.lock();
        if capacity >= LEAST && kept.bytes + capacity <= MOST {
            kept.bytes += capacity;
            kept.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(length: usize) -> Bytes {
        vec![7; length].into()
    }

    #[test]
    fn what_was_sent_is_used_again_and_is_empty() {
        let buffers = Buffers::default();
        assert_eq!(buffers.take().capacity(), 0);
        let mut more = Vec::with_capacity(3 << 17);
        more.push(1);
        for batch in [sent(LEAST), more.into()] {
            let capacity = batch.len().max(LEAST);
            buffers.put(batch);
            let again = buffers.take();
            assert!(again.is_empty() && again.capacity() >= capacity);
            assert_eq!(buffers.take().capacity(), 0);
        }
    }

    #[test]
    fn what_is_still_read_or_small_or_too_much_is_not_kept() {
        let buffers = Buffers::default();
        let batch = sent(LEAST);
        buffers.put(batch.clone());
        buffers.put(sent(LEAST - 1));
        assert_eq!(buffers.take().capacity(), 0);
        assert_eq!(&batch[..2], [7, 7]);
        for _ in 0..20 {
            buffers.put(sent(1 << 20));
        }
        assert_eq!(buffers.kept.lock().bytes, MOST);
        let kept =
            std::iter::from_fn(|| Some(buffers.take()).filter(|buffer| buffer.capacity() > 0));
        assert_eq!(kept.count(), 8);
        assert_eq!(buffers.kept.lock().bytes, 0);
    }
}
