//! Where an object is: polygons, or run lengths in either of their forms.

use convmae_framework::data::{Mask, Rle};
pub use hotcoco::types::Segmentation;

/// The mask in an image of a height and a width, and how many polygons were left out: with fewer than three
/// corners, or half of one (`load_coco_json` of detectron2).
///
/// # Errors
/// If run lengths are damaged or those of another size.
pub fn mask(segmentation: &Segmentation, size: [u32; 2]) -> Result<(Mask, usize), String> {
    if let Some(runs) = segmentation.rle_ref() {
        let runs = runs.to_rle().map_err(|error| error.to_string())?;
        let [height, width] = size;
        if [runs.h, runs.w] != size {
            return Err(format!(
                "run lengths of {} x {}, but the image is {height} x {width}",
                runs.h, runs.w
            ));
        }
        let runs = Rle::new(size, runs.counts).map_err(|error| error.to_string())?;
        return Ok((Mask::Rle(runs), 0));
    }
    let polygons = segmentation.polygons().unwrap_or_default();
    let valid = polygons.iter().filter(|numbers| numbers.len() >= 6 && numbers.len() % 2 == 0);
    let corners: Vec<_> = valid.map(|numbers| numbers.as_chunks().0.to_vec()).collect();
    let unused = polygons.len() - corners.len();
    Ok((Mask::Polygons(corners), unused))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(json: Value, size: [u32; 2]) -> Result<(Mask, usize), String> {
        mask(&serde_json::from_value(json).unwrap(), size)
    }

    /// `coco/rle_cases.json`, written by pycocotools: the masks in both forms, exact.
    #[test]
    fn both_forms_of_run_lengths_are_those_of_pycocotools() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/detection/coco/rle_cases.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let cases = golden["masks"].as_array().unwrap();
        assert_eq!(cases.len(), 13);
        for case in cases {
            let size: [u32; 2] = serde_json::from_value(case["size"].clone()).unwrap();
            let counts = serde_json::from_value(case["uncompressed"].clone()).unwrap();
            let expected = (Mask::Rle(Rle::new(size, counts).unwrap()), 0);
            for form in ["counts", "uncompressed"] {
                let json = json!({ "size": size, "counts": case[form] });
                assert_eq!(read(json, size).unwrap(), expected, "{} {form}", case["name"]);
            }
            assert_eq!(expected.0.is_empty(), case["area"] == 0);
        }
    }

    #[test]
    fn damaged_run_lengths_are_refused() {
        let message = |counts: Value| read(json!({ "size": [4, 5], "counts": counts }), [4, 5]).unwrap_err();
        assert_eq!(message(json!([6, 2])), "the runs cover 8 pixels, not the 4 x 5 of the mask");
        assert!(message(json!([6, 20])).contains("26"), "{}", message(json!([6, 20])));
        assert_eq!(message(json!("62")), "the runs cover 8 pixels, not the 4 x 5 of the mask");
        for garbage in ["", "~~~", "\u{7f}\u{e9}", "oooooooooooooo", "Wn4"] {
            message(json!(garbage));
        }
        let other = read(json!({ "size": [5, 4], "counts": [20] }), [4, 5]).unwrap_err();
        assert_eq!(other, "run lengths of 5 x 4, but the image is 4 x 5");
    }

    #[test]
    fn polygons_that_are_none_are_counted() {
        let whole = [1.0, 1.0, 3.0, 1.0, 3.0, 3.0];
        let json = json!([whole, [1.0, 1.0, 3.0, 3.0], [], [1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 4.0]]);
        let corners = vec![vec![[1.0, 1.0], [3.0, 1.0], [3.0, 3.0]]];
        assert_eq!(read(json, [4, 5]).unwrap(), (Mask::Polygons(corners), 3));
        assert_eq!(read(json!([]), [4, 5]).unwrap(), (Mask::Polygons(Vec::new()), 0));
    }

    proptest! {
        #[test]
        fn any_run_lengths_are_read_or_refused(
            size in prop::array::uniform2(0_u32..9),
            counts in prop::collection::vec(0_u32..20, 0..8),
            text in "\\PC*",
        ) {
            for counts in [json!(counts), json!(text)] {
                if let Ok((Mask::Rle(runs), _)) = read(json!({ "size": size, "counts": counts }), size) {
                    prop_assert_eq!(runs.counts().iter().sum::<u32>(), size[0] * size[1]);
                    prop_assert_eq!(runs.decode().dimensions(), (size[1], size[0]));
                }
            }
        }
    }
}
