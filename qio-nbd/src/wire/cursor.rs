//! Reading and writing big-endian numbers without an index that could panic.

/// Takes numbers and slices off the front of a message; `None` once it is too short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// The next `length` bytes. A length that a peer sent is safe here: nothing is allocated or wraps.
    pub(crate) fn bytes(&mut self, length: u32) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(head)
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Fills an array of exactly `N` bytes from the front.
#[derive(Debug)]
pub(crate) struct ArrayWriter<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> ArrayWriter<N> {
    pub(crate) fn new() -> Self {
        ArrayWriter { bytes: [0; N], at: 0 }
    }

    fn put<const M: usize>(mut self, value: [u8; M]) -> Self {
        let end = self.at.saturating_add(M);
        debug_assert!(end <= N, "a fixed-size header overflowed its array");
        if let Some(room) = self.bytes.get_mut(self.at..end) {
            room.copy_from_slice(&value);
        }
        self.at = end;
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.put(value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.put(value.to_be_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.put(value.to_be_bytes())
    }

    pub(crate) fn finish(self) -> [u8; N] {
        debug_assert_eq!(self.at, N, "a fixed-size header was not filled");
        self.bytes
    }
}
