//! A directory of checkpoints.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::pointer::Pointer;
use super::{Checkpoint, CheckpointError, Kind, Loaded, Refusal, Retention};
use crate::weights::{CHECKPOINT_KEY, STATE_KEY, WeightsError, atomic, read_safetensors, write_sealed};

const LAST: &str = "last.json";
const BEST: &str = "best.json";
/// The version of the layout, the value of [`CHECKPOINT_KEY`].
const VERSION: &str = "1";
const STEP_KEY: &str = "convmae.step";
/// There in a checkpoint that was the best when it was saved.
const BEST_KEY: &str = "convmae.best";
/// The checkpoints in one directory, written by one process.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    directory: PathBuf,
    retention: Retention,
    /// Evaluated steps, from the best on.
    ranking: Vec<u64>,
}

impl CheckpointStore {
    /// Opens a directory, which is created if needed. It keeps the two newest checkpoints and the best.
    ///
    /// # Errors
    /// If the directory cannot be created.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, CheckpointError> {
        let directory = directory.into();
        fs::create_dir_all(&directory).map_err(WeightsError::io("create", &directory))?;
        Ok(Self { directory, retention: Retention::default(), ranking: Vec::new() })
    }

    /// Keeps checkpoints by another rule.
    #[must_use]
    pub fn with_retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Tells which evaluated steps are the best, from the best on: their checkpoints are those of the best that the rule keeps.
    pub fn set_ranking(&mut self, ranking: Vec<u64>) {
        self.ranking = ranking;
    }

    /// Whether a directory holds a checkpoint, intact or not.
    pub fn any_in(directory: &Path) -> bool {
        Self::last_in(directory).is_some()
    }

    /// The step of the last checkpoint in a directory, intact or not.
    pub fn last_in(directory: &Path) -> Option<u64> {
        let step = |entry: fs::DirEntry| entry.file_name().to_str().and_then(step_of);
        fs::read_dir(directory).ok()?.flatten().filter_map(step).max()
    }

    /// The checkpoint that `best.json` in a directory names; none if there is no such file.
    ///
    /// # Errors
    /// If the file is broken.
    pub fn best_in(directory: &Path) -> Result<Option<PathBuf>, CheckpointError> {
        let best = Pointer::read(&directory.join(BEST)).map_err(CheckpointError::Refused)?;
        Ok(best.map(|pointer| directory.join(pointer.file)))
    }

    /// The newest checkpoint in a directory, intact or not.
    pub fn newest_in(directory: &Path) -> Option<PathBuf> {
        Self::last_in(directory).map(|step| directory.join(file_name(step)))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Saves a checkpoint and returns its path.
    ///
    /// Checkpoints of later steps are removed: they belong to a course of the run that was given up by
    /// resuming from an earlier one.
    ///
    /// # Errors
    /// If writing fails; the checkpoints there are left as they were.
    pub fn save(&self, checkpoint: &Checkpoint, kind: Kind) -> Result<PathBuf, CheckpointError> {
        atomic::remove_leftovers(&self.directory)?;
        let file = file_name(checkpoint.step);
        let path = self.directory.join(&file);
        let mut metadata = BTreeMap::from([
            (CHECKPOINT_KEY.to_owned(), VERSION.to_owned()),
            (STEP_KEY.to_owned(), checkpoint.step.to_string()),
            (STATE_KEY.to_owned(), checkpoint.state.to_string()),
        ]);
        if kind == Kind::Best {
            metadata.insert(BEST_KEY.to_owned(), "true".to_owned());
        }
        let blake3 = write_sealed(&path, &checkpoint.tensors, &metadata)?;
        self.point_to(&Pointer { file, blake3 }, kind)?;
        self.rotate(checkpoint.step);
        Ok(path)
    }

    /// Names a checkpoint the last one, and the best one if it is.
    fn point_to(&self, pointer: &Pointer, kind: Kind) -> Result<(), WeightsError> {
        // The best first: a crash in between leaves a last checkpoint from which the best one is found again.
        if kind == Kind::Best {
            pointer.write(&self.directory.join(BEST))?;
        }
        pointer.write(&self.directory.join(LAST))
    }

    /// Loads the checkpoint to resume from: the one `last.json` names, or the newest intact one if that is
    /// broken. Where a crash came before there was a `last.json`, it is written. None if there has been no
    /// checkpoint.
    ///
    /// # Errors
    /// If the directory cannot be read or written, or there are checkpoints but none is intact.
    pub fn load_last(&self) -> Result<Option<Loaded>, CheckpointError> {
        let mut refused = Vec::new();
        let is_unnamed = !self.directory.join(LAST).exists();
        let last = Pointer::read(&self.directory.join(LAST)).unwrap_or_else(|refusal| {
            refused.push(refusal);
            None
        });
        let named = last.as_ref().map(|pointer| self.directory.join(&pointer.file));
        let others = self.newest_first()?.into_iter().map(|(_, path)| path);
        let candidates = named.iter().cloned().chain(others.filter(|path| Some(path) != named.as_ref()));
        for path in candidates {
            let digest =
                last.as_ref().filter(|_| Some(&path) == named.as_ref()).map(|last| last.blake3.as_str());
            match read(&path, digest) {
                Ok(Stored { checkpoint, pointer, kind }) => {
                    if is_unnamed {
                        self.point_to(&pointer, kind)?;
                    }
                    return Ok(Some(Loaded { checkpoint, refused }));
                }
                Err(refusal) => refused.push(refusal),
            }
        }
        if refused.is_empty() {
            return Ok(None);
        }
        Err(CheckpointError::AllRefused { directory: self.directory.clone(), refused })
    }

    /// Loads the checkpoint that `best.json` names; none if there is no such file.
    ///
    /// # Errors
    /// If the file or the checkpoint it names is broken.
    pub fn best(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        let Some(pointer) = Pointer::read(&self.directory.join(BEST)).map_err(CheckpointError::Refused)?
        else {
            return Ok(None);
        };
        read(&self.directory.join(&pointer.file), Some(&pointer.blake3))
            .map(|stored| Some(stored.checkpoint))
            .map_err(CheckpointError::Refused)
    }

    /// Loads one checkpoint file and verifies it.
    ///
    /// # Errors
    /// If it cannot be read or is not an intact checkpoint.
    pub fn load(&self, path: &Path) -> Result<Checkpoint, CheckpointError> {
        read(path, None).map(|stored| stored.checkpoint).map_err(CheckpointError::Refused)
    }

    /// Removes later checkpoints than that of `step`, and what the rule does not keep, as [`Self::save`] does at its end, which a
    /// crash may cut off. A file that cannot be removed is reported and left: the checkpoint itself is safe.
    pub fn rotate(&self, step: u64) {
        let best = match Self::best_in(&self.directory) {
            Ok(best) => best,
            // Not knowing which is the best, none is removed.
            Err(error) => return tracing::warn!("{error}; no old checkpoint is removed"),
        };
        let checkpoints = match self.newest_first() {
            Ok(checkpoints) => checkpoints,
            Err(error) => return tracing::warn!("{error}; no old checkpoint is removed"),
        };
        let (later, others): (Vec<_>, Vec<_>) = checkpoints.into_iter().partition(|(of, _)| *of > step);
        let later = later.into_iter().map(|(_, path)| path).filter(|path| Some(path) != best.as_ref());
        let surplus = self.not_kept(others, best.as_ref());
        for path in later.chain(surplus) {
            if let Err(error) = atomic::remove(&path) {
                tracing::warn!("{error}");
            }
        }
    }

    /// The checkpoints that the rule does not keep, newest first, and how many it keeps.
    ///
    /// # Errors
    /// If the directory cannot be listed, or it is not known which the best is.
    pub fn surplus(&self) -> Result<(Vec<PathBuf>, usize), CheckpointError> {
        let best = Self::best_in(&self.directory)?.filter(|_| self.retention.best > 0);
        let checkpoints = self.newest_first()?;
        let all = checkpoints.len();
        let surplus = self.not_kept(checkpoints, best.as_ref());
        let kept = all - surplus.len();
        Ok((surplus, kept))
    }

    /// Removes a checkpoint, and what names it.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove(&self, path: &Path) -> Result<(), CheckpointError> {
        // First what names it: without, the newest one that is left is found.
        for name in [LAST, BEST] {
            let pointer = self.directory.join(name);
            let names_it = |named: Pointer| self.directory.join(named.file) == path;
            if Pointer::read(&pointer).map_err(CheckpointError::Refused)?.is_some_and(names_it) {
                atomic::remove(&pointer)?;
            }
        }
        Ok(atomic::remove(path)?)
    }

    fn not_kept(&self, newest_first: Vec<(u64, PathBuf)>, best: Option<&PathBuf>) -> Vec<PathBuf> {
        let steps: Vec<u64> = newest_first.iter().map(|(step, _)| *step).collect();
        let kept = self.retention.kept(&steps, &self.ranking);
        let is_surplus = |(step, path): &(u64, PathBuf)| !kept.contains(step) && Some(path) != best;
        newest_first.into_iter().filter(is_surplus).map(|(_, path)| path).collect()
    }

    /// Steps and paths of the checkpoint files, whatever their content, newest first.
    fn newest_first(&self) -> Result<Vec<(u64, PathBuf)>, WeightsError> {
        let mut checkpoints = fs::read_dir(&self.directory)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(WeightsError::io("list", &self.directory))?
            .into_iter()
            .filter_map(|entry| Some((step_of(entry.file_name().to_str()?)?, entry.path())))
            .collect::<Vec<_>>();
        checkpoints.sort_by_key(|(step, _)| Reverse(*step));
        Ok(checkpoints)
    }
}

fn file_name(step: u64) -> String {
    format!("step-{step:08}.safetensors")
}

fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()?;
    (file_name(step) == name).then_some(step)
}

/// A checkpoint as it is in its file, and what it was saved as.
struct Stored {
    checkpoint: Checkpoint,
    pointer: Pointer,
    kind: Kind,
}

/// Reads a sealed checkpoint, whose digest must be `expected` if that is known.
fn read(path: &Path, expected: Option<&str>) -> Result<Stored, Refusal> {
    let refuse = |reason: String| Refusal { path: path.to_path_buf(), reason };
    let file = read_safetensors(path).map_err(|error| match error {
        WeightsError::Format { reason, .. } => refuse(reason.to_string()),
        WeightsError::Io { operation, source, .. } => refuse(format!("cannot {operation} it: {source}")),
    })?;
    let Some(digest) = file.digest else {
        return Err(refuse("it carries no digest".into()));
    };
    if expected.is_some_and(|expected| expected != digest) {
        return Err(refuse(format!("its blake3 {digest} is not the one noted when it was saved")));
    }
    let field =
        |key: &str| file.metadata.get(key).ok_or_else(|| refuse(format!("its metadata lacks `{key}`")));
    let version = field(CHECKPOINT_KEY)?;
    if version != VERSION {
        return Err(refuse(format!("its layout is version {version}; this program reads version {VERSION}")));
    }
    let step = field(STEP_KEY)?.parse().map_err(|error| refuse(format!("`{STEP_KEY}`: {error}")))?;
    let state =
        serde_json::from_str(field(STATE_KEY)?).map_err(|error| refuse(format!("`{STATE_KEY}`: {error}")))?;
    let kind = if file.metadata.contains_key(BEST_KEY) { Kind::Best } else { Kind::Last };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let pointer = Pointer { file: name, blake3: digest };
    Ok(Stored { checkpoint: Checkpoint { step, tensors: file.tensors, state }, pointer, kind })
}
