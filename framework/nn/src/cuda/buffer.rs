//! Memory of the card.
//!
//! It comes from the driver's pool, as that of dfdx, which keeps what is freed ([`crate::device`]).

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

use cudarc::driver::result::{memcpy_dtod_async, memcpy_dtoh_sync, memcpy_htod_async, memset_d8_async};
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr};

use super::card::{card, checked};
use super::storage::{self, Storage};
use crate::Result;
use crate::error::Error;

/// The most values of a buffer: kernels count them in 32 bits.
const LONGEST: usize = i32::MAX as usize;

/// Values in memory of the card, which kernels read.
#[derive(Debug)]
pub struct Values {
    address: CUdeviceptr,
    len: usize,
    storage: Storage,
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How they are stored.
    pub(super) fn storage(&self) -> Storage {
        self.storage
    }

    /// Bytes that they take.
    fn bytes(&self) -> usize {
        self.len * self.storage.bytes()
    }

    /// Where they lie.
    pub(super) fn address(&self) -> CUdeviceptr {
        self.address
    }

    /// Some of them.
    ///
    /// # Panics
    /// If the range is not within them.
    pub(super) fn slice(&self, range: Range<usize>) -> Slice<'_> {
        Slice { values: self.part(range), of: PhantomData }
    }

    /// Some of them, to be changed.
    ///
    /// # Panics
    /// If the range is not within them.
    pub(super) fn slice_mut(&mut self, range: Range<usize>) -> SliceMut<'_> {
        SliceMut { values: self.part(range), of: PhantomData }
    }

    fn part(&self, range: Range<usize>) -> Values {
        assert!(range.start <= range.end && range.end <= self.len);
        let bytes = range.start * self.storage.bytes();
        Values { address: self.address + bytes as CUdeviceptr, len: range.len(), storage: self.storage }
    }

    /// Makes all of them zero.
    pub(super) fn fill_with_zeros(&mut self) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let card = card()?;
        // SAFETY: the memory is owned or borrowed mutably, and is `len` values long.
        checked(unsafe { memset_d8_async(self.address, 0, self.bytes(), *card.device.cu_stream()) })
    }

    /// Replaces them by as many others.
    pub(super) fn copy_from(&mut self, values: &Values) -> Result<()> {
        assert_eq!((self.len, self.storage), (values.len, values.storage));
        if self.is_empty() {
            return Ok(());
        }
        let (card, bytes) = (card()?, self.bytes());
        // SAFETY: both are `len` values long; what is written is borrowed mutably, so it is not what is read.
        checked(unsafe { memcpy_dtod_async(self.address, values.address, bytes, *card.device.cu_stream()) })
    }
}

/// Some values of a buffer.
pub(super) struct Slice<'a> {
    values: Values,
    of: PhantomData<&'a Values>,
}

impl Deref for Slice<'_> {
    type Target = Values;

    fn deref(&self) -> &Values {
        &self.values
    }
}

/// Some values of a buffer, to be changed.
pub(super) struct SliceMut<'a> {
    values: Values,
    of: PhantomData<&'a mut Values>,
}

impl Deref for SliceMut<'_> {
    type Target = Values;

    fn deref(&self) -> &Values {
        &self.values
    }
}

impl DerefMut for SliceMut<'_> {
    fn deref_mut(&mut self) -> &mut Values {
        &mut self.values
    }
}

/// Values that a kernel computes, with their memory.
#[derive(Debug)]
pub struct Buffer {
    values: Values,
    /// Freed, in the order of the stream, with the buffer. None of a buffer that was never on a card. In `f32`, however values are stored:
    /// what dfdx takes.
    memory: Option<CudaSlice<f32>>,
    /// The same values as products take them, if a kernel has computed them, too.
    operand: Option<Box<Buffer>>,
}

impl Buffer {
    /// The first `len` values of memory that has at least as many.
    pub(super) fn new(memory: CudaSlice<f32>, len: usize) -> Self {
        let values = Values { address: *memory.device_ptr(), len, storage: Storage::F32 };
        Self { values, memory: Some(memory), operand: None }
    }

    /// Keeps the same values as products take them, until these are changed.
    pub(super) fn set_operand(&mut self, operand: Option<Buffer>) {
        self.operand = operand.map(Box::new);
    }

    /// What [`Buffer::set_operand`] keeps.
    pub(super) fn take_kept_operand(&mut self) -> Option<Buffer> {
        self.operand.take().map(|operand| *operand)
    }

    /// The memory, of values in `f32`; of no values, memory for one.
    pub(super) fn into_memory(self) -> Result<CudaSlice<f32>> {
        storage::single(self)?.memory.map_or_else(|| scratch(1), Ok)
    }
}

/// No values; no card is asked for memory.
impl Default for Buffer {
    fn default() -> Self {
        Self { values: Values { address: 0, len: 0, storage: Storage::F32 }, memory: None, operand: None }
    }
}

impl Deref for Buffer {
    type Target = Values;

    fn deref(&self) -> &Values {
        &self.values
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Values {
        self.operand = None;
        &mut self.values
    }
}

/// `len` values for a kernel that writes all of them: what they are before is unspecified.
pub fn unspecified(len: usize) -> Result<Buffer> {
    Ok(Buffer::new(scratch(len)?, len))
}

/// [`unspecified`], stored in some way.
pub(super) fn unspecified_in(storage: Storage, len: usize) -> Result<Buffer> {
    let memory: CudaSlice<f32> = scratch((len * storage.bytes()).div_ceil(size_of::<f32>()))?;
    let values = Values { address: *memory.device_ptr(), len, storage };
    Ok(Buffer { values, memory: Some(memory), operand: None })
}

/// `len` zeros.
pub fn zeros(len: usize) -> Result<Buffer> {
    let mut buffer = unspecified(len)?;
    buffer.fill_with_zeros()?;
    Ok(buffer)
}

/// The same values once more.
pub fn copy(values: &Values) -> Result<Buffer> {
    let mut buffer = unspecified_in(values.storage, values.len())?;
    buffer.copy_from(values)?;
    Ok(buffer)
}

/// Values of the host in memory of the device.
#[allow(clippy::needless_pass_by_value)] // On the CPU they are the buffer.
pub fn upload(values: Vec<f32>) -> Result<Buffer> {
    upload_slice(&values)
}

/// Values of the device in memory of the host, when all that was to be done before is done.
pub fn download(values: &Values) -> Result<Vec<f32>> {
    if values.storage != Storage::F32 {
        let widened = storage::widened(values)?;
        return download(&widened);
    }
    let mut host = vec![0.0; values.len()];
    download_into(&mut host, values.address)?;
    Ok(host)
}

/// Copies values of the device, in `f32`, to the host.
pub fn read(values: &Values, to: &mut [f32]) -> Result<()> {
    assert_eq!((values.len(), values.storage), (to.len(), Storage::F32));
    download_into(to, values.address)
}

/// Replaces values of the device, in `f32`, by those of the host.
pub fn write(values: &mut Values, from: &[f32]) -> Result<()> {
    assert_eq!((values.len(), values.storage), (from.len(), Storage::F32));
    copy_up(values.address, from)
}

/// [`download`] of several, in `f32`, while the host waits once: side by side on the card first.
pub fn download_all(values: &[&Values]) -> Result<Vec<Vec<f32>>> {
    let mut joined = unspecified(values.iter().map(|values| values.len()).sum())?;
    let mut start = 0;
    for values in values {
        joined.slice_mut(start..start + values.len()).copy_from(values)?;
        start += values.len();
    }
    let mut rest = download(&joined)?;
    let mut parts: Vec<_> =
        values.iter().rev().map(|values| rest.split_off(rest.len() - values.len())).collect();
    parts.reverse();
    Ok(parts)
}

/// [`upload`] of borrowed values.
pub(super) fn upload_slice(values: &[f32]) -> Result<Buffer> {
    Ok(Buffer::new(upload_plain(values)?, values.len()))
}

/// What a kernel reads besides values: an index, a table.
pub(super) fn upload_plain<T: DeviceRepr>(values: &[T]) -> Result<CudaSlice<T>> {
    let memory = scratch(values.len())?;
    copy_up(*memory.device_ptr(), values)?;
    Ok(memory)
}

/// Copies to memory that has room for the values and is not read meanwhile, in order with what the card was given before.
fn copy_up<T: DeviceRepr>(address: CUdeviceptr, values: &[T]) -> Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let card = card()?;
    // SAFETY: the caller's promise. The driver has taken the values, which no one has locked in memory, when it returns.
    checked(unsafe { memcpy_htod_async(address, values, *card.device.cu_stream()) })
}

/// What kernels wrote besides values, as many as `host` holds.
pub(super) fn download_plain<T: DeviceRepr>(host: &mut [T], memory: &CudaSlice<T>) -> Result<()> {
    assert!(host.len() <= cudarc::driver::DeviceSlice::len(memory));
    download_into(host, *memory.device_ptr())
}

fn download_into<T>(host: &mut [T], address: CUdeviceptr) -> Result<()> {
    card()?;
    if host.is_empty() {
        return Ok(());
    }
    // SAFETY: there are as many values at the address as `host` holds; the call waits for what writes them.
    checked(unsafe { memcpy_dtoh_sync(host, address) })
}

/// Memory for `len` values that kernels write before they read them; for one, if that is none: no address is null.
pub(super) fn scratch<T: DeviceRepr>(len: usize) -> Result<CudaSlice<T>> {
    if len > LONGEST {
        return Err(Error::Value(format!(
            "{len} values are too many for one tensor on a card: at most {LONGEST}"
        )));
    }
    // SAFETY: any bits are a value of the plain numbers that `T` stands for.
    checked(unsafe { card()?.device.alloc(len.max(1)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_up_comes_down() {
        for values in [vec![], vec![1.0], (0..1000).map(|i| i as f32).collect()] {
            let buffer = upload(values.clone()).unwrap();
            assert_eq!(buffer.len(), values.len());
            assert_eq!(download(&copy(&buffer).unwrap()).unwrap(), values);
            let (mut replaced, mut read_back) = (zeros(values.len()).unwrap(), vec![0.0; values.len()]);
            write(&mut replaced, &values).unwrap();
            read(&replaced, &mut read_back).unwrap();
            assert_eq!(read_back, values);
        }
        assert_eq!(download(&zeros(3).unwrap()).unwrap(), [0.0; 3]);
    }

    #[test]
    fn several_come_down_as_each_does() {
        let values = [vec![1.0, 2.0], vec![], vec![3.0; 1000]];
        let on_card = values.each_ref().map(|values| upload(values.clone()).unwrap());
        assert_eq!(download_all(&on_card.each_ref().map(|values| &**values)).unwrap(), values);
        assert!(download_all(&[]).unwrap().is_empty());
    }

    #[test]
    fn parts_share_their_memory() {
        let mut buffer = upload(vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        buffer.slice_mut(1..3).fill_with_zeros().unwrap();
        assert_eq!(download(&buffer.slice(0..3)).unwrap(), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn too_many_values_are_refused() {
        let message = zeros(LONGEST + 1).unwrap_err().to_string();
        assert!(message.contains("at most 2147483647"), "{message}");
    }
}
