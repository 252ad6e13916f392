//! Image decoding.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, RgbImage};

use super::file::read_file;
use super::jpeg::decode_jpeg;
use super::tiff::{Tiff, TiffValues, decode_tiff};
use super::{DataError, MAX_PIXELS, Pixels, Raster};
use crate::guard::decoded;

/// Reads an image file with the channels that it has; see [`decode`].
pub fn read_image(path: &Path) -> Result<Pixels, DataError> {
    decode(&read_file(path)?, path)
}

/// Reads an image file for a person: a single channel in grey, of more than three the first three.
pub fn read_rgb(path: &Path) -> Result<RgbImage, DataError> {
    Ok(match read_image(path)? {
        Pixels::Rgb(image) => image,
        Pixels::Channels(raster) => raster.to_rgb(),
        Pixels::Normalized { .. } => RgbImage::default(),
    })
}

/// Decodes a JPEG, PNG, WebP, TIFF or BMP with the channels that it has, of 8 bits: palettes are expanded, a
/// JPEG and CMYK become RGB, of 16 bits the high ones stay. Of a TIFF of several images the first one is
/// read. The orientation in EXIF data is not applied. `path` is for messages.
///
/// # Errors
/// [`DataError::Corrupt`] if the bytes are none of the formats, damaged, truncated, or more than
/// [`MAX_PIXELS`].
pub fn decode(bytes: &[u8], path: &Path) -> Result<Pixels, DataError> {
    let corrupt = |reason: String| DataError::Corrupt { path: path.to_owned(), reason };
    if bytes.is_empty() {
        return Err(corrupt("the file is empty".to_owned()));
    }
    let format = image::guess_format(bytes)
        .map_err(|_| corrupt("not a JPEG, PNG, WebP, TIFF or BMP (by its first bytes)".to_owned()))?;
    let image = decoded(&format!("{format:?}").to_uppercase(), || match format {
        ImageFormat::Jpeg => decode_jpeg(bytes).map(Pixels::Rgb),
        ImageFormat::Tiff => decode_tiff(bytes).and_then(of_tiff),
        format => decode_as(bytes, format),
    });
    image.map_err(corrupt)
}

/// Decodes an image of a format that the crate `image` reads.
fn decode_as(bytes: &[u8], format: ImageFormat) -> Result<Pixels, String> {
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
    let size = (height as usize, width as usize);
    let raster = match DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())? {
        DynamicImage::ImageRgb8(image) => return Ok(Pixels::Rgb(image)),
        DynamicImage::ImageLuma8(image) => Raster::new(1, size, image.into_raw()),
        DynamicImage::ImageLumaA8(image) => Raster::new(2, size, image.into_raw()),
        DynamicImage::ImageRgba8(image) => Raster::new(4, size, image.into_raw()),
        DynamicImage::ImageLuma16(image) => Raster::new(1, size, high_bytes(image.as_raw())),
        DynamicImage::ImageLumaA16(image) => Raster::new(2, size, high_bytes(image.as_raw())),
        DynamicImage::ImageRgb16(image) => Raster::new(3, size, high_bytes(image.as_raw())),
        DynamicImage::ImageRgba16(image) => Raster::new(4, size, high_bytes(image.as_raw())),
        image => Raster::new(3, size, image.into_rgb8().into_raw()),
    };
    raster.map(Pixels::from).ok_or_else(|| format!("not an image of {height} x {width} pixels"))
}

fn high_bytes(values: &[u16]) -> Vec<u8> {
    values.iter().map(|value| (value >> 8) as u8).collect()
}

fn of_tiff(tiff: Tiff) -> Result<Pixels, String> {
    let Tiff { channels, width, height, bits, is_cmyk, values } = tiff;
    let values = match values {
        TiffValues::U16(values) => high_bytes(&values),
        // Fewer bits span 0 to 255, too.
        TiffValues::U8(values) => {
            values.into_iter().map(|value| value * (255 / u8::MAX.wrapping_shr(8 - bits))).collect()
        }
    };
    let values = if is_cmyk { rgb_of_cmyk(&values) } else { values };
    let channels = if is_cmyk { 3 } else { channels };
    let raster = Raster::new(channels, (height as usize, width as usize), values);
    raster.map(Pixels::from).ok_or_else(|| format!("not an image of {height} x {width} pixels"))
}

/// As Pillow's `convert("RGB")`: `(255 - K) (255 - C) / 255`, rounded.
fn rgb_of_cmyk(values: &[u8]) -> Vec<u8> {
    let product = |ink: u8, black: u8| {
        let (paper, ink) = (255 - u32::from(black), u32::from(ink));
        let covered = ink * paper + 128;
        (paper - ((covered + (covered >> 8)) >> 8)) as u8
    };
    let (pixels, _) = values.as_chunks::<4>();
    pixels.iter().flat_map(|&[c, m, y, k]| [c, m, y].map(|ink| product(ink, k))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn data(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../tests/data/transforms/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn rgb(pixels: Pixels) -> RgbImage {
        match pixels.with_channels(3) {
            Ok(Pixels::Rgb(image)) => image,
            other => panic!("{other:?}"),
        }
    }

    fn decoded(name: &str) -> RgbImage {
        rgb(decode(&data(name), Path::new(name)).unwrap())
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
        assert_eq!(
            reason(b"<html>not found</html>"),
            "x: not a JPEG, PNG, WebP, TIFF or BMP (by its first bytes)"
        );
        assert_eq!(reason(b""), "x: the file is empty");
    }

    #[test]
    fn images_have_the_channels_of_their_files() {
        let pixel = |image: DynamicImage| {
            let mut bytes = Cursor::new(Vec::new());
            image.write_to(&mut bytes, ImageFormat::Png).unwrap();
            match decode(bytes.get_ref(), Path::new("x")).unwrap() {
                Pixels::Rgb(image) => image.get_pixel(0, 0).0.to_vec(),
                Pixels::Channels(raster) => raster.pixels().next().unwrap().to_vec(),
                Pixels::Normalized { .. } => Vec::new(),
            }
        };
        assert_eq!(pixel(image::GrayImage::from_pixel(2, 2, image::Luma([9])).into()), [9]);
        assert_eq!(pixel(image::RgbImage::from_pixel(2, 2, image::Rgb([1, 2, 3])).into()), [1, 2, 3]);
        assert_eq!(pixel(image::RgbaImage::from_pixel(2, 2, image::Rgba([1, 2, 3, 0])).into()), [1, 2, 3, 0]);
        let deep = image::ImageBuffer::from_pixel(2, 2, image::Rgb([0x01ff_u16, 0x02ff, 0xffff]));
        assert_eq!(pixel(DynamicImage::ImageRgb16(deep)), [1, 2, 255]);
        let deep = image::ImageBuffer::from_pixel(2, 2, image::Luma([0x07ff_u16]));
        assert_eq!(pixel(DynamicImage::ImageLuma16(deep)), [7]);
    }

    #[test]
    fn tiffs_have_any_number_of_channels_and_of_bits() {
        let tiff = |channels, bits, is_cmyk, values: &[u8]| {
            let values = TiffValues::U8(values.to_vec());
            of_tiff(Tiff { channels, width: 1, height: 1, bits, is_cmyk, values }).unwrap()
        };
        let raster = |channels, values: &[u8]| Raster::new(channels, (1, 1), values.to_vec()).unwrap();
        let twelve: Vec<u8> = (0..12).collect();
        assert!(
            matches!(tiff(12, 8, false, &twelve), Pixels::Channels(found) if found == raster(12, &twelve))
        );
        for (bits, value, expected) in [(1, 1, 255), (2, 2, 170), (4, 3, 51), (8, 200, 200)] {
            let found = tiff(1, bits, false, &[value]);
            assert!(
                matches!(&found, Pixels::Channels(found) if *found == raster(1, &[expected])),
                "{found:?}"
            );
        }
        // As of Pillow: Image.new("CMYK", (1, 1), (10, 200, 255, 50)).convert("RGB").
        let Pixels::Rgb(found) = tiff(4, 8, true, &[10, 200, 255, 50]) else { panic!("not RGB") };
        assert_eq!(found.get_pixel(0, 0).0, [197, 44, 0]);
    }

    #[test]
    fn other_formats_without_loss_decode_to_the_same_pixels() {
        let image = RgbImage::from_pixel(5, 3, image::Rgb([10, 200, 30]));
        for format in [ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Bmp] {
            let mut bytes = Cursor::new(Vec::new());
            image.write_to(&mut bytes, format).unwrap();
            assert!(rgb(decode(bytes.get_ref(), Path::new("x")).unwrap()) == image, "{format:?}");
        }
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
