//! The processor as dfdx's device.

use crate::device::{Device, DeviceName};
use crate::dry_run::Held;
use crate::error::{Error, Result};

/// The error type of dfdx.
pub type DeviceError = dfdx::tensor::CpuError;

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        Self::Device(error.to_string())
    }
}

/// What the program was built for.
pub const DEFAULT: DeviceName = DeviceName::Cpu;

/// Side of a matrix whose product takes long enough to be timed.
pub const LARGE_MATRIX: usize = 1536;

/// How many cards this process sees: none, however many there are.
pub fn cards() -> usize {
    0
}

/// Opens it.
pub fn open(name: DeviceName) -> Result<Device> {
    match name {
        DeviceName::Cpu => Ok(Device::default()),
        DeviceName::Cuda(_) => Err(Error::BuiltWithoutCuda),
    }
}

/// What stands behind its name.
pub fn model(_: DeviceName) -> Option<String> {
    None
}

/// The largest resident memory of this process so far, in bytes; on Linux.
pub fn peak_memory(_: DeviceName) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// What buffers hold, which is not counted but in a dry run.
pub fn held(_: DeviceName) -> Option<Held> {
    None
}

/// Begins to look for their peak anew.
pub fn forget_peak(_: DeviceName) {}

/// The device's memory that this process may have: the processor's is the machine's.
pub fn memory(_: DeviceName) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use crate::device::{DeviceName, describe, peak_memory, select, synchronize};

    #[test]
    fn the_processor_needs_no_selection() {
        assert_eq!(describe().unwrap(), "cpu");
        select(DeviceName::Cpu).unwrap();
        synchronize().unwrap();
        assert_eq!(describe().unwrap(), "cpu");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_at_least_what_was_used() {
        let used = vec![1_u8; 64 << 20];
        assert!(peak_memory().unwrap() >= std::hint::black_box(used).len() as u64);
    }
}
