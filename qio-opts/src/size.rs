//! Sizes in bytes with a unit's letter behind them.

use std::fmt;
use std::str::FromStr;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::de::parse_integer;

/// A number of bytes, written as QEMU takes it: `4096`, `4k`, `10M`, `1.5G`, `0x1000`.
///
/// Units are powers of 1024: K, M, G, T, P and E, in either case; B, or nothing, is bytes. A fraction needs
/// a unit, and is rounded down to whole bytes.
///
/// Serializes as a plain number of bytes.
///
/// ```
/// # use qio_opts::Size;
/// assert_eq!("10M".parse::<Size>()?.bytes(), 10 << 20);
/// # Ok::<(), qio_opts::InvalidSize>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl Size {
    /// The number of bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// A text that is no [`Size`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected {}, below 2^64: a number with an optional unit K, M, G, T, P or E (powers of 1024)",
    EXPECTED
)]
pub struct InvalidSize;

const EXPECTED: &str = "a size in bytes such as 4096, 4k or 1.5G";

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        parse(text).map(Size).ok_or(InvalidSize)
    }
}

fn parse(text: &str) -> Option<u64> {
    if text.starts_with("0x") || text.starts_with("0X") {
        return u64::try_from(parse_integer(text)?).ok();
    }
    let (number, unit) = match text.char_indices().next_back()? {
        (_, last) if last.is_ascii_digit() => (text, 1),
        (at, last) => (text.get(..at)?, 1_u128 << shift(last)?),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return None;
    }
    if !fraction.is_empty() && unit == 1 {
        return None;
    }
    let mut bytes = u128::from(whole.parse::<u64>().ok()?).checked_mul(unit)?;
    if !fraction.is_empty() {
        // 18 digits are more than an exabyte resolves to, and fit.
        let kept = fraction.get(..fraction.len().min(18))?;
        let scale = 10_u128.pow(u32::try_from(kept.len()).ok()?);
        bytes += kept.parse::<u128>().ok()? * unit / scale;
    }
    u64::try_from(bytes).ok()
}

fn shift(unit: char) -> Option<u32> {
    Some(match unit.to_ascii_uppercase() {
        'B' => 0,
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        'P' => 50,
        'E' => 60,
        _ => return None,
    })
}

impl fmt::Display for Size {
    /// Writes the largest unit that divides the size without rest: `1536M`, `4097`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for unit in ['E', 'P', 'T', 'G', 'M', 'K'] {
            let shift = shift(unit).unwrap_or(0);
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;

        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_u64<E>(self, value: u64) -> Result<Size, E> {
                Ok(Size(value))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse()
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(SizeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_qemu_takes_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4k", 4096),
            ("4K", 4096),
            ("7b", 7),
            ("10M", 10 << 20),
            ("1.5G", 3 << 29),
            ("0.5k", 512),
            ("2T", 2 << 40),
            ("3P", 3 << 50),
            ("15E", 15 << 60),
            ("0x1000", 4096),
            ("18446744073709551615", u64::MAX),
            ("1.9999999999999999999999k", 2047),
        ] {
            assert_eq!(text.parse::<Size>(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size() {
        for text in [
            "",
            "k",
            ".5k",
            "1.",
            "1.k",
            "1.5",
            "1.5b",
            "-1",
            "+1",
            "1kk",
            "1 k",
            "0x10k",
            "0x",
            "16E",
            "18446744073709551616",
            "1é",
            "é",
            "99999999999999999999999E",
        ] {
            assert_eq!(text.parse::<Size>(), Err(InvalidSize), "{text}");
        }
    }

    #[test]
    fn display_reads_back() {
        for bytes in [0, 1, 1023, 1024, 1536, 3 << 29, 15 << 60, u64::MAX] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
        assert_eq!(Size(3 << 29).to_string(), "1536M");
    }
}
