//! Writing the zip format, as `torch.save({"model": state_dict}, path)` does.

use std::io::{self, Write};
use std::path::Path;

use ::zip::write::SimpleFileOptions;
use ::zip::{CompressionMethod, ZipWriter};

use super::super::error::{FormatError, WeightsError};
use super::super::map::TensorMap;
use super::super::pickle::{Global, opcode};
use super::super::tensor::HostTensor;
use super::super::{atomic, tensor::TensorError};

/// PyTorch aligns storages so that they can be mapped into memory.
const ALIGNMENT: u16 = 64;

/// Writes `{"model": OrderedDict(tensors)}` in PyTorch's zip format, atomically.
///
/// `torch.load(path, weights_only=True)` reads it.
///
/// # Errors
/// If a tensor's data does not fit its shape, or the file cannot be written.
pub fn write_pth(path: &Path, tensors: &TensorMap) -> Result<(), WeightsError> {
    let pickle = pickle(tensors).map_err(|reason| WeightsError::format(path, reason))?;
    atomic::write(path, |file| {
        let mut archive = ZipWriter::new(file);
        let mut entry = |name: &str, bytes: &[u8]| -> io::Result<()> {
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .large_file(u32::try_from(bytes.len()).is_err())
                .with_alignment(ALIGNMENT);
            archive.start_file(format!("archive/{name}"), options)?;
            archive.write_all(bytes)
        };
        entry("data.pkl", &pickle)?;
        entry("byteorder", b"little")?;
        for (key, (_, tensor)) in tensors.iter().enumerate() {
            entry(&format!("data/{key}"), &tensor.data)?;
        }
        entry("version", b"3\n")?;
        archive.finish()?;
        Ok(())
    })
}

fn pickle(tensors: &TensorMap) -> Result<Vec<u8>, FormatError> {
    let mut out = Pickler { bytes: vec![opcode::PROTO, 2] };
    out.op(opcode::EMPTY_DICT);
    out.text("model");
    out.empty_ordered_dict();
    out.op(opcode::MARK);
    for (key, (name, tensor)) in tensors.iter().enumerate() {
        let refuse = |reason| FormatError::Tensor { name: name.to_owned(), reason };
        tensor.check().map_err(refuse)?;
        out.text(name);
        out.tensor(key, tensor).map_err(refuse)?;
    }
    out.op(opcode::SET_ITEMS);
    out.op(opcode::SET_ITEM);
    out.op(opcode::STOP);
    Ok(out.bytes)
}

/// Writes opcodes of pickle protocol 2.
struct Pickler {
    bytes: Vec<u8>,
}

impl Pickler {
    fn op(&mut self, opcode: u8) {
        self.bytes.push(opcode);
    }

    /// Names are far below the 4 GiB that this opcode can hold.
    fn text(&mut self, text: &str) {
        self.op(opcode::BIN_UNICODE);
        self.bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn size(&mut self, size: usize) {
        if let Ok(size) = i32::try_from(size) {
            self.op(opcode::BIN_INT);
            self.bytes.extend_from_slice(&size.to_le_bytes());
        } else {
            // One byte more than a u64, so that the sign bit is clear.
            self.bytes.extend_from_slice(&[opcode::LONG1, 9]);
            self.bytes.extend_from_slice(&(size as u64).to_le_bytes());
            self.bytes.push(0);
        }
    }

    fn sizes(&mut self, sizes: &[usize]) {
        self.op(opcode::MARK);
        for &size in sizes {
            self.size(size);
        }
        self.op(opcode::TUPLE);
    }

    fn global(&mut self, global: Global) {
        self.op(opcode::GLOBAL);
        for line in [global.module(), global.name()] {
            self.bytes.extend_from_slice(line.as_bytes());
            self.op(b'\n');
        }
    }

    fn empty_ordered_dict(&mut self) {
        self.global(Global::OrderedDict);
        self.op(opcode::EMPTY_TUPLE);
        self.op(opcode::REDUCE);
    }

    /// `_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`.
    fn tensor(&mut self, key: usize, tensor: &HostTensor) -> Result<(), TensorError> {
        self.global(Global::RebuildTensor);
        self.op(opcode::MARK);
        self.op(opcode::MARK);
        self.text("storage");
        self.global(Global::Storage(tensor.dtype));
        self.text(&key.to_string());
        self.text("cpu");
        self.size(tensor.len());
        self.op(opcode::TUPLE);
        self.op(opcode::BIN_PERS_ID);
        self.size(0);
        self.sizes(&tensor.shape);
        self.sizes(&contiguous_strides(&tensor.shape)?);
        self.op(opcode::NEW_FALSE);
        self.empty_ordered_dict();
        self.op(opcode::TUPLE);
        self.op(opcode::REDUCE);
        Ok(())
    }
}

/// Row-major strides; axes of size zero count as one, as in PyTorch.
fn contiguous_strides(shape: &[usize]) -> Result<Vec<usize>, TensorError> {
    let mut stride = 1usize;
    let mut strides = vec![1; shape.len()];
    for (slot, &axis) in strides.iter_mut().zip(shape).rev() {
        *slot = stride;
        stride =
            stride.checked_mul(axis.max(1)).ok_or_else(|| TensorError::Overflow { shape: shape.to_vec() })?;
    }
    Ok(strides)
}
