//! Label map decoding.

use std::io::Cursor;
use std::path::Path;

use image::codecs::bmp::BmpDecoder;
use image::{DynamicImage, GrayImage, ImageBuffer, ImageDecoder as _, ImageFormat, RgbImage};
use png::{BitDepth, ColorType, Decoder, Limits};

use super::file::read_file;
use super::tiff::{TiffValues, decode_tiff};
use super::{DataError, MAX_PIXELS};
use crate::guard::decoded;

const EXPECTED: &str =
    "a label map is a PNG, TIFF or BMP: grey of 1 to 16 bits, with a palette, or in colours (RGB) of 8 bits";

/// Reads a label map, a PNG, TIFF or BMP: `Luma8` or `Luma16` with the values as they stand in the file,
/// those of a palette's entries too; `Rgb8` where every pixel has a colour. Alpha is left out if no pixel is
/// transparent.
///
/// # Errors
/// [`DataError::Corrupt`] if the file is none or cannot be read, is damaged, or has more than [`MAX_PIXELS`].
pub fn read_labels(path: &Path) -> Result<DynamicImage, DataError> {
    let bytes = read_file(path)?;
    decoded("label map", || decode(&bytes))
        .map_err(|reason| DataError::Corrupt { path: path.to_owned(), reason })
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => decode_png(bytes),
        Ok(ImageFormat::Tiff) => decode_tiff_labels(bytes),
        Ok(ImageFormat::Bmp) => decode_bmp(bytes),
        Ok(ImageFormat::Jpeg) => Err(format!("a JPEG, which changes values; {EXPECTED}")),
        _ => Err(format!("not a PNG, TIFF or BMP (by its first bytes); {EXPECTED}")),
    }
}

fn check_pixels((width, height): (u32, u32)) -> Result<(), String> {
    match u64::from(width) * u64::from(height) > MAX_PIXELS {
        true => Err(format!("{width} x {height} pixels; at most {MAX_PIXELS} are decoded")),
        false => Ok(()),
    }
}

fn decode_png(bytes: &[u8]) -> Result<DynamicImage, String> {
    let decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: 8 * MAX_PIXELS as usize });
    let mut reader = decoder.read_info().map_err(|error| format!("{error}; {EXPECTED}"))?;
    let (color, depth) = reader.output_color_type();
    let size = reader.info().size();
    check_pixels(size)?;
    let row_bytes = reader.output_line_size(size.0).unwrap_or_default();
    let mut values = vec![0; row_bytes * size.1 as usize];
    reader.next_frame(&mut values).map_err(|error| error.to_string())?;
    let image = match (color, depth) {
        (ColorType::Grayscale, BitDepth::Sixteen) => luma16(size, wide(&values)),
        (ColorType::Grayscale | ColorType::Indexed, _) => {
            luma8(size, unpack(&values, row_bytes, size.0 as usize, depth as usize))
        }
        (ColorType::GrayscaleAlpha, BitDepth::Eight) => luma8(size, opaque(&values, 2)?),
        (ColorType::GrayscaleAlpha, _) => luma16(size, opaque(&wide(&values), 2)?),
        (ColorType::Rgb, BitDepth::Eight) => rgb8(size, values),
        (ColorType::Rgba, BitDepth::Eight) => rgb8(size, opaque(&values, 4)?),
        (ColorType::Rgb | ColorType::Rgba, _) => None,
    };
    image.ok_or_else(|| format!("a PNG of {color:?}, {} bits; {EXPECTED}", depth as u8))
}

fn decode_bmp(bytes: &[u8]) -> Result<DynamicImage, String> {
    let mut decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let has_palette = decoder.get_palette().is_some();
    decoder.set_indexed_color(has_palette);
    check_pixels(decoder.dimensions())?;
    let size = decoder.dimensions();
    let mut values = vec![0; usize::try_from(decoder.total_bytes()).unwrap_or_default()];
    let color = decoder.color_type();
    decoder.read_image(&mut values).map_err(|error| error.to_string())?;
    let image = match color {
        _ if has_palette => luma8(size, values),
        image::ColorType::Rgb8 => rgb8(size, values),
        image::ColorType::Rgba8 => rgb8(size, opaque(&values, 4)?),
        _ => None,
    };
    image.ok_or_else(|| format!("a BMP of {color:?}; {EXPECTED}"))
}

fn decode_tiff_labels(bytes: &[u8]) -> Result<DynamicImage, String> {
    let tiff = decode_tiff(bytes)?;
    let size = (tiff.width, tiff.height);
    let (channels, values) = (tiff.channels, tiff.values);
    let image = match (channels, values) {
        (1, TiffValues::U8(values)) => luma8(size, values),
        (1, TiffValues::U16(values)) => luma16(size, values),
        (2, TiffValues::U8(values)) => luma8(size, opaque(&values, 2)?),
        (2, TiffValues::U16(values)) => luma16(size, opaque(&values, 2)?),
        (3, TiffValues::U8(values)) => rgb8(size, values),
        (4, TiffValues::U8(values)) => rgb8(size, opaque(&values, 4)?),
        _ => None,
    };
    image.ok_or_else(|| format!("a TIFF of {channels} channels; {EXPECTED}"))
}

/// Values of 1, 2, 4 or 8 bits, the first of a byte in its high bits; rows begin at a byte.
pub(super) fn unpack(packed: &[u8], row_bytes: usize, width: usize, bits: usize) -> Vec<u8> {
    let mask = ((1_u16 << bits) - 1) as u8;
    let value = |row: &[u8], x: usize| (row[x * bits / 8] >> (8 - bits - x * bits % 8)) & mask;
    let rows = packed.chunks_exact(row_bytes.max(1));
    rows.flat_map(|row| (0..width).map(move |x| value(row, x))).collect()
}

fn wide(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|bytes| u16::from_be_bytes(*bytes)).collect()
}

/// The channels before the last of `channels`, which is alpha.
fn opaque<T: Copy + PartialEq + From<u8> + std::ops::Not<Output = T>>(
    values: &[T],
    channels: usize,
) -> Result<Vec<T>, String> {
    let pixels = values.chunks_exact(channels);
    if pixels.clone().any(|pixel| pixel[channels - 1] != !T::from(0)) {
        return Err("some pixels are transparent: of which class are they?".to_owned());
    }
    Ok(pixels.flat_map(|pixel| pixel[..channels - 1].iter().copied()).collect())
}

fn luma8((width, height): (u32, u32), values: Vec<u8>) -> Option<DynamicImage> {
    GrayImage::from_raw(width, height, values).map(DynamicImage::from)
}

fn luma16((width, height): (u32, u32), values: Vec<u16>) -> Option<DynamicImage> {
    ImageBuffer::from_raw(width, height, values).map(DynamicImage::ImageLuma16)
}

fn rgb8((width, height): (u32, u32), values: Vec<u8>) -> Option<DynamicImage> {
    RgbImage::from_raw(width, height, values).map(DynamicImage::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use image::{Luma, LumaA, Rgb, Rgba, RgbaImage};

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
        encoded(image, ImageFormat::Png)
    }

    fn labels(bytes: &[u8]) -> DynamicImage {
        read_labels(file(bytes).path()).unwrap()
    }

    fn reason(bytes: &[u8]) -> String {
        let error = read_labels(file(bytes).path()).unwrap_err();
        assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
        error.to_string()
    }

    /// 5 x 2 pixels: rows of 5, 0, 1, 0, 1 (modulo the largest value) and of zeros.
    fn of(color: ColorType, depth: BitDepth, row: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 5, 2);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            encoder.set_palette(vec![9; 3 << (depth as usize)]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[row, &vec![0; row.len()]].concat()).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn values_of_8_bits_are_taken_as_they_are() {
        let map = GrayImage::from_fn(3, 2, |x, y| Luma([(x * 100 + y * 55) as u8]));
        assert_eq!(labels(&png(map.clone())), map.clone().into());
        assert_eq!(labels(&encoded(map.clone(), ImageFormat::Tiff)), map.clone().into());
        assert_eq!(labels(&encoded(map.clone(), ImageFormat::Bmp)), map.into());
    }

    #[test]
    fn values_of_fewer_bits_are_not_scaled_grey_or_with_a_palette() {
        for color in [ColorType::Grayscale, ColorType::Indexed] {
            let rows = [
                (BitDepth::One, vec![0b1010_1000], [1, 0, 1, 0, 1]),
                (BitDepth::Two, vec![0b1100_0100, 0b0100_0000], [3, 0, 1, 0, 1]),
                (BitDepth::Four, vec![0xf0, 0x10, 0x10], [15, 0, 1, 0, 1]),
                (BitDepth::Eight, vec![200, 0, 1, 0, 1], [200, 0, 1, 0, 1]),
            ];
            for (depth, row, expected) in rows {
                let found = labels(&of(color, depth, &row)).into_luma8();
                assert_eq!(found.as_raw()[..5], expected, "{color:?} {depth:?}");
                assert_eq!(found.as_raw()[5..], [0; 5]);
            }
        }
    }

    #[test]
    fn values_of_16_bits_are_taken_as_they_are() {
        let map = ImageBuffer::from_fn(3, 2, |x, y| Luma([(x * 300 + y) as u16]));
        assert_eq!(labels(&png(map.clone())), map.clone().into());
        assert_eq!(labels(&encoded(map.clone(), ImageFormat::Tiff)), map.into());
    }

    #[test]
    fn colours_are_colours_and_alpha_has_to_be_opaque() {
        let map = RgbImage::from_pixel(2, 2, Rgb([1, 2, 3]));
        for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Bmp] {
            assert_eq!(labels(&encoded(map.clone(), format)), map.clone().into(), "{format:?}");
        }
        assert_eq!(labels(&png(RgbaImage::from_pixel(2, 2, Rgba([1, 2, 3, 255])))), map.into());
        let transparent = "some pixels are transparent";
        assert!(reason(&png(RgbaImage::from_pixel(2, 2, Rgba([1, 2, 3, 0])))).contains(transparent));
        let grey = |alpha: u16| ImageBuffer::from_pixel(1, 1, LumaA([7_u16, alpha]));
        assert_eq!(labels(&png(grey(65535))).into_luma16().as_raw()[..], [7]);
        assert!(reason(&png(grey(255))).contains(transparent));
    }

    #[test]
    fn anything_else_is_refused() {
        let expected = "a label map is a PNG, TIFF or BMP";
        assert!(reason(b"").contains(expected));
        assert!(reason(b"\xff\xd8\xff\xe0").contains("a JPEG, which changes values"));
        let deep = ImageBuffer::from_pixel(1, 1, Rgb([1_u16; 3]));
        assert!(reason(&png(deep)).contains("a PNG of Rgb, 16 bits; a label map is"));
        let whole = png(GrayImage::new(50, 50));
        reason(&whole[..whole.len() / 2]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_labels(Path::new("no/such.png")).unwrap_err();
        assert!(error.to_string().starts_with("no/such.png: "), "{error}");
    }
}
