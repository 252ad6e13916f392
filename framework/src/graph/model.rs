//! The built model: modules in order, parameters, and the forward pass.

use std::rc::Rc;

use super::plan::{Plan, Planned};
use crate::component::{
    BackboneModule, Features, HeadInputs, HeadModule, ImageShape, LevelShape, Loss, Macs, Mask, MaskGrid,
    MaskPlan, Masker, NeckModule, Picture, Prediction, Problem, Task, TaskKind,
};
use crate::data::Batch;
use crate::experiment::NodeKind;
use crate::nn::{Context, Error, Param, Result, Scope, Tape, Tensor, profile};

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
}

impl Built {
    /// The task of a head.
    fn task(&self) -> Option<Task> {
        match &self.planned.node.kind {
            NodeKind::Head(head, _) => Some(head.task()),
            _ => None,
        }
    }

    /// The factor of a head's losses in the total.
    fn loss_weight(&self) -> f32 {
        match &self.planned.node.kind {
            NodeKind::Head(_, wiring) => wiring.loss_weight,
            _ => 0.0,
        }
    }

    /// Whether it is a head that predicts: an auxiliary one only helps to train.
    fn predicts(&self) -> bool {
        matches!(&self.planned.node.kind, NodeKind::Head(_, wiring) if !wiring.auxiliary)
    }
}

pub(super) enum Module {
    /// The grid a masker draws on, once a backbone that uses it is known.
    Masker {
        grid: Option<MaskGrid>,
        plan: Option<MaskPlan>,
    },
    Backbone(Box<dyn BackboneModule>),
    Neck(Box<dyn NeckModule>),
    Head(Box<dyn HeadModule>),
}

/// The features of a forward pass, node by node.
pub struct Outputs {
    features: Vec<Option<Features>>,
}

impl Model {
    /// Builds the modules in order. In a scope that only describes nothing is allocated. Problems carry keys
    /// relative to the `model` section; a node whose source failed is passed over.
    pub fn build(plan: &Plan, image: ImageShape, scope: &Scope) -> std::result::Result<Self, Vec<Problem>> {
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
                    let planned = Rc::clone(planned);
                    model.nodes.push(Built { planned, module, params: start..scope.params().len() });
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            problems.extend(model.idle_maskers());
            problems.extend(model.duplicate_parameters());
        }
        if problems.is_empty() { Ok(model) } else { Err(problems) }
    }

    /// All parameters in order of creation.
    pub fn params(&self) -> Vec<Param> {
        self.scope.params()
    }

    /// The parameters of the heads.
    pub fn head_params(&self) -> Vec<Param> {
        let params = self.params();
        self.heads().flat_map(|(built, _)| params[built.params.clone()].iter().cloned()).collect()
    }

    /// The heads of a task that tell classes apart, with how many.
    pub fn classes(&self, kind: TaskKind) -> Vec<(&str, usize)> {
        let tasks = self.tasks().filter(|(_, task)| task.kind() == kind);
        tasks.filter_map(|(built, task)| Some((built.planned.node.name.as_str(), task.classes()?))).collect()
    }

    /// The heads of a task.
    pub fn heads_of(&self, kind: TaskKind) -> impl Iterator<Item = &str> {
        let tasks = self.tasks().filter(move |(_, task)| task.kind() == kind);
        tasks.map(|(built, _)| built.planned.node.name.as_str())
    }

    /// The heads that predict for a task: none of them auxiliary.
    pub fn predicting(&self, kind: TaskKind) -> Vec<&str> {
        let tasks = self.tasks().filter(|(built, task)| task.kind() == kind && built.predicts());
        tasks.map(|(built, _)| built.planned.node.name.as_str()).collect()
    }

    /// The heads with their tasks.
    fn tasks(&self) -> impl Iterator<Item = (&Built, Task)> {
        self.nodes.iter().filter_map(|built| Some((built, built.task()?)))
    }

    /// What stands before the names of nodes' parameters, where something does.
    pub fn prefixes(&self) -> Vec<&str> {
        let prefixes = self.nodes.iter().map(|built| built.planned.node.prefix.as_str());
        prefixes.filter(|prefix| !prefix.is_empty()).collect()
    }

    /// Multiply-adds of one image's forward.
    pub fn macs(&self) -> Macs {
        self.nodes.iter().map(|built| built.module.macs()).sum()
    }

    pub(super) fn nodes(&self) -> &[Built] {
        &self.nodes
    }

    /// Runs masker, backbone and necks on a batch.
    pub fn forward(&self, batch: &Batch, ctx: &Context) -> Result<Outputs> {
        self.check_size(batch)?;
        let shape = (batch.len(), self.image.channels, batch.height, batch.width);
        // Images need no gradient, so they are on no tape; the first layer puts its output on `ctx.tape`.
        let images = Tensor::from_vec(batch.images.clone(), shape, &Tape::none())?;
        let mut masks: Vec<Option<Rc<Mask>>> = Vec::new();
        let mut features: Vec<Option<Features>> = Vec::new();
        for built in &self.nodes {
            let _span = profile::node(&built.planned.node.name);
            let (mut mask, mut output) = (None, None);
            let ctx = &self.context(built, ctx);
            match (&built.planned.node.kind, &built.module) {
                (NodeKind::Masker(masker), Module::Masker { grid: Some(grid), .. }) => {
                    mask = Some(Rc::new(masker.draw(grid, batch.len(), ctx)?));
                }
                (_, Module::Backbone(backbone)) => {
                    let mask = self.upstream(built).find_map(|at| masks[at].as_ref());
                    output = Some(backbone.forward(&images, mask, ctx)?);
                }
                (_, Module::Neck(neck)) => output = Some(neck.forward(&self.gather(built, &features)?, ctx)?),
                _ => {}
            }
            if let Some(features) = &output {
                for level in &features.levels {
                    ctx.record(&format!("{}.{}", built.planned.node.name, level.shape.name), &level.tokens)?;
                }
            }
            masks.push(mask);
            features.push(output);
        }
        Ok(Outputs { features })
    }

    /// The losses of all heads, named `<node>.<loss>`, with the weights of their nodes.
    pub fn losses(&self, outputs: &Outputs, batch: &Batch, ctx: &Context) -> Result<Vec<Loss>> {
        let mut losses = Vec::new();
        for (built, head) in self.heads() {
            let _span = profile::node(&built.planned.node.name);
            let ctx = &self.context(built, ctx);
            for loss in head.loss(&self.gather(built, &outputs.features)?, batch, ctx)? {
                losses.push(Loss {
                    name: format!("{}.{}", built.planned.node.name, loss.name),
                    weight: built.loss_weight() * loss.weight,
                    ..loss
                });
            }
        }
        Ok(losses)
    }

    /// What the heads of these tasks predict; auxiliary ones predict nothing.
    pub fn predictions(
        &self,
        outputs: &Outputs,
        tasks: &[TaskKind],
        batch: &Batch,
        ctx: &Context,
    ) -> Result<Vec<Prediction>> {
        let mut predictions = Vec::new();
        for (built, head) in self.heads().filter(|(built, _)| built.predicts()) {
            let Some(task) = built.task().map(Task::kind).filter(|task| tasks.contains(task)) else {
                continue;
            };
            let features = self.gather(built, &outputs.features)?;
            let prediction = head.predict(&features, batch, ctx)?;
            let name = format!("the head `{}`", built.planned.node.name);
            predictions.push(prediction.checked(&name, task, batch)?);
        }
        Ok(predictions)
    }

    /// The pictures of the heads that predict, a row per image.
    pub fn pictures(&self, outputs: &Outputs, batch: &Batch, ctx: &Context) -> Result<Vec<Vec<Picture>>> {
        let mut rows: Vec<Vec<Picture>> = Vec::new();
        for (built, head) in self.heads().filter(|(built, _)| built.predicts()) {
            let pictures = head.pictures(&self.gather(built, &outputs.features)?, batch, ctx)?;
            if rows.is_empty() {
                rows = pictures;
            } else {
                rows.iter_mut().zip(pictures).for_each(|(row, more)| row.extend(more));
            }
        }
        Ok(rows)
    }

    /// The circumstances of a node: a frozen one runs as in evaluation, and without a tape if nothing before
    /// it is trained.
    fn context(&self, built: &Built, ctx: &Context) -> Context {
        match built.planned.node.frozen {
            true if self.is_constant(built) => ctx.frozen(Tape::none()),
            true => ctx.frozen(ctx.tape.clone()),
            false => ctx.clone(),
        }
    }

    /// Whether neither a node nor anything before it is trained.
    fn is_constant(&self, built: &Built) -> bool {
        let is_masker = matches!(built.module, Module::Masker { .. });
        is_masker
            || built.planned.node.frozen && self.upstream(built).all(|at| self.is_constant(&self.nodes[at]))
    }

    fn heads(&self) -> impl Iterator<Item = (&Built, &dyn HeadModule)> {
        self.nodes.iter().filter_map(|built| match &built.module {
            Module::Head(head) => Some((built, head.as_ref())),
            _ => None,
        })
    }

    fn check_size(&self, batch: &Batch) -> Result<()> {
        if (batch.height, batch.width) == (self.image.height, self.image.width) {
            return Ok(());
        }
        Err(Error::Shape(format!(
            "the images are {} x {} ({}), the recipe's `image_size` is {} x {}: add a crop or a resize to the transforms",
            batch.height,
            batch.width,
            batch.ids.first().map_or("no id", String::as_str),
            self.image.height,
            self.image.width,
        )))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|built| built.planned.node.name == name)
    }

    fn upstream<'a>(&'a self, built: &'a Built) -> impl Iterator<Item = usize> + 'a {
        built.planned.sources.iter().filter_map(|source| self.position(&source.node))
    }

    /// The features a node takes: the levels it names, from all of its sources.
    fn gather(&self, built: &Built, features: &[Option<Features>]) -> Result<Features> {
        let mut gathered = Features { levels: Vec::new(), mask: None };
        for source in &built.planned.sources {
            let output = self.position(&source.node).and_then(|at| features.get(at)?.as_ref());
            let output = output.ok_or_else(|| Error::Value(format!("`{}` has not run", source.node)))?;
            let named = |name: &str| source.level.as_deref().is_none_or(|level| level == name);
            gathered.levels.extend(output.levels.iter().filter(|level| named(&level.shape.name)).cloned());
            gathered.mask = gathered.mask.or_else(|| output.mask.clone());
        }
        Ok(gathered)
    }

    fn module(&mut self, planned: &Planned, scope: &Scope) -> std::result::Result<Module, Problem> {
        let node = &planned.node;
        let scope = scope.child(&node.prefix);
        let scope = if node.frozen { scope.freeze() } else { scope };
        let relative = |problem: Problem| problem.within(&node.name);
        match &node.kind {
            NodeKind::Masker(_) => Ok(Module::Masker { grid: None, plan: None }),
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
                    mask: self.mask_of(planned),
                };
                head.build(&scope, &inputs).map(Module::Head).map_err(relative)
            }
        }
    }

    /// Tells a masker the grid of the backbone that uses it.
    fn plan_mask(&mut self, masker: &str, on: MaskGrid) -> std::result::Result<MaskPlan, Problem> {
        let built = self.nodes.iter_mut().find(|built| built.planned.node.name == masker);
        let Some(Built { planned, module: Module::Masker { grid, plan }, .. }) = built else {
            return Err(Problem::new(masker, "is not a masker"));
        };
        let NodeKind::Masker(spec) = &planned.node.kind else {
            return Err(Problem::new(masker, "is not a masker"));
        };
        let drawn = masker_plan(spec.as_ref(), masker, &on)?;
        if grid.as_ref().is_some_and(|other| *other != on) {
            return Err(Problem::new(masker, "two backbones with different token grids use this masker")
                .help("give each backbone a masker of its own"));
        }
        (*grid, *plan) = (Some(on), Some(drawn));
        Ok(drawn)
    }

    /// The shapes of the levels a node takes.
    fn levels(&self, planned: &Planned) -> std::result::Result<Vec<LevelShape>, Problem> {
        let mut taken = Vec::new();
        for source in &planned.sources {
            let Some(built) = self.position(&source.node).map(|at| &self.nodes[at]) else { continue };
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

    /// The grid of the mask that reaches a node through its sources.
    fn mask_of(&self, planned: &Planned) -> Option<MaskGrid> {
        planned.sources.iter().find_map(|source| {
            let built = &self.nodes[self.position(&source.node)?];
            match &built.module {
                Module::Masker { grid, .. } => grid.clone(),
                _ => self.mask_of(&built.planned),
            }
        })
    }

    fn idle_maskers(&self) -> impl Iterator<Item = Problem> {
        self.nodes.iter().filter(|built| matches!(built.module, Module::Masker { grid: None, .. })).map(
            |built| {
                Problem::new(&built.planned.node.name, "no backbone takes this masker")
                    .help(format!("say `from: {}` in the backbone", built.planned.node.name))
            },
        )
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

fn masker_plan(spec: &dyn Masker, name: &str, grid: &MaskGrid) -> std::result::Result<MaskPlan, Problem> {
    spec.plan(grid).map_err(|problem| problem.within(name))
}

impl Module {
    pub fn levels(&self) -> Vec<LevelShape> {
        match self {
            Self::Backbone(backbone) => backbone.levels(),
            Self::Neck(neck) => neck.levels(),
            Self::Masker { .. } | Self::Head(_) => Vec::new(),
        }
    }

    pub fn macs(&self) -> Macs {
        match self {
            Self::Masker { .. } => Macs::default(),
            Self::Backbone(backbone) => backbone.macs(),
            Self::Neck(neck) => neck.macs(),
            Self::Head(head) => head.macs(),
        }
    }
}
