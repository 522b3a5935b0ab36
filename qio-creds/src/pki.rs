//! Making authorities and certificates.
