//! The built model: modules in order, and parameters.

use std::rc::Rc;

use super::heads::Heads;
use super::plan::{Plan, Planned};
use crate::component::{
    BackboneModule, HeadInputs, HeadModule, ImageShape, InstanceHeadInputs, InstanceHeadModule, LevelShape,
    Macs, MaskGrid, MaskPlan, Masker, NeckModule, Problem,
};
use crate::experiment::{Frozen, Node, NodeKind, Source};
use crate::nn::{Param, Scope};

/// A model: the modules of a [`Plan`] and their parameters.
pub struct Model {
    /// The images it takes.
    pub image: ImageShape,
    nodes: Vec<Built>,
    scope: Scope,
}

pub(super) struct Built {
    pub planned: Rc<Planned>,
    pub module: Module,
    /// Parameters created by this node, as a range of [`Model::params`].
    pub params: std::ops::Range<usize>,
    /// Whether it runs as in evaluation: it is frozen, or all of its parameters are.
    pub frozen: bool,
    /// The masks per image under which it runs; one without a masker.
    pub masks: usize,
}

pub(super) enum Module {
    /// The grid a masker draws on, and what it will do there, once a backbone that uses it is known.
    Masker(Option<(MaskGrid, MaskPlan)>),
    Backbone(Box<dyn BackboneModule>),
    Neck(Box<dyn NeckModule>),
    Head(Box<dyn HeadModule>),
    InstanceHead(Box<dyn InstanceHeadModule>),
}

impl Model {
    /// Builds the modules in order. In a scope that only describes nothing is allocated. Problems carry keys
    /// relative to the `model` section.
    pub fn build(plan: &Plan, image: ImageShape, scope: &Scope) -> std::result::Result<Self, Vec<Problem>> {
        let (model, problems) = Self::draft(plan, image, scope);
        if problems.is_empty() { Ok(model) } else { Err(problems) }
    }

    /// The same as far as it can be done: a node whose source failed is passed over.
    pub fn draft(plan: &Plan, image: ImageShape, scope: &Scope) -> (Self, Vec<Problem>) {
        let mut model = Self { image, nodes: Vec::new(), scope: scope.clone() };
        let mut problems = Vec::new();
        for planned in &plan.nodes {
            let complete = planned.sources.iter().all(|source| model.position(&source.node).is_some());
            if !complete {
                continue;
            }
            let start = scope.params().len();
            let name = &planned.node.name;
            let allocated = || scope.check().map_err(|error| Problem::new(name, error.to_string()));
            match model.module(planned, scope).and_then(|module| allocated().map(|()| module)) {
                Ok(module) => {
                    let params = scope.params();
                    let own = &params[start..];
                    problems.extend(
                        planned.node.frozen.check(&planned.node.prefix, own).err().map(|p| p.within(name)),
                    );
                    model.nodes.push(Built {
                        planned: Rc::clone(planned),
                        module,
                        params: start..start + own.len(),
                        frozen: is_frozen(&planned.node.frozen, own),
                        masks: model.mask_of(planned).map_or(1, |(_, plan)| plan.masks),
                    });
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() && plan.is_whole {
            problems.extend(model.idle_maskers());
        }
        problems.extend(model.duplicate_parameters());
        (model, problems)
    }

    /// All parameters in order of creation.
    pub fn params(&self) -> Vec<Param> {
        self.scope.params()
    }

    /// The parameters of the heads, of both kinds.
    pub fn head_params(&self) -> Vec<Param> {
        let heads = self.params_by_node().into_iter().filter(|(node, _)| node.kind.wiring().is_some());
        heads.flat_map(|(_, params)| params).collect()
    }

    /// The nodes with their parameters.
    pub fn params_by_node(&self) -> Vec<(&Node, Vec<Param>)> {
        let params = self.params();
        let own = |built: &Built| params[built.params.clone()].to_vec();
        self.nodes.iter().map(|built| (&built.planned.node, own(built))).collect()
    }

    /// Its heads.
    pub fn heads(&self) -> Heads<'_> {
        Heads::of(self.nodes.iter().map(|built| built.planned.as_ref()))
    }

    /// What stands before the names of nodes' parameters, where something does.
    pub fn prefixes(&self) -> Vec<&str> {
        let prefixes = self.nodes.iter().map(|built| built.planned.node.prefix.as_str());
        prefixes.filter(|prefix| !prefix.is_empty()).collect()
    }

    /// The levels of each backbone and neck, in order.
    pub fn levels_by_node(&self) -> Vec<(&str, Vec<LevelShape>)> {
        let levels = self.nodes.iter().map(|built| (built.planned.node.name.as_str(), built.module.levels()));
        levels.filter(|(_, levels)| !levels.is_empty()).collect()
    }

    /// A backbone or a neck (`backbone`), or one of its levels (`backbone.s2`), by name; the last level of the last
    /// one if none is named.
    ///
    /// # Errors
    /// Which features the model has.
    pub fn level(&self, wanted: Option<&str>) -> std::result::Result<(String, LevelShape), String> {
        let nodes = self.levels_by_node();
        let source = wanted.map(Source::from);
        let found = match &source {
            Some(source) => nodes.iter().find(|(name, _)| *name == source.node),
            None => nodes.last(),
        };
        let level = source.as_ref().and_then(|source| source.level.as_deref());
        let found = found.and_then(|(node, levels)| {
            let of_name = |name: &str| levels.iter().find(|known| known.name == name);
            Some(((*node).to_owned(), level.map_or_else(|| levels.last(), of_name)?.clone()))
        });
        found.ok_or_else(|| {
            let of_node = |(node, levels): &(&str, Vec<LevelShape>)| {
                levels.iter().map(|level| format!("`{node}.{}`", level.name)).collect::<Vec<_>>()
            };
            let names = nodes.iter().flat_map(of_node).collect::<Vec<_>>().join(", ");
            match wanted {
                Some(wanted) => format!("the model has no features `{wanted}`; it has {names}"),
                None => "the model has no backbone".to_owned(),
            }
        })
    }

    /// Multiply-adds of one image's forward.
    pub fn macs(&self) -> Macs {
        self.nodes.iter().map(Built::macs).sum()
    }

    pub(super) fn nodes(&self) -> &[Built] {
        &self.nodes
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|built| built.planned.node.name == name)
    }

    pub(super) fn upstream<'a>(&'a self, built: &'a Built) -> impl Iterator<Item = usize> + 'a {
        built.planned.sources.iter().filter_map(|source| self.position(&source.node))
    }

    fn module(&mut self, planned: &Planned, scope: &Scope) -> std::result::Result<Module, Problem> {
        let node = &planned.node;
        let relative = |problem: Problem| problem.within(&node.name);
        let within = scope.child(&node.prefix);
        let scope = node.frozen.apply(&node.prefix, || node.kind.blocks(), &within).map_err(relative)?;
        match &node.kind {
            NodeKind::Masker(_) => Ok(Module::Masker(None)),
            NodeKind::Backbone(backbone) => {
                let mask = match planned.sources.first() {
                    Some(source) => {
                        Some(self.plan_mask(&source.node, backbone.mask_grid(self.image).map_err(relative)?)?)
                    }
                    None => None,
                };
                backbone.build(&scope, self.image, mask.as_ref()).map(Module::Backbone).map_err(relative)
            }
            NodeKind::Neck(neck) => {
                let levels = self.levels(planned)?;
                neck.build(&scope, self.image, &levels).map(Module::Neck).map_err(relative)
            }
            NodeKind::Head(head, _) => {
                let inputs = HeadInputs {
                    image: self.image,
                    levels: self.levels(planned)?,
                    mask: self.mask_of(planned).map(|(grid, _)| grid.clone()),
                };
                head.build(&scope, &inputs).map(Module::Head).map_err(relative)
            }
            NodeKind::InstanceHead(head, _) => {
                let (image, levels) = (self.image, self.levels(planned)?);
                let regions = planned.sources.iter().find_map(|source| self.regions_of(&source.node));
                let inputs = InstanceHeadInputs { image, levels, regions };
                head.build(&scope, &inputs).map(Module::InstanceHead).map_err(relative)
            }
        }
    }

    /// Tells a masker the grid of the backbone that uses it.
    fn plan_mask(&mut self, masker: &str, on: MaskGrid) -> std::result::Result<MaskPlan, Problem> {
        let built = self.nodes.iter_mut().find(|built| built.planned.node.name == masker);
        let Some(Built { planned, module: Module::Masker(planned_mask), .. }) = built else {
            return Err(Problem::new(masker, "is not a masker"));
        };
        let NodeKind::Masker(spec) = &planned.node.kind else {
            return Err(Problem::new(masker, "is not a masker"));
        };
        let drawn = masker_plan(spec.as_ref(), masker, &on)?;
        if planned_mask.as_ref().is_some_and(|(other, _)| *other != on) {
            return Err(Problem::new(masker, "two backbones with different token grids use this masker")
                .help("give each backbone a masker of its own"));
        }
        *planned_mask = Some((on, drawn));
        Ok(drawn)
    }

    /// The shapes of the levels a node takes.
    fn levels(&self, planned: &Planned) -> std::result::Result<Vec<LevelShape>, Problem> {
        let mut taken = Vec::new();
        for source in &planned.sources {
            let Some(built) = self.position(&source.node).map(|at| &self.nodes[at]) else { continue };
            if matches!(built.module, Module::InstanceHead(_)) {
                continue;
            }
            let levels = built.module.levels();
            let named = |level: &&LevelShape| source.level.as_ref().is_none_or(|name| level.name == *name);
            let before = taken.len();
            taken.extend(levels.iter().filter(named).cloned());
            if taken.len() == before {
                let names: Vec<_> = levels.iter().map(|level| level.name.as_str()).collect();
                return Err(Problem::new(
                    format!("{}.from", planned.node.name),
                    format!(
                        "`{}` has no level `{}`",
                        source.node,
                        source.level.as_deref().unwrap_or_default()
                    ),
                )
                .help(format!("its levels are: {}", names.join(", "))));
            }
        }
        Ok(taken)
    }

    /// How many regions of an image a node yields, if it is an instance head.
    fn regions_of(&self, node: &str) -> Option<usize> {
        match &self.nodes[self.position(node)?].module {
            Module::InstanceHead(head) => Some(head.regions()),
            _ => None,
        }
    }

    /// The mask that reaches a node through its sources.
    fn mask_of(&self, planned: &Planned) -> Option<&(MaskGrid, MaskPlan)> {
        planned.sources.iter().find_map(|source| {
            let built = &self.nodes[self.position(&source.node)?];
            match &built.module {
                Module::Masker(mask) => mask.as_ref(),
                _ => self.mask_of(&built.planned),
            }
        })
    }

    fn idle_maskers(&self) -> impl Iterator<Item = Problem> {
        self.nodes.iter().filter(|built| matches!(built.module, Module::Masker(None))).map(|built| {
            Problem::new(&built.planned.node.name, "no backbone takes this masker")
                .help(format!("say `from: {}` in the backbone", built.planned.node.name))
        })
    }

    fn duplicate_parameters(&self) -> Vec<Problem> {
        let params = self.scope.params();
        let mut owner = std::collections::HashMap::new();
        let mut problems = Vec::new();
        for built in &self.nodes {
            let name = &built.planned.node.name;
            for param in &params[built.params.clone()] {
                match owner.insert(param.name().to_owned(), name) {
                    Some(other) if other != name => {
                        let message =
                            format!("its parameter `{}` has the name of one of `{other}`", param.name());
                        problems
                            .push(Problem::new(name, message).help("give one of the two nodes a `prefix:`"));
                        break;
                    }
                    _ => {}
                }
            }
        }
        problems
    }
}

/// Whether a node runs as in evaluation.
fn is_frozen(frozen: &Frozen, params: &[Param]) -> bool {
    match frozen {
        Frozen::All(all) => *all,
        Frozen::Blocks(_) | Frozen::Names(_) => {
            !params.is_empty() && !params.iter().any(Param::requires_grad)
        }
    }
}

fn masker_plan(spec: &dyn Masker, name: &str, grid: &MaskGrid) -> std::result::Result<MaskPlan, Problem> {
    spec.plan(grid).map_err(|problem| problem.within(name))
}

impl Built {
    /// Multiply-adds of one image's forward, under all of its masks.
    pub fn macs(&self) -> Macs {
        self.module.macs() * self.masks as u64
    }
}

impl Module {
    pub fn levels(&self) -> Vec<LevelShape> {
        match self {
            Self::Backbone(backbone) => backbone.levels(),
            Self::Neck(neck) => neck.levels(),
            Self::Masker(_) | Self::Head(_) | Self::InstanceHead(_) => Vec::new(),
        }
    }

    fn macs(&self) -> Macs {
        match self {
            Self::Masker(_) => Macs::default(),
            Self::Backbone(backbone) => backbone.macs(),
            Self::Neck(neck) => neck.macs(),
            Self::Head(head) => head.macs(),
            Self::InstanceHead(head) => head.macs(),
        }
    }
}
