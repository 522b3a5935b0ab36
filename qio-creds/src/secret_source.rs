//! Where secrets are read from: files, and the Linux kernel's key retention service.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroI32;
use std::path::Path;

use linux_keyutils::{Key, KeySerialId};
use zeroize::Zeroizing;

use crate::SecretError;

/// The most that is taken of a file or key. No password or key comes near it.
const MAX_SECRET: usize = 64 << 10;

/// The whole file, a newline at its end included. It may be a pipe, as a shell's `<(...)` is.
pub(crate) fn read_file(id: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let failed = |source| SecretError::File {
        id: id.to_owned(),
        path: path.to_owned(),
        source,
    };
    let read = read_up_to(File::open(path).map_err(failed)?, MAX_SECRET).map_err(failed)?;
    read.ok_or_else(|| SecretError::TooLarge {
        id: id.to_owned(),
        path: path.to_owned(),
        limit: MAX_SECRET,
    })
}

/// Everything there is to read; none if that is more than `limit`.
fn read_up_to(source: impl Read, limit: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // Room for all of it at once: a buffer that grows would leave copies behind in freed memory.
    let capacity = limit.saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    source
        .take(u64::try_from(capacity).unwrap_or(u64::MAX))
        .read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

/// The payload of a key of the kernel.
pub(crate) fn read_keyring(id: &str, serial: NonZeroI32) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let failed = |why: String| SecretError::Keyring {
        id: id.to_owned(),
        serial: serial.get(),
        why,
    };
    let mut bytes = Zeroizing::new(vec![0; MAX_SECRET]);
    let len = Key::from_id(KeySerialId::new(serial.get()))
        .read(&mut *bytes)
        .map_err(|error| failed(format!("{error:?}")))?;
    // The kernel says how long the payload is, whether or not it fitted.
    if len > MAX_SECRET {
        return Err(failed(format!("it is larger than {MAX_SECRET} bytes")));
    }
    bytes.truncate(len);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_as_allowed_and_no_more() {
        let read = |len: usize| read_up_to(io::repeat(7).take(len as u64), 100).unwrap();
        assert_eq!(read(0).unwrap().len(), 0);
        assert_eq!(read(100).unwrap().len(), 100);
        assert!(read(101).is_none());
        assert!(read_up_to(io::repeat(7), 100).unwrap().is_none());
    }
}
