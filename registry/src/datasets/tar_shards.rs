mod index;
mod pattern;

use std::path::{Path, PathBuf};

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::{DataError, Sample, Target, decode};
use convmae_framework::random::{self, Purpose};
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::yes;
use index::{Group, Member};

/// Images in tar archives, in the manner of `WebDataset`: members that share a name up to the first dot are
/// one sample, an image (`.jpg`, `.png`, `.webp`) and its class (`.cls`, a number, or `.json`). Each shard is
/// read nearly from front to back.
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
    /// A text file with the name of one class a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<PathBuf>,
}

/// One pattern or several.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Shards {
    /// One path or pattern.
    One(String),
    /// Several paths or patterns.
    Many(Vec<String>),
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
        let patterns = match &self.shards {
            Shards::One(pattern) => std::slice::from_ref(pattern),
            Shards::Many(patterns) => patterns,
        };
        let files: Result<Vec<_>, _> = patterns.iter().map(|pattern| pattern::files(pattern)).collect();
        let shards = files?.concat();
        if shards.is_empty() {
            let reason = "the list of shards is empty".to_owned();
            return Err(DataError::Invalid { path: "shards".into(), reason });
        }
        let classes = self.classes.as_deref().map(read_classes).transpose()?;
        let scans: Vec<_> = shards.par_iter().map(|shard| index::scan(shard, self.labelled)).collect();
        let mut archive = Archive {
            starts: Vec::with_capacity(shards.len()),
            shards,
            groups: Vec::new(),
            classes,
            label_key: self.label_key.clone(),
            shuffle_buffer: self.shuffle_buffer.max(1),
        };
        for groups in scans {
            archive.starts.push(archive.groups.len());
            archive.groups.extend(groups?);
        }
        Ok(Box::new(archive))
    }
}

convmae_framework::register!(Dataset: TarShards);

fn read_classes(path: &Path) -> Result<Vec<String>, DataError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// The index of all shards.
struct Archive {
    shards: Vec<PathBuf>,
    /// The first sample of each shard.
    starts: Vec<usize>,
    groups: Vec<Group>,
    classes: Option<Vec<String>>,
    label_key: String,
    shuffle_buffer: usize,
}

impl Archive {
    fn class(&self, shard: &Path, stem: &str, label: &Member) -> Result<usize, DataError> {
        let corrupt =
            |reason: String| DataError::Corrupt { path: index::member_path(shard, stem, label), reason };
        let text = index::read(shard, stem, label)?;
        let text = String::from_utf8_lossy(&text);
        let class = if &*label.extension == "cls" {
            text.trim().parse().map_err(|_| corrupt(format!("{:?} is no class index", shorten(&text))))?
        } else {
            let json: serde_json::Value =
                serde_json::from_str(&text).map_err(|error| corrupt(format!("no JSON: {error}")))?;
            let class = json.get(&self.label_key).and_then(serde_json::Value::as_u64);
            class.ok_or_else(|| corrupt(format!("no class index under the key `{}`", self.label_key)))?
                as usize
        };
        match &self.classes {
            Some(classes) if class >= classes.len() => {
                Err(corrupt(format!("class {class}, but only {} classes are named", classes.len())))
            }
            _ => Ok(class),
        }
    }
}

fn shorten(text: &str) -> String {
    text.trim().chars().take(40).collect()
}

impl Samples for Archive {
    fn len(&self) -> usize {
        self.groups.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let shard = &self.shards[self.starts.partition_point(|&start| start <= index) - 1];
        let Group { stem, image: name, label } = &self.groups[index];
        let path = index::member_path(shard, stem, name);
        let image = decode(&index::read(shard, stem, name)?, &path)?;
        let class = label.as_ref().map(|label| self.class(shard, stem, label)).transpose()?;
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
