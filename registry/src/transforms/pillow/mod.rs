//! The pixel operations of Pillow, equal to it in every bit: what torchvision and timm augment with.

pub mod affine;
pub mod enhance;
pub mod hue;
pub mod levels;
