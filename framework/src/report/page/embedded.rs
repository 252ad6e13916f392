//! Pictures within a page.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::RgbImage;
use image::imageops::{FilterType, resize};
use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};

use crate::report::png::png;

/// Quality of a JPEG, which a smaller picture may be stored as.
const QUALITY: u8 = 85;

/// As it is, or with a longest side, as the smaller one of PNG and JPEG.
pub(super) fn encoded(image: &RgbImage, side: Option<u32>) -> Option<String> {
    let Some(side) = side else { return Some(data_url("png", &png(image)?)) };
    let (width, height) = image.dimensions();
    let longest = width.max(height).max(side);
    let scaled = |length: u32| (length * side / longest).max(1);
    let small = if longest > side {
        resize(image, scaled(width), scaled(height), FilterType::Triangle)
    } else {
        image.clone()
    };
    let png = png(&small)?;
    let (width, height) = (small.width() as usize, small.height() as usize);
    let jpeg = compress(small.as_raw(), width, height, PixelFormat::Rgb, QUALITY, Subsampling::S444);
    match jpeg {
        Ok(jpeg) if jpeg.len() < png.len() => Some(data_url("jpeg", &jpeg)),
        _ => Some(data_url("png", &png)),
    }
}

/// A file as an address: `data:image/png;base64,..`.
fn data_url(format: &str, file: &[u8]) -> String {
    format!("data:image/{format};base64,{}", BASE64_STANDARD.encode(file))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_small_picture_stays_as_large_as_it_is() {
        let url = encoded(&RgbImage::new(8, 8), Some(56)).unwrap();
        assert!(url.starts_with("data:image/"));
        assert_eq!(encoded(&RgbImage::new(0, 0), None), None);
    }
}
