//! What dfdx does not tell about a card, by calls of the driver.

use std::ffi::{CStr, c_char, c_int};

use cudarc::cublas::result::CublasError;
use cudarc::cublas::sys::cublasStatus_t;
use cudarc::driver::result::{DriverError, device, init, mem_get_info};
use cudarc::driver::sys::{self, CUdevice, CUmemPool_attribute, CUmemoryPool, cudaError_enum};

use crate::device::{Device, DeviceName};
use crate::dry_run::Held;
use crate::error::{Error, Result};

/// The error type of dfdx.
pub type DeviceError = dfdx::tensor::CudaError;

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Driver(DriverError(cudaError_enum::CUDA_ERROR_OUT_OF_MEMORY))
            | DeviceError::Blas(CublasError(cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED)) => Self::OutOfMemory,
            error => Self::Device(error.to_string()),
        }
    }
}

/// What the program was built for.
pub const DEFAULT: DeviceName = DeviceName::Cuda(0);

/// Side of a matrix whose product, of 1.1 TFLOP, takes milliseconds, against microseconds of starting it.
pub const LARGE_MATRIX: usize = 8192;

/// How many cards this process sees; none without a driver.
pub fn cards() -> usize {
    let count = init().and_then(|()| device::get_count());
    count.ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

/// Opens a card.
pub fn open(name: DeviceName) -> Result<Device> {
    let DeviceName::Cuda(card) = name else { return Err(Error::BuiltWithCuda) };
    // dfdx panics where one of these fails. The code is all that can be told: its text is the driver's, too.
    let no_device = |DriverError(code)| Error::NoDevice(format!("{code:?}"));
    let count = init().and_then(|()| device::get_count()).map_err(no_device)?;
    match u16::try_from(count) {
        Ok(0) | Err(_) => return Err(Error::NoDevice("no card is visible".to_owned())),
        Ok(count) if card >= count => return Err(Error::NoSuchCard { card, count }),
        Ok(_) => {}
    }
    let cu_device = device::get(c_int::from(card)).map_err(no_device)?;
    let opened = Device::try_build(usize::from(card), 0)?;
    keep_freed_memory(cu_device);
    Ok(opened)
}

/// What is printed on the card.
pub fn model(name: DeviceName) -> Option<String> {
    let mut text: [c_char; 128] = [0; 128];
    // SAFETY: the driver writes a text with its end into `text`, at most as long as it is told.
    unsafe { sys::cuDeviceGetName(text.as_mut_ptr(), text.len() as c_int, handle(name)?) }.result().ok()?;
    // SAFETY: `text` ends with 0: the driver's own, or the last one of those that were there.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) };
    Some(text.to_string_lossy().into_owned())
}

/// The most memory in bytes that this process has held on the card so far.
pub fn peak_memory(name: DeviceName) -> Option<u64> {
    attribute(pool(handle(name)?)?, CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)
}

/// What buffers hold.
pub fn held(name: DeviceName) -> Option<Held> {
    let pool = pool(handle(name)?)?;
    Some(Held {
        now: attribute(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
        peak: attribute(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
    })
}

/// Begins to look for their peak anew.
pub fn forget_peak(name: DeviceName) {
    if let Some(pool) = handle(name).and_then(pool) {
        set_attribute(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0);
    }
}

/// The card's memory that this process may have: what is free, and what it has taken for buffers.
pub fn memory(name: DeviceName) -> Option<u64> {
    let taken = attribute(pool(handle(name)?)?, CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
    let (free, _) = mem_get_info().ok()?;
    Some(free as u64 + taken)
}

/// Lets the pool of a device keep what tensors free for the next ones; it would go back to the system whenever the host waits for
/// the device, several hundred times a step. Without a pool there is nothing to keep.
fn keep_freed_memory(device: CUdevice) {
    let Some(pool) = pool(device) else { return };
    set_attribute(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX);
}

/// A number that a pool tells.
fn attribute(pool: CUmemoryPool, attribute: CUmemPool_attribute) -> Option<u64> {
    let mut value: u64 = 0;
    // SAFETY: the pool is the device's own, which is never destroyed, and the values of the attributes that are asked for are
    // `cuuint64_t`.
    unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()) }.result().ok()?;
    Some(value)
}

fn set_attribute(pool: CUmemoryPool, attribute: CUmemPool_attribute, mut value: u64) {
    // SAFETY: as in `attribute`; the driver only reads the value.
    let result = unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut value).cast()) };
    if let Err(DriverError(code)) = result.result() {
        tracing::debug!("the card's memory pool does not take {attribute:?}: {code:?}");
    }
}

fn handle(name: DeviceName) -> Option<CUdevice> {
    match name {
        DeviceName::Cpu => None,
        DeviceName::Cuda(card) => device::get(c_int::from(card)).ok(),
    }
}

/// The memory pool that cudarc takes from, if the device has pools.
fn pool(device: CUdevice) -> Option<CUmemoryPool> {
    let mut pool = std::ptr::null_mut();
    // SAFETY: the driver writes a handle into `pool`; the device is one that it gave.
    unsafe { sys::cuDeviceGetDefaultMemPool(&raw mut pool, device) }.result().ok()?;
    Some(pool)
}
