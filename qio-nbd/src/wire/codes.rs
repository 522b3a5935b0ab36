//! Code points: options, option replies, info types, commands and chunk types.

/// An enum of known numbers that keeps the unknown ones, so that decoding never fails and encoding never lies.
macro_rules! open_enum {
    (
        $(#[$outer:meta])*
        pub enum $name:ident: $repr:ty {
            $( $(#[$inner:meta])* $variant:ident = $value:expr ),+ $(,)?
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$inner])* $variant, )+
            /// A number this crate does not know.
            Other($repr),
        }

        impl From<$repr> for $name {
            fn from(number: $repr) -> Self {
                match number {
                    $( n if n == $value => $name::$variant, )+
                    other => $name::Other(other),
                }
            }
        }

        impl From<$name> for $repr {
            fn from(code: $name) -> $repr {
                match code {
                    $( $name::$variant => $value, )+
                    $name::Other(number) => number,
                }
            }
        }
    };
}
pub(super) use open_enum;

open_enum! {
    /// What a client asks for during negotiation (`NBD_OPT_*`).
    pub enum OptionCode: u32 {
        /// Choose an export and enter transmission, without a way to refuse.
        ExportName = 1,
        /// End the session.
        Abort = 2,
        /// List the exports.
        List = 3,
        /// Upgrade to TLS.
        StartTls = 5,
        /// Describe an export.
        Info = 6,
        /// Describe an export and enter transmission.
        Go = 7,
        /// Use structured replies.
        StructuredReply = 8,
        /// List metadata contexts.
        ListMetaContext = 9,
        /// Choose metadata contexts.
        SetMetaContext = 10,
        /// Use 64-bit headers.
        ExtendedHeaders = 11,
    }
}

/// Set in every reply type that refuses.
const REFUSAL: u32 = 1 << 31;

open_enum! {
    /// How a server answers an option (`NBD_REP_*`).
    pub enum OptionReplyType: u32 {
        /// Done; no more replies to this option follow.
        Ack = 1,
        /// One export of a list.
        Server = 2,
        /// One fact about an export.
        Info = 3,
        /// One metadata context.
        MetaContext = 4,
        /// The server does not know the option.
        Unsupported = REFUSAL | 1,
        /// The server's configuration forbids it.
        Policy = REFUSAL | 2,
        /// The option was malformed, or made no sense now.
        Invalid = REFUSAL | 3,
        /// The server's platform cannot do it.
        Platform = REFUSAL | 4,
        /// Not before TLS.
        TlsRequired = REFUSAL | 5,
        /// No such export.
        Unknown = REFUSAL | 6,
        /// The server is going down.
        Shutdown = REFUSAL | 7,
        /// The client has to ask for block sizes first.
        BlockSizeRequired = REFUSAL | 8,
        /// The option was too long.
        TooBig = REFUSAL | 9,
        /// The client has to negotiate extended headers first.
        ExtendedHeadersRequired = REFUSAL | 10,
    }
}

impl OptionReplyType {
    /// Does this reply refuse the option?
    #[must_use]
    pub fn is_refusal(self) -> bool {
        u32::from(self) & REFUSAL != 0
    }
}

open_enum! {
    /// The facts that `NBD_OPT_INFO` and `NBD_OPT_GO` ask for and answer (`NBD_INFO_*`).
    pub enum InfoType: u16 {
        /// Size and transmission flags.
        Export = 0,
        /// The export's canonical name.
        Name = 1,
        /// A description for people.
        Description = 2,
        /// Minimum, preferred and maximum block size.
        BlockSize = 3,
    }
}

open_enum! {
    /// What a request does (`NBD_CMD_*`).
    pub enum Command: u16 {
        /// Read data.
        Read = 0,
        /// Write data.
        Write = 1,
        /// End the session; there is no reply.
        Disconnect = 2,
        /// Make completed writes durable.
        Flush = 3,
        /// Data is no longer needed.
        Trim = 4,
        /// Fetch into the server's cache.
        Cache = 5,
        /// Make a range read as zeroes.
        WriteZeroes = 6,
        /// Describe a range.
        BlockStatus = 7,
    }
}

open_enum! {
    /// What a structured reply chunk carries (`NBD_REPLY_TYPE_*`).
    pub enum ChunkType: u16 {
        /// Nothing; only ends a reply.
        None = 0,
        /// An offset, and data from there on.
        OffsetData = 1,
        /// An offset, and how many bytes of zeroes.
        OffsetHole = 2,
        /// Extents of a metadata context.
        BlockStatus = 5,
        /// Extents with 64-bit lengths.
        BlockStatusExt = 6,
        /// An error.
        Error = 1 << 15 | 1,
        /// An error at an offset.
        ErrorOffset = 1 << 15 | 2,
    }
}

impl ChunkType {
    /// Does this chunk report an error? True for error chunks yet to be invented as well.
    #[must_use]
    pub fn is_error(self) -> bool {
        u16::from(self) & (1 << 15) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_survive_the_round_trip() {
        for number in
            (0..=u16::MAX)
                .map(u32::from)
                .chain([REFUSAL, REFUSAL | 1, REFUSAL | 10, REFUSAL | 11, u32::MAX])
        {
            assert_eq!(u32::from(OptionCode::from(number)), number);
            assert_eq!(u32::from(OptionReplyType::from(number)), number);
        }
        for number in 0..=u16::MAX {
            assert_eq!(u16::from(Command::from(number)), number);
            assert_eq!(u16::from(ChunkType::from(number)), number);
            assert_eq!(u16::from(InfoType::from(number)), number);
        }
    }

    #[test]
    fn refusals_are_told_from_answers() {
        assert!(OptionReplyType::TlsRequired.is_refusal());
        assert!(OptionReplyType::Other(REFUSAL | 99).is_refusal());
        assert!(!OptionReplyType::Ack.is_refusal());
        assert!(ChunkType::Other(1 << 15 | 77).is_error());
        assert!(!ChunkType::OffsetHole.is_error());
    }
}
