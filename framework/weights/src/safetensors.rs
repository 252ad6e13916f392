//! safetensors files.
//!
//! The header is that of the `safetensors` crate; the data is streamed, so that a file never lies in memory
//! twice. A file may be *sealed*: its metadata then states the blake3 of the whole file (computed with zeros
//! in place of the digest), and reading verifies it. The digest is part of the file, so no crash can separate
//! the two.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::atomic;
use super::error::{FormatError, WeightsError};
use super::map::TensorMap;
use super::tensor::{DType, HostTensor};

/// The metadata key of the digest.
const SEAL: &str = "convmae.blake3";
const UNSEALED: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The limit of the format.
const MAX_HEADER: u64 = 100_000_000;

/// The content of a safetensors file.
#[derive(Clone, Debug, PartialEq)]
pub struct Safetensors {
    /// The tensors in the order of their data.
    pub tensors: TensorMap,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// The verified blake3 of a sealed file, in hexadecimal.
    pub digest: Option<String>,
}

/// Reads a safetensors file; a sealed one is verified.
///
/// # Errors
/// If the file cannot be read, is truncated or altered, or has a tensor type without counterpart in
/// [`DType`].
pub fn read_safetensors(path: &Path) -> Result<Safetensors, WeightsError> {
    let file = File::open(path).map_err(WeightsError::io("open", path))?;
    let file_len = file.metadata().map_err(WeightsError::io("read", path))?.len();
    let mut file = BufReader::new(file);
    read(&mut file, file_len).map_err(|reason| WeightsError::format(path, reason))
}

/// Checks that a safetensors file is whole and, if it is sealed, unaltered, as [`read_safetensors`] does, but
/// keeps nothing of it in memory.
///
/// # Errors
/// As [`read_safetensors`], but for types of tensors.
pub fn check_safetensors(path: &Path) -> Result<(), WeightsError> {
    let file = File::open(path).map_err(WeightsError::io("open", path))?;
    let file_len = file.metadata().map_err(WeightsError::io("read", path))?.len();
    let mut file = BufReader::new(file);
    check(&mut file, file_len).map_err(|reason| WeightsError::format(path, reason))
}

/// Writes a safetensors file atomically.
///
/// Tensors are written in their order, those with wider elements first (PyTorch wants them aligned).
///
/// # Errors
/// If a tensor's data does not fit its shape, or the file cannot be written.
pub fn write_safetensors(
    path: &Path,
    tensors: &TensorMap,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let order = file_order(tensors);
    let header = header(&order, metadata).map_err(|reason| WeightsError::format(path, reason))?;
    write(path, &header, &order)
}

/// Writes a sealed safetensors file atomically and returns its digest.
///
/// # Errors
/// As [`write_safetensors`].
pub fn write_sealed(
    path: &Path,
    tensors: &TensorMap,
    metadata: &BTreeMap<String, String>,
) -> Result<String, WeightsError> {
    let order = file_order(tensors);
    let mut metadata = metadata.clone();
    metadata.insert(SEAL.to_owned(), UNSEALED.to_owned());
    let unsealed = header(&order, &metadata).map_err(|reason| WeightsError::format(path, reason))?;
    let digest = digest(&unsealed, order.iter().map(|(_, tensor)| *tensor));
    let sealed =
        replace_seal(&unsealed, UNSEALED, &digest).map_err(|reason| WeightsError::format(path, reason))?;
    write(path, &sealed, &order)?;
    Ok(digest)
}

type Ordered<'a> = Vec<(&'a str, &'a HostTensor)>;

fn file_order(tensors: &TensorMap) -> Ordered<'_> {
    let mut order: Ordered<'_> = tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype.size()));
    order
}

fn write(path: &Path, header: &[u8], tensors: &Ordered<'_>) -> Result<(), WeightsError> {
    atomic::write(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header)?;
        tensors.iter().try_for_each(|(_, tensor)| file.write_all(&tensor.data))
    })
}

fn header(tensors: &Ordered<'_>, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, FormatError> {
    let mut end = 0;
    let mut infos = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        tensor.check().map_err(|reason| FormatError::Tensor { name: (*name).to_owned(), reason })?;
        let start = end;
        end += tensor.data.len();
        let info = TensorInfo {
            dtype: to_safetensors(tensor.dtype),
            shape: tensor.shape.clone(),
            data_offsets: (start, end),
        };
        infos.push(((*name).to_owned(), info));
    }
    let metadata: HashMap<_, _> = metadata.clone().into_iter().collect();
    let metadata = Some(metadata).filter(|metadata| !metadata.is_empty());
    let metadata = Metadata::new(metadata, infos).map_err(|error| invalid(&error))?;
    let mut header = serde_json::to_value(&metadata).map_err(|error| invalid(&error))?;
    // The crate writes them in another order every time; equal weights are equal files.
    if let Some(metadata) = header.get_mut("__metadata__").and_then(serde_json::Value::as_object_mut) {
        metadata.sort_keys();
    }
    let mut header = serde_json::to_vec(&header).map_err(|error| invalid(&error))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

fn read(file: &mut impl Read, file_len: u64) -> Result<Safetensors, FormatError> {
    let (header, parsed) = read_header(file, file_len)?;
    let mut tensors = TensorMap::new();
    for name in parsed.offset_keys() {
        let Some(info) = parsed.info(&name) else { continue };
        let tensor = read_tensor(file, &name, info)?;
        tensors.insert(name, tensor);
    }
    let mut metadata: BTreeMap<_, _> = parsed.metadata().clone().unwrap_or_default().into_iter().collect();
    let digest = metadata.remove(SEAL);
    if let Some(stated) = &digest {
        verify(&header, stated, &tensors)?;
    }
    Ok(Safetensors { tensors, metadata, digest })
}

fn check(file: &mut impl Read, file_len: u64) -> Result<(), FormatError> {
    let (header, parsed) = read_header(file, file_len)?;
    let Some(stated) = parsed.metadata().as_ref().and_then(|metadata| metadata.get(SEAL)) else {
        return Ok(());
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&replace_seal(&header, stated, UNSEALED)?);
    hasher.update_reader(file).map_err(|error| invalid(&error))?;
    compare(stated, hasher.finalize().to_hex().to_string())
}

/// The header, which describes the data of a file of this length, as bytes and as what it says.
fn read_header(file: &mut impl Read, file_len: u64) -> Result<(Vec<u8>, Metadata), FormatError> {
    let mut len = [0; 8];
    file.read_exact(&mut len).map_err(|error| invalid(&error))?;
    let len = u64::from_le_bytes(len);
    if len > MAX_HEADER || len > file_len.saturating_sub(8) {
        let reason = format!("a header of {len} bytes does not fit a file of {file_len}");
        return Err(FormatError::Safetensors(reason));
    }
    let mut header = vec![0; len as usize];
    file.read_exact(&mut header).map_err(|error| invalid(&error))?;
    let parsed: Metadata = serde_json::from_slice(&header).map_err(|error| invalid(&error))?;
    let held = file_len - 8 - len;
    if parsed.data_len() as u64 != held {
        let described = parsed.data_len();
        let reason = format!("the header describes {described} bytes of data, the file has {held}");
        return Err(FormatError::Safetensors(reason));
    }
    Ok((header, parsed))
}

fn read_tensor(file: &mut impl Read, name: &str, info: &TensorInfo) -> Result<HostTensor, FormatError> {
    let dtype = from_safetensors(info.dtype).ok_or_else(|| FormatError::UnsupportedDType {
        name: name.to_owned(),
        dtype: info.dtype.to_string(),
    })?;
    let mut data = vec![0; info.data_offsets.1 - info.data_offsets.0];
    file.read_exact(&mut data).map_err(|error| invalid(&error))?;
    HostTensor::new(dtype, info.shape.clone(), data)
        .map_err(|reason| FormatError::Tensor { name: name.to_owned(), reason })
}

fn verify(header: &[u8], stated: &str, tensors: &TensorMap) -> Result<(), FormatError> {
    let unsealed = replace_seal(header, stated, UNSEALED)?;
    compare(stated, digest(&unsealed, tensors.iter().map(|(_, tensor)| tensor)))
}

fn compare(stated: &str, found: String) -> Result<(), FormatError> {
    if found == stated { Ok(()) } else { Err(FormatError::Digest { stated: stated.to_owned(), found }) }
}

/// The blake3 of the header and of the tensors' data, in file order, as hexadecimal.
fn digest<'a>(header: &[u8], tensors: impl Iterator<Item = &'a HostTensor>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header);
    for tensor in tensors {
        hasher.update(&tensor.data);
    }
    hasher.finalize().to_hex().to_string()
}

fn replace_seal(header: &[u8], from: &str, to: &str) -> Result<Vec<u8>, FormatError> {
    let field = format!("\"{SEAL}\":\"{from}\"");
    let at = header.windows(field.len()).position(|window| window == field.as_bytes());
    let (Some(at), true) = (at, from.len() == to.len()) else {
        return Err(FormatError::Safetensors("its digest was rewritten".into()));
    };
    let mut replaced = header.to_vec();
    let value = at + field.len() - 1 - to.len();
    replaced[value..value + to.len()].copy_from_slice(to.as_bytes());
    Ok(replaced)
}

fn invalid(error: &dyn std::error::Error) -> FormatError {
    FormatError::Safetensors(error.to_string())
}

fn to_safetensors(dtype: DType) -> Dtype {
    match dtype {
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::I8 => Dtype::I8,
        DType::U8 => Dtype::U8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::Bool => Dtype::BOOL,
    }
}

fn from_safetensors(dtype: Dtype) -> Option<DType> {
    DType::ALL.into_iter().find(|&ours| to_safetensors(ours) == dtype)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
