//! Image sizes as a recipe states them, their limits, and crop boxes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest side a recipe may ask for, in pixels: the longest of a JPEG.
pub const MAX_SIDE: usize = 65_535;

/// Largest image that is decoded, in pixels: where Pillow refuses a file as a decompression bomb.
pub const MAX_PIXELS: u64 = 178_956_970;

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

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

impl CropBox {
    /// All of an image.
    pub fn whole(height: usize, width: usize) -> Self {
        Self { top: 0, left: 0, height, width }
    }

    /// Whether the rectangle has pixels, and all of them lie within an image of the given size.
    pub fn within(self, height: usize, width: usize) -> bool {
        let fits = |start: usize, length: usize, limit: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= limit)
        };
        fits(self.top, self.height, height) && fits(self.left, self.width, width)
    }
}
