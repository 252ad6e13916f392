//! Optimizers: gradients to new parameters.

mod adamw;
mod groups;
mod lars;
mod sgd;
mod slots;
#[cfg(test)]
mod testing;

pub use adamw::AdamW;
pub use groups::{Decayed, Override};
pub use lars::Lars;
pub use sgd::Sgd;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate follows the batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LrScaling {
    /// The learning rate is the one that is written.
    #[default]
    None,
    /// `lr * images per step / 256`: the official `blr` rule.
    #[serde(rename = "linear_256")]
    Linear256,
}

impl LrScaling {
    /// The learning rate for a number of images per optimizer step.
    fn scale(self, lr: f64, images: usize) -> f64 {
        match self {
            Self::None => lr,
            Self::Linear256 => lr * images as f64 / 256.0,
        }
    }
}
