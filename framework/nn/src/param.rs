//! Parameters: values, their gradients, and what products take of them.

use std::cell::{Ref, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;

use dfdx::tensor::PutTape as _;

use super::backend::elementwise::add_assign;
use super::backend::{
    Buffer, Output, Values, bridge, copy, download, is_rounded, operand, round_all, upload, zeros,
};
use super::device::{self, Precision};
use super::error::{Error, Result};
use super::tensor::Typed;
use super::{Positions, Tape, completion};

/// Whether a parameter is trained, kept, or a running statistic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamKind {
    /// Changed by the optimizer.
    Trainable,
    /// Part of the state, never changed (a sin-cos position embedding).
    Frozen,
    /// Changed by the module itself in training (running mean and variance).
    Buffer,
}

struct Inner {
    name: String,
    shape: Vec<usize>,
    kind: ParamKind,
    layer: Option<usize>,
    positions: Option<Positions>,
    /// Empty in a scope that only describes.
    values: RefCell<Buffer>,
    operand: RefCell<Operand>,
    grad: RefCell<Gradient>,
}

/// The values as products take them.
#[derive(Default)]
struct Operand {
    /// None if they are stored so.
    values: Option<Buffer>,
    /// What they were computed for, if they were.
    precision: Option<Precision>,
    /// Whether the parameter changed since then.
    outdated: bool,
}

/// The sum of the gradients since it was last cleared. Its memory stays.
#[derive(Default)]
struct Gradient {
    values: Option<Buffer>,
    /// Whether anything was added.
    any: bool,
}

/// A named parameter: values, gradient, and logical shape, shared by the modules that use it and the optimizer.
#[derive(Clone)]
pub struct Param(Rc<Inner>);

impl Param {
    /// Of these values, which fill the shape; without any, one that is only described.
    pub(crate) fn new(
        name: String,
        shape: &[usize],
        kind: ParamKind,
        layer: Option<usize>,
        positions: Option<Positions>,
        values: Buffer,
    ) -> Self {
        Self(Rc::new(Inner {
            name,
            shape: shape.to_vec(),
            kind,
            layer,
            positions,
            values: RefCell::new(values),
            operand: RefCell::default(),
            grad: RefCell::default(),
        }))
    }

    /// The dotted name, as in the official checkpoints: `blocks1.0.conv1.weight`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The logical shape, as in the official checkpoints.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// The number of values.
    pub fn numel(&self) -> usize {
        self.0.shape.iter().product()
    }

    /// Trained, frozen, or a running statistic.
    pub fn kind(&self) -> ParamKind {
        self.0.kind
    }

    /// The layer that a layer-wise learning rate decay counts the parameter to, from the input on; `None` behind the last one, in a
    /// head.
    pub fn layer(&self) -> Option<usize> {
        self.0.layer
    }

    /// The grid of positions, if this is an embedding of positions, `[1, prefix + rows * cols, C]`.
    pub fn positions(&self) -> Option<Positions> {
        self.0.positions
    }

    /// Whether a backward has to compute this parameter's gradient.
    pub fn requires_grad(&self) -> bool {
        self.0.kind == ParamKind::Trainable
    }

    /// That there are values: a parameter of a scope that only describes has none.
    pub(crate) fn check_allocated(&self) -> Result<()> {
        if self.values().len() == self.numel() {
            return Ok(());
        }
        Err(Error::Value(format!("{} has no values: its model was only described", self.name())))
    }

    /// That it is one value a channel, `[C]`, and has values.
    pub(crate) fn check_channels(&self, channels: usize) -> Result<()> {
        if self.shape() != [channels] || channels == 0 {
            return Err(Error::Shape(format!(
                "{}: {channels} channels need the shape [{channels}], not {:?}",
                self.name(),
                self.shape()
            )));
        }
        self.check_allocated()
    }

    /// How many modules, optimizers and operations hold it.
    pub(crate) fn owners(&self) -> usize {
        Rc::strong_count(&self.0)
    }

    /// What tells it from other parameters.
    pub(crate) fn address(&self) -> usize {
        Rc::as_ptr(&self.0).addr()
    }

    /// The values in memory of the device, row-major. Empty in a scope that only describes.
    pub fn values(&self) -> Ref<'_, Values> {
        Ref::map(self.0.values.borrow(), |values| &**values)
    }

    /// The values as products take them, computed where they changed.
    ///
    /// # Errors
    /// If the device fails.
    pub fn operand(&self) -> Result<Ref<'_, Values>> {
        let precision = Some(device::precision());
        let is_current = |known: &Operand| known.precision == precision && !known.outdated;
        if !is_current(&self.0.operand.borrow()) {
            let values = operand(&self.values())?;
            *self.0.operand.borrow_mut() = Operand { values, precision, outdated: false };
        }
        let operand = Ref::filter_map(self.0.operand.borrow(), |operand| operand.values.as_deref());
        Ok(operand.unwrap_or_else(|_| self.values()))
    }

    /// The values stored as those of `x`: as products take them, or as they are.
    ///
    /// # Errors
    /// If the device fails.
    pub fn values_as(&self, x: &Values) -> Result<Ref<'_, Values>> {
        if is_rounded(x) { self.operand() } else { Ok(self.values()) }
    }

    /// Computes at once what [`Param::operand`] would compute for each of those that changed since products took them.
    ///
    /// # Errors
    /// If the device fails.
    pub fn refresh_operands(params: &[Self]) -> Result<()> {
        let precision = Some(device::precision());
        let mut outdated: Vec<_> = params
            .iter()
            .map(|param| (param.values(), param.0.operand.borrow_mut()))
            .filter(|(_, operand)| operand.precision == precision && operand.outdated)
            .collect();
        let pairs = outdated.iter_mut().filter_map(|(values, operand)| {
            operand.outdated = false;
            Some((&**values, &mut **operand.values.as_mut()?))
        });
        round_all(pairs.collect())
    }

    /// The values in memory of the device, to be changed in place. Empty in a scope that only describes.
    pub fn values_mut(&self) -> RefMut<'_, Values> {
        self.0.operand.borrow_mut().outdated = true;
        RefMut::map(self.0.values.borrow_mut(), |values| &mut **values)
    }

    /// The values, row-major. Empty in a scope that only describes.
    ///
    /// # Errors
    /// If the device fails.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        download(&self.values())
    }

    /// Replaces the values.
    ///
    /// # Errors
    /// If there are not as many, or the device fails.
    pub fn set(&self, values: &[f32]) -> Result<()> {
        if values.len() != self.numel() {
            return Err(Error::Shape(format!(
                "{}: {} values for the shape {:?}",
                self.name(),
                values.len(),
                self.shape()
            )));
        }
        *self.0.values.borrow_mut() = upload(values.to_vec())?;
        self.0.operand.borrow_mut().outdated = true;
        Ok(())
    }

    /// Exchanges the values with as many others.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn swap(&self, values: &mut Buffer) {
        assert_eq!(values.len(), self.numel());
        self.0.operand.borrow_mut().outdated = true;
        std::mem::swap(&mut *self.0.values.borrow_mut(), values);
    }

    /// The gradient accumulated since [`Param::clear_grad`], if any operation used this parameter.
    pub fn grad(&self) -> Option<Ref<'_, Values>> {
        Ref::filter_map(self.0.grad.borrow(), |grad| grad.values.as_deref().filter(|_| grad.any)).ok()
    }

    /// Lets `change` read or modify the gradient, if there is one.
    pub fn with_grad_mut<R>(&self, change: impl FnOnce(&mut Values) -> R) -> Option<R> {
        let Gradient { values, any } = &mut *self.0.grad.borrow_mut();
        values.as_deref_mut().filter(|_| *any).map(change)
    }

    /// Adds to the gradient: `add` gets the gradient so far and adds to it ([`Output::Add`]), or writes it where it is the first
    /// since [`Param::clear_grad`] ([`Output::Replace`]). Does nothing for a parameter that needs no gradient.
    ///
    /// # Errors
    /// Those of `add`.
    pub fn accumulate_grad(&self, add: impl FnOnce(&mut Values, Output) -> Result<()>) -> Result<()> {
        Self::accumulate_grads([Some(self)], |[sum]| sum.map_or(Ok(()), |(sum, mode)| add(sum, mode)))
    }

    /// [`Param::accumulate_grad`] for gradients that are computed together; of a parameter that is missing or needs no gradient, `add` gets
    /// none.
    ///
    /// # Errors
    /// Those of `add`.
    ///
    /// # Panics
    /// If a parameter is there twice.
    pub fn accumulate_grads<const N: usize>(
        params: [Option<&Self>; N],
        add: impl FnOnce([Option<(&mut Values, Output)>; N]) -> Result<()>,
    ) -> Result<()> {
        let params = params.map(|param| param.filter(|param| param.requires_grad()));
        let mut grads = params.map(|param| param.map(|param| param.0.grad.borrow_mut()));
        for (grad, param) in grads.iter_mut().flatten().zip(params.iter().flatten()) {
            if grad.values.is_none() {
                grad.values = Some(zeros(param.numel())?);
            }
        }
        add(grads.each_mut().map(|grad| {
            let Gradient { values, any } = &mut **grad.as_mut()?;
            let mode = if *any { Output::Add } else { Output::Replace };
            *any = true;
            Some((&mut **values.as_mut()?, mode))
        }))?;
        drop(grads);
        completion::added(params.into_iter().flatten());
        Ok(())
    }

    /// Adds to the gradient.
    ///
    /// # Errors
    /// If the device fails.
    pub fn add_grad(&self, values: Buffer) -> Result<()> {
        assert_eq!(values.len(), self.numel());
        if !self.requires_grad() {
            return Ok(());
        }
        {
            let Gradient { values: sum, any } = &mut *self.0.grad.borrow_mut();
            match sum {
                Some(sum) if *any => add_assign(sum, &values)?,
                own => *own = Some(values),
            }
            *any = true;
        }
        completion::added(std::iter::once(self));
        Ok(())
    }

    /// Puts back a gradient that was [taken away](Self::take_grad), or what has become of it.
    pub fn put_grad(&self, values: Buffer) {
        assert_eq!(values.len(), self.numel());
        *self.0.grad.borrow_mut() = Gradient { values: Some(values), any: true };
    }

    /// Takes the gradient away, with its memory, if there is one.
    pub fn take_grad(&self) -> Option<Buffer> {
        let gradient = &mut *self.0.grad.borrow_mut();
        if std::mem::take(&mut gradient.any) { gradient.values.take() } else { None }
    }

    /// Forgets the gradient.
    pub fn clear_grad(&self) {
        self.0.grad.borrow_mut().any = false;
    }

    /// The values as a flat tensor on `tape`, for operations composed of dfdx's.
    ///
    /// When the backward reaches this use, the gradient found for the tensor is added to the parameter's.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tensor(&self, tape: &Tape) -> Result<Typed<(usize,)>> {
        // A fresh id for every use: each use collects its own gradient, exactly once.
        let own = bridge::into_tensor(copy(&self.values())?)?;
        if self.requires_grad() {
            let (param, ghost) = (self.clone(), own.ghost());
            tape.record(move |grads| {
                let grad = bridge::take_grad(grads.dfdx.get_or_alloc_mut(&ghost)?)?;
                param.add_grad(grad)
            });
        }
        Ok(own.put_tape(tape.clone()))
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Param({} {:?} {:?})", self.0.name, self.0.shape, self.0.kind)
    }
}

#[cfg(test)]
mod tests {
    // What is compared is exact.
    #![allow(clippy::float_cmp)]

    use super::*;
    use crate::backend::elementwise::scale;
    use crate::backward::backward;
    use crate::ops::add;
    use crate::testing::{loss, loss_weights, noise_param, take_grad};
    use crate::{Init, Scope, Tensor};

    const INIT: Init = Init::Normal { std: 1.0 };

    #[test]
    fn gradients_accumulate_until_they_are_cleared() {
        let param = noise_param(1, &[2]);
        assert!(param.grad().is_none() && param.with_grad_mut(|_| ()).is_none());
        let grad = || download(&param.grad().unwrap()).unwrap();
        param.add_grad(upload(vec![0.0, 1.0]).unwrap()).unwrap();
        param.add_grad(upload(vec![0.0, 2.0]).unwrap()).unwrap();
        assert_eq!(grad(), [0.0, 3.0]);
        param.with_grad_mut(|grad| scale(grad, 2.0)).unwrap().unwrap();
        assert_eq!(grad(), [0.0, 6.0]);
        param.clear_grad();
        assert!(param.grad().is_none() && param.take_grad().is_none());
        param.add_grad(upload(vec![0.0, 4.0]).unwrap()).unwrap();
        assert_eq!(download(&param.take_grad().unwrap()).unwrap(), [0.0, 4.0]);
        assert!(param.grad().is_none());
    }

    #[test]
    fn only_trainable_parameters_get_gradients() {
        let scope = Scope::new(0);
        for param in [scope.frozen("f", &[2], &INIT), scope.buffer("b", &[2], &INIT)] {
            param.add_grad(upload(vec![1.0; param.numel()]).unwrap()).unwrap();
            assert!(param.grad().is_none());
        }
    }

    #[test]
    fn each_use_as_a_tensor_adds_its_gradient_once() {
        let (param, tape) = (noise_param(1, &[3]), Tape::new());
        let [first, second] = [0; 2].map(|_| Tensor::from_typed(param.tensor(&tape).unwrap()).unwrap());
        backward(loss(add(add(first.clone(), second).unwrap(), first).unwrap())).unwrap();
        let expected: Vec<f32> = loss_weights(3).iter().map(|weight| 3.0 * weight).collect();
        assert_eq!(take_grad(&param), expected);
    }

    #[test]
    fn values_of_another_length_are_refused() {
        let param = noise_param(1, &[2, 2]);
        assert!(matches!(param.set(&[1.0; 3]), Err(Error::Shape(_))));
        param.set(&[1.0; 4]).unwrap();
        assert_eq!(param.to_vec().unwrap(), [1.0; 4]);
    }

    #[test]
    fn operands_follow_the_values() {
        for precision in [Precision::F32, Precision::Bf16] {
            device::set_precision(Some(precision)).unwrap();
            let param = noise_param(1, &[3]);
            let check = || {
                let expected =
                    operand(&param.values()).unwrap().map_or_else(|| param.to_vec(), |x| download(&x));
                assert_eq!(download(&param.operand().unwrap()).unwrap(), expected.unwrap());
                assert_eq!(
                    download(&param.values_as(&param.values()).unwrap()).unwrap(),
                    param.to_vec().unwrap()
                );
            };
            check();
            param.set(&[0.1, 0.2, 0.3]).unwrap();
            check();
            scale(&mut param.values_mut(), 0.7).unwrap();
            check();
            scale(&mut param.values_mut(), 0.7).unwrap();
            Param::refresh_operands(std::slice::from_ref(&param)).unwrap();
            check();
            param.swap(&mut upload(vec![0.7, 0.8, 0.9]).unwrap());
            check();
        }
        device::set_precision(None).unwrap();
    }
}
