//! Run directories: metrics, summaries, and the HTML report.
//!
//! A [`RunDir`] owns the files of a run. [`MetricLog`], [`Summary`], [`PictureStore`] and [`Report`] each write one
//! kind of them, completely or not at all; [`Progress`] and [`logging`] talk to the person at the terminal.

mod comparison;
mod console;
mod environment;
mod error;
mod find;
mod html;
pub mod label_map;
pub mod logging;
mod metrics;
mod pictures;
mod progress;
mod run_dir;
mod summary;
mod tensorboard;
mod utc;

pub use comparison::{Comparison, LeftOut};
pub use console::suspend_progress;
pub use environment::{Environment, git_commit};
pub use error::ReportError;
pub(crate) use find::run_directories;
pub(crate) use html::page::{Page, Section};
pub use html::{CorruptSample, GraphNode, Link, Report, Status};
pub use metrics::{MetricLog, Point, Split};
pub use pictures::{PictureSet, PictureStore};
pub(crate) use progress::clock;
pub use progress::{Progress, StepReport};
pub use run_dir::RunDir;
pub use summary::Summary;
pub use tensorboard::EventLog;
