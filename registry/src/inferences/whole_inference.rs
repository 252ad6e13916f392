use convmae_framework::component::{ImageShape, Inference, Predict, Prediction, Problem, TaskKind};
use convmae_framework::data::Batch;
use convmae_framework::nn;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::image::Image;
use super::model::Model;
use super::scores::Scores;
use super::unscaled;
use super::views::Views;

/// Predicts classes of pixels of whole images: one that is not of the model's `image_size` is resized to it
/// bilinearly, whatever its proportions, and the logits are resized bilinearly to the label map.
/// (mmsegmentation's `whole` mode has the model take the image at its own size, which this project's models
/// do not.)
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WholeInference {
    /// Whether every image is shown flipped as well; the probabilities are averaged.
    pub flip: bool,
    /// Multiples of its size at which every image is shown before it is resized to `image_size`; the
    /// probabilities are averaged.
    #[schemars(length(min = 1), inner(range(min = 0.125, max = 8.0)))]
    pub scales: Vec<f32>,
}

impl Default for WholeInference {
    fn default() -> Self {
        Self { flip: false, scales: unscaled() }
    }
}

#[typetag::serde]
impl Inference for WholeInference {
    fn task(&self) -> TaskKind {
        TaskKind::Segment
    }

    fn check(&self, _: ImageShape) -> Result<(), Problem> {
        Ok(())
    }

    fn predict(&self, batch: &Batch, image: ImageShape, model: &mut Predict<'_>) -> nn::Result<Prediction> {
        let views = Views { flip: self.flip, scales: &self.scales };
        views.infer(batch, image, model, whole)
    }
}

convmae_framework::register!(Inference: WholeInference);

/// The logits of an image that shows image `of` of the model's batch, as large as the model's images.
fn whole(image: Image, of: usize, model: &mut Model<'_>) -> nn::Result<Scores> {
    let (height, width) = model.size();
    let (values, classes) = model.logits(of, image.resized(height, width)?.values, 1)?;
    Ok(Scores { values, height, width, classes })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use convmae_framework::data::Size;
    use image::GrayImage;
    use proptest::prelude::*;

    use super::super::SlideInference;
    use super::super::testing::{batch, maps, predict_by_pixel};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn an_image_of_the_models_size_is_the_same_in_windows_and_whole(
            (height, width, stride) in (1usize..12, 1usize..12, 1usize..12),
            (rows, cols) in (1u32..12, 1u32..12),
        ) {
            let mut batch = batch(1, height, width);
            batch.targets[0].semantic = Some(GrayImage::new(cols, rows));
            let image = ImageShape { channels: 3, height, width };
            let slide = SlideInference {
                stride: Size::Single(stride.min(height).min(width)), flip: true, scales: unscaled(), windows_per_batch: 2,
            };
            let slide = slide.predict(&batch, image, &mut predict_by_pixel).unwrap();
            let flipped = WholeInference { flip: true, ..WholeInference::default() };
            let whole = flipped.predict(&batch, image, &mut predict_by_pixel).unwrap();
            prop_assert_eq!(maps(&whole)[0].dimensions(), (cols, rows));
            prop_assert_eq!(maps(&slide), maps(&whole));
        }
    }

    #[test]
    fn an_image_of_another_size_is_resized_to_the_models_and_its_prediction_back() {
        let image = ImageShape { channels: 3, height: 4, width: 4 };
        let mut model = |batch: &Batch| {
            assert_eq!((batch.len(), batch.height, batch.width), (1, 4, 4));
            predict_by_pixel(batch)
        };
        let found = WholeInference::default().predict(&batch(2, 6, 3), image, &mut model).unwrap();
        assert_eq!(maps(&found).len(), 2);
        assert!(maps(&found).iter().all(|map| map.dimensions() == (3, 6)));
    }
}
