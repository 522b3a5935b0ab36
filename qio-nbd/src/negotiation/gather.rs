//! Collecting a known number of bytes that arrive in pieces.

/// Bytes of one message, as far as they have come. Grows with what has arrived, never with what was announced.
#[derive(Debug, Default)]
pub(super) struct Gather {
    bytes: Vec<u8>,
}

impl Gather {
    /// Takes bytes off `input` until `N` are there.
    pub(super) fn array<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        self.fill(input, N).and_then(|bytes| bytes.first_chunk().copied())
    }

    /// Takes bytes off `input` until `length` are there, and gives them all.
    pub(super) fn fill(&mut self, input: &mut &[u8], length: usize) -> Option<Vec<u8>> {
        let missing = length.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(take(input, missing));
        (self.bytes.len() >= length).then(|| std::mem::take(&mut self.bytes))
    }
}

/// Takes at most `limit` bytes off `input`.
pub(super) fn take<'a>(input: &mut &'a [u8], limit: usize) -> &'a [u8] {
    let (head, rest) = input.split_at_checked(limit).unwrap_or((*input, &[]));
    *input = rest;
    head
}
