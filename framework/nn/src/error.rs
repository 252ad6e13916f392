//! The errors of tensor code.

use crate::device::Precision;

/// What can go wrong in tensor code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no CUDA driver, or no card that it may use.
    #[error(
        "no CUDA device: {0}; is the NVIDIA driver installed, and a card visible (nvidia-smi, CUDA_VISIBLE_DEVICES)?"
    )]
    NoDevice(String),
    /// There is a driver, but no such card.
    #[error("there is no card `cuda:{card}`: {}", visible(*count))]
    NoSuchCard {
        /// The card that was asked for, from 0.
        card: u16,
        /// How many there are, at least one.
        count: u16,
    },
    /// A card is asked of a program for the CPU.
    #[error("this program was built without CUDA: build with `--features cuda`")]
    BuiltWithoutCuda,
    /// The CPU is asked of a program for cards.
    #[error("this program was built with CUDA and computes on cards alone: build without `--features cuda`")]
    BuiltWithCuda,
    /// A precision that the CPU does not compute in.
    #[error("the CPU does not compute products in `{0}`: leave `precision` out, or write `f32` or `bf16`")]
    OfCards(Precision),
    /// The memory of the card is full.
    #[error("the card has no memory left")]
    OutOfMemory,
    /// The device failed.
    #[error("device: {0}")]
    Device(String),
    /// Shapes that do not fit each other.
    #[error("{0}")]
    Shape(String),
    /// A value that the operation cannot take.
    #[error("{0}")]
    Value(String),
}

/// The result of tensor code.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn visible(count: u16) -> String {
    match count.saturating_sub(1) {
        0 => "1 is visible, `cuda:0`".to_owned(),
        last => format!("{count} are visible, `cuda:0` to `cuda:{last}`"),
    }
}
