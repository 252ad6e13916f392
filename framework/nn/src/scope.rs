//! The scope that names, shapes and initialises parameters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use super::backend::{Buffer, upload};
use super::dry_run::is_dry;
use super::error::{Error, Result};
use super::{Init, Param, ParamKind, Positions};
use crate::random::{self, Purpose};

/// Which names of parameters are meant.
type NameFilter = dyn Fn(&str) -> bool;

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
    /// Which names are of parameters that are not trained, either.
    frozen_names: Option<Rc<NameFilter>>,
    linear_init: fn(usize, usize) -> Init,
    seed: u64,
    allocate: bool,
    /// Parameters of another model, by name, which are taken in place of new ones.
    shared: Rc<HashMap<String, Param>>,
    /// The first failure of the device.
    failure: Rc<RefCell<Option<Error>>>,
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
            frozen_names: None,
            linear_init: Init::xavier_uniform,
            seed,
            allocate: true,
            shared: Rc::default(),
            failure: Rc::default(),
        }
    }

    /// A root scope whose parameters are these, as far as there is one of the name and the shape: those of another model of the
    /// same weights.
    pub fn sharing(params: &[Param]) -> Self {
        let by_name = params.iter().map(|param| (param.name().to_owned(), param.clone()));
        Self { shared: Rc::new(by_name.collect()), ..Self::new(0) }
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

    /// The same place, where parameters with such names (`blocks1.0.conv1.weight`) are not trained.
    #[must_use]
    pub fn freeze_named(&self, is_frozen: impl Fn(&str) -> bool + 'static) -> Self {
        Self { frozen_names: Some(Rc::new(is_frozen)), ..self.clone() }
    }

    /// The same place, whose linear layers start with weights drawn by `init`, a function of their inputs and outputs, instead of
    /// [`Init::xavier_uniform`]. Layers with an initialiser of their own stay as they are.
    #[must_use]
    pub fn with_linear_init(&self, init: fn(usize, usize) -> Init) -> Self {
        Self { linear_init: init, ..self.clone() }
    }

    /// How the weight of a linear layer starts here.
    pub(crate) fn linear_init(&self, inputs: usize, outputs: usize) -> Init {
        (self.linear_init)(inputs, outputs)
    }

    /// A trainable parameter; in a scope that is frozen, one that is kept.
    pub fn param(&self, name: &str, shape: &[usize], init: &Init) -> Param {
        let is_frozen = |names: &Rc<NameFilter>| names(&self.name(name));
        let frozen = self.frozen || self.frozen_names.as_ref().is_some_and(is_frozen);
        let kind = if frozen { ParamKind::Frozen } else { ParamKind::Trainable };
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

    /// That the device had memory for the parameters created so far.
    ///
    /// # Errors
    /// The first failure.
    pub fn check(&self) -> Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// How many parameters there are.
    pub(crate) fn count(&self) -> usize {
        self.params.borrow().len()
    }

    /// Whether any parameter behind the first `count` is trained.
    pub(crate) fn trains_since(&self, count: usize) -> bool {
        self.params.borrow()[count..].iter().any(Param::requires_grad)
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
        if let Some(param) = self.shared.get(&name).filter(|param| param.shape() == shape) {
            self.params.borrow_mut().push(param.clone());
            return param.clone();
        }
        let values = if self.allocate {
            let mut rng = random::stream(Purpose::Init, &[self.seed, random::name_counter(&name)]);
            let values = match is_dry() {
                true => vec![0.0; shape.iter().product()],
                false => init.values(shape, &mut rng),
            };
            upload(values).unwrap_or_else(|error| {
                self.failure.borrow_mut().get_or_insert(error);
                Buffer::default()
            })
        } else {
            Buffer::default()
        };
        let param = Param::new(name, shape, kind, self.layer, self.positions, values);
        self.params.borrow_mut().push(param.clone());
        param
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        weight.set(&[7.0; 6]).unwrap();
        assert_eq!(params[0].to_vec().unwrap(), [7.0; 6]);
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
    fn parameters_with_frozen_names_are_kept() {
        let scope = Scope::new(0);
        let part = scope.child("a").freeze_named(|name| name.starts_with("a.b."));
        part.child("b").param("w", &[1], &INIT);
        part.param("b", &[1], &INIT);
        part.child("b").buffer("mean", &[1], &INIT);
        let kinds: Vec<_> = scope.params().iter().map(Param::kind).collect();
        assert_eq!(kinds, [ParamKind::Frozen, ParamKind::Trainable, ParamKind::Buffer]);
        assert!(scope.trains_since(0) && !scope.trains_since(2));
    }

    #[test]
    fn initial_values_depend_on_seed_and_name_only() {
        let values = |seed, before: bool, name| {
            let scope = Scope::new(seed);
            if before {
                scope.param("other", &[5], &INIT);
            }
            scope.child("a").param(name, &[8], &INIT).to_vec().unwrap()
        };
        assert_eq!(values(1, false, "w"), values(1, true, "w"));
        assert_ne!(values(1, false, "w"), values(2, false, "w"));
        assert_ne!(values(1, false, "w"), values(1, false, "v"));
    }

    #[test]
    fn a_shared_parameter_is_the_one_of_the_other_model() {
        let [first, other] =
            [Scope::new(0), Scope::new(0)].map(|scope| scope.child("a").param("w", &[2], &INIT));
        let scope = Scope::sharing(&[first.clone(), other]).child("a");
        let (shared, of_another_shape) = (scope.param("w", &[2], &INIT), scope.param("w", &[3], &INIT));
        scope.params()[0].set(&[5.0, 6.0]).unwrap();
        assert_eq!(shared.to_vec().unwrap(), [5.0, 6.0]);
        assert_eq!((of_another_shape.shape(), scope.params().len()), (&[3][..], 2));
    }

    #[test]
    fn a_described_parameter_has_a_shape_and_no_values() {
        let scope = Scope::describe();
        let param = scope.child("a").param("w", &[1 << 40, 2], &INIT);
        assert_eq!((param.numel(), param.values().len(), scope.allocates()), (1 << 41, 0, false));
    }
}
