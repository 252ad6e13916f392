//! The pretraining loss over a whole dataset.

use convmae_framework::component::{Evaluator, Meter, Needs, Predictions};
use convmae_framework::data::Batch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The heads' losses, averaged over all images of the validation set (every image has as many masked patches).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconstructionLoss {}

#[typetag::serde]
impl Evaluator for ReconstructionLoss {
    fn needs(&self) -> Needs {
        Needs::Losses
    }

    fn meter(&self) -> Box<dyn Meter> {
        Box::new(LossMeter::default())
    }

    fn best(&self) -> (&'static str, bool) {
        ("loss", false)
    }
}

convmae_framework::register!(Evaluator: ReconstructionLoss);

/// Sums of losses weighted by images.
#[derive(Default)]
struct LossMeter {
    sums: Vec<(String, f64)>,
    images: usize,
}

impl Meter for LossMeter {
    fn update(&mut self, losses: &[(String, f64)], _: &[(String, Predictions)], batch: &Batch) {
        self.images += batch.len();
        for (name, loss) in losses {
            let weighted = loss * batch.len() as f64;
            match self.sums.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += weighted,
                None => self.sums.push((name.clone(), weighted)),
            }
        }
    }

    fn finish(&self) -> Vec<(String, f64)> {
        self.sums.iter().map(|(name, sum)| (name.clone(), sum / self.images as f64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convmae_framework::data::{Batch, Normalization};

    fn batch(images: usize) -> Batch {
        Batch {
            images: Vec::new(),
            height: 0,
            width: 0,
            normalization: Normalization { mean: [0.0; 3], std: [1.0; 3] },
            targets: Vec::new(),
            ids: vec![String::new(); images],
        }
    }

    #[test]
    fn a_smaller_last_batch_counts_by_its_images() {
        let mut meter = ReconstructionLoss {}.meter();
        meter.update(&[("loss".to_owned(), 1.0)], &[], &batch(3));
        meter.update(&[("loss".to_owned(), 5.0)], &[], &batch(1));
        assert_eq!(meter.finish(), [("loss".to_owned(), 2.0)]);
    }
}
