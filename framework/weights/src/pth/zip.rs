//! The zip format: `<stem>/data.pkl`, `<stem>/byteorder` and `<stem>/data/<key>`, stored uncompressed.

use std::io::{BufReader, Read, Seek};

use ::zip::ZipArchive;
use ::zip::result::ZipError;

use super::super::error::FormatError;
use super::super::pickle::{self, StorageRef, Value};
use super::storages::{Budget, Storages};

/// The storages of a zip archive, read when asked for.
pub(super) struct ZipStorages<R> {
    archive: ZipArchive<R>,
    stem: String,
    file_len: u64,
    /// The storage read last: views of one storage usually follow each other.
    last: Option<(String, Vec<u8>)>,
}

/// Opens the archive and reads its pickle.
pub(super) fn open<R: Read + Seek>(
    file: R,
    file_len: u64,
) -> Result<(Value, ZipStorages<BufReader<R>>), FormatError> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| invalid(&error))?;
    let stem = archive
        .file_names()
        .find_map(|name| name.strip_suffix("/data.pkl").filter(|stem| !stem.contains('/')))
        .ok_or_else(|| FormatError::Zip("not one of torch.save, it has no entry <name>/data.pkl".into()))?
        .to_owned();
    let order = format!("{stem}/byteorder");
    if archive.index_for_name(&order).is_some() && entry(&mut archive, &order, file_len)? != b"little" {
        return Err(FormatError::Zip("its numbers are not little endian".into()));
    }
    let bytes = entry(&mut archive, &format!("{stem}/data.pkl"), file_len)?;
    let loaded = pickle::load(&bytes)?;
    Ok((loaded.value, ZipStorages { archive, stem, file_len, last: None }))
}

impl<R: Read + Seek> Storages for ZipStorages<R> {
    fn bytes(&mut self, storage: &StorageRef, budget: &mut Budget) -> Result<&[u8], FormatError> {
        let cached = self.last.take().filter(|(key, _)| *key == storage.key);
        let (key, bytes) = if let Some(cached) = cached {
            cached
        } else {
            let bytes = self.read(storage)?;
            budget.spend(bytes.len())?;
            (storage.key.clone(), bytes)
        };
        Ok(&self.last.insert((key, bytes)).1)
    }
}

impl<R: Read + Seek> ZipStorages<R> {
    fn read(&mut self, storage: &StorageRef) -> Result<Vec<u8>, FormatError> {
        let name = format!("{}/data/{}", self.stem, storage.key);
        let bytes = entry(&mut self.archive, &name, self.file_len)?;
        if storage.len.checked_mul(storage.dtype.size()) == Some(bytes.len()) {
            return Ok(bytes);
        }
        Err(FormatError::Storage {
            key: storage.key.clone(),
            reason: format!(
                "{} {} elements declared, {} bytes found",
                storage.len,
                storage.dtype,
                bytes.len()
            ),
        })
    }
}

/// Reads one entry of at most `limit` bytes; its checksum is verified.
fn entry<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    name: &str,
    limit: u64,
) -> Result<Vec<u8>, FormatError> {
    let describe = |reason: &dyn std::fmt::Display| FormatError::Zip(format!("entry {name}: {reason}"));
    let entry = archive.by_name(name).map_err(|error| describe(&error))?;
    let size = entry.size();
    if size > limit {
        return Err(describe(&format!("{size} bytes, more than the {limit} possible")));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    entry.take(limit + 1).read_to_end(&mut bytes).map_err(|error| describe(&error))?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(describe(&"shorter or longer than declared")) }
}

fn invalid(error: &ZipError) -> FormatError {
    FormatError::Zip(match error {
        // What makes an archive one is written last.
        ZipError::InvalidArchive(reason) if reason.contains("EOCD") => {
            return FormatError::Truncated("it has no directory at its end; download it again".into());
        }
        ZipError::Io(error) => error.to_string(),
        other => other.to_string(),
    })
}
