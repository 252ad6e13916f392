//! A size in a recipe: one number or two.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest side a recipe may ask for, in pixels: the longest of a JPEG.
pub const MAX_SIDE: usize = 65_535;

/// A size in pixels: one number, or `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("examples" = [224]))]
pub enum Size {
    /// One number; a square, unless the component says otherwise.
    Single(#[schemars(range(min = 1, max = MAX_SIDE))] usize),
    /// Height and width.
    HeightWidth(#[schemars(inner(range(min = 1, max = MAX_SIDE)))] [usize; 2]),
}

impl Size {
    /// Height and width, one number being a square.
    pub fn height_width(self) -> (usize, usize) {
        match self {
            Self::Single(side) => (side, side),
            Self::HeightWidth([height, width]) => (height, width),
        }
    }
}
