//! Masks as run lengths.

use std::ops::Range;

use image::{GrayImage, Luma};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::data::MAX_PIXELS;

/// A mask as COCO's uncompressed run lengths: down the columns, from left to right, alternately how many
/// pixels are off and on, the first run being off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rle {
    height: u32,
    width: u32,
    counts: Vec<u32>,
}

/// Why runs are none of a mask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RleError {
    /// The runs end before the mask does, or after it.
    #[error("the runs cover {covered} pixels, not the {height} x {width} of the mask")]
    Length {
        /// Sum of the runs.
        covered: u64,
        /// Of the mask, in pixels.
        height: u32,
        /// Of the mask, in pixels.
        width: u32,
    },
    /// No image is that large.
    #[error("a mask of {height} x {width}; at most {MAX_PIXELS} pixels are decoded")]
    Size {
        /// Of the mask, in pixels.
        height: u32,
        /// Of the mask, in pixels.
        width: u32,
    },
}

impl Rle {
    /// Runs as they were written down, of a mask of `height` x `width` pixels.
    ///
    /// # Errors
    /// If the runs do not cover the mask, or it has more than [`MAX_PIXELS`].
    pub fn new([height, width]: [u32; 2], counts: Vec<u32>) -> Result<Self, RleError> {
        let pixels = u64::from(height) * u64::from(width);
        let covered = counts.iter().map(|&count| u64::from(count)).sum();
        match covered == pixels {
            true if pixels <= MAX_PIXELS => Ok(Self { height, width, counts }),
            true => Err(RleError::Size { height, width }),
            false => Err(RleError::Length { covered, height, width }),
        }
    }

    /// The runs of a mask; every pixel above 0 is on.
    pub fn encode(mask: &GrayImage) -> Self {
        let (width, height) = mask.dimensions();
        let (mut counts, mut is_on) = (vec![0], false);
        for x in 0..width {
            for y in 0..height {
                if (mask.get_pixel(x, y).0[0] > 0) != is_on {
                    is_on = !is_on;
                    counts.push(0);
                }
                if let Some(last) = counts.last_mut() {
                    *last += 1;
                }
            }
        }
        Self { height, width, counts }
    }

    /// A mask of a height and a width that is on in ranges of pixels, counted down the columns: one behind the other, with gaps
    /// between.
    pub fn of_runs([height, width]: [usize; 2], runs: impl IntoIterator<Item = Range<usize>>) -> Self {
        let (mut counts, mut end) = (Vec::new(), 0);
        for run in runs {
            counts.extend([(run.start - end) as u32, run.len() as u32]);
            end = run.end;
        }
        if end < height * width || counts.is_empty() {
            counts.push((height * width - end) as u32);
        }
        Self { height: height as u32, width: width as u32, counts }
    }

    /// 255 where the mask is on, 0 elsewhere.
    pub fn decode(&self) -> GrayImage {
        let mut mask = GrayImage::new(self.width, self.height);
        let mut start = 0;
        for (number, &count) in self.counts.iter().enumerate() {
            if number % 2 == 1 {
                for at in start..start + count {
                    mask.put_pixel(at / self.height, at % self.height, Luma([255]));
                }
            }
            start += count;
        }
        mask
    }

    /// Height and width of the mask in pixels.
    pub fn size(&self) -> [usize; 2] {
        [self.height as usize, self.width as usize]
    }

    /// The runs.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// The runs as text, as COCO's tools write them to JSON (`rleToString` of its API).
    pub fn compressed(&self) -> String {
        let Self { height, width, counts } = self;
        hotcoco::mask::rle_to_string(&hotcoco::Rle { h: *height, w: *width, counts: counts.clone() })
    }
}

impl From<hotcoco::Rle> for Rle {
    fn from(hotcoco::Rle { h, w, counts }: hotcoco::Rle) -> Self {
        Self { height: h, width: w, counts }
    }
}

/// As in COCO's results: `{ "size": [height, width], "counts": ".." }`, [compressed](Rle::compressed).
impl Serialize for Rle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Rle", 2)?;
        object.serialize_field("size", &[self.height, self.width])?;
        object.serialize_field("counts", &self.compressed())?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn runs_go_down_the_columns_and_start_with_what_is_off() {
        // Rows `0 1 1` and `1 1 0`: columns 0 1, 1 1, 1 0.
        let mask = GrayImage::from_raw(3, 2, vec![0, 255, 255, 255, 255, 0]).unwrap();
        assert_eq!(Rle::encode(&mask).counts(), [1, 4, 1]);
        let all = GrayImage::from_pixel(2, 2, Luma([255]));
        assert_eq!(Rle::encode(&all).counts(), [0, 4]);
        assert_eq!(Rle::encode(&GrayImage::new(2, 2)).counts(), [4]);
    }

    #[test]
    fn ranges_of_pixels_are_those_of_the_same_map() {
        let of = |run: Option<Range<usize>>| Rle::of_runs([2, 3], run);
        let mask = GrayImage::from_raw(3, 2, vec![0, 255, 255, 255, 255, 0]).unwrap();
        assert_eq!(of(Some(1..5)), Rle::encode(&mask));
        assert_eq!((of(None).counts(), of(Some(0..6)).counts()), (&[6][..], &[0, 6][..]));
        assert_eq!(Rle::of_runs([0, 0], None), Rle::encode(&GrayImage::new(0, 0)));
    }

    #[test]
    fn compressed_runs_are_those_of_pycocotools() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/detection/coco/rle_cases.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for case in golden["masks"].as_array().unwrap() {
            let [size, counts] = [&case["size"], &case["uncompressed"]].map(Value::clone);
            let size = serde_json::from_value(size).unwrap();
            let mask = Rle::new(size, serde_json::from_value(counts).unwrap()).unwrap();
            assert_eq!(mask.compressed(), case["counts"].as_str().unwrap(), "{}", case["name"]);
        }
    }

    #[test]
    fn runs_that_do_not_cover_the_mask_are_refused() {
        assert_eq!(Rle::new([2, 3], vec![1, 4, 1]).unwrap().size(), [2, 3]);
        let message = |size, counts| Rle::new(size, counts).unwrap_err().to_string();
        assert_eq!(message([2, 3], vec![1, 4]), "the runs cover 5 pixels, not the 2 x 3 of the mask");
        // Their sum would wrap around to 6 in 32 bits.
        assert!(message([2, 3], vec![u32::MAX, 7]).contains("cover 4294967302 pixels"));
        assert!(message([1 << 16, 1 << 15], vec![1 << 31]).contains("65536 x 32768; at most 178956970"));
    }

    proptest! {
        #[test]
        fn decoding_is_the_inverse_of_encoding(
            (height, width) in (0_u32..9, 0_u32..9), bits in prop::collection::vec(any::<bool>(), 81),
        ) {
            let mask = GrayImage::from_fn(width, height, |x, y| Luma([u8::from(bits[(y * 9 + x) as usize]) * 255]));
            let runs = Rle::encode(&mask);
            prop_assert_eq!(runs.counts().iter().sum::<u32>(), height * width);
            prop_assert_eq!(runs.size(), [height as usize, width as usize]);
            prop_assert!(runs.decode() == mask);
        }
    }
}
