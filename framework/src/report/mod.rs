//! Run directories: metrics, summaries, and the HTML report.
//!
//! A [`RunDir`] owns the files of a run. [`MetricLog`], [`Summary`], [`PictureStore`], [`Details`] and
//! [`Report`] each write one kind of them, completely or not at all; [`Progress`] and [`logging`] talk to the
//! person at the terminal.

mod classes;
mod confusion;
mod console;
mod curve;
mod dataset;
mod details;
mod environment;
mod error;
mod feature_map;
mod find;
pub mod label_map;
mod lock_file;
pub mod logging;
mod metrics;
mod mlflow;
pub mod objects;
mod page;
pub(crate) mod parquet;
mod pdf;
mod pictures;
mod png;
mod progress;
mod run_dir;
mod samples;
mod summary;
mod tensorboard;
mod utc;

pub use classes::ClassTable;
pub use confusion::ConfusionTable;
pub use console::suspend_progress;
pub use curve::Curve;
pub use dataset::{Augmented, ClassCounts, DatasetView, PixelStatistics, SplitView, Transformed};
pub use details::{BestMetric, Details, GraphNode};
pub use environment::Environment;
pub use error::ReportError;
pub use feature_map::{FeatureMap, MapCollector, MapPoint};
pub(crate) use find::{run_directories, similar_run};
pub use metrics::{MetricLog, Point, Split};
pub use mlflow::export_to_mlflow;
pub use page::{LeftOut, Report, write_dataset_page, write_map_page, write_page, write_page_and_summary};
pub(crate) use page::{Page, Section};
pub use pictures::{PictureSet, PictureStore};
pub(crate) use progress::clock;
pub use progress::{Progress, StepReport};
pub use run_dir::RunDir;
pub(crate) use samples::{ShownTargets, masked, sample_picture};
pub use summary::{STOPPED_EARLY, Status, Summary};
pub use tensorboard::EventLog;
