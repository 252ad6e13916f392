//! The pretraining loss over a whole dataset.

use convmae_framework::component::{Evaluator, Measured, Meter, MeterError, Needs};
use convmae_framework::data::Batch;
use convmae_framework::metrics::{WeightedMean, state};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The heads' losses, averaged over all images of the validation set (every image has as many masked
/// patches).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconstructionLoss {}

#[typetag::serde]
impl Evaluator for ReconstructionLoss {
    fn needs(&self) -> Needs {
        Needs::Losses
    }

    fn meter(&self, _: &[String]) -> Box<dyn Meter> {
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
        losses.iter().for_each(|(name, loss)| self.mean(name).add(*loss, batch.len()));
        Ok(())
    }

    fn state(&self) -> Vec<u8> {
        state::write(&self.0)
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), MeterError> {
        let others: Vec<(String, WeightedMean)> = state::read(state)?;
        others.iter().for_each(|(name, mean)| self.mean(name).merge(mean));
        Ok(())
    }

    fn finish(&self) -> Vec<(String, f64)> {
        self.0.iter().filter_map(|(name, mean)| Some((name.clone(), mean.mean()?))).collect()
    }
}

impl LossMeter {
    /// The mean of a loss; the names stay in the order in which they came.
    fn mean(&mut self, name: &str) -> &mut WeightedMean {
        let at = self.0.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.0.push((name.to_owned(), WeightedMean::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convmae_framework::data::{Batch, Normalization};

    fn batch(images: usize) -> Batch {
        Batch::new(Vec::new(), (0, 0), Normalization::identity(3), Vec::new(), vec![String::new(); images])
    }

    #[test]
    fn a_smaller_last_batch_counts_by_its_images() {
        let mut meter = ReconstructionLoss {}.meter(&[]);
        meter.update(Measured::Losses(&[("loss".to_owned(), 1.0)]), &batch(3)).unwrap();
        meter.update(Measured::Losses(&[("loss".to_owned(), 5.0)]), &batch(1)).unwrap();
        assert_eq!(meter.finish(), [("loss".to_owned(), 2.0)]);
    }

    #[test]
    fn merged_halves_equal_the_whole() {
        let losses =
            |loss: f64| [("loss".to_owned(), loss), ("decoder.reconstruction".to_owned(), 2.0 * loss)];
        // Of whole numbers, whose sums are exact.
        let meter = |batches: &[(f64, usize)]| {
            let mut meter = ReconstructionLoss {}.meter(&[]);
            for &(loss, images) in batches {
                meter.update(Measured::Losses(&losses(loss)), &batch(images)).unwrap();
            }
            meter
        };
        let mut merged = meter(&[(1.0, 3), (6.0, 4)]);
        merged.merge(&meter(&[(5.0, 1)]).state()).unwrap();
        assert_eq!(merged.finish(), meter(&[(1.0, 3), (6.0, 4), (5.0, 1)]).finish());
        // One that has seen nothing takes the names of the other.
        let mut empty = meter(&[]);
        empty.merge(&merged.state()).unwrap();
        assert_eq!(empty.finish(), merged.finish());
        assert!(matches!(empty.merge(b"?"), Err(MeterError::State(_))));
    }
}
