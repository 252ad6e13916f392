//! TIFF decoding: channels and values as they stand in the file.

use std::io::Cursor;

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::labels::unpack;
use super::{MAX_FILE, MAX_PIXELS};

/// The first image of a TIFF.
pub(super) struct Tiff {
    pub channels: usize,
    pub width: u32,
    pub height: u32,
    /// Bits of a value: 1, 2, 4, 8 or 16.
    pub bits: u32,
    /// Whether the channels are cyan, magenta, yellow and black.
    pub is_cmyk: bool,
    /// By pixel, channels last.
    pub values: TiffValues,
}

/// Values of up to 8 bits, or of 16.
pub(super) enum TiffValues {
    U8(Vec<u8>),
    U16(Vec<u16>),
}

/// Decodes the first image of a TIFF.
///
/// # Errors
/// Why not: it is damaged, too large, of a kind that is not read, or has channels that would be left out.
pub(super) fn decode_tiff(bytes: &[u8]) -> Result<Tiff, String> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_FILE as usize;
    limits.intermediate_buffer_size = MAX_FILE as usize;
    let decoder = Decoder::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let mut decoder = decoder.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(|error| error.to_string())?;
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("{width} x {height} pixels; at most {MAX_PIXELS} are decoded"));
    }
    if width == 0 || height == 0 {
        return Err(format!("an image of {width} x {height} pixels"));
    }
    let color = decoder.colortype().map_err(|error| error.to_string())?;
    let bits = color.bit_depth();
    if !matches!(bits, 1 | 2 | 4 | 8 | 16) || matches!(color, ColorType::YCbCr(_) | ColorType::Lab(_)) {
        return Err(format!("a TIFF of {color:?}; grey, RGB, CMYK and bands of 1 to 16 bits are read"));
    }
    let channels = usize::from(color.num_samples());
    let stored = decoder.find_tag_unsigned::<u16>(Tag::SamplesPerPixel).map_err(|error| error.to_string())?;
    if let Some(stored) = stored.map(usize::from).filter(|&stored| stored > channels) {
        // The decoder would leave out what is beside the colours, such as near infrared.
        let bands = as_bands(bytes).filter(|bands| bands != bytes);
        let left_out = || format!("a TIFF of {stored} channels, of which only {channels} can be read");
        return decode_tiff(&bands.ok_or_else(left_out)?);
    }
    let mut values = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut values).map_err(|error| error.to_string())?;
    if values.as_buffer(0).as_bytes().len() < layout.complete_len {
        return Err(format!("{} bytes of pixels; at most {MAX_FILE} are decoded", layout.complete_len));
    }
    let planes = layout.planes;
    let row = width as usize * channels / planes.max(1);
    let values = match values {
        DecodingResult::U8(values) if bits < 8 => {
            let row_bytes = (row * usize::from(bits)).div_ceil(8);
            TiffValues::U8(interleaved(unpack(&values, row_bytes, row, usize::from(bits)), planes))
        }
        DecodingResult::U8(values) => TiffValues::U8(interleaved(values, planes)),
        DecodingResult::U16(values) => TiffValues::U16(interleaved(values, planes)),
        _ => {
            return Err(
                "a TIFF of signed values or floats; unsigned ones of 1 to 16 bits are read".to_owned()
            );
        }
    };
    let is_cmyk = matches!(color, ColorType::CMYK(_));
    Ok(Tiff { channels, width, height, bits: u32::from(bits), is_cmyk, values })
}

/// The file with channels that are no colours: its first image is said to be grey, with as many channels as
/// it has. None for a file of another structure (`BigTIFF`).
fn as_bands(bytes: &[u8]) -> Option<Vec<u8>> {
    const PHOTOMETRIC_INTERPRETATION: u16 = 262;
    const BLACK_IS_ZERO: u16 = 1;
    let is_little = bytes.starts_with(b"II*\0");
    if !is_little && !bytes.starts_with(b"MM\0*") {
        return None;
    }
    let short = |at: usize| {
        let bytes = *bytes.get(at..at + 2)?.first_chunk()?;
        Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let offset = *bytes.get(4..8)?.first_chunk()?;
    let directory = if is_little { u32::from_le_bytes(offset) } else { u32::from_be_bytes(offset) } as usize;
    let mut entries = (0..usize::from(short(directory)?)).map(|entry| directory + 2 + 12 * entry);
    let entry = entries.find(|&entry| short(entry) == Some(PHOTOMETRIC_INTERPRETATION))?;
    let grey = if is_little { BLACK_IS_ZERO.to_le_bytes() } else { BLACK_IS_ZERO.to_be_bytes() };
    let mut bands = bytes.to_vec();
    bands.get_mut(entry + 8..entry + 10)?.copy_from_slice(&grey);
    Some(bands)
}

/// Values by pixel, of channels that come one after the other.
fn interleaved<T: Copy>(values: Vec<T>, planes: usize) -> Vec<T> {
    if planes < 2 {
        return values;
    }
    let area = values.len() / planes;
    (0..area).flat_map(|at| (0..planes).map(move |plane| plane * area + at)).map(|at| values[at]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use image::{DynamicImage, ImageFormat};

    use super::*;

    fn encoded(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, ImageFormat::Tiff).unwrap();
        bytes.into_inner()
    }

    /// A TIFF whose directory holds these entries (tag, type, count, value), and pixels from byte 8 on.
    fn file(entries: &[(u16, u16, u32, u32)], pixels: &[u8]) -> Vec<u8> {
        let directory = 8 + pixels.len() + pixels.len() % 2;
        let mut bytes = [&b"II*\0"[..], &(directory as u32).to_le_bytes(), pixels].concat();
        bytes.resize(directory, 0);
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in entries {
            bytes.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
            bytes.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
        }
        bytes.extend([0; 4]);
        bytes
    }

    /// 2 x 1 pixels of 8 bits and a number of channels.
    fn bands(channels: u32, photometric: u32, planar: u32, extra: Option<u32>, pixels: &[u8]) -> Vec<u8> {
        let mut entries = vec![
            (256, 3, 1, 2),
            (257, 3, 1, 1),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, photometric),
            (273, 4, 1, 8),
            (277, 3, 1, channels),
            (278, 3, 1, 1),
            (279, 4, 1, pixels.len() as u32),
            (284, 3, 1, planar),
        ];
        entries.extend(extra.map(|extra| (338, 3, 1, extra)));
        file(&entries, pixels)
    }

    #[test]
    fn grey_and_colours_are_read_as_they_stand() {
        let grey = decode_tiff(&encoded(image::GrayImage::from_raw(2, 1, vec![3, 200]).unwrap())).unwrap();
        assert_eq!((grey.channels, grey.width, grey.height), (1, 2, 1));
        assert!(matches!(grey.values, TiffValues::U8(values) if values == [3, 200]));
        let rgb = decode_tiff(&encoded(image::RgbImage::from_raw(1, 1, vec![1, 2, 3]).unwrap())).unwrap();
        assert!(matches!(rgb.values, TiffValues::U8(values) if rgb.channels == 3 && values == [1, 2, 3]));
    }

    #[test]
    fn channels_in_planes_come_by_pixel() {
        assert_eq!(interleaved(vec![1, 2, 3, 4, 5, 6], 3), [1, 3, 5, 2, 4, 6]);
        assert_eq!(interleaved(vec![1, 2], 1), [1, 2]);
    }

    #[test]
    fn all_channels_are_read_whatever_they_are_said_to_be() {
        let pixels: Vec<u8> = (0..24).collect();
        let read = |channels: u32, photometric, planar, extra| {
            let count = 2 * channels as usize;
            let tiff = decode_tiff(&bands(channels, photometric, planar, extra, &pixels[..count])).unwrap();
            let TiffValues::U8(values) = tiff.values else { panic!("8 bits") };
            assert_eq!(tiff.channels, channels as usize);
            values
        };
        assert_eq!(read(4, 2, 1, Some(2)), pixels[..8], "RGB with alpha");
        assert_eq!(read(4, 2, 1, Some(0)), pixels[..8], "RGB with something");
        assert_eq!(read(12, 1, 1, None), pixels, "bands");
    }

    #[test]
    fn what_is_damaged_or_of_another_kind_is_an_error() {
        let whole = encoded(image::RgbImage::new(9, 9));
        for kept in [whole.len() / 2, 9, 4] {
            assert!(decode_tiff(&whole[..kept]).is_err(), "{kept}");
        }
        let float = encoded(DynamicImage::ImageRgb32F(image::Rgb32FImage::new(1, 1)));
        assert!(decode_tiff(&float).err().unwrap().contains("1 to 16 bits are read"));
    }
}
