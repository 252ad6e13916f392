//! What heads of semantic segmentation have in common: maps to logits, the loss, the predictions
//! (mmsegmentation's `BaseDecodeHead`).

use std::rc::Rc;

use convmae_framework::component::{Loss, PixelLogits, Prediction, Semantic};
use convmae_framework::data::{Batch, IGNORED};
use convmae_framework::nn::cpu::argmax::argmax;
use convmae_framework::nn::layers::{Conv2d, Dropout2d, Window};
use convmae_framework::nn::ops::{self, ClassTarget, Criterion, Reduction};
use convmae_framework::nn::{self, Context, Error, Init, Scope, Tape, Tensor};
use image::GrayImage;
use rayon::prelude::*;

/// Dropout, a 1x1 convolution to logits (`conv_seg`), and cross entropy on logits as large as the image.
#[derive(Debug)]
pub(super) struct PixelClassifier {
    dropout: Dropout2d,
    conv_seg: Conv2d,
    criterion: Criterion,
}

impl PixelClassifier {
    pub fn new(scope: &Scope, channels: usize, num_classes: usize, dropout: f32) -> Self {
        Self {
            dropout: Dropout2d { probability: dropout },
            conv_seg: Conv2d::with_init(
                &scope.child("conv_seg"),
                channels,
                num_classes,
                1,
                Window::default(),
                &Init::Normal { std: 0.01 },
                Some(&Init::ZEROS),
            ),
            criterion: Criterion { reduction: Reduction::AllRows, ..Criterion::default() },
        }
    }

    /// With a weight for each class, if there are any.
    pub fn weighted(mut self, class_weight: Option<Rc<[f32]>>) -> Self {
        self.criterion.class_weight = class_weight;
        self
    }

    /// `[B, H, W, C]` to logits `[B, H, W, K]`.
    pub fn logits(&self, x: Tensor, ctx: &Context) -> nn::Result<Tensor> {
        let logits = self.conv_seg.forward(self.dropout.forward(x, ctx)?, ctx)?;
        // As hooks of the official module would: two heads have two of them.
        ctx.record(self.conv_seg.weight.name().trim_end_matches(".weight"), &logits)?;
        Ok(logits)
    }

    /// The cross entropy (`loss_seg`), summed over the labelled pixels, times the weights of their classes, and
    /// divided by the number of all, as mmsegmentation 0.11 does; and the share of all pixels that are right,
    /// in percent (`acc_seg`), which is only shown.
    pub fn losses(&self, logits: Tensor, batch: &Batch) -> nn::Result<Vec<Loss>> {
        let logits = ops::resize_bilinear(logits, (batch.height, batch.width))?;
        let (_, _, _, classes) = logits.dims4()?;
        let targets = targets(batch, classes)?;
        let correct = correct(&logits.to_vec()?, classes, &targets);
        let accuracy = 100.0 * correct as f32 / targets.len() as f32;
        let loss = ops::cross_entropy(logits, &targets, &self.criterion)?;
        let accuracy = Tensor::from_vec(vec![accuracy], (), &Tape::none())?;
        Ok(vec![
            Loss::new("loss_seg", loss),
            Loss { name: "acc_seg".to_owned(), weight: 0.0, value: accuracy },
        ])
    }

    /// Multiply-accumulates for that many positions.
    pub fn macs(&self, positions: usize) -> u64 {
        self.conv_seg.macs(positions)
    }
}

/// Logits as large as the images of the batch, and the maps of the largest.
pub(super) fn prediction(logits: Tensor, batch: &Batch) -> nn::Result<Prediction> {
    let logits = ops::resize_bilinear(logits, (batch.height, batch.width))?;
    let (_, height, width, classes) = logits.dims4()?;
    let logits = PixelLogits { values: logits.to_vec()?, height, width, classes };
    Ok(Prediction::Semantic(Semantic::of(logits, batch)))
}

/// What the pixels of a batch are, where that is known: of padding it is not.
fn targets(batch: &Batch, classes: usize) -> nn::Result<Vec<Option<ClassTarget>>> {
    let mut targets = Vec::with_capacity(batch.len() * batch.height * batch.width);
    for ((id, target), &size) in batch.ids.iter().zip(&batch.targets).zip(&batch.sizes) {
        let Some(map) = &target.semantic else {
            return Err(Error::Value(format!(
                "{id}: the image has no label map; segmentation is trained on them"
            )));
        };
        let found = [map.height() as usize, map.width() as usize];
        if found != size {
            return Err(Error::Shape(format!(
                "{id}: the label map is {} x {}, the image {} x {}",
                found[0], found[1], size[0], size[1]
            )));
        }
        check_labels(id, map, classes)?;
        let target = |&label: &u8| (label != IGNORED).then(|| ClassTarget::of(u32::from(label)));
        for row in map.as_raw().chunks_exact(size[1]) {
            targets.extend(row.iter().map(target));
            targets.extend(std::iter::repeat_n(None, batch.width - size[1]));
        }
        targets.extend(std::iter::repeat_n(None, (batch.height - size[0]) * batch.width));
    }
    Ok(targets)
}

/// That all labels are classes.
fn check_labels(id: &str, map: &GrayImage, classes: usize) -> nn::Result<()> {
    let beyond = |label: u8| label != IGNORED && usize::from(label) >= classes;
    let Some(at) = map.as_raw().iter().position(|&label| beyond(label)) else { return Ok(()) };
    let width = map.width() as usize;
    Err(Error::Value(format!(
        "{id}: the label at row {}, column {} is {}; the classes are 0 to {}, and {IGNORED} is ignored",
        at / width,
        at % width,
        map.as_raw()[at],
        classes - 1
    )))
}

fn correct(logits: &[f32], classes: usize, targets: &[Option<ClassTarget>]) -> usize {
    let rows = logits.par_chunks_exact(classes).zip(targets);
    rows.filter(|(logits, target)| target.is_some_and(|target| target.class as usize == argmax(logits)))
        .count()
}

#[cfg(test)]
mod tests {
    use convmae_framework::data::{Normalization, Target};
    use convmae_framework::random::{Purpose, stream};

    use super::*;

    /// Images of 2 x 3 pixels with label maps.
    fn batch(maps: &[Option<(u32, u32, &[u8])>]) -> Batch {
        let map =
            |(height, width, labels): (u32, u32, &[u8])| GrayImage::from_raw(width, height, labels.to_vec());
        let target = |given: &Option<_>| Target { semantic: given.and_then(map), ..Target::default() };
        Batch::new(
            Vec::new(),
            (2, 3),
            Normalization::identity(3),
            maps.iter().map(target).collect(),
            (0..maps.len()).map(|image| format!("{image}.jpg")).collect(),
        )
    }

    fn classifier() -> PixelClassifier {
        PixelClassifier::new(&Scope::new(0), 4, 3, 0.1)
    }

    fn logits(values: &[f32]) -> Tensor {
        Tensor::from_vec(values.to_vec(), (values.len() / 18, 2, 3, 3), &Tape::none()).unwrap()
    }

    fn refusal(maps: &[Option<(u32, u32, &[u8])>]) -> String {
        let zeros = vec![0.0; maps.len() * 18];
        classifier().losses(logits(&zeros), &batch(maps)).err().unwrap().to_string()
    }

    #[test]
    fn a_label_beyond_the_classes_is_named_with_its_place() {
        let message = refusal(&[Some((2, 3, &[0; 6])), Some((2, 3, &[0, 255, 2, 1, 3, 9]))]);
        let expected = "1.jpg: the label at row 1, column 1 is 3; the classes are 0 to 2, and 255 is ignored";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn a_label_map_of_another_size_and_a_missing_one_are_named() {
        let message = refusal(&[Some((3, 2, &[0; 6]))]);
        assert!(message.contains("0.jpg: the label map is 3 x 2, the image 2 x 3"), "{message}");
        assert!(refusal(&[None]).contains("0.jpg: the image has no label map"));
    }

    #[test]
    fn ignored_pixels_count_in_the_mean_and_as_wrong() {
        // Every pixel is certainly of class 1.
        let certain: Vec<f32> = [0.0, 1000.0, 0.0].repeat(6);
        let losses = |labels: &[u8]| {
            let losses = classifier().losses(logits(&certain), &batch(&[Some((2, 3, labels))])).unwrap();
            losses.iter().map(|loss| loss.value.to_vec().unwrap()[0]).collect::<Vec<_>>()
        };
        assert_eq!(losses(&[1; 6]), [0.0, 100.0]);
        assert_eq!(losses(&[1, 1, 1, 255, 255, 255]), [0.0, 50.0]);
        assert_eq!(losses(&[0, 1, 1, 1, 255, 255]), [1000.0 / 6.0, 50.0]);
        assert_eq!(losses(&[255; 6]), [0.0, 0.0]);
    }

    /// `class_weight` of mmsegmentation's `CrossEntropyLoss`: every pixel counts as its class weighs, and the
    /// mean is over all pixels.
    #[test]
    fn pixels_count_as_their_classes_weigh() {
        let certain: Vec<f32> = [0.0, 1000.0, 0.0].repeat(6);
        let classifier = classifier().weighted(Some([0.25, 3.0, 0.0].into()));
        let loss = |labels: &[u8]| {
            let losses = classifier.losses(logits(&certain), &batch(&[Some((2, 3, labels))])).unwrap();
            losses[0].value.to_vec().unwrap()[0]
        };
        assert_eq!(loss(&[0, 0, 1, 1, 2, 255]), 2.0 * 0.25 * 1000.0 / 6.0);
        assert_eq!(loss(&[2, 2, 2, 255, 255, 255]), 0.0);
    }

    #[test]
    fn padding_counts_as_ignored_pixels_do_and_is_not_predicted() {
        let values: Vec<f32> = (0..18).map(|at| (at as f32 * 1.3).sin()).collect();
        let losses = |batch: &Batch| {
            let losses = classifier().losses(logits(&values), batch).unwrap();
            losses.iter().map(|loss| loss.value.to_vec().unwrap()[0]).collect::<Vec<_>>()
        };
        let mut padded = batch(&[Some((1, 2, &[1, 2]))]);
        padded.sizes[0] = [1, 2];
        assert_eq!(losses(&padded), losses(&batch(&[Some((2, 3, &[1, 2, 255, 255, 255, 255]))])));
        let found = prediction(logits(&values), &padded).unwrap();
        let Prediction::Semantic(Semantic { maps, .. }) = found else { panic!("{found:?}") };
        assert_eq!(maps[0].dimensions(), (2, 1));
    }

    #[test]
    fn predictions_are_as_large_as_the_images_and_their_argmax() {
        let ctx = Context::eval(stream(Purpose::Evaluate, &[0]));
        let maps = Tensor::from_vec((0..8).map(|i| i as f32).collect(), (1, 1, 2, 4), &Tape::none()).unwrap();
        let classifier = classifier();
        let small = classifier.logits(maps, &ctx).unwrap();
        let found = prediction(small, &batch(&[None])).unwrap();
        let Prediction::Semantic(Semantic { maps, logits: Some(logits) }) = found else {
            panic!("{found:?}")
        };
        assert_eq!((logits.height, logits.width, logits.classes), (2, 3, 3));
        assert_eq!((maps.len(), maps[0].dimensions()), (1, (3, 2)));
        for (class, logits) in maps[0].as_raw().iter().zip(logits.values.chunks(3)) {
            assert!(logits.iter().all(|&logit| logit <= logits[*class as usize]));
        }
    }
}
