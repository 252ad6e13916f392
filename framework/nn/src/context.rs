//! What a forward pass needs besides its inputs: the tape, the mode, randomness, and a place to record what it computes.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use rand::Rng as _;

use super::{Error, Result, Shape, Tape, Tensor};
use crate::random::{self, Purpose, Rng};

/// A recorded intermediate result: shape and values.
pub type Recorded = (Vec<usize>, Vec<f32>);

/// Named results in the order of recording.
type Records = RefCell<Vec<(String, Recorded)>>;

/// The circumstances of one forward pass. Clones share what is drawn, given and recorded.
///
/// Every image has random numbers of its own, which depend on the pass, on the number of the image and on how
/// often the pass drew before: they are the same in whatever batch the image comes.
#[derive(Clone)]
pub struct Context {
    /// Where operations are recorded.
    pub tape: Tape,
    /// Training (dropout, stochastic depth and batch statistics are active) or evaluation.
    pub training: bool,
    /// Whether blocks keep their inputs alone and compute the rest again in the backward, `train.checkpoint_activations`.
    pub checkpoint_activations: bool,
    seed: u64,
    first_image: u64,
    /// How often random numbers were drawn.
    draws: Rc<Cell<u64>>,
    given: Rc<HashMap<String, Vec<f32>>>,
    used: Rc<RefCell<HashSet<String>>>,
    records: Option<Rc<Records>>,
    /// The attention whose probabilities are recorded, and nothing else.
    attention: Option<Rc<str>>,
}

impl Context {
    /// A training step, or one of the batches that make it. What is random about it starts from one number of
    /// `rng`.
    pub fn train(mut rng: Rng) -> Self {
        Self {
            tape: Tape::new(),
            training: true,
            checkpoint_activations: false,
            seed: rng.random(),
            first_image: 0,
            draws: Rc::default(),
            given: Rc::default(),
            used: Rc::default(),
            records: None,
            attention: None,
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

    /// The pass of a batch whose first image is number `first` of those that a training step, or an evaluation,
    /// takes altogether.
    #[must_use]
    pub fn with_first_image(self, first: u64) -> Self {
        Self { first_image: first, ..self }
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

    /// Keeps the probabilities of an attention alone, by the name of its parameters: `blocks3.0.attn`.
    #[must_use]
    pub fn recording_attention(self, name: &str) -> Self {
        Self { records: Some(Rc::default()), attention: Some(name.into()), ..self }
    }

    /// Whether someone asked for the probabilities of this attention.
    pub fn records_attention(&self, name: &str) -> bool {
        self.attention.as_deref() == Some(name)
    }

    /// A generator for each image of a batch, other ones at every call.
    pub fn image_streams(&self, batch: usize) -> impl Iterator<Item = Rng> + use<> {
        let (seed, first, draw) = (self.seed, self.first_image, self.draws.get());
        self.draws.set(draw + 1);
        (first..first + batch as u64).map(move |image| random::stream(Purpose::Image, &[seed, image, draw]))
    }

    /// Values drawn uniformly from `[0, 1)`, `[batch, per_image]`, or the ones given under `name`.
    ///
    /// # Errors
    /// If values are given, but not as many.
    pub fn uniform(&self, name: &str, batch: usize, per_image: usize) -> Result<Vec<f32>> {
        let streams = self.image_streams(batch);
        if let Some(values) = self.given(name) {
            return match values.len() == batch * per_image {
                true => Ok(values.to_vec()),
                false => Err(Error::Shape(format!(
                    "{} values are given for `{name}`; [{batch}, {per_image}] are needed",
                    values.len(),
                ))),
            };
        }
        Ok(streams.flat_map(|mut rng| (0..per_image).map(move |_| rng.random::<f32>())).collect())
    }

    /// The values given under `name`, to be used where the pass would draw something else than uniform values.
    pub fn given(&self, name: &str) -> Option<&[f32]> {
        let values = self.given.get(name)?;
        self.used.borrow_mut().insert(name.to_owned());
        Some(values)
    }

    /// The names of given values that nothing asked for.
    pub fn unused(&self) -> Vec<&str> {
        let used = self.used.borrow();
        self.given.keys().map(String::as_str).filter(|name| !used.contains(*name)).collect()
    }

    /// Whether someone asked for intermediate results.
    pub fn is_recording(&self) -> bool {
        self.records.is_some() && self.attention.is_none()
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
    pub fn record_values(&self, name: &str, shape: impl Into<Shape>, values: Vec<f32>) {
        if let Some(records) = &self.records {
            records.borrow_mut().push((name.to_owned(), (shape.into().to_vec(), values)));
        }
    }

    /// What was recorded, in order.
    pub fn into_records(self) -> Vec<(String, Recorded)> {
        self.records.map(|records| records.take()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(first_image: u64) -> Context {
        Context::train(random::stream(Purpose::Step, &[3])).with_first_image(first_image)
    }

    #[test]
    fn an_image_has_the_same_numbers_in_whatever_batch_it_comes() {
        let (whole, parts) = (pass(0), [pass(0), pass(1)]);
        for draw in ["a", "b"] {
            let [first, rest] = [(&parts[0], 1), (&parts[1], 3)]
                .map(|(ctx, batch)| ctx.uniform(draw, batch, 5).unwrap_or_default());
            assert_eq!(whole.uniform(draw, 4, 5).ok(), Some([first, rest].concat()));
        }
    }

    #[test]
    fn images_draws_and_passes_have_numbers_of_their_own() {
        let ctx = pass(0);
        let draw = |ctx: &Context| ctx.uniform("noise", 2, 1).unwrap_or_default();
        let other = Context::train(random::stream(Purpose::Step, &[4]));
        let mut all = [draw(&ctx), draw(&ctx), draw(&other)].concat();
        all.sort_by(f32::total_cmp);
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn given_values_leave_the_other_draws_as_they_are() {
        let given = HashMap::from([("noise".to_owned(), vec![0.5; 2])]);
        let (own, other) = (pass(0), pass(0).with_given(given));
        assert_eq!(other.uniform("noise", 2, 1).ok(), Some(vec![0.5; 2]));
        assert!(own.uniform("noise", 2, 1).is_ok_and(|drawn| drawn != [0.5; 2]));
        assert_eq!(own.uniform("next", 2, 1).ok(), other.uniform("next", 2, 1).ok());
        assert!(other.uniform("noise", 3, 1).is_err());
    }
}
