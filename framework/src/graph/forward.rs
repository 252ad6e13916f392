//! The forward pass of a model: features and regions, then losses, predictions and pictures.

use std::rc::Rc;

use super::model::{Built, Model, Module};
use crate::component::{
    Features, Found, HeadModule, Loss, Mask, Picture, Prediction, Regions, Task, TaskKind,
};
use crate::data::Batch;
use crate::experiment::NodeKind;
use crate::nn::{Context, Error, Result, Tape, profile};

/// What the nodes of a model yield in a forward pass, node by node.
pub struct Outputs(Vec<Output>);

enum Output {
    Mask(Rc<Mask>),
    Features(Features),
    Found(Found),
    /// Of a head, which is run when it is asked for losses or predictions.
    Nothing,
}

impl Outputs {
    fn mask(&self, at: usize) -> Option<&Rc<Mask>> {
        match self.0.get(at) {
            Some(Output::Mask(mask)) => Some(mask),
            _ => None,
        }
    }

    fn features(&self, at: usize) -> Option<&Features> {
        match self.0.get(at) {
            Some(Output::Features(features)) => Some(features),
            _ => None,
        }
    }

    fn found(&self, at: usize) -> Option<&Found> {
        match self.0.get(at) {
            Some(Output::Found(found)) => Some(found),
            _ => None,
        }
    }
}

impl Model {
    /// Runs masker, backbone, necks and instance heads on a batch.
    pub fn forward(&self, batch: &Batch, ctx: &Context) -> Result<Outputs> {
        self.check_size(batch)?;
        let mut outputs = Outputs(Vec::new());
        for built in self.nodes() {
            let _span = profile::node(&built.planned.node.name);
            let output = self.run(built, &outputs, batch, &self.context(built, ctx))?;
            record(&built.planned.node.name, &output, ctx)?;
            outputs.0.push(output);
        }
        Ok(outputs)
    }

    /// The masks that the maskers draw for a batch, without anything that is computed under them.
    pub fn masks(&self, batch: usize, ctx: &Context) -> Result<Vec<Mask>> {
        let drawn = self.nodes().iter().filter_map(|built| match (&built.planned.node.kind, &built.module) {
            (NodeKind::Masker(masker), Module::Masker(Some((grid, _)))) => {
                Some(masker.draw(grid, batch, ctx))
            }
            _ => None,
        });
        drawn.collect()
    }

    /// The levels that a backbone or a neck yields.
    pub fn features<'o>(&self, outputs: &'o Outputs, node: &str) -> Option<&'o Features> {
        outputs.features(self.position(node)?)
    }

    fn run(&self, built: &Built, outputs: &Outputs, batch: &Batch, ctx: &Context) -> Result<Output> {
        Ok(match (&built.planned.node.kind, &built.module) {
            (NodeKind::Masker(masker), Module::Masker(Some((grid, _)))) => {
                Output::Mask(Rc::new(masker.draw(grid, batch.len(), ctx)?))
            }
            (_, Module::Backbone(backbone)) => {
                let mask = self.upstream(built).find_map(|at| outputs.mask(at));
                Output::Features(backbone.forward(&batch.images, mask, ctx)?)
            }
            (_, Module::Neck(neck)) => Output::Features(neck.forward(&self.gather(built, outputs)?, ctx)?),
            (_, Module::InstanceHead(head)) => {
                let given = self.upstream(built).find_map(|at| outputs.found(at));
                let given = given.map(|found| found.regions.as_slice());
                Output::Found(head.forward(&self.gather(built, outputs)?, given, batch, ctx)?)
            }
            _ => Output::Nothing,
        })
    }

    /// The losses of all heads, named `<node>.<loss>`, with the weights of their nodes.
    pub fn losses(&self, outputs: &Outputs, batch: &Batch, ctx: &Context) -> Result<Vec<Loss>> {
        let mut losses = Vec::new();
        for (at, built) in self.nodes().iter().enumerate() {
            let name = &built.planned.node.name;
            let _span = profile::node(name);
            let own = match &built.module {
                Module::Head(head) => {
                    head.loss(&self.gather(built, outputs)?, batch, &self.context(built, ctx))?
                }
                _ => outputs.found(at).map(|found| found.losses.clone()).unwrap_or_default(),
            };
            let weight = built.planned.node.kind.wiring().map_or(0.0, |wiring| wiring.loss_weight);
            losses.extend(own.into_iter().map(|loss| Loss {
                name: format!("{name}.{}", loss.name),
                weight: weight * loss.weight,
                ..loss
            }));
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
        let (mut predictions, heads) = (Vec::new(), self.heads());
        for (at, built) in self.nodes().iter().enumerate().filter(|(_, built)| heads.predicts(&built.planned))
        {
            let Some(task) =
                built.planned.node.kind.task().map(Task::kind).filter(|task| tasks.contains(task))
            else {
                continue;
            };
            let prediction = if let Module::Head(head) = &built.module {
                head.predict(&self.gather(built, outputs)?, batch, ctx)?
            } else {
                let found = outputs.found(at).map(|found| found.regions.clone());
                Prediction::Instances(found.unwrap_or_default())
            };
            let name = format!("the head `{}`", built.planned.node.name);
            predictions.push(prediction.checked(&name, task, batch)?);
        }
        Ok(predictions)
    }

    /// The pictures of the heads that predict, a row per image. `names` tells those of the classes of a task.
    pub fn pictures<'n>(
        &self,
        outputs: &Outputs,
        batch: &Batch,
        names: impl Fn(TaskKind) -> &'n [String],
        ctx: &Context,
    ) -> Result<Vec<Vec<Picture>>> {
        let (mut rows, heads): (Vec<Vec<Picture>>, _) = (Vec::new(), self.heads());
        for (built, head) in self.head_modules().filter(|(built, _)| heads.predicts(&built.planned)) {
            let names = built.planned.node.kind.task().map(|task| names(task.kind())).unwrap_or_default();
            let pictures = head.pictures(&self.gather(built, outputs)?, batch, names, ctx)?;
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
        match built.frozen {
            true if self.is_constant(built) => ctx.frozen(Tape::none()),
            true => ctx.frozen(ctx.tape.clone()),
            false => ctx.clone(),
        }
    }

    /// Whether neither a node nor anything before it is trained.
    fn is_constant(&self, built: &Built) -> bool {
        let is_masker = matches!(built.module, Module::Masker(_));
        is_masker || built.frozen && self.upstream(built).all(|at| self.is_constant(&self.nodes()[at]))
    }

    fn head_modules(&self) -> impl Iterator<Item = (&Built, &dyn HeadModule)> {
        self.nodes().iter().filter_map(|built| match &built.module {
            Module::Head(head) => Some((built, head.as_ref())),
            _ => None,
        })
    }

    fn check_size(&self, batch: &Batch) -> Result<()> {
        if batch.channels() != self.image.channels {
            return Err(Error::Shape(format!(
                "the images have {} channels ({}), the recipe's `image_channels` is {}",
                batch.channels(),
                batch.ids.first().map_or("no id", String::as_str),
                self.image.channels,
            )));
        }
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

    /// The features a node takes: the levels it names, from all of its sources.
    fn gather(&self, built: &Built, outputs: &Outputs) -> Result<Features> {
        let mut gathered = Features { levels: Vec::new(), mask: None };
        for source in &built.planned.sources {
            let output = match self.position(&source.node).and_then(|at| outputs.0.get(at)) {
                Some(Output::Features(output)) => output,
                Some(_) => continue,
                None => return Err(Error::Value(format!("`{}` has not run", source.node))),
            };
            let named = |name: &str| source.level.as_deref().is_none_or(|level| level == name);
            gathered.levels.extend(output.levels.iter().filter(|level| named(&level.shape.name)).cloned());
            gathered.mask = gathered.mask.or_else(|| output.mask.clone());
        }
        Ok(gathered)
    }
}

/// Records what a node yields: `<node>.<level>`; of an instance head `<node>.boxes_<image>`, `.scores_<image>`,
/// `.classes_<image>` and `.masks_<image>`, those that there are.
fn record(node: &str, output: &Output, ctx: &Context) -> Result<()> {
    match output {
        Output::Features(features) => {
            for level in &features.levels {
                ctx.record(&format!("{node}.{}", level.shape.name), &level.tokens)?;
            }
        }
        Output::Found(found) if ctx.is_recording() => {
            for (image, regions) in found.regions.iter().enumerate() {
                record_regions(&|what| format!("{node}.{what}_{image}"), regions, ctx);
            }
        }
        _ => {}
    }
    Ok(())
}

fn record_regions(name: &dyn Fn(&str) -> String, regions: &Regions, ctx: &Context) {
    let Regions { boxes, scores, classes, masks, .. } = regions;
    ctx.record_values(&name("boxes"), (boxes.len(), 4), boxes.as_flattened().to_vec());
    if !scores.is_empty() {
        ctx.record_values(&name("scores"), (scores.len(),), scores.clone());
    }
    if !classes.is_empty() {
        let classes = classes.iter().map(|&class| class as f32).collect();
        ctx.record_values(&name("classes"), (regions.len(),), classes);
    }
    if let Some(mask) = masks.first() {
        let values = masks.iter().flat_map(|mask| mask.0.iter().copied()).collect();
        ctx.record_values(&name("masks"), (masks.len(), mask.0.len()), values);
    }
}
