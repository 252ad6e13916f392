//! Reading opcodes and their arguments.

use super::error::Fault;

/// The bytes of a pickle and the place reached in them.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    pub position: usize,
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..len).ok_or(Fault::Truncated)?;
        self.position += len;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_| Fault::Truncated)
    }

    pub fn byte(&mut self) -> Result<u8, Fault> {
        self.array().map(|[byte]| byte)
    }

    pub fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    /// Bytes preceded by their length in one byte.
    pub fn counted8(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.byte()?;
        self.take(len.into())
    }

    /// Bytes preceded by their length in four bytes.
    pub fn counted32(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.u32()?;
        self.take(usize::try_from(len).map_err(|_| Fault::Truncated)?)
    }

    /// Bytes preceded by their length in eight bytes.
    pub fn counted64(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.array().map(u64::from_le_bytes)?;
        self.take(usize::try_from(len).map_err(|_| Fault::Truncated)?)
    }

    /// Text up to a line feed, which is consumed.
    pub fn line(&mut self) -> Result<&'a str, Fault> {
        let rest = &self.bytes[self.position..];
        let len = rest.iter().position(|&byte| byte == b'\n').ok_or(Fault::Truncated)?;
        let line = self.take(len)?;
        self.position += 1;
        std::str::from_utf8(line).map_err(|_| Fault::Text)
    }
}

/// A little-endian two's complement integer; `None` if it has more than 16 bytes.
pub(super) fn long(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [sign; 16];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i128::from_le_bytes(wide))
}
