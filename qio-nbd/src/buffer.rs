//! Page-aligned buffers for payload, and a pool that keeps some of them warm.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Where buffers begin: at a page, so that the kernel copies between its pages and ours in step. One to 31
/// bytes out of step costs a factor of four and more on some CPUs.
const ALIGNMENT: usize = 4096;

/// Smallest buffer that is made; smaller requests share this size, so that the pool can reuse it.
const SMALLEST: usize = 4096;

/// A buffer of bytes that starts at a page boundary.
pub struct AlignedBuf {
    /// Larger than needed, so that an aligned part of the right size is inside.
    memory: Vec<u8>,
    start: usize,
    length: usize,
    capacity: usize,
}

impl AlignedBuf {
    /// A buffer of `length` zero bytes.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        let capacity = length.max(SMALLEST).next_power_of_two();
        // Large allocations of zeroes come from fresh pages: nothing is touched before it is used.
        let memory = vec![0; capacity.saturating_add(ALIGNMENT)];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        AlignedBuf {
            memory,
            start,
            length,
            capacity,
        }
    }

    /// How long the buffer can be made.
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn set_length(&mut self, length: usize) {
        debug_assert!(length <= self.capacity, "a buffer cannot outgrow its memory");
        self.length = length.min(self.capacity);
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory
            .get(self.start..)
            .and_then(|memory| memory.get(..self.length))
            .unwrap_or_default()
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory
            .get_mut(self.start..)
            .and_then(|memory| memory.get_mut(..self.length))
            .unwrap_or_default()
    }
}

/// Length only: contents are other people's data.
impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Buffers that wait to be used again, shared by all connections of a server.
///
/// Buffers come back with whatever they held: a user fills a buffer before showing it to anybody.
#[derive(Debug, Clone)]
pub struct BufferPool {
    shared: Arc<Mutex<Idle>>,
}

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<AlignedBuf>,
    bytes: usize,
    limit: usize,
}

impl BufferPool {
    /// A pool that keeps at most `limit` bytes for later.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        BufferPool {
            shared: Arc::new(Mutex::new(Idle {
                limit,
                ..Idle::default()
            })),
        }
    }

    /// A buffer of `length` bytes whose contents mean nothing.
    #[must_use]
    pub fn take(&self, length: usize) -> AlignedBuf {
        let wanted = length.max(SMALLEST).next_power_of_two();
        {
            let mut idle = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = idle
                .buffers
                .iter()
                .rposition(|buffer| buffer.capacity() == wanted)
            {
                let mut buffer = idle.buffers.swap_remove(found);
                idle.bytes = idle.bytes.saturating_sub(wanted);
                drop(idle);
                buffer.set_length(length);
                return buffer;
            }
        }
        AlignedBuf::zeroed(length)
    }

    /// Takes a buffer back.
    pub fn give(&self, buffer: AlignedBuf) {
        let mut idle = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes.saturating_add(buffer.capacity()) <= idle.limit {
            idle.bytes = idle.bytes.saturating_add(buffer.capacity());
            idle.buffers.push(buffer);
        }
    }

    /// Frees everything that is kept.
    pub fn clear(&self) {
        let mut idle = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let buffers = std::mem::take(&mut idle.buffers);
        idle.bytes = 0;
        drop(idle);
        drop(buffers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_at_a_page_and_have_their_length() {
        for length in [0, 1, 4095, 4096, 4097, 256 << 10, 32 << 20] {
            let buffer = AlignedBuf::zeroed(length);
            assert_eq!(buffer.len(), length);
            assert!(buffer.is_empty() || (buffer.as_ptr() as usize).is_multiple_of(ALIGNMENT));
        }
    }

    #[test]
    fn a_pool_reuses_and_stays_within_its_limit() {
        let pool = BufferPool::new(64 << 10);
        let buffer = pool.take(5000);
        let address = buffer.as_ptr();
        pool.give(buffer);
        let again = pool.take(8000);
        assert_eq!((again.as_ptr(), again.len()), (address, 8000), "the same 8 KiB");
        for _ in 0..100 {
            pool.give(AlignedBuf::zeroed(8192));
        }
        let idle = pool.shared.lock().unwrap();
        assert_eq!((idle.buffers.len(), idle.bytes), (8, 64 << 10));
    }
}
