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
        text(line)
    }
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::Text)
}

/// A little-endian two's complement integer of up to 16 bytes.
pub(super) fn long(bytes: &[u8]) -> Result<i128, Fault> {
    let Some(&last) = bytes.last() else { return Ok(0) };
    let sign = if last & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [sign; 16];
    wide.get_mut(..bytes.len())
        .ok_or(Fault::Limit { limit: 16, what: "bytes in an integer" })?
        .copy_from_slice(bytes);
    Ok(i128::from_le_bytes(wide))
}
