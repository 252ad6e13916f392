//! Parquet files: written whole and sealed, verified when read.
//!
//! A file states the blake3 of itself in its metadata, computed with zeros in place of the digest. What was
//! altered is found before the reader sees it, which panics on some damaged files, and on a few asks for more
//! memory than there is. A file without a digest, of an older program or another one, is read on trust.

use std::fmt::Display;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use polars::prelude::*;

use super::ReportError;
use crate::guard::guarded;
use crate::weights::atomic;

/// The metadata key of the digest.
const SEAL: &str = "convmae.blake3";
/// A key that says once more that there is one: damage that hits the other does not make it a file without.
const SEALED: &str = "convmae.sealed";
const UNSEALED: [u8; 64] = [b'0'; 64];

/// Writes a frame to `path`, and returns the bytes that are there now; `what` it is, is for messages.
pub(crate) fn write(
    path: &Path,
    what: &'static str,
    frame: PolarsResult<DataFrame>,
) -> Result<Vec<u8>, ReportError> {
    let bytes = frame.and_then(encode).map_err(|error| ReportError::format(path, what, error))?;
    atomic::write_bytes(path, &bytes)?;
    Ok(bytes)
}

/// Reads back what [`write`] has left at `path`, as `of_frame` understands it.
pub(crate) fn read<T, E: Display>(
    path: &Path,
    what: &'static str,
    of_frame: impl FnOnce(&DataFrame) -> Result<T, E>,
) -> Result<T, ReportError> {
    let bytes = fs::read(path).map_err(ReportError::io("read", path))?;
    let frame = decode(bytes).map_err(|reason| ReportError::format(path, what, reason))?;
    of_frame(&frame).map_err(|reason| ReportError::format(path, what, reason))
}

/// Removes the file of an evaluation at `path` unless it is one up to `step`: a resumed run evaluates again. `evaluated` tells after how
/// many steps that was.
pub(crate) fn remove_after(
    path: &Path,
    step: u64,
    evaluated: impl FnOnce(&Path) -> Result<u64, ReportError>,
) -> Result<(), ReportError> {
    // One that cannot be read is of no use either.
    if path.is_file() && evaluated(path).map_or(true, |evaluated| evaluated > step) {
        atomic::remove(path)?;
    }
    Ok(())
}

/// A frame as the bytes of a sealed file.
fn encode(mut frame: DataFrame) -> PolarsResult<Vec<u8>> {
    let digest = String::from_utf8_lossy(&UNSEALED).into_owned();
    let unsealed = vec![(SEAL.to_owned(), digest), (SEALED.to_owned(), String::new())];
    let mut bytes = Vec::new();
    // Snappy rather than zstd: every parquet reader has it.
    ParquetWriter::new(&mut bytes)
        .with_compression(ParquetCompression::Snappy)
        .with_key_value_metadata(Some(KeyValueMetadata::from_static(unsealed)))
        .finish(&mut frame)?;
    if let Some(seal) = seal(&bytes) {
        let digest = blake3::hash(&bytes).to_hex();
        bytes[seal..seal + UNSEALED.len()].copy_from_slice(digest.as_bytes());
    }
    Ok(bytes)
}

/// The frame in the bytes of a file.
///
/// # Errors
/// Why there is none.
pub(crate) fn decode(mut bytes: Vec<u8>) -> Result<DataFrame, String> {
    let stated = seal(&bytes).map(|seal| {
        let place = &mut bytes[seal..seal + UNSEALED.len()];
        let stated = place.to_vec();
        place.copy_from_slice(&UNSEALED);
        stated
    });
    let is_sealed = stated.is_some() || last(&bytes, SEAL).or(last(&bytes, SEALED)).is_some();
    if is_sealed && stated.as_deref() != Some(blake3::hash(&bytes).to_hex().as_bytes()) {
        return Err("it was altered: its blake3 is not the one it states".to_owned());
    }
    // On this thread, where a panic is caught.
    let reader = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None);
    match guarded(|| reader.finish()) {
        Ok(frame) => frame.map_err(|error| error.to_string()),
        Err(_) => Err("it is damaged: the reader panicked".to_owned()),
    }
}

/// Where the digest is: in the metadata, at the end, a key is followed by the field and the length of its
/// value, a byte each.
fn seal(bytes: &[u8]) -> Option<usize> {
    let start = last(bytes, SEAL)? + SEAL.len() + 2;
    let value = bytes.get(start..start + UNSEALED.len())?;
    value.iter().all(u8::is_ascii_hexdigit).then_some(start)
}

/// Where a key is last: values of the frame may be the same text.
fn last(bytes: &[u8], key: &str) -> Option<usize> {
    bytes.windows(key.len()).rposition(|window| window == key.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn frame() -> DataFrame {
        df!["name" => ["loss", "convmae.blake3"], "value" => [0.5, 2.0]].unwrap()
    }

    #[test]
    fn a_frame_comes_back_from_a_sealed_file() {
        let bytes = encode(frame()).unwrap();
        assert!(seal(&bytes).is_some());
        assert!(decode(bytes).unwrap().equals(&frame()));
    }

    #[test]
    fn every_changed_byte_and_every_truncation_is_found() {
        let whole = encode(frame()).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(decode(bytes).is_err(), "byte {at}");
        }
        for len in 0..whole.len() {
            assert!(decode(whole[..len].to_vec()).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_file_of_another_program_is_read() {
        let mut frame = df!["name" => ["loss"], "value" => [0.5]].unwrap();
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes).finish(&mut frame).unwrap();
        assert!(decode(bytes).unwrap().equals(&frame));
    }

    #[test]
    fn what_the_reader_panics_on_is_refused() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/cases/reliability/");
        for name in ["metrics-polars-panics", "runs-cache-polars-panics-1", "runs-cache-polars-panics-2"] {
            let bytes = fs::read(format!("{folder}{name}.parquet")).unwrap();
            assert_eq!(decode(bytes).unwrap_err(), "it is damaged: the reader panicked", "{name}");
        }
    }
}
