//! The legacy format: five pickles (magic number, protocol, system, contents, storage keys), then the
//! storages in the order of the keys, each preceded by its length. A pickle that does not begin with the
//! magic number is no file of `torch.save`: it has no storages, but its arrays are in it.

use std::collections::HashMap;
use std::ops::Range;

use super::super::error::FormatError;
use super::super::pickle::{self, Loaded, StorageRef, Value};
use super::storages::{Budget, Storages};

const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL: i128 = 1001;

/// The storages of a legacy file in memory.
pub(super) struct LegacyStorages<'a> {
    bytes: &'a [u8],
    ranges: HashMap<String, Range<usize>>,
}

/// Reads the pickles and finds the storages.
pub(super) fn open(bytes: &[u8]) -> Result<(Value, LegacyStorages<'_>), FormatError> {
    let mut stream = Stream { bytes, position: 0 };
    let first = stream.pickle()?.value;
    if first != Value::Int(MAGIC) {
        return Ok((first, LegacyStorages { bytes, ranges: HashMap::new() }));
    }
    if stream.pickle()?.value != Value::Int(PROTOCOL) {
        return Err(legacy("an unknown version of the format"));
    }
    check_system(&stream.pickle()?.value)?;
    let contents = stream.pickle()?;
    let Value::List(keys) = stream.pickle()?.value else {
        return Err(legacy("the list of storages is missing"));
    };
    let mut declared: HashMap<&str, &StorageRef> =
        contents.storages.iter().map(|storage| (storage.key.as_str(), storage)).collect();
    let mut ranges = HashMap::new();
    for key in &keys {
        let Value::Str(key) = key else { return Err(legacy("a storage's key is not text")) };
        let storage = declared
            .remove(key.as_str())
            .ok_or_else(|| missing(key, "listed twice, or not part of any tensor"))?;
        ranges.insert(key.clone(), stream.storage(storage)?);
    }
    if let Some(key) = declared.into_keys().next() {
        return Err(missing(key, "not in the file"));
    }
    match bytes.len() - stream.position {
        0 => Ok((contents.value, LegacyStorages { bytes, ranges })),
        rest => Err(legacy(&format!("{rest} bytes after the last storage"))),
    }
}

impl Storages for LegacyStorages<'_> {
    fn bytes(&mut self, storage: &StorageRef, _: &mut Budget) -> Result<&[u8], FormatError> {
        let range = self.ranges.get(&storage.key).ok_or_else(|| missing(&storage.key, "not in the file"))?;
        Ok(&self.bytes[range.clone()])
    }
}

struct Stream<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Stream<'_> {
    fn pickle(&mut self) -> Result<Loaded, FormatError> {
        let loaded = pickle::load(&self.bytes[self.position..])?;
        self.position += loaded.consumed;
        Ok(loaded)
    }

    /// The place of the next storage's elements.
    fn storage(&mut self, storage: &StorageRef) -> Result<Range<usize>, FormatError> {
        let truncated = || missing(&storage.key, "truncated: the file ends inside it; download it again");
        let rest = &self.bytes[self.position..];
        let (len, data) = rest.split_first_chunk().ok_or_else(truncated)?;
        let len = u64::from_le_bytes(*len);
        if len != storage.len as u64 {
            return Err(missing(&storage.key, &format!("{} elements declared, {len} found", storage.len)));
        }
        let bytes = storage.len.checked_mul(storage.dtype.size()).filter(|&bytes| bytes <= data.len());
        let start = self.position + size_of::<u64>();
        self.position = start + bytes.ok_or_else(truncated)?;
        Ok(start..self.position)
    }
}

fn check_system(system: &Value) -> Result<(), FormatError> {
    let Value::Dict(entries) = system else { return Err(legacy("the system's description is missing")) };
    let little = (Value::Str("little_endian".into()), Value::Bool(true));
    if entries.contains(&little) { Ok(()) } else { Err(legacy("its numbers are not little endian")) }
}

fn legacy(reason: &str) -> FormatError {
    FormatError::Legacy(reason.to_owned())
}

fn missing(key: &str, reason: &str) -> FormatError {
    FormatError::Storage { key: key.to_owned(), reason: reason.to_owned() }
}
