//! The pretraining loss over a whole dataset.

use convmae_framework::component::{Evaluator, Measured, Meter, MeterError, Needs};
use convmae_framework::data::Batch;
use convmae_framework::metrics::WeightedMean;
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

/// Means of losses weighted by images.
#[derive(Default)]
struct LossMeter(Vec<(String, WeightedMean)>);

impl Meter for LossMeter {
    fn update(&mut self, measured: Measured<'_>, batch: &Batch) -> Result<(), MeterError> {
        let Measured::Losses(losses) = measured else { return Err(MeterError::NotNeeded) };
        for (name, loss) in losses {
            let at = self.0.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                self.0.push((name.clone(), WeightedMean::default()));
                self.0.len() - 1
            });
            self.0[at].1.add(*loss, batch.len());
        }
        Ok(())
    }

    fn finish(&self) -> Vec<(String, f64)> {
        self.0.iter().filter_map(|(name, mean)| Some((name.clone(), mean.mean()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convmae_framework::data::{Batch, Normalization};

    fn batch(images: usize) -> Batch {
        Batch::new(
            Vec::new(),
            (0, 0),
            Normalization { mean: [0.0; 3], std: [1.0; 3] },
            Vec::new(),
            vec![String::new(); images],
        )
    }

    #[test]
    fn a_smaller_last_batch_counts_by_its_images() {
        let mut meter = ReconstructionLoss {}.meter();
        meter.update(Measured::Losses(&[("loss".to_owned(), 1.0)]), &batch(3)).unwrap();
        meter.update(Measured::Losses(&[("loss".to_owned(), 5.0)]), &batch(1)).unwrap();
        assert_eq!(meter.finish(), [("loss".to_owned(), 2.0)]);
    }
}
