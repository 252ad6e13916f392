//! Label map decoding.

use std::io::Cursor;
use std::path::Path;

use image::GrayImage;
use png::{BitDepth, ColorType, Decoder, Limits};

use super::{DataError, MAX_PIXELS};
use crate::guard::decoded;

/// Reads a label map: a PNG of 8 bits, grey or with a palette, whose values are taken as they are.
///
/// # Errors
/// [`DataError::Corrupt`] if the file is none or cannot be read, is damaged, or has more than [`MAX_PIXELS`].
pub fn read_labels(path: &Path) -> Result<GrayImage, DataError> {
    let corrupt = |reason: String| DataError::Corrupt { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|error| corrupt(error.to_string()))?;
    decoded("PNG", || decode(&bytes)).map_err(corrupt)
}

fn decode(bytes: &[u8]) -> Result<GrayImage, String> {
    let decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MAX_PIXELS as usize });
    let expected = "a label map is a PNG of 8 bits, grey or with a palette";
    let mut reader = decoder.read_info().map_err(|error| format!("{error}; {expected}"))?;
    let (color, depth) = reader.output_color_type();
    if !matches!((color, depth), (ColorType::Grayscale | ColorType::Indexed, BitDepth::Eight)) {
        return Err(format!("a PNG of {color:?}, {} bits; {expected}", depth as u8));
    }
    let (width, height) = reader.info().size();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("{width} x {height} pixels; at most {MAX_PIXELS} are decoded"));
    }
    let mut labels = GrayImage::new(width, height);
    reader.next_frame(&mut labels).map_err(|error| error.to_string())?;
    Ok(labels)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use image::{DynamicImage, ImageFormat, Luma, Rgb, RgbImage};

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    /// 8 x 1 pixels of value 0 or 3.
    fn of(color: ColorType, depth: BitDepth) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 8, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            encoder.set_palette(vec![9; 768]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[0, 3, 0, 3, 0, 0, 0, 3][..depth as usize]).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn values_are_taken_as_they_are() {
        let labels = GrayImage::from_fn(3, 2, |x, y| Luma([(x * 100 + y * 55) as u8]));
        assert_eq!(read_labels(file(&png(labels.clone())).path()).unwrap(), labels);
        let indexed = of(ColorType::Indexed, BitDepth::Eight);
        assert_eq!(read_labels(file(&indexed).path()).unwrap().as_raw(), &[0, 3, 0, 3, 0, 0, 0, 3]);
    }

    #[test]
    fn anything_else_is_refused() {
        let reason = |bytes: &[u8]| {
            let error = read_labels(file(bytes).path()).unwrap_err();
            assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
            error.to_string()
        };
        let expected = "a label map is a PNG of 8 bits";
        assert!(reason(b"").contains(expected));
        assert!(reason(&png(RgbImage::from_pixel(1, 1, Rgb([1; 3])))).contains(expected));
        assert!(reason(&of(ColorType::Grayscale, BitDepth::Four)).contains("Grayscale, 4 bits"));
        let whole = png(GrayImage::new(50, 50));
        reason(&whole[..whole.len() / 2]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_labels(Path::new("no/such.png")).unwrap_err();
        assert!(error.to_string().starts_with("no/such.png: "), "{error}");
    }
}
