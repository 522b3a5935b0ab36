//! When a certificate is valid.

use time::format_description::well_known::Rfc3339;
use time::macros::{datetime, format_description};
use time::{Date, Duration, OffsetDateTime, PrimitiveDateTime, UtcOffset};

use super::PkiError;

/// How far before now a validity begins, for peers whose clock is slow.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// The end of a certificate that has none (RFC 5280 section 4.1.2.5).
pub(super) const NO_END: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From five minutes ago until so many days from now. A certificate never outlives its authority: it ends with
    /// the authority's, if that is earlier.
    Days(u32),
    /// From one moment, or else five minutes ago, to another, both included, whatever the authority's validity is.
    /// For tests, and for those who know what they do.
    Between {
        /// The first moment.
        not_before: OffsetDateTime,
        /// The last moment.
        not_after: OffsetDateTime,
    },
    /// From one moment until so many days from now, and no longer than the authority.
    From {
        /// The first moment.
        not_before: OffsetDateTime,
        /// How many days from now it ends; the usual number for its kind of certificate if this is none.
        days: Option<u32>,
    },
    /// From five minutes ago until a moment, whatever the authority's validity is.
    Until(OffsetDateTime),
}

impl Validity {
    /// What options say that may each be missing; none if all of them are. A last moment prevails over days.
    #[must_use]
    pub fn from_parts(
        not_before: Option<OffsetDateTime>,
        not_after: Option<OffsetDateTime>,
        days: Option<u32>,
    ) -> Option<Self> {
        match (not_before, not_after, days) {
            (None, None, None) => None,
            (None, None, Some(days)) => Some(Self::Days(days)),
            (None, Some(not_after), _) => Some(Self::Until(not_after)),
            (Some(not_before), None, days) => Some(Self::From { not_before, days }),
            (Some(not_before), Some(not_after), _) => Some(Self::Between {
                not_before,
                not_after,
            }),
        }
    }

    /// The first and last moment, in whole seconds, as certificates count.
    pub(super) fn moments(
        self,
        now: OffsetDateTime,
        usual_days: u32,
        authority_ends: Option<OffsetDateTime>,
    ) -> Result<(OffsetDateTime, OffsetDateTime), PkiError> {
        let begin = || now.checked_sub(CLOCK_SKEW).ok_or(PkiError::Validity);
        let after = |days: u32| {
            let end = now
                .checked_add(Duration::days(days.into()))
                .ok_or(PkiError::Validity)?;
            Ok(authority_ends.map_or(end, |authority| authority.min(end)))
        };
        let (not_before, not_after) = match self {
            Self::Days(days) => (begin()?, after(days)?),
            Self::From { not_before, days } => (not_before, after(days.unwrap_or(usual_days))?),
            Self::Until(not_after) => (begin()?, not_after),
            Self::Between {
                not_before,
                not_after,
            } => (not_before, not_after),
        };
        let whole = |moment: OffsetDateTime| {
            let utc = moment.checked_to_offset(UtcOffset::UTC)?;
            utc.replace_nanosecond(0).ok()
        };
        let (not_before, not_after) = whole(not_before)
            .zip(whole(not_after))
            .ok_or(PkiError::Validity)?;
        // RFC 5280 section 4.1.2.5: four digits of the year.
        let sayable = |moment: OffsetDateTime| (1950..=9999).contains(&moment.year());
        if not_before <= not_after && sayable(not_before) && sayable(not_after) {
            Ok((not_before, not_after))
        } else {
            Err(PkiError::Validity)
        }
    }
}

/// A text that is no date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a date; write 2030-12-31, '2030-12-31 23:59:59' (both in UTC), or 2030-12-31T23:59:59+01:00"
)]
pub struct InvalidDate(String);

/// Reads a date, or a date and time: in UTC, or as RFC 3339 with an offset of its own.
///
/// ```
/// let new_year = qio_creds::pki::parse_date("2030-01-01")?;
/// assert_eq!(qio_creds::pki::parse_date("2030-01-01 00:00:00")?, new_year);
/// assert_eq!(qio_creds::pki::parse_date("2030-01-01T01:00:00+01:00")?, new_year);
/// # Ok::<(), qio_creds::pki::InvalidDate>(())
/// ```
///
/// # Errors
///
/// [`InvalidDate`] if it is in none of these forms.
pub fn parse_date(text: &str) -> Result<OffsetDateTime, InvalidDate> {
    let date = format_description!("[year]-[month]-[day]");
    let minutes = format_description!("[year]-[month]-[day] [hour]:[minute]");
    let seconds = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let plain = text.strip_suffix(" UTC").unwrap_or(text);
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(moment);
    }
    Date::parse(plain, date)
        .map(Date::midnight)
        .or_else(|_| PrimitiveDateTime::parse(plain, minutes))
        .or_else(|_| PrimitiveDateTime::parse(plain, seconds))
        .map(PrimitiveDateTime::assume_utc)
        .map_err(|_| InvalidDate(text.to_owned()))
}
