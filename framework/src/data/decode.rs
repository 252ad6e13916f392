//! Image decoding.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, RgbImage};

use super::jpeg::decode_jpeg;
use super::{DataError, MAX_PIXELS};
use crate::guard::decoded;

/// Reads a JPEG, PNG or WebP file as 8 bit RGB; see [`decode`].
pub fn read_image(path: &Path) -> Result<RgbImage, DataError> {
    let unreadable =
        |error: std::io::Error| DataError::Corrupt { path: path.to_owned(), reason: error.to_string() };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    decode(&bytes, path)
}

/// Decodes a JPEG, PNG or WebP as 8 bit RGB, as Pillow's `convert("RGB")`: grey and palettes are expanded,
/// alpha is dropped, of 16 bits the high ones stay. The orientation in EXIF data is not applied. `path` is
/// for messages.
///
/// # Errors
/// [`DataError::Corrupt`] if the bytes are none of the formats, damaged, truncated, or more than
/// [`MAX_PIXELS`].
pub fn decode(bytes: &[u8], path: &Path) -> Result<RgbImage, DataError> {
    let corrupt = |reason: String| DataError::Corrupt { path: path.to_owned(), reason };
    if bytes.is_empty() {
        return Err(corrupt("the file is empty".to_owned()));
    }
    let format = image::guess_format(bytes)
        .map_err(|_| corrupt("not a JPEG, PNG or WebP (by its first bytes)".to_owned()))?;
    let image = decoded(&format!("{format:?}").to_uppercase(), || match format {
        ImageFormat::Jpeg => decode_jpeg(bytes),
        format => decode_as(bytes, format),
    });
    image.map_err(corrupt)
}

/// Decodes an image of a format that the crate `image` reads.
fn decode_as(bytes: &[u8], format: ImageFormat) -> Result<RgbImage, String> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_PIXELS * 8);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("{width} x {height} pixels; at most {MAX_PIXELS} are decoded"));
    }
    if width == 0 || height == 0 {
        return Err(format!("an image of {width} x {height} pixels"));
    }
    let image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    Ok(to_rgb8(image))
}

fn to_rgb8(image: DynamicImage) -> RgbImage {
    match image {
        DynamicImage::ImageRgb16(_)
        | DynamicImage::ImageRgba16(_)
        | DynamicImage::ImageLuma16(_)
        | DynamicImage::ImageLumaA16(_) => high_bytes(&image.into_rgb16()),
        image => image.into_rgb8(),
    }
}

fn high_bytes(image: &image::ImageBuffer<image::Rgb<u16>, Vec<u16>>) -> RgbImage {
    let bytes = image.as_raw().iter().map(|value| (value >> 8) as u8).collect();
    RgbImage::from_raw(image.width(), image.height(), bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn data(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../tests/data/transforms/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn decoded(name: &str) -> RgbImage {
        decode(&data(name), Path::new(name)).unwrap()
    }

    fn reason(bytes: &[u8]) -> String {
        decode(bytes, Path::new("x")).unwrap_err().to_string()
    }

    #[test]
    fn jpegs_decode_as_by_pillow_to_the_bit() {
        for name in ["420_q75", "422_q85", "444_q92", "gray_q85", "cmyk_q85"] {
            let (ours, pillows) = (decoded(&format!("{name}.jpg")), decoded(&format!("{name}_decoded.png")));
            assert!(ours == pillows, "{name}");
        }
    }

    #[test]
    fn progressive_and_baseline_decode_alike() {
        assert!(decoded("420_q75_progressive.jpg") == decoded("420_q75.jpg"));
    }

    #[test]
    fn a_truncated_jpeg_is_corrupt() {
        let bytes = data("420_q75.jpg");
        for kept in [bytes.len() - 2, bytes.len() / 2, 700, 100, 4] {
            assert!(
                matches!(decode(&bytes[..kept], Path::new("x")), Err(DataError::Corrupt { .. })),
                "{kept}"
            );
        }
    }

    #[test]
    fn a_jpeg_that_the_decoder_panics_on_is_corrupt() {
        assert_eq!(reason(&data("damaged.jpg")), "x: damaged JPEG: the decoder panicked");
    }

    #[test]
    fn a_png_that_the_decoder_panics_on_is_corrupt() {
        for name in ["png-short-palette-2", "png-decoder-panics-fuzzed"] {
            let bytes = data(&format!("../cases/reliability/{name}.png"));
            assert_eq!(reason(&bytes), "x: damaged PNG: the decoder panicked", "{name}");
        }
    }

    #[test]
    fn a_truncated_png_is_corrupt() {
        let bytes = data("chelsea_r128_c112.png");
        assert!(reason(&bytes[..bytes.len() / 2]).starts_with("x: "));
    }

    #[test]
    fn other_files_are_named_as_such() {
        assert_eq!(reason(b"<html>not found</html>"), "x: not a JPEG, PNG or WebP (by its first bytes)");
        assert_eq!(reason(b""), "x: the file is empty");
    }

    #[test]
    fn grey_is_expanded_and_alpha_dropped() {
        let encode = |image: DynamicImage| {
            let mut bytes = Cursor::new(Vec::new());
            image.write_to(&mut bytes, ImageFormat::Png).unwrap();
            decode(bytes.get_ref(), Path::new("x")).unwrap().get_pixel(0, 0).0
        };
        assert_eq!(encode(image::GrayImage::from_pixel(2, 2, image::Luma([9])).into()), [9, 9, 9]);
        assert_eq!(encode(image::RgbaImage::from_pixel(2, 2, image::Rgba([1, 2, 3, 0])).into()), [1, 2, 3]);
        let deep = image::ImageBuffer::from_pixel(2, 2, image::Rgb([0x01ff_u16, 0x02ff, 0xffff]));
        assert_eq!(encode(DynamicImage::ImageRgb16(deep)), [1, 2, 255]);
    }

    #[test]
    fn webp_decodes() {
        let mut bytes = Cursor::new(Vec::new());
        let image = RgbImage::from_pixel(5, 3, image::Rgb([10, 200, 30]));
        image.write_to(&mut bytes, ImageFormat::WebP).unwrap();
        assert!(decode(bytes.get_ref(), Path::new("x")).unwrap() == image);
    }

    #[test]
    fn a_decompression_bomb_is_refused_before_it_is_decoded() {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::new(1, 1).write_to(&mut bytes, ImageFormat::Png).unwrap();
        let mut bytes = bytes.into_inner();
        // Width and height of IHDR, and its checksum.
        bytes[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        let checksum = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        assert!(
            reason(&bytes).contains("65535 x 65535") || reason(&bytes).contains("limit"),
            "{}",
            reason(&bytes)
        );
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc: u32, _| {
                (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damaged_files_never_panic(
            file in prop::sample::select(vec!["420_q75.jpg", "420_q75_progressive.jpg", "chelsea_r128_c112.png"]),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30),
            kept in any::<prop::sample::Index>(),
        ) {
            let mut bytes = data(file);
            for (index, value) in changes {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            let _ = decode(&bytes, Path::new("x"));
            let _ = decode(&bytes[..kept.index(bytes.len())], Path::new("x"));
        }

        #[test]
        fn damaged_webps_never_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30),
            kept in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Cursor::new(Vec::new());
            decoded("gray_q85.jpg").write_to(&mut bytes, ImageFormat::WebP).unwrap();
            let mut bytes = bytes.into_inner();
            for (index, value) in changes {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            let _ = decode(&bytes, Path::new("x"));
            let _ = decode(&bytes[..kept.index(bytes.len())], Path::new("x"));
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            start in prop::sample::select(vec![&b""[..], b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBPVP8 "]),
            rest in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let _ = decode(&[start, &rest].concat(), Path::new("x"));
        }
    }
}
