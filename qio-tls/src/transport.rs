//! The side of a sans-I/O session that faces the transport.

/// How ciphertext gets in and out of a [`Handshake`](crate::Handshake) or a [`Session`](crate::Session).
///
/// ```text
/// receive: read from the transport into receive_space(), then received(n), or received_end() at its end
/// send:    write to_send() to the transport, then sent(n)
/// ```
pub trait Transport {
    /// Room to receive into: page-aligned where it can be, and never empty while input is asked for.
    fn receive_space(&mut self) -> &mut [u8];

    /// The first `n` bytes of [`receive_space`](Transport::receive_space) have been filled.
    fn received(&mut self, n: usize);

    /// The transport has ended: no more bytes will come.
    fn received_end(&mut self);

    /// Bytes that wait to be sent; empty if there are none.
    fn to_send(&self) -> &[u8];

    /// The first `n` bytes of [`to_send`](Transport::to_send) are on their way.
    fn sent(&mut self, n: usize);
}
