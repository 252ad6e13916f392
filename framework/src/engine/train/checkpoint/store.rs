//! A directory of checkpoints.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::pointer::Pointer;
use super::{Checkpoint, CheckpointError, Kind, Loaded, Refusal};
use crate::weights::{CHECKPOINT_KEY, STATE_KEY, WeightsError, atomic, read_safetensors, write_sealed};

const LAST: &str = "last.json";
const BEST: &str = "best.json";
/// The version of the layout, the value of [`CHECKPOINT_KEY`].
const VERSION: &str = "1";
const STEP_KEY: &str = "convmae.step";
/// The newest checkpoint and the one before.
const KEEP: usize = 2;

/// The checkpoints in one directory, written by one process.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    directory: PathBuf,
    keep: usize,
}

impl CheckpointStore {
    /// Opens a directory, which is created if needed. It keeps the two newest checkpoints and the best.
    ///
    /// # Errors
    /// If the directory cannot be created.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, CheckpointError> {
        let directory = directory.into();
        fs::create_dir_all(&directory).map_err(WeightsError::io("create", &directory))?;
        Ok(Self { directory, keep: KEEP })
    }

    /// Keeps the `keep` newest checkpoints, at least one, besides the best.
    #[must_use]
    pub fn with_keep(mut self, keep: usize) -> Self {
        self.keep = keep.max(1);
        self
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
        let metadata = BTreeMap::from([
            (CHECKPOINT_KEY.to_owned(), VERSION.to_owned()),
            (STEP_KEY.to_owned(), checkpoint.step.to_string()),
            (STATE_KEY.to_owned(), checkpoint.state.to_string()),
        ]);
        let blake3 = write_sealed(&path, &checkpoint.tensors, &metadata)?;
        let pointer = Pointer { file, blake3 };
        // The best first: a crash in between leaves a last checkpoint from which the best one is found again.
        if kind == Kind::Best {
            pointer.write(&self.directory.join(BEST))?;
        }
        pointer.write(&self.directory.join(LAST))?;
        self.rotate(checkpoint.step);
        Ok(path)
    }

    /// Loads the checkpoint to resume from: the one `last.json` names, or the newest intact one if that is
    /// broken. None if there has been no checkpoint.
    ///
    /// # Errors
    /// If the directory cannot be read, or there are checkpoints but none is intact.
    pub fn load_last(&self) -> Result<Option<Loaded>, CheckpointError> {
        let mut refused = Vec::new();
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
                Ok(checkpoint) => return Ok(Some(Loaded { checkpoint, refused })),
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
            .map(Some)
            .map_err(CheckpointError::Refused)
    }

    /// Loads one checkpoint file and verifies it.
    ///
    /// # Errors
    /// If it cannot be read or is not an intact checkpoint.
    pub fn load(&self, path: &Path) -> Result<Checkpoint, CheckpointError> {
        read(path, None).map_err(CheckpointError::Refused)
    }

    /// Removes what is neither among the newest up to `step` nor the best, as [`Self::save`] does at its end,
    /// which a crash may cut off. A file that cannot be removed is reported and left: the checkpoint itself is
    /// safe.
    pub fn rotate(&self, step: u64) {
        let best = match Pointer::read(&self.directory.join(BEST)) {
            Ok(pointer) => pointer.map(|pointer| self.directory.join(pointer.file)),
            // Not knowing which is the best, none is removed.
            Err(refusal) => return tracing::warn!("{refusal}; no old checkpoint is removed"),
        };
        let checkpoints = match self.newest_first() {
            Ok(checkpoints) => checkpoints,
            Err(error) => return tracing::warn!("{error}; no old checkpoint is removed"),
        };
        let (later, kept): (Vec<_>, Vec<_>) = checkpoints.into_iter().partition(|(of, _)| *of > step);
        for (_, path) in later.into_iter().chain(kept.into_iter().skip(self.keep)) {
            if Some(&path) != best.as_ref()
                && let Err(error) = atomic::remove(&path)
            {
                tracing::warn!("{error}");
            }
        }
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

/// Reads a sealed checkpoint, whose digest must be `expected` if that is known.
fn read(path: &Path, expected: Option<&str>) -> Result<Checkpoint, Refusal> {
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
    Ok(Checkpoint { step, tensors: file.tensors, state })
}
