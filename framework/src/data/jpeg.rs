//! JPEG decoding by libjpeg-turbo, with which Pillow decodes, to the bit.

use image::RgbImage;
use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat};

use super::MAX_PIXELS;

/// Decodes a JPEG as RGB, whatever its colour space. As by libjpeg, damage within the pixels' data is passed
/// over.
///
/// # Errors
/// Why not: the file is truncated, damaged in its headers, or has more than [`MAX_PIXELS`].
pub(super) fn decode_jpeg(bytes: &[u8]) -> Result<RgbImage, String> {
    // The decoder fills what is missing with grey.
    if !is_complete(bytes) {
        return Err("truncated JPEG: the end-of-image marker is missing".to_owned());
    }
    decode_rgb(bytes).map_err(|error| error.to_string())
}

fn decode_rgb(bytes: &[u8]) -> Result<RgbImage, JpegError> {
    let limits = DecodeLimits { max_pixels: MAX_PIXELS, ..DecodeLimits::default() };
    let decoder = Decoder::new_with_limits(bytes, limits)?;
    let image = decoder.with_output_format(PixelFormat::Rgb).with_lenient(true).decode_image()?;
    let (width, height) = (image.width as u32, image.height as u32);
    RgbImage::from_raw(width, height, image.data)
        .ok_or_else(|| JpegError::CorruptData(format!("not an image of {width} x {height} pixels")))
}

/// Whether an end-of-image marker follows the headers. Headers may hold a thumbnail with a marker of its own;
/// entropy-coded data cannot hold one by chance.
fn is_complete(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    let mut position = 2;
    while let [0xff, marker, high, low] = *bytes.get(position..position + 4).unwrap_or_default() {
        // Any number of 0xff may precede a marker.
        if marker == 0xff {
            position += 1;
            continue;
        }
        position += 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == START_OF_SCAN {
            break;
        }
    }
    bytes.get(position..).unwrap_or_default().windows(2).rev().any(|pair| pair == [0xff, 0xd9])
}
