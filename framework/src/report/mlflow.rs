//! A run as `MLflow` keeps runs in files: a folder for the experiment, in it one for the run, with a file for every parameter,
//! metric and tag (`mlflow/store/tracking/file_store.py`).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::utc::seconds_since_epoch;
use super::{
    Details, Environment, MetricLog, PictureStore, ReportError, RunDir, Split, Summary, run_directories,
};
use crate::recipe::{leaves, lock, without};
use crate::weights::atomic;

/// Parameters of more letters are refused by `MLflow`.
const LONGEST_PARAMETER: usize = 6000;
/// What is copied beside the figures.
const ARTIFACTS: [&str; 6] = [
    "recipe.lock.yaml",
    "report.html",
    "summary.json",
    "environment.json",
    "classes.parquet",
    "confusion.parquet",
];

/// Writes the runs at and below `paths` to a store, `mlruns`; tells how many there are. A run that is there already, of the same
/// directory, is replaced.
///
/// # Errors
/// A run that cannot be read, or a store that cannot be written.
pub fn export_to_mlflow(paths: &[PathBuf], store: &Path) -> Result<usize, ReportError> {
    let mut count = 0;
    for path in paths.iter().filter(|path| path.is_dir()) {
        for root in run_directories(path)? {
            export(&RunDir::inspect(&root)?, store)?;
            count += 1;
        }
    }
    Ok(count)
}

fn export(dir: &RunDir, store: &Path) -> Result<(), ReportError> {
    let recipe = lock::parse(&dir.read_recipe()?)
        .map_err(|error| ReportError::format(&dir.recipe(), "recipe", error))?;
    let summary = if dir.summary().is_file() { Summary::read(&dir.summary())? } else { Summary::default() };
    let environment = Environment::read(&dir.environment()).ok();
    let start = environment.as_ref().and_then(|of| seconds_since_epoch(&of.started)).unwrap_or_default();
    let root = dir.root().canonicalize().unwrap_or_else(|_| dir.root().to_path_buf());
    let name = recipe.get("name").and_then(Value::as_str).unwrap_or("convmae");
    let experiment = number_of(name);
    let of_experiment = store.join(&experiment);
    let run = Exported {
        id: blake3::hash(root.to_string_lossy().as_bytes()).to_hex()[..32].to_owned(),
        experiment,
        name: root.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        start_ms: start * 1000,
    };
    let folder = of_experiment.join(&run.id);
    if folder.is_dir() {
        fs::remove_dir_all(&folder).map_err(ReportError::io("remove", &folder))?;
    }
    let artifacts = folder.join("artifacts");
    create(&artifacts)?;
    Exported::parameters(dir, &recipe, &folder)?;
    run.metrics(dir, &folder)?;
    run.tags(&recipe, &summary, environment.as_ref(), &folder)?;
    copy_artifacts(dir, &artifacts)?;
    // Last: a run without is none.
    let seconds = summary.get("seconds").and_then(Value::as_f64).unwrap_or_default();
    let status = summary.get("status").and_then(Value::as_str).unwrap_or_default();
    write(&of_experiment.join("meta.yaml"), &run.meta_of_experiment(name, &of_experiment))?;
    write(&folder.join("meta.yaml"), &run.meta(&artifacts, status, run.start_ms + (1000.0 * seconds) as u64))
}

/// What identifies a run in a store.
struct Exported {
    id: String,
    experiment: String,
    name: String,
    start_ms: u64,
}

impl Exported {
    /// The keys that somebody wrote.
    fn parameters(dir: &RunDir, recipe: &Value, folder: &Path) -> Result<(), ReportError> {
        let defaults = Details::read(&dir.details()).map(|details| details.defaults).unwrap_or_default();
        let written = without(recipe, &defaults);
        let folder = folder.join("params");
        create(&folder)?;
        for (key, value) in leaves(&written) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let text: String = text.chars().take(LONGEST_PARAMETER).collect();
            write(&folder.join(file_name(&key)), &text)?;
        }
        Ok(())
    }

    /// `train/loss`, `val/top1`: a line for each value, with milliseconds since 1970 and the step.
    fn metrics(&self, dir: &RunDir, folder: &Path) -> Result<(), ReportError> {
        let log =
            if dir.metrics().is_file() { MetricLog::open(&dir.metrics())? } else { MetricLog::default() };
        for split in [Split::Train, Split::Val] {
            let folder = folder.join("metrics").join(split.name());
            create(&folder)?;
            for name in log.names(split) {
                let line = |point: super::Point| {
                    let time = self.start_ms + (1000.0 * point.seconds) as u64;
                    format!("{time} {} {}\n", python(point.value), point.step)
                };
                let lines: String = log.series(split, name).into_iter().map(line).collect();
                write(&folder.join(file_name(name)), &lines)?;
            }
        }
        Ok(())
    }

    fn tags(
        &self,
        recipe: &Value,
        summary: &Summary,
        environment: Option<&Environment>,
        folder: &Path,
    ) -> Result<(), ReportError> {
        let folder = folder.join("tags");
        create(&folder)?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let tags = [
            ("mlflow.runName", self.name.clone()),
            ("mlflow.note.content", text(recipe.get("description"))),
            ("mlflow.source.name", environment.map(|of| of.command.clone()).unwrap_or_default()),
            (
                "mlflow.source.git.commit",
                environment.and_then(|of| of.git_commit.clone()).unwrap_or_default(),
            ),
            ("convmae.digest", text(summary.get("recipe_digest"))),
            ("convmae.version", environment.map(|of| of.version.clone()).unwrap_or_default()),
        ];
        tags.iter()
            .filter(|(_, value)| !value.is_empty())
            .try_for_each(|(tag, value)| write(&folder.join(tag), value))
    }

    fn meta_of_experiment(&self, name: &str, folder: &Path) -> String {
        let now = self.start_ms;
        yaml(&[
            ("artifact_location", uri(folder).into()),
            ("creation_time", now.into()),
            ("experiment_id", self.experiment.as_str().into()),
            ("last_update_time", now.into()),
            ("lifecycle_stage", "active".into()),
            ("name", name.into()),
        ])
    }

    fn meta(&self, artifacts: &Path, status: &str, end_ms: u64) -> String {
        // Numbers of RunStatus (mlflow/protos/service.proto).
        let status = match status {
            "finished" => 3,
            "failed" => 4,
            "interrupted" => 5,
            _ => 1,
        };
        yaml(&[
            ("artifact_uri", uri(artifacts).into()),
            ("end_time", if status == 1 { Value::Null } else { end_ms.into() }),
            ("entry_point_name", "".into()),
            ("experiment_id", self.experiment.as_str().into()),
            ("lifecycle_stage", "active".into()),
            ("run_id", self.id.as_str().into()),
            ("run_name", self.name.as_str().into()),
            ("run_uuid", self.id.as_str().into()),
            ("source_name", "".into()),
            // LOCAL of SourceType.
            ("source_type", 4.into()),
            ("source_version", "".into()),
            ("start_time", self.start_ms.into()),
            ("status", status.into()),
            ("tags", Value::Array(Vec::new())),
            ("user_id", "".into()),
        ])
    }
}

fn copy_artifacts(dir: &RunDir, artifacts: &Path) -> Result<(), ReportError> {
    for name in ARTIFACTS {
        let source = dir.root().join(name);
        if source.is_file() {
            let bytes = fs::read(&source).map_err(ReportError::io("read", &source))?;
            atomic::write_bytes(&artifacts.join(name), bytes)?;
        }
    }
    if !dir.pictures().is_dir() {
        return Ok(());
    }
    let folder = artifacts.join("pictures");
    create(&folder)?;
    let store = PictureStore::new(dir.pictures());
    for step in store.steps()? {
        let source = store.path(step);
        let bytes = fs::read(&source).map_err(ReportError::io("read", &source))?;
        atomic::write_bytes(&folder.join(source.file_name().unwrap_or_default()), bytes)?;
    }
    Ok(())
}

fn create(folder: &Path) -> Result<(), ReportError> {
    fs::create_dir_all(folder).map_err(ReportError::io("create", folder))
}

fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    Ok(atomic::write_bytes(path, text)?)
}

/// JSON of these values is YAML.
fn yaml(entries: &[(&str, Value)]) -> String {
    entries.iter().fold(String::new(), |mut yaml, (key, value)| {
        // Writing to a string does not fail.
        let _ = writeln!(yaml, "{key}: {value}");
        yaml
    })
}

fn uri(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    format!("file://{}", absolute.display())
}

/// A number as Python's `float` reads it.
fn python(value: f64) -> String {
    match value {
        f64::INFINITY => "inf".to_owned(),
        f64::NEG_INFINITY => "-inf".to_owned(),
        value if value.is_nan() => "nan".to_owned(),
        value => value.to_string(),
    }
}

/// A name of letters that `MLflow` takes in keys.
fn file_name(key: &str) -> String {
    let plain =
        |letter: char| if letter.is_ascii_alphanumeric() || "_-. ".contains(letter) { letter } else { '_' };
    let name: String = key.chars().map(plain).take(250).collect();
    // Neither this folder nor the one above.
    if name.chars().all(|letter| letter == '.') { name.replace('.', "_") } else { name }
}

/// The number of an experiment, always the same for a name; `MLflow` draws 18 digits.
fn number_of(name: &str) -> String {
    let bytes = blake3::hash(name.as_bytes());
    let number = bytes.as_bytes()[..8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{}", 100_000_000_000_000_000 + number % 900_000_000_000_000_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_run_is_a_folder_of_files_and_written_again_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let dir =
            RunDir::create(&folder.path().join("runs/a"), "name: tiny\noptimizer: {lr: 0.001}\nseed: 3\n")
                .unwrap();
        let mut log = MetricLog::default();
        log.push(1, 0.5, Split::Train, "loss", 0.25, 1.5);
        log.push(2, 1.0, Split::Train, "loss", f64::NAN, 2.5);
        log.push(2, 1.0, Split::Val, "box/ap", 1.0, 3.0);
        log.write(&dir.metrics()).unwrap();
        let mut environment = Environment::collect("cpu", 2);
        environment.started = "2026-07-01T09:30:00Z".to_owned();
        environment.write(&dir.environment()).unwrap();
        let mut summary = Summary::default();
        summary.set("status", "finished");
        summary.set("seconds", 4.0);
        summary.write(&dir.summary()).unwrap();
        let store = folder.path().join("mlruns");
        let runs = [folder.path().join("runs")];
        for _ in 0..2 {
            assert_eq!(export_to_mlflow(&runs, &store).unwrap(), 1);
        }
        let only = |path: &Path| {
            let folders =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
            let [only] = folders.collect::<Vec<_>>().try_into().unwrap();
            only
        };
        let run: PathBuf = only(&only(&store));
        let read = |name: &str| fs::read_to_string(run.join(name)).unwrap();
        let start = 1_782_898_200_000_u64;
        assert_eq!(read("metrics/train/loss"), format!("{} 0.25 1\n{} nan 2\n", start + 1500, start + 2500));
        assert_eq!(read("metrics/val/box_ap"), format!("{} 1 2\n", start + 3000));
        assert_eq!(
            (read("params/optimizer.lr"), read("tags/mlflow.runName")),
            ("0.001".to_owned(), "a".to_owned())
        );
        let meta = read("meta.yaml");
        assert!(
            meta.contains(&format!("end_time: {}\n", start + 4000)) && meta.contains("status: 3\n"),
            "{meta}"
        );
        assert!(run.join("artifacts/recipe.lock.yaml").is_file());
    }

    #[test]
    fn names_of_keys_lead_nowhere_else() {
        assert_eq!([file_name("../../x"), file_name(".."), file_name("a:b")], [".._.._x", "__", "a_b"]);
        assert_eq!([python(f64::NEG_INFINITY), python(0.5)], ["-inf", "0.5"]);
    }
}
