//! A clonable tape: many tensors share one list of backward operations, as in PyTorch.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use dfdx::tensor::{Merge, NoneTape};

use super::device::{Device, DeviceError};
use super::error::Result;
use super::gradients::{DfdxGradients, Gradients};
use super::profile;

pub(crate) type BackwardOp = Box<dyn FnOnce(&mut Gradients) -> Result<()>>;

/// An operation on the list.
pub(crate) struct Recorded {
    pub backward: BackwardOp,
    /// The node of the graph that it belongs to, if a profile is taken.
    pub node: Option<Rc<str>>,
}

/// A handle of a list of backward operations, or of none.
///
/// Cloning a tensor clones the handle, so `x.clone()` stays recorded. [`Tape::none`] records nothing (evaluation).
///
/// `Tape::default()` is for dfdx, whose composed operations (`normalize`, `softmax`, `log_softmax`, `var`) put a new tape on a
/// second use of a tensor and merge it with the first one later. Such a branch records; merged with a tape it becomes part of
/// it, merged with [`Tape::none`] it is dropped.
#[derive(Clone)]
pub struct Tape {
    list: Option<Rc<RefCell<List>>>,
    is_branch: bool,
}

enum List {
    /// What was recorded, in order.
    Operations(Vec<Recorded>),
    /// The operations went over to another tape.
    Joined(Tape),
}

impl Tape {
    /// A tape that records.
    pub fn new() -> Self {
        Self { is_branch: false, ..Self::default() }
    }

    /// A tape that records nothing.
    pub fn none() -> Self {
        Self { list: None, is_branch: false }
    }

    /// Whether operations are recorded, so that an operation has to keep what its backward needs.
    pub fn is_recording(&self) -> bool {
        self.resolve().list.is_some()
    }

    /// The tape that this one became part of, or itself.
    fn resolve(&self) -> Self {
        if let Some(list) = &self.list
            && let List::Joined(tape) = &*list.borrow()
        {
            return tape.resolve();
        }
        self.clone()
    }

    /// Puts the backward of an operation on the tape.
    pub(crate) fn record(&self, backward: impl FnOnce(&mut Gradients) -> Result<()> + 'static) {
        self.extend([Recorded { backward: Box::new(backward), node: profile::current_node() }]);
    }

    /// Takes the last operation off the tape.
    pub(crate) fn pop(&self) -> Option<Recorded> {
        match &mut *self.resolve().list?.borrow_mut() {
            List::Operations(operations) => operations.pop(),
            List::Joined(_) => None,
        }
    }

    fn extend(&self, more: impl IntoIterator<Item = Recorded>) {
        if let Some(list) = &self.resolve().list
            && let List::Operations(operations) = &mut *list.borrow_mut()
        {
            operations.extend(more);
        }
    }

    /// Appends the operations of this branch to `main`. They depend on what `main` recorded so far, and nothing that it
    /// recorded depends on them: it had no access to their results before.
    fn join(&self, main: &Self) {
        if let Some(list) = &self.list
            && let List::Operations(operations) = list.replace(List::Joined(main.clone()))
        {
            main.extend(operations);
        }
    }
}

impl Default for Tape {
    fn default() -> Self {
        Self { list: Some(Rc::new(RefCell::new(List::Operations(Vec::new())))), is_branch: true }
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resolve().list.as_deref().map(RefCell::borrow).as_deref() {
            Some(List::Operations(operations)) => write!(f, "Tape({} operations)", operations.len()),
            _ => f.write_str("Tape(none)"),
        }
    }
}

impl dfdx::tensor::Tape<f32, Device> for Tape {
    const OWNS_TAPE: bool = true;

    fn add_backward_op<F>(&mut self, operation: F)
    where
        F: 'static + FnOnce(&mut DfdxGradients) -> std::result::Result<(), DeviceError>,
    {
        self.record(|grads| Ok(operation(&mut grads.dfdx)?));
    }
}

impl Merge<NoneTape> for Tape {
    fn merge(self, _: NoneTape) -> Self {
        self
    }
}

impl Merge<Tape> for Tape {
    fn merge(self, other: Tape) -> Self {
        let (left, right) = (self.resolve(), other.resolve());
        let (main, other) = match (&left.list, &right.list) {
            (Some(a), Some(b)) if Rc::ptr_eq(a, b) => return left,
            (_, None) if !left.is_branch => return left,
            (None, _) if !right.is_branch => return right,
            (Some(_), _) if left.is_branch => (right, left),
            _ => (left, right),
        };
        debug_assert!(other.is_branch, "tensors of two different tapes meet in one operation");
        other.join(&main);
        main
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use dfdx::shapes::Axis;
    use dfdx::tensor::{SplitTape as _, Tape as _};
    use dfdx::tensor_ops::{TryAdd as _, TryMul as _};

    use super::*;
    use crate::Tensor;
    use crate::backward::backward;
    use crate::tensor::Typed;
    use crate::testing::{check_gradient, loss, loss_weights, noise, run};

    fn leaf(values: &[f32], tape: &Tape) -> Tensor {
        Tensor::from_vec(values.to_vec(), (values.len(),), tape).unwrap()
    }

    fn typed(values: &[f32], tape: &Tape) -> Typed<(usize,)> {
        leaf(values, tape).typed((values.len(),)).unwrap()
    }

    #[test]
    fn every_use_of_a_cloned_tensor_adds_to_its_gradient() {
        let tape = Tape::new();
        let x = leaf(&[2.0, -3.0], &tape);
        let own = x.clone().typed((2,)).unwrap();
        let y = own.clone().try_square().unwrap().try_add(own).unwrap();
        let gradients = backward(loss(Tensor::from_typed(y).unwrap())).unwrap();
        let expected: Vec<f32> =
            loss_weights(2).iter().zip([2.0, -3.0]).map(|(weight, x)| weight * (2.0 * x + 1.0)).collect();
        assert_eq!(gradients.of(&x).unwrap(), expected);
    }

    #[test]
    fn no_tape_records_nothing() {
        let x = typed(&[1.0], &Tape::none());
        let y = x.clone().try_mul(x).unwrap();
        let (_, tape) = y.split_tape();
        assert!(!tape.is_recording());
        assert_eq!(format!("{tape:?}"), "Tape(none)");
    }

    #[test]
    fn a_constant_joins_the_tape_of_what_it_meets() {
        let tape = Tape::new();
        let (x, constant) = (typed(&[3.0], &tape), typed(&[5.0], &Tape::none()));
        for y in [x.clone().try_mul(constant.clone()), constant.try_mul(x)] {
            assert!(y.unwrap().split_tape().1.is_recording());
        }
    }

    #[test]
    fn the_backward_frees_what_each_operation_kept_before_it_runs_the_next() {
        let mut tape = Tape::new();
        let (first, second) = (Rc::new(()), Rc::new(()));
        let (weak_second, kept) = (Rc::downgrade(&second), first.clone());
        tape.add_backward_op(move |_| {
            assert!(weak_second.upgrade().is_none(), "the later operation's data is still there");
            drop(kept);
            Ok(())
        });
        tape.add_backward_op(move |_| {
            drop(second);
            Ok(())
        });
        backward(Tensor::from_vec(vec![1.0], (), &tape).unwrap()).unwrap();
        assert_eq!(Rc::strong_count(&first), 1);
        assert_eq!(format!("{tape:?}"), "Tape(0 operations)");
    }

    /// dfdx puts `Tape::default()` on the second use of a tensor within these.
    #[test]
    fn dfdx_operations_with_an_inner_branch_have_right_gradients() {
        fn layer_norm(row: &[f64]) -> Vec<f64> {
            let mean = row.iter().sum::<f64>() / row.len() as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
            row.iter().map(|x| (x - mean) / (variance + 0.1).sqrt()).collect()
        }
        fn softmax(row: &[f64]) -> Vec<f64> {
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            row.iter().map(|x| x.exp() / sum).collect()
        }
        fn log_softmax(row: &[f64]) -> Vec<f64> {
            softmax(row).into_iter().map(f64::ln).collect()
        }
        type Rows = Typed<(usize, usize, usize)>;
        type Case = (fn(Rows) -> Result<Rows>, fn(&[f64]) -> Vec<f64>);
        let cases: [Case; 3] = [
            (|x| Ok(x.try_normalize::<Axis<2>>(0.1)?), layer_norm),
            (|x| Ok(x.try_softmax::<Axis<2>>()?), softmax),
            (|x| Ok(x.try_log_softmax::<Axis<2>>()?), log_softmax),
        ];
        let x = noise(1, 24);
        for (operation, reference) in cases {
            let outcome = run(&x, (2, 3, 4), &[], |x| Tensor::from_typed(operation(x.typed((2, 3, 4))?)?));
            check_gradient(&x, &outcome.grads[0], |x| {
                let y = x.chunks(4).flat_map(reference);
                y.zip(loss_weights(24)).map(|(y, weight)| y * f64::from(weight)).sum()
            });
        }
    }

    #[test]
    fn a_branch_of_an_evaluation_is_dropped() {
        let x = Tensor::from_vec(noise(1, 24), (2, 3, 4), &Tape::none()).unwrap();
        let y = x.typed((2, 3, 4)).unwrap().try_normalize::<Axis<2>>(0.1).unwrap();
        assert!(!y.split_tape().1.is_recording());
    }

    #[test]
    fn a_handle_of_a_joined_branch_records_on_the_main_tape() {
        let (main, mut branch) = (Tape::new(), Tape::default());
        branch.add_backward_op(|_| Ok(()));
        let handle = branch.clone();
        let merged = branch.merge(main.clone());
        let mut handle = handle.merge(Tape::default());
        handle.add_backward_op(|_| Ok(()));
        assert_eq!(format!("{main:?} {merged:?}"), "Tape(2 operations) Tape(2 operations)");
    }
}
