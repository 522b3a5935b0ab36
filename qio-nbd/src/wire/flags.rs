//! Flag words.

bitflags::bitflags! {
    /// What a server says of itself in its greeting.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct HandshakeFlags: u16 {
        /// Options can be refused one by one, so that more than one can be tried.
        const FIXED_NEWSTYLE = 1 << 0;
        /// The padding behind the answer to `NBD_OPT_EXPORT_NAME` may be left out.
        const NO_ZEROES = 1 << 1;
    }

    /// What a client answers to the greeting.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct ClientFlags: u32 {
        /// The client speaks fixed newstyle.
        const FIXED_NEWSTYLE = 1 << 0;
        /// The client does not want the padding.
        const NO_ZEROES = 1 << 1;
    }

    /// What an export offers.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct TransmissionFlags: u16 {
        /// The other bits mean something.
        const HAS_FLAGS = 1 << 0;
        /// Writing is refused.
        const READ_ONLY = 1 << 1;
        /// `NBD_CMD_FLUSH` is served.
        const SEND_FLUSH = 1 << 2;
        /// `NBD_CMD_FLAG_FUA` is honoured.
        const SEND_FUA = 1 << 3;
        /// The medium spins.
        const ROTATIONAL = 1 << 4;
        /// `NBD_CMD_TRIM` is served.
        const SEND_TRIM = 1 << 5;
        /// `NBD_CMD_WRITE_ZEROES` is served.
        const SEND_WRITE_ZEROES = 1 << 6;
        /// `NBD_CMD_FLAG_DF` is honoured.
        const SEND_DF = 1 << 7;
        /// A flush on one connection covers completed writes of all connections.
        const CAN_MULTI_CONN = 1 << 8;
        /// Reserved for resizing.
        const SEND_RESIZE = 1 << 9;
        /// `NBD_CMD_CACHE` is served.
        const SEND_CACHE = 1 << 10;
        /// `NBD_CMD_FLAG_FAST_ZERO` is honoured.
        const SEND_FAST_ZERO = 1 << 11;
        /// Block status requests may carry a payload.
        const BLOCK_STATUS_PAYLOAD = 1 << 12;
    }

    /// Modifiers of one request.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct CommandFlags: u16 {
        /// Force unit access: reply only once the data is durable.
        const FUA = 1 << 0;
        /// Zeroing must not make a hole.
        const NO_HOLE = 1 << 1;
        /// Do not fragment: one data chunk.
        const DF = 1 << 2;
        /// One extent only.
        const REQ_ONE = 1 << 3;
        /// Fail unless zeroing is faster than writing.
        const FAST_ZERO = 1 << 4;
        /// The length is that of a payload.
        const PAYLOAD_LEN = 1 << 5;
    }

    /// Modifiers of one structured reply chunk.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct ChunkFlags: u16 {
        /// The last chunk of its reply.
        const DONE = 1 << 0;
    }
}
