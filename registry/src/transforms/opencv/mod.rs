//! The pixel operations of `OpenCV`, equal to its scalar code in every bit: what mmsegmentation augments
//! with.

pub mod hsv;
pub mod resize;
