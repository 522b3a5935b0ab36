//! Errors that tell their cause in their own text.

/// Conversions into variants whose text contains the cause's. The cause is then not a `source` as well:
/// whoever prints the whole chain would print it twice.
macro_rules! from_cause {
    ($($error:ident :: $variant:ident ( $cause:ty )),+ $(,)?) => {$(
        impl From<$cause> for $error {
            fn from(cause: $cause) -> Self {
                $error::$variant(cause)
            }
        }
    )+};
}
pub(crate) use from_cause;
