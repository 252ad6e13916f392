//! The device that tensors live on: the CPU, or a card of a program built with the feature `cuda`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::str::FromStr;

use dfdx::tensor::{AutoDevice, Synchronize as _};
use serde::{Deserialize, Serialize};

use super::backend::device as backend;
pub use super::backend::device::DeviceError;
use super::dry_run::Held;
use super::error::{Error, Result};

/// The device chosen when compiling: the CPU, or CUDA with the feature `cuda`.
pub type Device = AutoDevice;

/// The name of a device: `cpu`, `cuda:1`; `cuda` is the first card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// The processor.
    Cpu,
    /// A card, counted from 0 among those that `CUDA_VISIBLE_DEVICES` allows.
    Cuda(u16),
}

/// What the program was built for.
impl Default for DeviceName {
    fn default() -> Self {
        backend::DEFAULT
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(card) => write!(f, "cuda:{card}"),
        }
    }
}

/// A text that is no [`DeviceName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a device: write `cpu`, `cuda` or `cuda:1`")]
pub struct DeviceNameError(String);

impl FromStr for DeviceName {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, DeviceNameError> {
        let wrong = || DeviceNameError(text.to_owned());
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            // `parse` takes a sign, too.
            Some(("cuda", card)) if card.bytes().all(|digit| digit.is_ascii_digit()) => {
                card.parse().map(Self::Cuda).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for DeviceName {
    type Error = DeviceNameError;

    fn try_from(text: String) -> Result<Self, DeviceNameError> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

/// How products of matrices are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// In single precision: what the CPU does.
    F32,
    /// On a card, from factors with 10 bits behind the point: what cards do with `f32` if they are let.
    Tf32,
    /// On a card, from factors with 7 bits behind the point, which halves the activations, too. Parameters, their gradients, sums,
    /// statistics and what goes from block to block are `f32`; losses need no scaling.
    Bf16,
}

impl Precision {
    /// What a device computes in if nothing else is asked for.
    pub fn default_of(name: DeviceName) -> Self {
        match name {
            DeviceName::Cpu => Self::F32,
            DeviceName::Cuda(_) => Self::Tf32,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}

/// An open device.
#[derive(Clone)]
struct Opened {
    name: DeviceName,
    device: Device,
}

thread_local! {
    static OPENED: RefCell<Option<Opened>> = const { RefCell::new(None) };
    static PRECISION: Cell<Option<Precision>> = const { Cell::new(None) };
}

/// Makes this thread compute on a device from now on. Tensors of another one must be gone: they cannot meet its tensors.
///
/// # Errors
/// If the program was not built for the device, if there is no such card, or no card and driver at all.
pub fn select(name: DeviceName) -> Result<()> {
    let opened = Opened { name, device: backend::open(name)? };
    OPENED.set(Some(opened));
    Ok(())
}

/// Makes this thread compute products in a precision from now on; if none is asked for, in that of its device.
///
/// # Errors
/// If the device does not have it.
pub fn set_precision(precision: Option<Precision>) -> Result<()> {
    if let (DeviceName::Cpu, Some(precision @ (Precision::Tf32 | Precision::Bf16))) = (name()?, precision) {
        return Err(Error::OfCards(precision));
    }
    PRECISION.set(precision);
    Ok(())
}

/// What products are computed in on this thread.
pub fn precision() -> Precision {
    let of_device = || Precision::default_of(name().unwrap_or_default());
    PRECISION.get().unwrap_or_else(of_device)
}

/// The device of this thread; without [`select`], the first one of those that the program was built for.
///
/// # Errors
/// On CUDA, if there is no driver or no card.
pub fn device() -> Result<Device> {
    opened().map(|opened| opened.device)
}

/// The name of the device of this thread.
///
/// # Errors
/// As [`device`].
pub fn name() -> Result<DeviceName> {
    Ok(opened()?.name)
}

/// Waits until the device has done what it was given. The CPU always has.
///
/// # Errors
/// On CUDA, if something that it was given failed.
pub fn synchronize() -> Result<()> {
    Ok(device()?.try_synchronize()?)
}

/// The device of this thread in words: `cpu`, `cuda:0 (NVIDIA H200)`.
///
/// # Errors
/// As [`device`].
pub fn describe() -> Result<String> {
    let name = opened()?.name;
    Ok(match backend::model(name) {
        Some(model) => format!("{name} ({model})"),
        None => name.to_string(),
    })
}

/// How many cards the program can compute on; none without a driver, or with a program for the CPU.
pub fn cards() -> usize {
    backend::cards()
}

/// The most memory in bytes that this process has held so far: of the CPU (on Linux), or on the card, what was taken for tensors with
/// what lay idle between them. None for a card without memory pools.
pub fn peak_memory() -> Option<u64> {
    backend::peak_memory(opened().ok()?.name)
}

/// What buffers hold of a card. None for the CPU, for want of a card, and of one without memory pools.
pub(crate) fn held() -> Option<Held> {
    backend::held(opened().ok()?.name)
}

/// Begins to look for the peak of [`held`] anew.
pub(crate) fn forget_peak() {
    if let Ok(opened) = opened() {
        backend::forget_peak(opened.name);
    }
}

/// The card's memory in bytes that this process may have, with what it has. None as [`held`].
pub fn memory() -> Option<u64> {
    backend::memory(opened().ok()?.name)
}

fn opened() -> Result<Opened> {
    if let Some(opened) = OPENED.with_borrow(Clone::clone) {
        return Ok(opened);
    }
    let name = DeviceName::default();
    let opened = Opened { name, device: backend::open(name)? };
    OPENED.set(Some(opened.clone()));
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for name in [DeviceName::Cpu, DeviceName::Cuda(0), DeviceName::Cuda(12)] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_valid() {
        for text in
            ["", "gpu", "CPU", "cpu:0", "cuda:", "cuda:+1", "cuda:-1", "cuda:65536", "cuda:1:2", "cuda: 1"]
        {
            let message = text.parse::<DeviceName>().unwrap_err().to_string();
            assert!(message.contains("`cpu`, `cuda` or `cuda:1`"), "{message}");
        }
    }

    #[test]
    fn a_device_of_the_other_build_is_refused() {
        let other = match DeviceName::default() {
            DeviceName::Cpu => DeviceName::Cuda(0),
            DeviceName::Cuda(_) => DeviceName::Cpu,
        };
        let message = select(other).unwrap_err().to_string();
        assert!(message.contains("`--features cuda`"), "{message}");
    }

    #[test]
    fn a_precision_of_cards_is_refused_on_the_cpu() {
        if name().unwrap() == DeviceName::Cpu {
            let message = set_precision(Some(Precision::Bf16)).unwrap_err().to_string();
            assert!(message.contains("bf16") && message.contains("f32"), "{message}");
        }
        assert!(set_precision(Some(Precision::F32)).is_ok());
        assert_eq!(precision(), Precision::F32);
        set_precision(None).unwrap();
        assert_eq!(precision(), Precision::default_of(name().unwrap()));
    }

    #[test]
    fn a_card_that_is_missing_is_told_with_those_that_are_there() {
        let message = |count| Error::NoSuchCard { card: 3, count }.to_string();
        assert_eq!(message(1), "there is no card `cuda:3`: 1 is visible, `cuda:0`");
        assert_eq!(message(2), "there is no card `cuda:3`: 2 are visible, `cuda:0` to `cuda:1`");
    }
}
