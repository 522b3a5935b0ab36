//! Zeroes that need not be written.

use qio_nbd::export::{Durability, Export as _, FileExport};

/// Zeroes are left out in pieces of this many bytes.
const SPARSE: usize = 4096;

/// Writes what is not zero; the rest is zero already.
pub(super) fn write_sparse(file: &FileExport, offset: u64, data: &[u8]) -> std::io::Result<()> {
    let mut at = offset;
    for run in data_runs(data) {
        match run {
            Run::Zeroes(length) => at = at.saturating_add(length),
            Run::Data(bytes) => {
                file.write_at(bytes, at, Durability::Buffered)?;
                at = at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            }
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Run<'a> {
    Zeroes(u64),
    Data(&'a [u8]),
}

/// Cuts data into runs of zero blocks and of others.
fn data_runs(data: &[u8]) -> impl Iterator<Item = Run<'_>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let zero = is_zero(rest.chunks(SPARSE).next()?);
        let alike = rest.chunks(SPARSE).take_while(|block| is_zero(block) == zero);
        let (run, tail) = rest.split_at_checked(alike.map(<[u8]>::len).sum())?;
        rest = tail;
        Some(if zero {
            Run::Zeroes(u64::try_from(run.len()).unwrap_or(u64::MAX))
        } else {
            Run::Data(run)
        })
    })
}

/// By words of 16 bytes: a loop over bytes that may end anywhere is not vectorized.
pub(super) fn is_zero(data: &[u8]) -> bool {
    let words = data.chunks_exact(16);
    words.remainder().iter().all(|byte| *byte == 0) && words.into_iter().all(|word| word == [0; 16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_everything_in_order() {
        let mut data = vec![0; 3 * SPARSE + 100];
        data[SPARSE] = 1;
        data[3 * SPARSE + 99] = 1;
        let runs: Vec<_> = data_runs(&data).collect();
        let block = SPARSE as u64;
        assert_eq!(
            runs,
            [
                Run::Zeroes(block),
                Run::Data(&data[SPARSE..2 * SPARSE]),
                Run::Zeroes(block),
                Run::Data(&data[3 * SPARSE..])
            ]
        );
        assert_eq!(data_runs(&[]).count(), 0);
    }

    #[test]
    fn one_byte_anywhere_is_seen() {
        for length in [1, 15, 16, 17, 4096] {
            let mut data = vec![0; length];
            assert!(is_zero(&data));
            for at in 0..length {
                data[at] = 1;
                assert!(!is_zero(&data), "{at} of {length}");
                data[at] = 0;
            }
        }
    }
}
