//! Runs on one page that needs nothing but itself: figures, curves, pictures, recipes and surroundings, read
//! from the run directories. One run is a comparison of one, with its model besides.
//!
//! Tables and charts are in the page as they are; a script of its own makes them sortable and movable.

mod charts;
mod classes;
mod confusion;
mod curves;
mod data;
mod dataset;
mod direction;
mod embedded;
mod environment;
mod feature_map;
mod figures;
mod files;
mod frame;
mod keys;
mod legend;
mod mean;
mod model;
mod number;
mod palette;
mod pictures;
mod plot;
mod ranking;
mod recipe;
mod run;
mod summary;
#[cfg(test)]
mod tests;
mod thin;
mod variants;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use maud::{Markup, html};

use super::find::run_directories;
use super::{ReportError, RunDir, STOPPED_EARLY, Summary};
use crate::weights::atomic;
pub use dataset::write_dataset_page;
pub use feature_map::write_map_page;
pub(crate) use frame::{Page, Section};
use run::Run;
use variants::Variants;

/// Lines that the style sheet has colours for, however few runs there are: the curves of a class.
const FEWEST_LINES: usize = 4;

/// Writes `report.html` of a run from the other files of its directory.
pub fn write_page(dir: &RunDir) -> Result<(), ReportError> {
    Report::of_directory(dir, run::summary(dir)?)?.write(&dir.report())
}

/// Writes `report.html` as [`write_page`] does, with the figures of `summary`, and then `summary.json`: where
/// that says that a run is finished, so does its page.
pub fn write_page_and_summary(dir: &RunDir, summary: &Summary) -> Result<(), ReportError> {
    Report::of_directory(dir, summary.clone())?.write(&dir.report())?;
    summary.write(&dir.summary())
}

/// The runs of a page, as they stand.
#[derive(Debug)]
pub struct Report {
    title: Option<String>,
    runs: Vec<Run>,
    variants: Variants,
    left_out: Vec<LeftOut>,
    /// Whether the page lies beside the files of its run.
    links_files: bool,
}

/// A directory that could not be read as a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The directory.
    pub path: PathBuf,
    /// What is wrong with it, or with a file of it.
    pub reason: String,
}

impl Report {
    /// Reads the runs at and below `paths`, each once, in the order in which they are given; those below a
    /// directory by name. A run may still go on. What cannot be read is left out with a warning.
    ///
    /// # Errors
    /// When there is no run at all, the fault of the first directory.
    pub fn read(paths: &[PathBuf]) -> Result<Self, ReportError> {
        let (mut runs, mut left_out, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        let mut leave_out = |path: PathBuf, fault: ReportError| {
            left_out.push(LeftOut { path, reason: fault.to_string() });
            faults.push(fault);
        };
        let mut found = Vec::new();
        for path in paths {
            match runs_at(path) {
                Ok(roots) => found.extend(roots),
                Err(fault) => leave_out(path.clone(), fault),
            }
        }
        let mut known = HashSet::new();
        found.retain(|root| known.insert(root.canonicalize().unwrap_or_else(|_| root.clone())));
        let is_alone = found.len() == 1;
        let read = |root: &Path, label: String| {
            let dir = RunDir::inspect(root)?;
            Run::read(&dir, run::summary(&dir)?, label, is_alone)
        };
        for (root, label) in found.iter().zip(run::labels(&found)) {
            match read(root, label) {
                Ok(run) => runs.push(run),
                Err(fault) => leave_out(root.clone(), fault),
            }
        }
        let mut faults = faults.into_iter();
        let error = if runs.is_empty() { faults.next() } else { None };
        faults.for_each(|fault| tracing::warn!("{fault}; left out of the report"));
        error.map_or(Ok(Self::new(runs, left_out)), Err)
    }

    /// The page of the run in `dir`, to lie in it.
    fn of_directory(dir: &RunDir, summary: Summary) -> Result<Self, ReportError> {
        let run = Run::read(dir, summary, dir.root().display().to_string(), true)?;
        Ok(Self { links_files: true, ..Self::new(vec![run], Vec::new()) })
    }

    fn new(mut runs: Vec<Run>, left_out: Vec<LeftOut>) -> Self {
        let variants = Variants::of(&runs);
        runs.iter_mut().enumerate().for_each(|(at, run)| run.entry = variants.of_run(at));
        Self { title: None, runs, variants, left_out, links_files: false }
    }

    /// Gives the page another title than the name of the run or the number of runs.
    #[must_use]
    pub fn with_title(mut self, title: Option<String>) -> Self {
        self.title = title;
        self
    }

    /// How many runs are shown.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// What could not be read.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Writes the page to `path`.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        atomic::write_bytes(path, self.render()).map_err(ReportError::from)
    }

    /// Writes every chart of the page to `folder`, as SVG and as PDF; tells how many there are.
    pub fn write_figures(&self, folder: &Path) -> Result<usize, ReportError> {
        figures::write(&self.runs, &self.variants, folder)
    }

    /// The page.
    pub fn render(&self) -> String {
        let title = match (&self.title, self.runs.as_slice()) {
            (Some(title), _) => title.clone(),
            (None, [run]) if run.name().is_empty() => run.label.clone(),
            (None, [run]) => run.name().to_owned(),
            (None, runs) => format!("{} runs compared", runs.len()),
        };
        Page {
            title: &title,
            header: self.header(&title),
            sections: self.sections(),
            version: env!("CARGO_PKG_VERSION"),
            style: &[
                include_str!("report.css"),
                include_str!("feature_map.css"),
                palette::style(self.len().max(FEWEST_LINES)).as_str(),
            ]
            .concat(),
            script: Some(include_str!("report.js")),
        }
        .render()
    }

    /// The run, if it is the only one.
    fn only(&self) -> Option<&Run> {
        if let [run] = self.runs.as_slice() { Some(run) } else { None }
    }

    /// What the recipes of all runs say of themselves.
    fn description(&self) -> Option<&str> {
        let mut descriptions = self.runs.iter().map(Run::description);
        let first = descriptions.next().filter(|first| !first.is_empty())?;
        descriptions.all(|other| other == first).then_some(first)
    }

    fn header(&self, title: &str) -> Markup {
        html! {
            @if let Some(run) = self.only() { p.status.(run.status()) { (run.status()) } }
            h1 { (title) }
            @if let Some(description) = self.description() { p.description { (description) } }
            @if let Some(error) = self.only().and_then(|run| run.details.error.as_ref()) { pre.failure { (error) } }
            @if let Some(reason) = self.only().and_then(|run| run.summary.get(STOPPED_EARLY)?.as_str()) {
                p.about { "Stopped early: " (reason) "." }
            }
            @if !self.left_out.is_empty() {
                div.left-out role="note" {
                    p { "Left out, because they could not be read:" }
                    ul {
                        @for LeftOut { path, reason } in &self.left_out {
                            li { span.path { (path.display()) } " " span.about { (reason) } }
                        }
                    }
                }
            }
            @if let Some(run) = self.only() { (summary::figures(run)) }
        }
    }

    fn sections(&self) -> Vec<Section> {
        let Self { runs, variants, .. } = self;
        let of_only = |section: fn(&Run) -> Option<Markup>| self.only().and_then(section);
        let files = self.links_files.then(files::section);
        [
            ("ranking", "Ranking", ranking::section(runs, variants)),
            ("keys", "Over the keys", keys::section(runs, variants)),
            ("summary", "Runs", summary::section(runs)),
            ("curves", "Curves", curves::section(runs, variants)),
            ("classes", "Classes", of_only(classes::section)),
            ("confusion", "Confusion", of_only(confusion::section)),
            ("features", "Features", of_only(feature_map::section)),
            ("pictures", "Pictures", pictures::section(runs)),
            ("model", "Model", of_only(model::nodes)),
            ("parameters", "Parameter groups", of_only(model::parameter_groups)),
            ("corrupt", "Corrupt samples", of_only(files::corrupt_samples)),
            ("recipes", if runs.len() == 1 { "Recipe" } else { "Recipes" }, Some(recipe::section(runs))),
            ("environment", "Hardware and versions", Some(environment::section(runs))),
            ("files", "Files", files),
        ]
        .into_iter()
        .filter_map(|(id, title, content)| Some(Section { id, title, content: content? }))
        .collect()
    }
}

/// The run at a path, or all below it.
fn runs_at(path: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let found = if path.is_dir() { run_directories(path)? } else { Vec::new() };
    if found.is_empty() { Err(ReportError::NoRun(path.to_path_buf())) } else { Ok(found) }
}
