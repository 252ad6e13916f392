//! Test-time augmentation: multi-scale and flipped inference, averaged.

use convmae_framework::component::{ImageShape, Predict, Predictions};
use convmae_framework::data::Batch;
use convmae_framework::nn::{self, Error};

use super::image::Image;
use super::model::Model;
use super::scores::Scores;

/// The augmented versions of an image that are averaged over.
#[derive(Debug, Clone, Copy)]
pub struct Views<'a> {
    /// Mirrored as well, at every scale.
    pub flip: bool,
    /// Multiples of its size.
    pub scales: &'a [f32],
}

impl Views<'_> {
    /// What an inference answers: the head that `predict` asks, and the class of every pixel of every image.
    /// `logits` has the model (of `image`) predict for an image that shows image `of` of the batch.
    ///
    /// # Errors
    /// If a prediction fails, or the label maps differ in size.
    pub fn infer(
        self,
        batch: &Batch,
        image: ImageShape,
        predict: &mut Predict<'_>,
        mut logits: impl FnMut(Image, usize, &mut Model<'_>) -> nn::Result<Scores>,
    ) -> nn::Result<Vec<(String, Predictions)>> {
        let mut model = Model::new(image, batch, predict);
        let found = self.predict(batch, |of, image| logits(image, of, &mut model))?;
        Ok(vec![(model.into_head(), found)])
    }

    /// The class of every pixel of every image, `semantic`, as large as the images' label maps. `logits`
    /// predicts for an image (of any size) that shows image `of` of the batch.
    ///
    /// # Errors
    /// If a prediction fails, or the label maps differ in size.
    pub fn predict(
        self,
        batch: &Batch,
        mut logits: impl FnMut(usize, Image) -> nn::Result<Scores>,
    ) -> nn::Result<Predictions> {
        let size = label_size(batch)?;
        let mut classes = Vec::with_capacity(batch.len() * size.0 * size.1);
        for of in 0..batch.len() {
            let scores = self.combine(&Image::of(batch, of), size, |image| logits(of, image))?;
            classes.extend(scores.largest());
        }
        let mut predictions = Predictions::default();
        let shape = vec![batch.len(), size.0, size.1];
        predictions.arrays.insert("semantic".to_owned(), (shape, classes));
        Ok(predictions)
    }

    /// The sum of all views' probabilities at a size; of a single view the logits, which have the same order.
    fn combine(
        self,
        image: &Image,
        (height, width): (usize, usize),
        mut logits: impl FnMut(Image) -> nn::Result<Scores>,
    ) -> nn::Result<Scores> {
        let mut sum: Option<Scores> = None;
        let views: Vec<_> = self.all().collect();
        for &(scale, flip) in &views {
            let side = |side: usize| ((side as f32 * scale + 0.5) as usize).max(1);
            let shown = image.clone().resized(side(image.height), side(image.width))?;
            let shown = if flip { shown.flipped() } else { shown };
            let scores = logits(shown)?.resized(height, width)?;
            let scores = if views.len() > 1 { scores.into_probabilities() } else { scores };
            let scores = if flip { scores.flipped() } else { scores };
            sum = Some(match sum {
                Some(sum) => sum.plus(&scores),
                None => scores,
            });
        }
        sum.ok_or_else(|| Error::Value("`scales` is empty: the image is never shown".to_owned()))
    }

    fn all(self) -> impl Iterator<Item = (f32, bool)> {
        let flips = if self.flip { &[false, true][..] } else { &[false] };
        self.scales.iter().flat_map(move |&scale| flips.iter().map(move |&flip| (scale, flip)))
    }
}

/// Height and width of the label maps of a batch; of its images where there are none.
fn label_size(batch: &Batch) -> nn::Result<(usize, usize)> {
    let size = |of: usize| match batch.targets.get(of).and_then(|target| target.semantic.as_ref()) {
        Some(map) => (map.height() as usize, map.width() as usize),
        None => (batch.height, batch.width),
    };
    let first = size(0);
    match (1..batch.len()).find(|&of| size(of) != first) {
        None => Ok(first),
        Some(of) => Err(Error::Shape(format!(
            "label maps of one batch differ in size: that of {} is {} x {}, that of {} {} x {}; set `data.val.batch_size` to 1",
            batch.ids[0],
            first.0,
            first.1,
            batch.ids[of],
            size(of).0,
            size(of).1,
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use image::GrayImage;
    use proptest::prelude::*;

    use super::super::testing::{batch, by_pixel};
    use super::*;

    const ONCE: Views<'_> = Views { flip: false, scales: &[1.0] };

    fn classes(views: Views<'_>, batch: &Batch) -> Vec<f32> {
        let found = views.predict(batch, |_, image| Ok(by_pixel(&image))).unwrap();
        found.arrays["semantic"].1.clone()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_mirrored_view_changes_nothing_of_what_each_pixel_says(height in 1usize..9, width in 1usize..9) {
            let batch = batch(2, height, width);
            let both = classes(Views { flip: true, ..ONCE }, &batch);
            prop_assert_eq!(both, classes(ONCE, &batch));
        }

        #[test]
        fn the_prediction_is_as_large_as_the_label_map(height in 1usize..9, width in 1usize..9) {
            let mut batch = batch(1, 5, 7);
            batch.targets[0].semantic = Some(GrayImage::new(width as u32, height as u32));
            let scales = Views { flip: true, scales: &[0.5, 1.0, 1.7] };
            prop_assert_eq!(classes(scales, &batch).len(), height * width);
        }
    }

    #[test]
    fn every_view_is_shown_at_its_size() {
        let mut shown = Vec::new();
        let views = Views { flip: true, scales: &[0.5, 1.5, 0.01] };
        let found = views.predict(&batch(1, 4, 7), |_, image| {
            shown.push((image.height, image.width));
            Ok(by_pixel(&image))
        });
        assert_eq!(found.unwrap().arrays["semantic"].0, [1, 4, 7]);
        assert_eq!(shown, [(2, 4), (2, 4), (6, 11), (6, 11), (1, 1), (1, 1)]);
    }

    #[test]
    fn probabilities_are_averaged_and_not_logits() {
        // The first view is sure of class 0, the others lean to class 1; by the logits' sum class 0 would
        // win.
        let mut logits = [[9.0, 0.0], [0.0, 2.0], [0.0, 2.0]].into_iter();
        let views = Views { flip: false, scales: &[1.0, 1.0, 1.0] };
        let one = |logits: [f32; 2]| Scores { values: logits.to_vec(), height: 1, width: 1, classes: 2 };
        let found = views.predict(&batch(1, 1, 1), |_, _| Ok(one(logits.next().unwrap()))).unwrap();
        assert_eq!(found.arrays["semantic"].1, [1.0]);
    }

    #[test]
    fn label_maps_of_several_sizes_are_no_batch() {
        let mut batch = batch(2, 2, 2);
        batch.targets[1].semantic = Some(GrayImage::new(3, 2));
        let error = ONCE.predict(&batch, |_, image| Ok(by_pixel(&image))).unwrap_err().to_string();
        assert!(
            error.contains("that of 0 is 2 x 2, that of 1 2 x 3; set `data.val.batch_size` to 1"),
            "{error}"
        );
    }
}
