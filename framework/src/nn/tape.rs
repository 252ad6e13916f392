//! A clonable tape: many tensors share one list of backward operations, as in PyTorch.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use dfdx::tensor::{Gradients, Merge, NoneTape, SplitTape, Trace};
use dfdx::tensor_ops::Backward;

use super::tensor::{Device, DeviceError, Result, T0};

type BackwardOp = Box<dyn FnOnce(&mut Gradients<f32, Device>) -> std::result::Result<(), DeviceError>>;

/// A handle of a list of backward operations, or of none.
///
/// Cloning a tensor clones the handle, so `x.clone()` stays recorded. [`Tape::none`] records nothing (evaluation).
#[derive(Clone, Default)]
pub struct Tape(Option<Rc<RefCell<Vec<BackwardOp>>>>);

impl Tape {
    /// A tape that records.
    pub fn new() -> Self {
        Self(Some(Rc::default()))
    }

    /// A tape that records nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Whether operations are recorded, so that an operation has to keep what its backward needs.
    pub fn is_recording(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(operations) => write!(f, "Tape({} operations)", operations.borrow().len()),
            None => f.write_str("Tape(none)"),
        }
    }
}

impl dfdx::tensor::Tape<f32, Device> for Tape {
    const OWNS_TAPE: bool = true;

    fn add_backward_op<F>(&mut self, operation: F)
    where
        F: 'static + FnOnce(&mut Gradients<f32, Device>) -> std::result::Result<(), DeviceError>,
    {
        if let Some(operations) = &self.0 {
            operations.borrow_mut().push(Box::new(operation));
        }
    }
}

impl Merge<NoneTape> for Tape {
    fn merge(self, _: NoneTape) -> Self {
        self
    }
}

impl Merge<Tape> for Tape {
    fn merge(self, other: Tape) -> Self {
        debug_assert!(
            match (&self.0, &other.0) {
                (Some(left), Some(right)) => Rc::ptr_eq(left, right),
                _ => true,
            },
            "tensors of two different tapes meet in one operation"
        );
        if self.0.is_some() { self } else { other }
    }
}

/// Runs the recorded operations from the loss back to the parameters.
///
/// Gradients of parameters are added to [`super::Param`]s (call [`super::Param::clear_grad`] before the first micro-batch of a
/// step). The gradients of other tensors are returned; those of intermediate results are consumed on the way.
pub fn backward(loss: T0) -> Result<Gradients<f32, Device>> {
    let (loss, tape) = loss.split_tape();
    let mut gradients = loss.leaky_traced().try_backward()?;
    if let Some(operations) = tape.0 {
        // Popped one by one: what an operation kept for its backward is freed as soon as it ran.
        loop {
            let Some(operation) = operations.borrow_mut().pop() else { break };
            operation(&mut gradients)?;
        }
    }
    Ok(gradients)
}
