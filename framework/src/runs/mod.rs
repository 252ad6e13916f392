//! A tree of run directories as one table: a row per run, a column per figure and per key of the recipe.
//!
//! [`scan`] reads a tree, [`read`] some directories. The columns are `run` (the directory), `status`
//! (`running`, `finished`, `interrupted`, `failed`, `unreadable`), the figures of `summary.json` (`val.top1`
//! as `metrics.top1`, `recipe_digest` as `digest`, all others under their own names), and `recipe.<key>` for
//! every value of `recipe.lock.yaml`; list items go by index. [`with_sizes`] adds the room that they take. [`filter`], [`select`] and [`sort`] answer
//! `--where`, `--columns` and `--sort`, [`Format`] prints.

mod cache;
mod columns;
mod error;
mod frame;
mod overview;
mod print;
mod record;
mod scan;
mod select;
mod size;

pub use error::RunsError;
pub use overview::{overview, with_short_names};
pub use print::Format;
pub(crate) use print::{csv_row, markdown_row, markdown_text, significant, value};
pub use scan::{Runs, read, scan};
pub use select::{filter, select, sort};
pub use size::{megabytes, with_sizes};
