//! An exponential moving average of the parameters.

use crate::nn::backend::ema::{EmaTensor, ema};
use crate::nn::backend::{Buffer, copy, upload};
use crate::nn::{Param, ParamKind, Result};
use crate::weights::TensorMap;

use super::tensors::{restore_values, tensor};

/// The averages, in the order of the parameters. Running statistics are copied, not averaged.
pub struct EmaState {
    decay: f64,
    averages: Vec<Buffer>,
}

impl EmaState {
    /// Averages that start at the parameters.
    pub fn new(params: &[Param], decay: f64) -> Result<Self> {
        let averages = params.iter().map(|param| copy(&param.values())).collect::<Result<_>>()?;
        Ok(Self { decay, averages })
    }

    /// Takes in the parameters after an optimizer step.
    pub fn update(&mut self, params: &[Param]) -> Result<()> {
        let values: Vec<_> = params.iter().map(Param::values).collect();
        let tensors = params.iter().zip(&values).zip(&mut self.averages).map(|((param, values), average)| {
            let decay = if param.kind() == ParamKind::Trainable { self.decay } else { 0.0 };
            EmaTensor { average: &mut **average, values: &**values, decay }
        });
        ema(tensors.collect())
    }

    /// Runs `evaluate` with the averages in place of the parameters.
    pub fn swapped<R>(&mut self, params: &[Param], evaluate: impl FnOnce() -> R) -> R {
        self.swap(params);
        let result = evaluate();
        self.swap(params);
        result
    }

    /// The averages under the parameters' names.
    pub fn tensors(&self, params: &[Param]) -> Result<TensorMap> {
        params.iter().zip(&self.averages).map(|(param, average)| tensor(param, average)).collect()
    }

    /// Restores the averages.
    pub fn restore(&mut self, params: &[Param], saved: &TensorMap) -> Result<()> {
        for (param, average) in params.iter().zip(&mut self.averages) {
            *average = upload(restore_values(param, saved)?)?;
        }
        Ok(())
    }

    fn swap(&mut self, params: &[Param]) {
        params.iter().zip(&mut self.averages).for_each(|(param, average)| param.swap(average));
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
        let mut ema = EmaState::new(&params, 0.75).unwrap();
        param.set(&[4.0]).unwrap();
        ema.update(&params).unwrap();
        let inside = ema.swapped(&params, || param.to_vec().unwrap());
        assert_eq!((inside, param.to_vec().unwrap()), (vec![1.0], vec![4.0]));
    }
}
