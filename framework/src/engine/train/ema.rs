//! An exponential moving average of the parameters.

use rayon::prelude::*;

use crate::nn::kernels::elementwise::CHUNK;
use crate::nn::{Param, ParamKind, Result};
use crate::weights::TensorMap;

use super::tensors::{restore_values, tensors};

/// The averages, in the order of the parameters. Running statistics are copied, not averaged.
pub struct EmaState {
    decay: f64,
    averages: Vec<Vec<f32>>,
}

impl EmaState {
    /// Averages that start at the parameters.
    pub fn new(params: &[Param], decay: f64) -> Self {
        Self { decay, averages: params.iter().map(|param| param.values().to_vec()).collect() }
    }

    /// Takes in the parameters after an optimizer step.
    pub fn update(&mut self, params: &[Param]) {
        let (keep, take) = (self.decay as f32, (1.0 - self.decay) as f32);
        for (param, average) in params.iter().zip(&mut self.averages) {
            let values = param.values();
            match param.kind() {
                ParamKind::Trainable => {
                    average.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(
                        |(average, values)| {
                            for (average, value) in average.iter_mut().zip(values) {
                                *average = keep * *average + take * value;
                            }
                        },
                    );
                }
                ParamKind::Frozen | ParamKind::Buffer => average.copy_from_slice(&values),
            }
        }
    }

    /// Runs `evaluate` with the averages in place of the parameters.
    pub fn swapped<R>(&mut self, params: &[Param], evaluate: impl FnOnce() -> R) -> R {
        self.swap(params);
        let result = evaluate();
        self.swap(params);
        result
    }

    /// The averages under the parameters' names.
    pub fn tensors(&self, params: &[Param]) -> TensorMap {
        tensors(params.iter().zip(self.averages.iter().map(Vec::as_slice)))
    }

    /// Restores the averages.
    pub fn restore(&mut self, params: &[Param], saved: &TensorMap) -> Result<()> {
        for (param, average) in params.iter().zip(&mut self.averages) {
            *average = restore_values(param, saved)?;
        }
        Ok(())
    }

    fn swap(&mut self, params: &[Param]) {
        for (param, average) in params.iter().zip(&mut self.averages) {
            param.update(|values| values.swap_with_slice(average));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Init, Scope};

    #[test]
    fn averages_move_towards_the_parameters_and_swap_back() {
        let scope = Scope::new(0);
        let param = scope.param("w", &[1], &Init::ZEROS);
        let params = scope.params();
        let mut ema = EmaState::new(&params, 0.75);
        param.set(&[4.0]).unwrap();
        ema.update(&params);
        let inside = ema.swapped(&params, || param.values()[0]);
        assert_eq!((inside, param.values()[0]), (1.0, 4.0));
    }
}
