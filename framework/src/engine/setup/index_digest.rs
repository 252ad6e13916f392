//! What stands for a dataset, wherever it lies.

use serde::{Deserialize, Serialize};

use crate::component::{Samples, TaskKind};

/// The digests of a training and of a validation set, those that have one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexDigests {
    /// Of the training set.
    pub train: Option<String>,
    /// Of the validation set.
    pub val: Option<String>,
}

impl IndexDigests {
    /// blake3, in hexadecimal, of what identifies the samples, in their order, and of the names of classes;
    /// `None` if the dataset does not tell.
    pub fn of(samples: &dyn Samples) -> Option<String> {
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: &str| {
            hasher.update(text.as_bytes()).update(b"\n");
        };
        for index in 0..samples.len() {
            add(&samples.identity(index)?);
            add(&samples.class(index).map(|class| class.to_string()).unwrap_or_default());
        }
        for task in [TaskKind::Classify, TaskKind::Segment, TaskKind::Detect] {
            samples.classes(task).into_iter().flatten().for_each(|name| add(name));
        }
        Some(hasher.finalize().to_hex().to_string())
    }
}
