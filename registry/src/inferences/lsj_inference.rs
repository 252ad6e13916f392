//! Detections for images that were padded to a square.

use convmae_framework::component::{ImageShape, Inference, Predict, Prediction, Problem, TaskKind};
use convmae_framework::data::Batch;
use convmae_framework::nn::{self, Error};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Puts detections into images that the transforms have resized and then padded to a square, as large-scale jitter does: both sides
/// of a box are scaled by the larger ratio of the image as it was read to the padded one (`lsj_postprocess` of the official
/// detection code). Without an inference each side is scaled by its own ratio, which is right for `pad_to`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LsjInference {}

#[typetag::serde]
impl Inference for LsjInference {
    fn task(&self) -> TaskKind {
        TaskKind::Detect
    }

    fn check(&self, _: ImageShape) -> Result<(), Problem> {
        Ok(())
    }

    fn predict(&self, batch: &Batch, _: ImageShape, model: &mut Predict<'_>) -> nn::Result<Prediction> {
        let Prediction::Instances(found) = model(batch)? else {
            return Err(Error::Value("what was predicted are no objects".to_owned()));
        };
        let sizes = batch.sizes.iter().zip(&batch.originals);
        let rescaled = found.into_iter().zip(sizes).map(|(regions, (size, original))| {
            let [down, across] = original.scale(*size);
            regions.rescale([down.max(across); 2], original.size)
        });
        Ok(Prediction::Instances(rescaled.collect()))
    }
}

convmae_framework::register!(Inference: LsjInference);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use convmae_framework::component::Regions;

    use super::super::testing::batch;
    use super::*;
    use crate::detection::testing::{Golden, assert_near};

    #[test]
    fn boxes_are_those_of_the_official_postprocessing() {
        let golden = Golden::read("detections");
        for at in 0..2 {
            let mut batch = batch(1, 256, 256);
            batch.originals[0].size = golden.indices(&format!("out_hw_{at}")).try_into().unwrap();
            let boxes = golden.boxes(&format!("det_boxes_{at}"));
            // Their numbers, to see which are left.
            let classes = (0..boxes.len() as u32).collect();
            let found = Regions { boxes, classes, ..Regions::default() };
            let image = ImageShape { channels: 3, height: 256, width: 256 };
            let mut model = |_: &Batch| Ok(Prediction::Instances(vec![found.clone()]));
            let rescaled = LsjInference {}.predict(&batch, image, &mut model).unwrap();
            let Prediction::Instances(rescaled) = rescaled else { panic!("detections stay detections") };
            let kept: Vec<_> = rescaled[0].classes.iter().map(|&number| number as usize).collect();
            assert_eq!(kept, golden.indices(&format!("lsj_keep_{at}")));
            let expected = golden.floats(&format!("lsj_boxes_{at}"));
            assert_near("boxes", rescaled[0].boxes.as_flattened(), &expected, 1e-6);
        }
    }
}
