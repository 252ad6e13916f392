//! Parameters and the scope that names, shapes and initialises them.

use std::cell::{Ref, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;

use dfdx::tensor::{PutTape, TensorFromVec};

use super::kernels::Output;
use super::tensor::{Error, Result, Typed};
use super::{Init, Positions, Tape, device};
use crate::random::{self, Purpose};

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
    values: RefCell<Vec<f32>>,
    grad: RefCell<Gradient>,
}

/// The sum of the gradients since it was last cleared. Its memory stays.
#[derive(Default)]
struct Gradient {
    values: Vec<f32>,
    /// Whether anything was added.
    any: bool,
}

/// A named parameter: values, gradient, and logical shape, shared by the modules that use it and the optimizer.
#[derive(Clone)]
pub struct Param(Rc<Inner>);

impl Param {
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

    /// The values, row-major. Empty in a scope that only describes.
    pub fn values(&self) -> Ref<'_, [f32]> {
        Ref::map(self.0.values.borrow(), Vec::as_slice)
    }

    /// The values, to be changed in place. Empty in a scope that only describes.
    pub fn values_mut(&self) -> RefMut<'_, [f32]> {
        RefMut::map(self.0.values.borrow_mut(), Vec::as_mut_slice)
    }

    /// Changes the values in place.
    pub fn update<R>(&self, change: impl FnOnce(&mut [f32]) -> R) -> R {
        change(&mut self.0.values.borrow_mut())
    }

    /// Replaces the values.
    pub fn set(&self, values: &[f32]) -> Result<()> {
        if values.len() != self.numel() {
            return Err(Error::Shape(format!(
                "{}: {} values for the shape {:?}",
                self.name(),
                values.len(),
                self.shape()
            )));
        }
        self.update(|own| own.copy_from_slice(values));
        Ok(())
    }

    /// The gradient accumulated since [`Param::clear_grad`], if any operation used this parameter.
    pub fn grad(&self) -> Option<Ref<'_, [f32]>> {
        Ref::filter_map(self.0.grad.borrow(), |grad| grad.any.then_some(&*grad.values)).ok()
    }

    /// Lets `change` read or modify the gradient, if there is one.
    pub fn with_grad_mut<R>(&self, change: impl FnOnce(&mut [f32]) -> R) -> Option<R> {
        let mut grad = self.0.grad.borrow_mut();
        grad.any.then(|| change(&mut grad.values))
    }

    /// Adds to the gradient: `add` gets the gradient so far and adds to it ([`Output::Add`]), or writes it where it is the first
    /// since [`Param::clear_grad`] ([`Output::Replace`]). Does nothing for a parameter that needs no gradient.
    pub fn accumulate_grad(&self, add: impl FnOnce(&mut [f32], Output)) {
        if self.requires_grad() {
            let mut grad = self.0.grad.borrow_mut();
            grad.values.resize(self.numel(), 0.0);
            let mode = if grad.any { Output::Add } else { Output::Replace };
            grad.any = true;
            add(&mut grad.values, mode);
        }
    }

    /// Forgets the gradient.
    pub fn clear_grad(&self) {
        self.0.grad.borrow_mut().any = false;
    }

    /// The values as a flat tensor on `tape`, for operations composed of dfdx's.
    ///
    /// When the backward reaches this use, the gradient found for the tensor is added to the parameter's.
    pub fn tensor(&self, tape: &Tape) -> Result<Typed<(usize,)>> {
        use dfdx::tensor::Tape as _;
        // A fresh id for every use: each use collects its own gradient, exactly once.
        let own = device()?.try_tensor_from_vec(self.values().to_vec(), (self.numel(),))?;
        if self.requires_grad() {
            let (param, ghost) = (self.clone(), own.ghost());
            tape.clone().add_backward_op(move |grads| {
                grads.try_alloc_for(&ghost)?;
                let grad = grads.get(&ghost);
                param.accumulate_grad(|sum, mode| match mode {
                    Output::Replace => grad.copy_into(sum),
                    Output::Add => mode.write(sum, &grad.as_vec()),
                });
                Ok(())
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

/// A cursor into the tree of parameter names; creates and initialises parameters.
///
/// A scope made by [`Scope::describe`] allocates no values: building a model in it yields names and shapes only.
#[derive(Clone)]
pub struct Scope {
    params: Rc<RefCell<Vec<Param>>>,
    prefix: String,
    layer: Option<usize>,
    positions: Option<Positions>,
    frozen: bool,
    seed: u64,
    allocate: bool,
}

impl Scope {
    /// A root scope. The initial values depend on `seed` and the parameter's name only.
    pub fn new(seed: u64) -> Self {
        Self {
            params: Rc::default(),
            prefix: String::new(),
            layer: None,
            positions: None,
            frozen: false,
            seed,
            allocate: true,
        }
    }

    /// A root scope that allocates nothing.
    pub fn describe() -> Self {
        Self { allocate: false, ..Self::new(0) }
    }

    /// The scope of a part: `scope.child("blocks1").child(0)` names `blocks1.0.*`. An empty name is the scope itself.
    #[must_use]
    pub fn child(&self, name: impl fmt::Display) -> Self {
        Self { prefix: self.name(&name.to_string()), ..self.clone() }
    }

    /// The same place, whose parameters belong to a layer of the network (see [`Param::layer`]).
    #[must_use]
    pub fn at_layer(&self, layer: usize) -> Self {
        Self { layer: Some(layer), ..self.clone() }
    }

    /// The same place, `layers` behind this one's layer; without a layer if this one has none.
    #[must_use]
    pub fn deeper(&self, layers: usize) -> Self {
        Self { layer: self.layer.map(|layer| layer + layers), ..self.clone() }
    }

    /// The same place, whose parameters are embeddings of positions.
    #[must_use]
    pub fn at_positions(&self, positions: Positions) -> Self {
        Self { positions: Some(positions), ..self.clone() }
    }

    /// The same place, whose parameters are not trained.
    #[must_use]
    pub fn freeze(&self) -> Self {
        Self { frozen: true, ..self.clone() }
    }

    /// A trainable parameter; in a scope that is frozen, one that is kept.
    pub fn param(&self, name: &str, shape: &[usize], init: &Init) -> Param {
        let kind = if self.frozen { ParamKind::Frozen } else { ParamKind::Trainable };
        self.add(name, shape, kind, init)
    }

    /// A parameter that is saved but not trained.
    pub fn frozen(&self, name: &str, shape: &[usize], init: &Init) -> Param {
        self.add(name, shape, ParamKind::Frozen, init)
    }

    /// A running statistic.
    pub fn buffer(&self, name: &str, shape: &[usize], init: &Init) -> Param {
        self.add(name, shape, ParamKind::Buffer, init)
    }

    /// Whether values are allocated.
    pub fn allocates(&self) -> bool {
        self.allocate
    }

    /// All parameters created from this root so far, in order of creation.
    pub fn params(&self) -> Vec<Param> {
        self.params.borrow().clone()
    }

    fn name(&self, name: &str) -> String {
        match (self.prefix.as_str(), name) {
            (prefix, "") => prefix.to_owned(),
            ("", name) => name.to_owned(),
            (prefix, name) => format!("{prefix}.{name}"),
        }
    }

    fn add(&self, name: &str, shape: &[usize], kind: ParamKind, init: &Init) -> Param {
        let name = self.name(name);
        let values = if self.allocate {
            let mut rng = random::stream(Purpose::Init, &[self.seed, random::name_counter(&name)]);
            init.values(shape, &mut rng)
        } else {
            Vec::new()
        };
        let param = Param(Rc::new(Inner {
            name,
            shape: shape.to_vec(),
            kind,
            layer: self.layer,
            positions: self.positions,
            values: RefCell::new(values),
            grad: RefCell::default(),
        }));
        self.params.borrow_mut().push(param.clone());
        param
    }
}

#[cfg(test)]
mod tests {
    // What is compared is exact.
    #![allow(clippy::float_cmp)]

    use super::*;
    use crate::Tensor;
    use crate::ops::add;
    use crate::tape::backward;
    use crate::testing::{loss, loss_weights, noise_param};

    const INIT: Init = Init::Normal { std: 1.0 };

    #[test]
    fn names_follow_the_tree() {
        let scope = Scope::new(0);
        let block = scope.child("blocks1").child(0);
        let weight = block.child("conv1").param("weight", &[2, 3, 1, 1], &INIT);
        scope.child("").frozen("pos_embed", &[1, 4], &Init::ZEROS);
        block.child("bn").buffer("running_mean", &[2], &Init::ZEROS);
        let params = scope.params();
        let names: Vec<_> = params.iter().map(Param::name).collect();
        assert_eq!(names, ["blocks1.0.conv1.weight", "pos_embed", "blocks1.0.bn.running_mean"]);
        let kinds: Vec<_> = params.iter().map(Param::kind).collect();
        assert_eq!(kinds, [ParamKind::Trainable, ParamKind::Frozen, ParamKind::Buffer]);
        weight.update(|values| values[0] = 7.0);
        assert_eq!(params[0].values()[0], 7.0);
    }

    #[test]
    fn layers_count_from_where_they_are_set() {
        let scope = Scope::new(0);
        let blocks = scope.child("blocks").at_layer(1);
        blocks.child(3).deeper(3).param("w", &[1], &INIT);
        blocks.freeze().param("frozen", &[1], &INIT);
        scope.deeper(2).param("head", &[1], &INIT);
        let found: Vec<_> = scope.params().iter().map(|p| (p.layer(), p.requires_grad())).collect();
        assert_eq!(found, [(Some(4), true), (Some(1), false), (None, true)]);
    }

    #[test]
    fn initial_values_depend_on_seed_and_name_only() {
        let values = |seed, before: bool, name| {
            let scope = Scope::new(seed);
            if before {
                scope.param("other", &[5], &INIT);
            }
            scope.child("a").param(name, &[8], &INIT).values().to_vec()
        };
        assert_eq!(values(1, false, "w"), values(1, true, "w"));
        assert_ne!(values(1, false, "w"), values(2, false, "w"));
        assert_ne!(values(1, false, "w"), values(1, false, "v"));
    }

    #[test]
    fn a_described_parameter_has_a_shape_and_no_values() {
        let scope = Scope::describe();
        let param = scope.child("a").param("w", &[1 << 40, 2], &INIT);
        assert_eq!((param.numel(), param.values().len(), scope.allocates()), (1 << 41, 0, false));
    }

    #[test]
    fn gradients_accumulate_until_they_are_cleared() {
        let param = noise_param(1, &[2]);
        assert!(param.grad().is_none() && param.with_grad_mut(|_| ()).is_none());
        param.accumulate_grad(|sum, mode| mode.write(sum, &[0.0, 1.0]));
        param.accumulate_grad(|sum, mode| mode.write(sum, &[0.0, 2.0]));
        assert_eq!(*param.grad().unwrap(), [0.0, 3.0]);
        param.with_grad_mut(|grad| grad[0] = 5.0);
        assert_eq!(*param.grad().unwrap(), [5.0, 3.0]);
        param.clear_grad();
        assert!(param.grad().is_none());
    }

    #[test]
    fn only_trainable_parameters_get_gradients() {
        let scope = Scope::new(0);
        for param in [scope.frozen("f", &[2], &INIT), scope.buffer("b", &[2], &INIT)] {
            param.accumulate_grad(|sum, _| sum[0] = 1.0);
            assert!(param.grad().is_none());
        }
    }

    #[test]
    fn each_use_as_a_tensor_adds_its_gradient_once() {
        let (param, tape) = (noise_param(1, &[3]), Tape::new());
        let [first, second] = [0; 2].map(|_| Tensor::from_typed(param.tensor(&tape).unwrap()).unwrap());
        backward(loss(add(add(first.clone(), second).unwrap(), first).unwrap())).unwrap();
        let expected: Vec<f32> = loss_weights(3).iter().map(|weight| 3.0 * weight).collect();
        assert_eq!(*param.grad().unwrap(), expected);
    }

    #[test]
    fn values_of_another_length_are_refused() {
        let param = noise_param(1, &[2, 2]);
        assert!(matches!(param.set(&[1.0; 3]), Err(Error::Shape(_))));
        param.set(&[1.0; 4]).unwrap();
        assert_eq!(*param.values(), [1.0; 4]);
    }
}
