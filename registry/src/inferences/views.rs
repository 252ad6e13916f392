//! Test-time augmentation: multi-scale and flipped inference, averaged.

use convmae_framework::component::{ImageShape, Predict, Prediction, Semantic};
use convmae_framework::data::{Batch, Target};
use convmae_framework::nn::{self, Error};
use image::GrayImage;

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
    /// What an inference answers: the class of every pixel of every image. `logits` has the model (of
    /// `image`) predict for an image that shows image `of` of the batch.
    ///
    /// # Errors
    /// If a prediction fails.
    pub fn infer(
        self,
        batch: &Batch,
        image: ImageShape,
        predict: &mut Predict<'_>,
        mut logits: impl FnMut(Image, usize, &mut Model<'_>) -> nn::Result<Scores>,
    ) -> nn::Result<Prediction> {
        let mut model = Model::new(image, batch, predict);
        let maps = self.maps(batch, |of, image| logits(image, of, &mut model))?;
        Ok(Prediction::Semantic(Semantic { maps, logits: None }))
    }

    /// The class of every pixel of every image, as large as the image's label map, or as the image if it has
    /// none. `logits` predicts for an image (of any size) that shows image `of` of the batch.
    ///
    /// # Errors
    /// If a prediction fails.
    fn maps(
        self,
        batch: &Batch,
        mut logits: impl FnMut(usize, Image) -> nn::Result<Scores>,
    ) -> nn::Result<Vec<GrayImage>> {
        let map = |(of, target): (usize, &Target)| {
            let [height, width] = batch.sizes[of].map(|side| side as u32);
            let (width, height) = target.semantic.as_ref().map_or((width, height), GrayImage::dimensions);
            let size = (height as usize, width as usize);
            let scores = self.combine(&Image::of(batch, of), size, |image| logits(of, image))?;
            let no_map = || Error::Shape(format!("a label map of {height} x {width} is too large"));
            GrayImage::from_raw(width, height, scores.largest()).ok_or_else(no_map)
        };
        batch.targets.iter().enumerate().map(map).collect()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::super::testing::{batch, by_pixel};
    use super::*;

    const ONCE: Views<'_> = Views { flip: false, scales: &[1.0] };

    fn maps(views: Views<'_>, batch: &Batch) -> Vec<GrayImage> {
        views.maps(batch, |_, image| Ok(by_pixel(&image))).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_mirrored_view_changes_nothing_of_what_each_pixel_says(height in 1usize..9, width in 1usize..9) {
            let batch = batch(2, height, width);
            let both = maps(Views { flip: true, ..ONCE }, &batch);
            prop_assert_eq!(both, maps(ONCE, &batch));
        }

        #[test]
        fn the_prediction_is_as_large_as_the_label_map(height in 1usize..9, width in 1usize..9) {
            let mut batch = batch(1, 5, 7);
            batch.targets[0].semantic = Some(GrayImage::new(width as u32, height as u32));
            let scales = Views { flip: true, scales: &[0.5, 1.0, 1.7] };
            prop_assert_eq!(maps(scales, &batch)[0].dimensions(), (width as u32, height as u32));
        }
    }

    #[test]
    fn every_view_is_shown_at_its_size() {
        let mut shown = Vec::new();
        let views = Views { flip: true, scales: &[0.5, 1.5, 0.01] };
        let found = views.maps(&batch(1, 4, 7), |_, image| {
            shown.push((image.height, image.width));
            Ok(by_pixel(&image))
        });
        assert_eq!(found.unwrap()[0].dimensions(), (7, 4));
        assert_eq!(shown, [(2, 4), (2, 4), (6, 11), (6, 11), (1, 1), (1, 1)]);
    }

    #[test]
    fn probabilities_are_averaged_and_not_logits() {
        // The first view is sure of class 0, the others lean to class 1; by the logits' sum class 0 would
        // win.
        let mut logits = [[9.0, 0.0], [0.0, 2.0], [0.0, 2.0]].into_iter();
        let views = Views { flip: false, scales: &[1.0, 1.0, 1.0] };
        let one = |logits: [f32; 2]| Scores { values: logits.to_vec(), height: 1, width: 1, classes: 2 };
        let found = views.maps(&batch(1, 1, 1), |_, _| Ok(one(logits.next().unwrap()))).unwrap();
        assert_eq!(found[0].as_raw(), &[1]);
    }

    #[test]
    fn label_maps_of_one_batch_may_differ_in_size() {
        let mut batch = batch(2, 2, 2);
        batch.targets[1].semantic = Some(GrayImage::new(3, 2));
        let sizes: Vec<_> = maps(ONCE, &batch).iter().map(GrayImage::dimensions).collect();
        assert_eq!(sizes, [(2, 2), (3, 2)]);
    }
}
