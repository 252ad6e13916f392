//! Images in Parquet files, as Hugging Face's datasets are.

mod groups;
mod shard;

use std::path::Path;

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::{DataError, Sample, Target, decode};
use convmae_framework::random::{self, Purpose};
use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Classes, Shards, yes};
use groups::{Group, Groups};
use shard::Shard;

/// Images in Parquet files, in the layout of Hugging Face's datasets: a column with the bytes of an image file each, by
/// themselves or as the field `bytes` beside `path`, and a column with the index of its class. The names of the classes are those
/// that the files state (`ClassLabel`). Images are read by groups of rows; in training these are taken in random order, and their
/// images shuffled, several groups at a time.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetImages {
    /// The files: a path, or a pattern such as `train-{00000..00293}-of-00294.parquet` or `train-*.parquet`, or a list of
    /// these.
    #[schemars(extend("examples" = ["data/imagenet-1k/data/train-*.parquet"]))]
    pub files: Shards,
    /// The column of the images.
    #[serde(default = "image")]
    pub image: String,
    /// The column of the classes.
    #[serde(default = "label")]
    pub label: String,
    /// Whether images have classes. If not, their column is not read: enough for pretraining.
    #[serde(default = "yes")]
    pub labelled: bool,
    /// The classes, in place of those that the files state: how many, their names, or a text file with one name a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// How many images are shuffled at a time, at least. What is in memory is about twice as many.
    #[serde(default = "default_buffer")]
    #[schemars(range(min = 1))]
    pub shuffle_buffer: usize,
}

fn image() -> String {
    "image".to_owned()
}

fn label() -> String {
    "label".to_owned()
}

fn default_buffer() -> usize {
    2000
}

#[typetag::serde]
impl Dataset for ParquetImages {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        let files = self.files.files()?;
        let label = self.labelled.then_some(self.label.as_str());
        let shards: Vec<_> = files.par_iter().map(|file| Shard::open(file, &self.image, label)).collect();
        let shards = shards.into_iter().collect::<Result<Vec<_>, _>>()?;
        let classes = self.class_names(&shards)?;
        let mut labels = Vec::new();
        for shard in &shards {
            let labelled = shard.labels.iter().flatten().max();
            if let (Some(&largest), Some(names)) = (labelled, &classes)
                && largest as usize >= names.len()
            {
                let reason =
                    format!("`{}`: there is a class {largest}, and {} are named", self.label, names.len());
                return Err(invalid(&shard.path, reason));
            }
            labels.extend_from_slice(&shard.labels);
        }
        if self.labelled && labels.iter().all(Option::is_none) {
            let reason = format!("`{}`: no image has a class; set `labelled: false`", self.label);
            return Err(invalid(&files[0], reason));
        }
        let groups = Groups::new(&shards, self.shuffle_buffer);
        if groups.rows() == 0 {
            return Err(invalid(&files[0], "there is no row in it".to_owned()));
        }
        let image = self.image.clone();
        Ok(Box::new(Table { shards, image, groups, labels, labelled: self.labelled, classes }))
    }
}

convmae_framework::register!(Dataset: ParquetImages);

impl ParquetImages {
    /// The names of the classes, which all shards that state some state alike.
    fn class_names(&self, shards: &[Shard]) -> Result<Option<Vec<String>>, DataError> {
        if !self.labelled {
            return Ok(None);
        }
        if let Some(classes) = &self.classes {
            return classes.names().map(Some);
        }
        let mut stated = shards.iter().filter_map(|shard| Some((shard, shard.classes.as_ref()?)));
        let Some((first, names)) = stated.next() else { return Ok(None) };
        match stated.find(|(_, others)| *others != names) {
            None => Ok(Some(names.clone())),
            Some((other, _)) => {
                let reason = format!("its classes are not those of {}", first.path.display());
                Err(invalid(&other.path, reason))
            }
        }
    }
}

fn invalid(path: &Path, reason: String) -> DataError {
    DataError::Invalid { path: path.to_owned(), reason }
}

/// The rows of all files.
struct Table {
    shards: Vec<Shard>,
    image: String,
    groups: Groups,
    /// The class of every row, where it has one; empty if images have none.
    labels: Vec<Option<u32>>,
    labelled: bool,
    classes: Option<Vec<String>>,
}

impl Table {
    /// What a row is called: its file, and its number there.
    fn name(&self, group: &Group, row: usize) -> String {
        format!("{}#{}", self.shards[group.shard].path.display(), group.first_in_shard + row)
    }
}

impl Samples for Table {
    fn len(&self) -> usize {
        self.groups.rows()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let (number, group, row) = self.groups.place(index);
        let name = self.name(group, row);
        let corrupt = |reason: String| DataError::Corrupt { path: (&name).into(), reason };
        if self.labelled && self.labels[index].is_none() {
            return Err(corrupt("it has no class".to_owned()));
        }
        let read = || self.shards[group.shard].read(&self.image, group.first_in_shard, group.rows);
        let images = self.groups.images(number, read).map_err(corrupt)?;
        let bytes = images.get(row).ok_or_else(|| corrupt("there are no bytes of an image".to_owned()))?;
        let image = decode(bytes, Path::new(&name))?;
        Ok(Sample::new(name, image, Target { class: self.class(index), ..Target::default() }))
    }

    fn identity(&self, index: usize) -> Option<String> {
        let (_, group, row) = self.groups.place(index);
        let file = self.shards[group.shard].path.file_name()?.display();
        let class = self.class(index).map(|class| format!(" {class}")).unwrap_or_default();
        Some(format!("{file}#{}{class}", group.first_in_shard + row))
    }

    fn class(&self, index: usize) -> Option<usize> {
        self.labels.get(index).copied().flatten().map(|class| class as usize)
    }

    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        self.classes.as_deref().filter(|_| task == TaskKind::Classify)
    }

    /// Groups in random order; the images of so many of them at a time are shuffled.
    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut rng = random::stream(Purpose::Order, &[seed, epoch]);
        let mut groups: Vec<usize> = (0..self.groups.len()).collect();
        groups.shuffle(&mut rng);
        let (mut order, mut window) = (Vec::with_capacity(self.len()), Vec::new());
        for group in groups {
            window.extend(self.groups.range(group));
            if window.len() >= self.groups.shuffle_buffer {
                window.shuffle(&mut rng);
                order.append(&mut window);
            }
        }
        window.shuffle(&mut rng);
        order.append(&mut window);
        order
    }
}

#[cfg(test)]
mod tests;
