//! `tensorboard/`: metrics, pictures and recipe once more, as event files that `TensorBoard` reads.
//!
//! Every session of a run appends a file of its own. It begins with the start of a session at the first step
//! that is still to come, upon which `TensorBoard` forgets what an earlier session logged from there on: what
//! came after its last checkpoint is measured again.

mod event;
mod record;

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::png::png;
use super::{PictureSet, ReportError, Split};
use crate::component::Picture;
use event::{Event, Image, What};

/// The event file of a session.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventLog {
    /// Begins a file in `folder`, which is made if need be. What follows is logged from `first_step` on.
    pub fn begin(folder: &Path, first_step: u64) -> Result<Self, ReportError> {
        fs::create_dir_all(folder).map_err(ReportError::io("create", folder))?;
        let path = folder.join(file_name(folder)?);
        let file = File::create_new(&path).map_err(ReportError::io("create", &path))?;
        let mut log = Self { path, file: BufWriter::new(file) };
        log.write(0, What::FileVersion)?;
        log.write(first_step, What::SessionStart)?;
        log.flush()?;
        Ok(log)
    }

    /// Appends figures measured at a step; they are tagged `train/loss`.
    pub fn record(&mut self, step: u64, split: Split, figures: &[(String, f64)]) -> Result<(), ReportError> {
        let tag = |name: &str| format!("{}/{name}", split.name());
        let scalars = figures.iter().map(|(name, value)| (tag(name), *value as f32)).collect();
        self.write(step, What::Scalars(scalars))
    }

    /// Tells what the run is: its recipe as a text, and the keys that somebody wrote as hyperparameters.
    pub fn describe(&mut self, recipe_yaml: &str, written: Vec<(String, Value)>) -> Result<(), ReportError> {
        // A block of code in Markdown.
        let text: String = recipe_yaml.lines().flat_map(|line| ["    ", line, "\n"]).collect();
        self.write(0, What::Text("recipe".to_owned(), text))?;
        let mut parameters = written;
        parameters.retain(|(_, value)| !value.is_null());
        parameters.sort_by(|a, b| a.0.cmp(&b.0));
        self.write(0, What::HyperParameters(parameters))
    }

    /// Appends pictures; they are tagged `image 1/reconstruction`.
    pub fn pictures(&mut self, set: &PictureSet) -> Result<(), ReportError> {
        let rows = set.rows.iter().enumerate();
        let pictures = rows.flat_map(|(row, pictures)| pictures.iter().map(move |picture| (row, picture)));
        let image = |(row, picture): (usize, &Picture)| {
            let (width, height) = picture.image.dimensions();
            let tag = format!("image {}/{}", row + 1, picture.caption);
            Some(Image { tag, width, height, png: png(&picture.image)? })
        };
        self.write(set.step, What::Images(pictures.filter_map(image).collect()))
    }

    /// Hands what was recorded to the system, for those who look on.
    pub fn flush(&mut self) -> Result<(), ReportError> {
        self.file.flush().map_err(ReportError::io("write", &self.path))
    }

    fn write(&mut self, step: u64, what: What) -> Result<(), ReportError> {
        let event = Event { wall_time: now(), step, what };
        record::write(&mut self.file, &event.encode()).map_err(ReportError::io("write", &self.path))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

const PREFIX: &str = "events.out.tfevents.";

/// A name that sorts behind those that are there, which is the order in which `TensorBoard` reads them,
/// whatever the clock says.
fn file_name(folder: &Path) -> Result<String, ReportError> {
    let mut latest = 0_u64;
    for entry in fs::read_dir(folder).map_err(ReportError::io("list", folder))? {
        let name = entry.map_err(ReportError::io("list", folder))?.file_name();
        let time = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok());
        latest = latest.max(time.unwrap_or(0));
    }
    let time = (now() as u64).max(latest.saturating_add(1));
    let host = sysinfo::System::host_name().unwrap_or_else(|| "localhost".to_owned());
    Ok(format!("{PREFIX}{time:010}.{host}.{}.0", std::process::id()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_later_session_has_a_file_that_sorts_behind() {
        let folder = tempfile::tempdir().unwrap();
        let far = folder.path().join("events.out.tfevents.9999999998.host.1.0");
        fs::write(&far, "").unwrap();
        let later = EventLog::begin(folder.path(), 5).unwrap();
        assert!(later.path > far, "{}", later.path.display());
        let last = EventLog::begin(folder.path(), 5).unwrap();
        assert!(last.path != later.path);
    }

    #[test]
    fn a_file_holds_its_version_the_start_and_the_figures() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = EventLog::begin(&folder.path().join("tensorboard"), 1).unwrap();
        log.record(1, Split::Train, &[("loss".to_owned(), 0.5), ("lr".to_owned(), f64::NAN)]).unwrap();
        log.describe("seed: 1\n", vec![("seed".to_owned(), 1.into()), ("none".to_owned(), Value::Null)])
            .unwrap();
        let picture = Picture::new("original", image::RgbImage::new(2, 2));
        log.pictures(&PictureSet { step: 1, rows: vec![vec![picture]] }).unwrap();
        log.flush().unwrap();
        let bytes = fs::read(&log.path).unwrap();
        let described = ["    seed: 1\n", "hparams", "image 1/original", "IHDR"];
        for text in ["brain.Event:2", "train/loss", "train/lr"].into_iter().chain(described) {
            assert!(bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
        }
    }
}
