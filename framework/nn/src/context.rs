//! What a forward pass needs besides its inputs: the tape, the mode, randomness, and a place to record what it computes.

use std::cell::{RefCell, RefMut};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use rand::Rng as _;

use super::{Error, Result, Shape, Tape, Tensor};
use crate::random::{self, Purpose, Rng};

/// A recorded intermediate result: shape and values.
pub type Recorded = (Vec<usize>, Vec<f32>);

/// Named results in the order of recording.
type Records = RefCell<Vec<(String, Recorded)>>;

/// The circumstances of one forward pass. Clones share the generator, what is given and what is recorded.
#[derive(Clone)]
pub struct Context {
    /// Where operations are recorded.
    pub tape: Tape,
    /// Training (dropout, stochastic depth and batch statistics are active) or evaluation.
    pub training: bool,
    /// Whether blocks keep their inputs alone and compute the rest again in the backward, `train.checkpoint_activations`.
    pub checkpoint_activations: bool,
    rng: Rc<RefCell<Rng>>,
    given: Rc<HashMap<String, Vec<f32>>>,
    used: Rc<RefCell<HashSet<String>>>,
    records: Option<Rc<Records>>,
}

impl Context {
    /// A training step.
    pub fn train(rng: Rng) -> Self {
        Self {
            tape: Tape::new(),
            training: true,
            checkpoint_activations: false,
            rng: Rc::new(RefCell::new(rng)),
            given: Rc::default(),
            used: Rc::default(),
            records: None,
        }
    }

    /// An evaluation: nothing is put on a tape.
    pub fn eval(rng: Rng) -> Self {
        Self { tape: Tape::none(), training: false, ..Self::train(rng) }
    }

    /// The same pass for a part that runs as in evaluation within a training step.
    #[must_use]
    pub fn frozen(&self, tape: Tape) -> Self {
        Self { tape, training: false, ..self.clone() }
    }

    /// Uses these values where the pass would draw random ones of that name (`noise`).
    #[must_use]
    pub fn with_given(self, given: HashMap<String, Vec<f32>>) -> Self {
        Self { given: Rc::new(given), ..self }
    }

    /// Keeps what the modules [`record`](Self::record).
    #[must_use]
    pub fn recording(self) -> Self {
        Self { records: Some(Rc::default()), ..self }
    }

    /// The generator of this pass.
    pub fn rng(&self) -> RefMut<'_, Rng> {
        self.rng.borrow_mut()
    }

    /// Values drawn uniformly from `[0, 1)`, `[batch, per_image]`, or the ones given under `name`.
    ///
    /// Every image has a stream of its own, which starts from one number of this pass's generator: with equal generators, an image
    /// gets the same values in whatever batch it comes. `seeds` are these numbers, see [`Context::image_seeds`].
    ///
    /// # Errors
    /// If values are given, but not as many.
    pub fn uniform(&self, name: &str, seeds: &[u64], per_image: usize) -> Result<Vec<f32>> {
        if let Some(values) = self.given.get(name) {
            self.used.borrow_mut().insert(name.to_owned());
            return match values.len() == seeds.len() * per_image {
                true => Ok(values.clone()),
                false => Err(Error::Shape(format!(
                    "{} values are given for `{name}`; [{}, {per_image}] are needed",
                    values.len(),
                    seeds.len()
                ))),
            };
        }
        let draw = |seed: &u64| {
            let mut rng = random::stream(Purpose::Image, &[*seed, random::name_counter(name)]);
            (0..per_image).map(move |_| rng.random::<f32>())
        };
        Ok(seeds.iter().flat_map(draw).collect())
    }

    /// A number for every image of a batch, from which everything random about it is drawn.
    pub fn image_seeds(&self, batch: usize) -> Vec<u64> {
        let mut rng = self.rng();
        (0..batch).map(|_| rng.random()).collect()
    }

    /// The names of given values that nothing asked for.
    pub fn unused(&self) -> Vec<&str> {
        let used = self.used.borrow();
        self.given.keys().map(String::as_str).filter(|name| !used.contains(*name)).collect()
    }

    /// Whether someone asked for intermediate results.
    pub fn is_recording(&self) -> bool {
        self.records.is_some()
    }

    /// Records an intermediate result under a name, if someone asked for it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn record(&self, name: &str, tensor: &Tensor) -> Result<()> {
        if self.is_recording() {
            self.record_values(name, tensor.shape(), tensor.to_vec()?);
        }
        Ok(())
    }

    /// [`Context::record`] of values, row-major.
    pub(crate) fn record_values(&self, name: &str, shape: Shape, values: Vec<f32>) {
        if let Some(records) = &self.records {
            records.borrow_mut().push((name.to_owned(), (shape.to_vec(), values)));
        }
    }

    /// What was recorded, in order.
    pub fn into_records(self) -> Vec<(String, Recorded)> {
        self.records.map(|records| records.take()).unwrap_or_default()
    }
}
