//! Average precision of detected boxes and masks as COCO defines it: while a model is evaluated, and of results files.
//!
//! `hotcoco` matches detections with objects and adds up; its figures are those of pycocotools. It has no figures of its own here: this
//! module leads to it from batches and files, and says what comes out.

mod average_precision;
mod files;
mod results;
mod summary;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use average_precision::AveragePrecision;
pub use files::{CocoError, FilesReport, evaluate_files};
pub use results::{ResultsError, ResultsFile};
pub use summary::{ClassSummary, Summary};

/// What of a detection and an object is compared.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum IouType {
    /// The boxes.
    Bbox,
    /// The masks.
    Segm,
}

impl IouType {
    /// What its metrics begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Bbox => "box",
            Self::Segm => "mask",
        }
    }

    fn of_hotcoco(self) -> hotcoco::IouType {
        match self {
            Self::Bbox => hotcoco::IouType::Bbox,
            Self::Segm => hotcoco::IouType::Segm,
        }
    }
}
