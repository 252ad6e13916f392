//! Backbones: images to features.

mod conv_vit;
mod vit;

pub use conv_vit::{Coarser, ConvViT};
pub use vit::ViT;
