//! What a forward pass needs besides its inputs: the tape, the mode, randomness, and a place to record what it computes.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::rc::Rc;

use rand::Rng as _;

use dfdx::shapes::HasShape as _;

use super::tensor::to_vec;
use super::{Result, Tape, Tensor};
use crate::random::Rng;

/// A recorded intermediate result: shape and values.
pub type Recorded = (Vec<usize>, Vec<f32>);

/// The circumstances of one forward pass.
pub struct Context {
    /// Where operations are recorded.
    pub tape: Tape,
    /// Training (dropout, stochastic depth and batch statistics are active) or evaluation.
    pub training: bool,
    rng: RefCell<Rng>,
    given: Rc<HashMap<String, Vec<f32>>>,
    records: Option<RefCell<Vec<(String, Recorded)>>>,
}

impl Context {
    /// A training step.
    pub fn train(rng: Rng) -> Self {
        Self {
            tape: Tape::new(),
            training: true,
            rng: RefCell::new(rng),
            given: Rc::default(),
            records: None,
        }
    }

    /// An evaluation: nothing is put on a tape.
    pub fn eval(rng: Rng) -> Self {
        Self { tape: Tape::none(), training: false, ..Self::train(rng) }
    }

    /// Uses these values where the pass would draw random ones of that name (`noise`).
    #[must_use]
    pub fn with_given(self, given: HashMap<String, Vec<f32>>) -> Self {
        Self { given: Rc::new(given), ..self }
    }

    /// Keeps what the modules [`record`](Self::record).
    #[must_use]
    pub fn recording(self) -> Self {
        Self { records: Some(RefCell::default()), ..self }
    }

    /// The generator of this pass.
    pub fn rng(&self) -> RefMut<'_, Rng> {
        self.rng.borrow_mut()
    }

    /// `numel` values drawn uniformly from `[0, 1)`, or the ones given under `name`.
    pub fn uniform(&self, name: &str, numel: usize) -> Vec<f32> {
        match self.given.get(name) {
            Some(values) if values.len() == numel => values.clone(),
            _ => {
                let mut rng = self.rng();
                (0..numel).map(|_| rng.random::<f32>()).collect()
            }
        }
    }

    /// Records an intermediate result under a name, if someone asked for it.
    pub fn record<S: dfdx::shapes::Shape>(&self, name: &str, tensor: &Tensor<S>) -> Result<()> {
        if let Some(records) = &self.records {
            let shape = tensor.shape().concrete().into_iter().collect();
            records.borrow_mut().push((name.to_owned(), (shape, to_vec(tensor)?)));
        }
        Ok(())
    }

    /// What was recorded, in order.
    pub fn into_records(self) -> Vec<(String, Recorded)> {
        self.records.map(RefCell::into_inner).unwrap_or_default()
    }
}
