use convmae_framework::component::{ImageShape, Inference, Predict, Prediction, Problem, TaskKind};
use convmae_framework::data::{Batch, Size};
use convmae_framework::nn;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::image::Image;
use super::model::Model;
use super::scores::Scores;
use super::unscaled;
use super::views::Views;

/// Predicts classes of pixels in windows of the model's `image_size` that slide over images of any size: the
/// mean of the windows' logits, resized bilinearly to the label map, as mmsegmentation's `slide` mode. A
/// smaller image is padded to the right and to the bottom with the mean colour.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlideInference {
    /// Pixels from one window to the next: along both sides, or `[down, right]`; `image_size` at most. The last
    /// window of a row or column ends with the image.
    pub stride: Size,
    /// Whether every image is shown flipped as well; the probabilities are averaged.
    #[serde(default)]
    pub flip: bool,
    /// Multiples of its size at which every image is shown, resized bilinearly after the transforms; the
    /// probabilities are averaged.
    #[serde(default = "unscaled")]
    #[schemars(length(min = 1), inner(range(min = 0.125, max = 8.0)))]
    pub scales: Vec<f32>,
    /// Windows that the model sees at once: more of them take more memory.
    #[serde(default = "four")]
    #[schemars(range(min = 1))]
    pub windows_per_batch: usize,
}

fn four() -> usize {
    4
}

#[typetag::serde]
impl Inference for SlideInference {
    fn task(&self) -> TaskKind {
        TaskKind::Segment
    }

    fn check(&self, image: ImageShape) -> Result<(), Problem> {
        let (down, right) = self.stride.height_width();
        let ImageShape { height, width, .. } = image;
        if down <= height && right <= width {
            return Ok(());
        }
        let (stride, valid) = match self.stride {
            Size::Single(stride) => (stride.to_string(), format!("1 to {}", height.min(width))),
            Size::HeightWidth(_) => {
                (format!("[{down}, {right}]"), format!("1 to {height} down and 1 to {width} to the right"))
            }
        };
        let message = format!(
            "a stride of {stride} leaves pixels out between windows of {height} x {width} (`image_size`)"
        );
        Err(Problem::new("stride", message).help(format!("{valid}; two thirds of the window are usual")))
    }

    fn predict(&self, batch: &Batch, image: ImageShape, model: &mut Predict<'_>) -> nn::Result<Prediction> {
        let views = Views { flip: self.flip, scales: &self.scales };
        views.infer(batch, image, model, |image, of, model| self.slide(&image, of, model))
    }
}

convmae_framework::register!(Inference: SlideInference);

impl SlideInference {
    /// The mean logits of the windows over an image that shows image `of` of the model's batch.
    fn slide(&self, image: &Image, of: usize, model: &mut Model<'_>) -> nn::Result<Scores> {
        let ((height, width), (down, right)) = (model.size(), self.stride.height_width());
        let rows = Side::new(image.height, height, down);
        let cols = Side::new(image.width, width, right);
        let windows: Vec<_> =
            rows.starts.iter().flat_map(|&top| cols.starts.iter().map(move |&left| (top, left))).collect();
        let mut sums = Scores { values: Vec::new(), height: image.height, width: image.width, classes: 0 };
        for windows in windows.chunks(self.windows_per_batch.max(1)) {
            let mut images = Vec::with_capacity(windows.len() * model.image.channels * height * width);
            windows.iter().for_each(|&start| image.append_window(start, (height, width), &mut images));
            let (logits, classes) = model.logits(of, images, windows.len())?;
            sums.classes = classes;
            sums.values.resize(image.height * image.width * classes, 0.0);
            for (logits, &start) in logits.chunks_exact(height * width * classes).zip(windows) {
                add_window(&mut sums, logits, width, start);
            }
        }
        divide(&mut sums, &rows.counts, &cols.counts);
        Ok(sums)
    }
}

/// The windows along one side of an image.
struct Side {
    /// Where they start.
    starts: Vec<usize>,
    /// How many of them each position is in.
    counts: Vec<usize>,
}

impl Side {
    /// Windows every `stride` pixels, as many as it takes; the last one is shifted back to end with the
    /// image. One that is longer than the image starts with it.
    fn new(length: usize, window: usize, stride: usize) -> Self {
        let last = length.saturating_sub(window);
        let starts: Vec<usize> =
            (0..=last.div_ceil(stride)).map(|number| (number * stride).min(last)).collect();
        let mut counts = vec![0; length];
        for &start in &starts {
            counts[start..length.min(start + window)].iter_mut().for_each(|count| *count += 1);
        }
        Self { starts, counts }
    }
}

/// Adds the logits of a window, `[H, W, K]`, as far as it lies within the image.
fn add_window(sums: &mut Scores, logits: &[f32], width: usize, (top, left): (usize, usize)) {
    let Scores { width: columns, classes, .. } = *sums;
    let inside = width.min(columns - left) * classes;
    let rows = sums.values.par_chunks_mut(columns * classes).skip(top);
    rows.zip(logits.par_chunks(width * classes)).for_each(|(sums, logits)| {
        let sums = &mut sums[left * classes..][..inside];
        sums.iter_mut().zip(logits).for_each(|(sum, logit)| *sum += logit);
    });
}

/// Divides the sums of every pixel by the number of windows that it is in.
fn divide(sums: &mut Scores, rows: &[usize], cols: &[usize]) {
    let classes = sums.classes;
    sums.values.par_chunks_mut(sums.width * classes).zip(rows).for_each(|(row, rows)| {
        for (sums, cols) in row.chunks_exact_mut(classes).zip(cols) {
            let count = (rows * cols) as f32;
            sums.iter_mut().for_each(|sum| *sum /= count);
        }
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use convmae_framework::component::Semantic;
    use proptest::prelude::*;

    use super::super::testing::{Golden, batch, logits, maps, predict_by_pixel};
    use super::*;

    fn slide(stride: usize) -> SlideInference {
        SlideInference { stride: Size::Single(stride), flip: false, scales: unscaled(), windows_per_batch: 3 }
    }

    fn window(height: usize, width: usize) -> ImageShape {
        ImageShape { channels: 3, height, width }
    }

    #[test]
    fn windows_are_those_of_mmsegmentation() {
        let golden = Golden::read();
        let (rows, cols) = (Side::new(200, 128, 85), Side::new(181, 128, 85));
        // `windows_y1_y2_x1_x2` of the golden's report.
        assert_eq!((rows.starts, cols.starts), (vec![0, 72], vec![0, 53]));
        let counts =
            rows.counts.iter().flat_map(|rows| cols.counts.iter().map(move |cols| (rows * cols) as u8));
        assert_eq!(counts.collect::<Vec<_>>(), golden.bytes("slide.count"));
        // An image of 683 in windows of 512, the usual ones of ADE20K.
        assert_eq!(Side::new(683, 512, 341).starts, [0, 171]);
        assert_eq!(Side::new(512, 512, 341).starts, [0]);
        assert_eq!(Side::new(300, 512, 341).starts, [0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_pixel_is_in_a_window_and_every_window_in_the_image(
            length in 1usize..200, window in 1usize..60, stride in 1usize..60,
        ) {
            let side = Side::new(length, window, stride.min(window));
            prop_assert!(side.counts.iter().all(|&count| count > 0));
            prop_assert!(side.starts.iter().all(|start| start + window <= length.max(window)));
            prop_assert!(side.starts.is_sorted_by(|a, b| a < b));
        }

        #[test]
        fn windows_change_nothing_of_what_each_pixel_says(
            (height, width) in (1usize..20, 1usize..20),
            (rows, cols, stride) in (1usize..8, 1usize..8, 1usize..8),
        ) {
            let batch = batch(2, height, width);
            let expected = predict_by_pixel(&batch).unwrap();
            let inference = slide(stride.min(rows).min(cols));
            let found = inference.predict(&batch, window(rows, cols), &mut predict_by_pixel).unwrap();
            prop_assert_eq!(maps(&found), maps(&expected));
        }
    }

    #[test]
    fn overlapping_windows_are_averaged() {
        // The class that a window is numbered by.
        let mut number = 0.0;
        let mut model = |batch: &Batch| {
            let mut found = predict_by_pixel(batch)?;
            let logits = &mut logits(&mut found).values;
            let per_window = logits.len() / batch.len();
            for logits in logits.chunks_mut(per_window) {
                logits.fill(number);
                number += 1.0;
            }
            Ok(found)
        };
        let batch = batch(1, 2, 5);
        let mut model = Model::new(window(2, 3), &batch, &mut model);
        let means = slide(1).slide(&Image::of(&batch, 0), 0, &mut model).unwrap();
        let columns: Vec<f32> = means.values.chunks(means.classes).map(|logits| logits[0]).take(5).collect();
        assert_eq!(columns, [0.0, 0.5, 1.0, 1.5, 2.0]);
    }

    #[test]
    fn two_strides_are_one_down_and_one_to_the_right() {
        let inference = |stride: &str| -> SlideInference {
            serde_json::from_str(&format!(r#"{{ "stride": {stride}, "windows_per_batch": 9 }}"#)).unwrap()
        };
        let windows = |stride: &str| {
            let mut seen = 0;
            let mut model = |batch: &Batch| {
                seen = batch.len();
                predict_by_pixel(batch)
            };
            inference(stride).predict(&batch(1, 4, 6), window(2, 2), &mut model).unwrap();
            seen
        };
        // 2 or 3 rows of 3 or 5 windows.
        assert_eq!(["2", "[2, 2]", "[1, 2]"].map(windows), [6, 6, 9]);
        assert!(inference("[32, 48]").check(window(32, 48)).is_ok());
        let problem = inference("[48, 32]").check(window(32, 48)).unwrap_err();
        assert!(problem.message.starts_with("a stride of [48, 32] leaves"), "{}", problem.message);
        assert!(problem.help.unwrap().starts_with("1 to 32 down and 1 to 48 to the right"));
    }

    #[test]
    fn the_model_sees_no_more_windows_at_once_than_it_may() {
        let mut seen = Vec::new();
        let mut model = |batch: &Batch| {
            seen.push((batch.len(), batch.height, batch.width));
            predict_by_pixel(batch)
        };
        slide(2).predict(&batch(1, 4, 9), window(4, 4), &mut model).unwrap();
        assert_eq!(seen, [(3, 4, 4), (1, 4, 4)]);
    }

    #[test]
    fn a_stride_that_leaves_pixels_out_is_a_problem() {
        assert!(slide(32).check(window(32, 48)).is_ok());
        let problem = slide(33).check(window(32, 48)).unwrap_err();
        assert_eq!(problem.key, "stride");
        assert!(problem.message.contains("between windows of 32 x 48"), "{}", problem.message);
        assert!(problem.help.unwrap().starts_with("1 to 32"));
    }

    #[test]
    fn a_head_that_tells_no_logits_is_refused() {
        let mut model = |_: &Batch| Ok(Prediction::Semantic(Semantic { maps: Vec::new(), logits: None }));
        let error = slide(2).predict(&batch(1, 4, 4), window(4, 4), &mut model).unwrap_err().to_string();
        assert!(error.contains("tells only the maps, and not the logits"), "{error}");
    }

    #[test]
    fn logits_of_another_size_are_refused() {
        let mut model = |batch: &Batch| {
            let mut found = predict_by_pixel(batch)?;
            let logits = logits(&mut found);
            (logits.height, logits.width) = (2, 8);
            Ok(found)
        };
        let error = slide(2).predict(&batch(1, 4, 4), window(4, 4), &mut model).unwrap_err().to_string();
        assert!(error.ends_with("are for 2 x 8 pixels, the images have 4 x 4"), "{error}");
    }
}
