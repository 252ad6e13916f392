//! How much room runs take.

use std::path::Path;

use polars::prelude::*;
use rayon::prelude::*;
use walkdir::WalkDir;

use super::RunsError;
use crate::report::RunDir;

/// The column of the bytes of a run, in millions.
pub const SIZE: &str = "size_mb";
/// The column of the share of its checkpoints, in percent.
pub const CHECKPOINTS: &str = "checkpoints_percent";

/// Millions of bytes, with a digit behind the point.
pub fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e5).round() / 10.0
}

/// The rows of runs below `root`, with columns for how much room each takes.
///
/// # Errors
/// When the columns do not fit the table.
pub fn with_sizes(mut frame: DataFrame, root: &Path) -> Result<DataFrame, RunsError> {
    let runs: Vec<_> =
        frame.column("run")?.str()?.iter().map(|run| root.join(run.unwrap_or_default())).collect();
    let sizes: Vec<_> = runs.par_iter().map(|run| (bytes(run), bytes(&checkpoints(run)))).collect();
    let share =
        |(all, checkpoints): &(u64, u64)| (100.0 * *checkpoints as f64 / (*all).max(1) as f64).round();
    let columns = [
        Column::new(SIZE.into(), sizes.iter().map(|(all, _)| megabytes(*all)).collect::<Vec<_>>()),
        Column::new(CHECKPOINTS.into(), sizes.iter().map(share).collect::<Vec<_>>()),
    ];
    for column in columns {
        frame.with_column(column)?;
    }
    Ok(frame)
}

fn checkpoints(run: &Path) -> std::path::PathBuf {
    RunDir::inspect(run).map_or_else(|_| run.join("checkpoints"), |dir| dir.checkpoints())
}

/// Of all files below a folder; links are not followed, and what vanishes meanwhile is nothing.
fn bytes(folder: &Path) -> u64 {
    let entries = WalkDir::new(folder).into_iter().flatten();
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn a_run_has_the_bytes_of_its_files_and_the_share_of_its_checkpoints() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("a");
        drop(RunDir::create(&run, "name: a\n").unwrap());
        fs::write(run.join("checkpoints/step-00000001.safetensors"), vec![0; 3_000_000]).unwrap();
        fs::write(run.join("model.safetensors"), vec![0; 1_000_000]).unwrap();
        let frame = df!["run" => ["a", "gone"]].unwrap();
        let sized = with_sizes(frame, root.path()).unwrap();
        let column =
            |name: &str| -> Vec<_> { sized.column(name).unwrap().f64().unwrap().iter().flatten().collect() };
        assert_eq!(column(SIZE), [4.0, 0.0]);
        assert_eq!(column(CHECKPOINTS), [75.0, 0.0]);
    }
}
