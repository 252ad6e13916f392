mod index;
mod label;

use std::path::{Path, PathBuf};

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::{DataError, PassedOver, Sample, Target, decode};
use convmae_framework::random::{self, Purpose};
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::class_names::read_names;
use super::{Shards, yes};
use index::{Group, Index};
use label::Label;

/// Images in tar archives, in the manner of `WebDataset`: members that share a name up to the first dot are
/// one sample, an image (`.jpg`, `.png`, `.webp`, `.tif`, `.bmp`) and its class (`.cls` or `.json`: its
/// index, or its name as `classes` lists it). Where no image is called so, the dots belong to names, which are
/// those up to the last one. Each shard is read nearly from front to back.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TarShards {
    /// The archives: a path, or a pattern such as `train-{000..146}.tar` or `train-*.tar`, or a list of
    /// these.
    #[schemars(extend("examples" = ["data/train-{000..146}.tar"]))]
    pub shards: Shards,
    /// Samples to draw the next one from, within a shuffled order of shards. More is closer to a true
    /// shuffle, fewer is closer to reading from front to back.
    #[serde(default = "default_buffer")]
    #[schemars(range(min = 1))]
    pub shuffle_buffer: usize,
    /// Whether samples have classes. If not, labels are passed over: enough for pretraining.
    #[serde(default = "yes")]
    pub labelled: bool,
    /// The key of the class in `.json` members.
    #[serde(default = "default_key")]
    pub label_key: String,
    /// A text file with the name of one class a line, in the order of their indices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<PathBuf>,
}

fn default_buffer() -> usize {
    5000
}

fn default_key() -> String {
    "label".to_owned()
}

#[typetag::serde]
impl Dataset for TarShards {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        let shards = self.shards.files()?;
        let classes = self.classes.as_deref().map(read_names).transpose()?;
        let scans: Vec<_> = shards.par_iter().map(|shard| index::scan(shard, self.labelled)).collect();
        let mut archive = Archive {
            starts: Vec::with_capacity(shards.len()),
            shards,
            groups: Vec::new(),
            classes,
            label_key: self.label_key.clone(),
            shuffle_buffer: self.shuffle_buffer.max(1),
            passed_over: PassedOver::default(),
            warnings: Vec::new(),
        };
        for (shard, scan) in scans.into_iter().enumerate() {
            archive.add(shard, scan?);
        }
        archive.check_first_labels()?;
        Ok(Box::new(archive))
    }
}

convmae_framework::register!(Dataset: TarShards);

/// The index of all shards.
struct Archive {
    shards: Vec<PathBuf>,
    /// The first sample of each shard.
    starts: Vec<usize>,
    groups: Vec<Group>,
    classes: Option<Vec<String>>,
    label_key: String,
    shuffle_buffer: usize,
    passed_over: PassedOver,
    warnings: Vec<String>,
}

/// Samples whose labels are looked at before any is used: if none of them is a class, the recipe is wrong,
/// not the samples.
const FIRST: usize = 3;

impl Archive {
    /// Adds the samples of the shard of a number.
    fn add(&mut self, shard: usize, Index { groups, passed_over, has_end }: Index) {
        if !has_end {
            self.warnings.push(format!(
                "{}: no end of the archive; it may be truncated, {} samples are used",
                self.shards[shard].display(),
                groups.len()
            ));
        }
        self.starts.push(self.groups.len());
        self.groups.extend(groups);
        self.passed_over.merge(passed_over);
    }

    /// The shard of a sample.
    fn shard(&self, index: usize) -> &PathBuf {
        &self.shards[self.starts.partition_point(|&start| start <= index) - 1]
    }

    /// The class of a sample, if samples have classes.
    fn read_class(&self, index: usize) -> Result<Option<usize>, DataError> {
        let (shard, Group { stem, label, .. }) = (self.shard(index), &self.groups[index]);
        let Some(member) = label else { return Ok(None) };
        let corrupt =
            |reason: String| DataError::Corrupt { path: index::member_path(shard, stem, member), reason };
        let bytes = index::read(shard, stem, member)?;
        let label = Label::parse(&bytes, &member.extension, &self.label_key).map_err(corrupt)?;
        label.class(self.classes.as_deref()).map(Some).map_err(corrupt)
    }

    fn check_first_labels(&self) -> Result<(), DataError> {
        let first = self.groups.len().min(FIRST);
        let mut errors = (0..first).map_while(|index| self.read_class(index).err());
        match errors.next() {
            Some(DataError::Corrupt { path, reason }) if errors.count() + 1 == first => {
                Err(DataError::Invalid { path, reason })
            }
            _ => Ok(()),
        }
    }
}

impl Samples for Archive {
    fn len(&self) -> usize {
        self.groups.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let (shard, Group { stem, image: name, .. }) = (self.shard(index), &self.groups[index]);
        let path = index::member_path(shard, stem, name);
        let image = decode(&index::read(shard, stem, name)?, &path)?;
        let class = self.read_class(index)?;
        Ok(Sample::new(path.display().to_string(), image, Target { class, ..Target::default() }))
    }

    fn identity(&self, index: usize) -> Option<String> {
        let shard = &self.shards[self.starts.partition_point(|&start| start <= index) - 1];
        let Group { stem, image, .. } = &self.groups[index];
        let path = index::member_path(Path::new(shard.file_name()?), stem, image);
        Some(path.to_string_lossy().into_owned())
    }

    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        self.classes.as_deref().filter(|_| task == TaskKind::Classify)
    }

    fn passed_over(&self) -> PassedOver {
        self.passed_over.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// Shards in random order, streamed through a buffer from which the next sample is drawn.
    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut rng = random::stream(Purpose::Order, &[seed, epoch]);
        let mut shards: Vec<usize> = (0..self.shards.len()).collect();
        shards.shuffle(&mut rng);
        let ends = |shard: usize| self.starts.get(shard + 1).copied().unwrap_or(self.groups.len());
        let mut stream = shards.into_iter().flat_map(|shard| self.starts[shard]..ends(shard));
        let mut buffer: Vec<usize> = stream.by_ref().take(self.shuffle_buffer).collect();
        let mut order = Vec::with_capacity(self.groups.len());
        while !buffer.is_empty() {
            let slot = rng.random_range(0..buffer.len() as u32) as usize;
            order.push(match stream.next() {
                Some(next) => std::mem::replace(&mut buffer[slot], next),
                None => buffer.swap_remove(slot),
            });
        }
        order
    }
}

#[cfg(test)]
mod tests;
