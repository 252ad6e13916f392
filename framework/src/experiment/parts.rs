//! The sections of a recipe one by one, those without mistakes.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Checkpointing, Evaluate, FlawedNode, ImageSize, InitFrom, Node, Nodes, Train};
use crate::component::{BatchTransform, Dataset, ImageShape, Optimizer, Schedule, Transform};
use crate::data::Size;
use crate::recipe::{Problem, Recipe};

/// The sections of a recipe, those without mistakes.
pub struct Parts {
    /// The images of the model.
    pub image: Option<ImageShape>,
    /// What is trained on.
    pub train_data: SplitParts,
    /// What is evaluated on, if anything is.
    pub val_data: Option<SplitParts>,
    /// Weights to start from, if it names some.
    pub init_from: Option<InitFrom>,
    /// Gradients to new parameters.
    pub optimizer: Option<Box<dyn Optimizer>>,
    /// The learning rate over time.
    pub schedule: Option<Box<dyn Schedule>>,
    /// How long to train, and how.
    pub train: Option<Train>,
    /// What is measured, and when.
    pub evaluate: Option<Evaluate>,
    /// When the state is saved.
    pub checkpoint: Option<Checkpointing>,
    /// The nodes of the model.
    pub nodes: Nodes,
    /// Those with mistakes.
    pub flawed: Vec<FlawedNode>,
}

/// The keys of a [`Split`](super::Split), those without mistakes.
pub struct SplitParts {
    /// Its name: `train`.
    pub name: &'static str,
    /// Where samples come from.
    pub dataset: Option<Box<dyn Dataset>>,
    /// What happens to every sample.
    pub transforms: Option<Vec<Box<dyn Transform>>>,
    /// What happens to every batch.
    pub batch_transforms: Vec<Box<dyn BatchTransform>>,
    /// The size that images are padded to.
    pub pad_to: Option<Size>,
    /// Images of a batch.
    pub batch_size: Option<usize>,
}

impl SplitParts {
    /// A key of the split within the recipe: `data.train.pad_to`.
    pub fn key(&self, key: &str) -> String {
        format!("data.{}.{key}", self.name)
    }
}

impl Parts {
    /// Those of a recipe, with what no schema has found wrong.
    pub fn of(recipe: &Recipe) -> (Self, Vec<Problem>) {
        let mut reader = Reader { recipe, problems: Vec::new() };
        let size: Option<ImageSize> = reader.part("image_size");
        let channels: Option<usize> = reader.part("image_channels");
        let image = size.zip(channels);
        let val = recipe.get("data.val").filter(|val| !val.is_null());
        let (nodes, flawed) = reader.nodes();
        let parts = Self {
            image: image.map(|(ImageSize { height, width }, channels)| ImageShape {
                channels,
                height,
                width,
            }),
            train_data: reader.split("train"),
            val_data: val.map(|_| reader.split("val")),
            init_from: reader.part("init_from").flatten(),
            optimizer: reader.part("optimizer"),
            schedule: reader.part("schedule"),
            train: reader.part("train"),
            evaluate: reader.part("evaluate"),
            checkpoint: reader.part("checkpoint"),
            nodes,
            flawed,
        };
        (parts, reader.problems)
    }
}

struct Reader<'r> {
    recipe: &'r Recipe,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// A block without mistakes, as a type.
    fn part<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let block = self.recipe.get(key).filter(|_| self.recipe.is_sound(key))?;
        T::deserialize(block).map_err(|error| self.problems.push(Problem::new(key, error.to_string()))).ok()
    }

    fn split(&mut self, name: &'static str) -> SplitParts {
        let key = format!("data.{name}");
        SplitParts {
            name,
            dataset: self.part(&format!("{key}.dataset")),
            transforms: self.part(&format!("{key}.transforms")),
            batch_transforms: self.part(&format!("{key}.batch_transforms")).unwrap_or_default(),
            pad_to: self.part(&format!("{key}.pad_to")).flatten(),
            batch_size: self.part(&format!("{key}.batch_size")),
        }
    }

    fn nodes(&mut self) -> (Nodes, Vec<FlawedNode>) {
        let blocks = self.recipe.get("model").and_then(Value::as_object);
        let (mut nodes, mut flawed) = (Vec::new(), Vec::new());
        for (name, block) in blocks.into_iter().flatten() {
            let key = format!("model.{name}");
            let sound = self.recipe.is_sound(&key).then(|| Node::new(name.clone(), block.clone()));
            match sound {
                Some(Ok(node)) => nodes.push(node),
                refused => {
                    let message = refused.and_then(Result::err);
                    self.problems.extend(message.map(|message| Problem::new(key, message)));
                    flawed.push(FlawedNode::new(name, block));
                }
            }
        }
        (Nodes(nodes), flawed)
    }
}
