//! The gradient of a step over the batches of a process.

use std::cell::RefCell;

use crate::distributed::Reduction;
use crate::distributed::tree::TreeSum;
use crate::nn::backend::Buffer;
use crate::nn::backend::elementwise::add_assign;
use crate::nn::{Param, Result};

/// The gradients of a parameter; none of a batch whose loss does not depend on it.
type Terms = TreeSum<Option<Buffer>>;

/// Gradients of the batches of a step, which a backward adds to the parameters'.
pub struct GradientSum {
    params: Vec<Param>,
    /// Of every parameter, if they are added up in pairs, until it has its sum; otherwise every backward adds to what is there.
    trees: RefCell<Vec<Option<Terms>>>,
}

impl GradientSum {
    /// Of so many batches. The gradient of one alone stays where it is.
    pub fn new(params: &[Param], reduction: Reduction, batches: usize) -> Self {
        let in_pairs = reduction == Reduction::Tree && batches > 1;
        let trees =
            if in_pairs { params.iter().map(|_| Some(Terms::default())).collect() } else { Vec::new() };
        Self { params: params.to_vec(), trees: RefCell::new(trees) }
    }

    /// Takes in what the backward of a batch has left at the parameters that have no sum yet.
    ///
    /// # Errors
    /// If the device fails.
    pub fn add(&self) -> Result<()> {
        let mut trees = self.trees.borrow_mut();
        let mut open = self.params.iter().zip(trees.iter_mut());
        open.try_for_each(|(param, tree)| {
            tree.as_mut().map_or(Ok(()), |tree| tree.push(param.take_grad(), add))
        })
    }

    /// Takes in what the backward of the last batch has left at one parameter, and leaves the sum there.
    ///
    /// # Errors
    /// If the device fails.
    pub fn add_last(&self, place: usize) -> Result<()> {
        let tree = self.trees.borrow_mut().get_mut(place).and_then(Option::take);
        let Some(mut tree) = tree else { return Ok(()) };
        tree.push(self.params[place].take_grad(), add)?;
        leave(tree, &self.params[place])
    }

    /// Leaves the sum at the parameters that have none yet.
    ///
    /// # Errors
    /// If the device fails.
    pub fn finish(&self) -> Result<()> {
        let mut trees = self.trees.borrow_mut();
        let mut open = self.params.iter().zip(trees.iter_mut());
        open.try_for_each(|(param, tree)| tree.take().map_or(Ok(()), |tree| leave(tree, param)))
    }
}

fn leave(tree: Terms, param: &Param) -> Result<()> {
    if let Some(sum) = tree.finish(add)?.flatten() {
        param.put_grad(sum);
    }
    Ok(())
}

fn add(sum: &mut Option<Buffer>, term: Option<Buffer>) -> Result<()> {
    match (&mut *sum, term) {
        (Some(sum), Some(term)) => add_assign(sum, &term)?,
        (None, term) => *sum = term,
        (Some(_), None) => {}
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

    /// With `early` the parameter has its sum before the backward of the last batch is done.
    fn sum(reduction: Reduction, early: bool) -> Option<f32> {
        let scope = Scope::new(0);
        let (param, unused) =
            (scope.param("w", &[1], &Init::ZEROS), scope.param("unused", &[1], &Init::ZEROS));
        let params = [param, unused];
        let sum = GradientSum::new(&params, reduction, TERMS.len());
        for (at, term) in TERMS.into_iter().enumerate() {
            params[0].add_grad(upload(vec![term]).unwrap()).unwrap();
            if early && at + 1 == TERMS.len() {
                sum.add_last(0).unwrap();
            }
            sum.add().unwrap();
        }
        sum.finish().unwrap();
        assert!(params[1].grad().is_none());
        params[0].take_grad().map(|gradient| crate::nn::backend::download(&gradient).unwrap()[0])
    }

    #[test]
    fn a_tree_adds_up_in_pairs_and_else_batch_after_batch() {
        for early in [false, true] {
            assert_eq!(sum(Reduction::Tree, early), Some((1.0 + 1e8) + (-1e8 + 1.0)));
            assert_eq!(sum(Reduction::Fast, early), Some(((1.0 + 1e8) + -1e8) + 1.0));
        }
        assert_ne!(sum(Reduction::Tree, false), sum(Reduction::Fast, false));
    }
}
