//! The gradient of a step: of its batches, and of all processes.

use crate::distributed::tree::TreeSum;
use crate::distributed::{CommunicationError, Communicator, Reduction};
use crate::nn::backend::elementwise::add_assign;
use crate::nn::backend::{Buffer, Values, zeros};
use crate::nn::{Param, Result};

/// The gradients of all parameters, in their order; none of those that no loss depends on.
type Gradients = Vec<Option<Buffer>>;

/// Gradients of the batches of a step, which a backward adds to the parameters'.
pub struct GradientSum {
    /// Of batches whose gradients are added up in pairs; otherwise every backward adds to what is there.
    tree: Option<TreeSum<Gradients>>,
}

impl GradientSum {
    /// Of so many batches. The gradient of one alone stays where it is.
    pub fn new(reduction: Reduction, batches: usize) -> Self {
        Self { tree: (reduction == Reduction::Tree && batches > 1).then(TreeSum::default) }
    }

    /// Takes in what the backward of a batch has left at the parameters.
    ///
    /// # Errors
    /// If the device fails.
    pub fn add(&mut self, params: &[Param]) -> Result<()> {
        let Some(tree) = &mut self.tree else { return Ok(()) };
        tree.push(params.iter().map(Param::take_grad).collect(), add)
    }

    /// Leaves the sum at the parameters.
    ///
    /// # Errors
    /// If the device fails.
    pub fn finish(self, params: &[Param]) -> Result<()> {
        let sum = self.tree.map_or(Ok(None), |tree| tree.finish(add))?;
        for (param, gradient) in params.iter().zip(sum.into_iter().flatten()) {
            gradient.map_or(Ok(()), |gradient| param.add_grad(gradient))?;
        }
        Ok(())
    }
}

fn add(sum: &mut Gradients, term: Gradients) -> Result<()> {
    for (sum, term) in sum.iter_mut().zip(term) {
        match (&mut *sum, term) {
            (Some(sum), Some(term)) => add_assign(sum, &term)?,
            (None, Some(term)) => *sum = Some(term),
            (_, None) => {}
        }
    }
    Ok(())
}

/// Which parameters have a gradient.
pub fn present(params: &[Param]) -> Vec<bool> {
    params.iter().map(|param| param.grad().is_some()).collect()
}

/// Adds up the gradients of all processes, of the parameters that have one in any of them.
///
/// # Errors
/// If a process cannot be reached, or the device fails.
pub fn all_reduce(
    params: &[Param],
    present: &[Vec<bool>],
    communicator: &dyn Communicator,
    reduction: Reduction,
) -> std::result::Result<(), CommunicationError> {
    let is_anywhere = |at: usize| present.iter().any(|of_process| of_process[at]);
    let reduced = params.iter().enumerate().filter(|(at, _)| is_anywhere(*at));
    let mut gradients = Vec::new();
    for (_, param) in reduced {
        let gradient = param.take_grad().map_or_else(|| zeros(param.numel()), Ok)?;
        gradients.push((param, gradient));
    }
    let values: Vec<&mut Values> = gradients.iter_mut().map(|(_, gradient)| &mut **gradient).collect();
    communicator.all_reduce(values, reduction)?;
    for (param, gradient) in gradients {
        param.add_grad(gradient)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::backend::upload;
    use crate::nn::{Init, Scope};

    /// Terms whose sum depends on the order: the large ones take what is small.
    const TERMS: [f32; 4] = [1.0, 1e8, -1e8, 1.0];

    fn sum(reduction: Reduction) -> Option<f32> {
        let scope = Scope::new(0);
        let (param, unused) =
            (scope.param("w", &[1], &Init::ZEROS), scope.param("unused", &[1], &Init::ZEROS));
        let params = [param, unused];
        let mut sum = GradientSum::new(reduction, TERMS.len());
        for term in TERMS {
            params[0].add_grad(upload(vec![term]).unwrap()).unwrap();
            sum.add(&params).unwrap();
        }
        sum.finish(&params).unwrap();
        assert!(params[1].grad().is_none());
        params[0].take_grad().map(|gradient| crate::nn::backend::download(&gradient).unwrap()[0])
    }

    #[test]
    fn a_tree_adds_up_in_pairs_and_else_batch_after_batch() {
        assert_eq!(sum(Reduction::Tree), Some((1.0 + 1e8) + (-1e8 + 1.0)));
        assert_eq!(sum(Reduction::Fast), Some(((1.0 + 1e8) + -1e8) + 1.0));
        assert_ne!(sum(Reduction::Tree), sum(Reduction::Fast));
    }
}
