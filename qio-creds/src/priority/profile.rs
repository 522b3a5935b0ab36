//! How strong keys must be.

/// How strong the keys of certificates must be: GnuTLS's verification profiles.
///
/// The sizes are those of GnuTLS's manual, section "Selecting cryptographic key sizes". Whatever the profile, our engines
/// take no RSA key below 2048 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// Any.
    None,
    /// 80 bits of security.
    Low,
    /// 96 bits.
    Legacy,
    /// 112 bits.
    Medium,
    /// 128 bits.
    High,
    /// 192 bits.
    Ultra,
    /// 256 bits.
    Future,
}

impl Profile {
    /// The least size of an RSA modulus, in bits.
    #[must_use]
    pub fn min_rsa_bits(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Low => 1024,
            Self::Legacy => 1776,
            Self::Medium => 2048,
            Self::High => 3072,
            Self::Ultra => 8192,
            Self::Future => 15360,
        }
    }

    /// The least size of an elliptic curve, in bits.
    #[must_use]
    pub fn min_curve_bits(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Low => 160,
            Self::Legacy => 192,
            Self::Medium => 224,
            Self::High => 256,
            Self::Ultra => 384,
            Self::Future => 512,
        }
    }
}
