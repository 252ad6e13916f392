//! Several runs on one page that needs nothing but itself: figures, curves, recipes, pictures and surroundings side by
//! side.
//!
//! Tables and charts are in the page as they are; a script of its own makes them sortable and movable.

mod curves;
mod data;
mod environment;
mod palette;
mod pictures;
mod recipes;
mod run;
mod summary;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use maud::{Markup, html};

use super::ReportError;
use super::find::run_directories;
use super::html::page::{Page, Section};
use crate::weights::atomic;
use run::Run;

/// The runs to compare, as they stand.
#[derive(Debug)]
pub struct Comparison {
    title: Option<String>,
    runs: Vec<Run>,
    left_out: Vec<LeftOut>,
}

/// A directory that could not be read as a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The directory.
    pub path: PathBuf,
    /// What is wrong with it, or with a file of it.
    pub reason: String,
}

impl Comparison {
    /// Reads the runs at and below `paths`, each once, in the order in which they are given; those below a directory by
    /// name. A run may still go on. What cannot be read is left out with a warning.
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
        for (root, label) in found.iter().zip(run::labels(&found)) {
            match Run::read(root, label) {
                Ok(run) => runs.push(run),
                Err(fault) => leave_out(root.clone(), fault),
            }
        }
        let mut faults = faults.into_iter();
        let error = if runs.is_empty() { faults.next() } else { None };
        faults.for_each(|fault| tracing::warn!("{fault}; left out of the report"));
        error.map_or(Ok(Self { title: None, runs, left_out }), Err)
    }

    /// Gives the page another title than the number of runs.
    #[must_use]
    pub fn with_title(mut self, title: Option<String>) -> Self {
        self.title = title;
        self
    }

    /// How many runs are compared.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is nothing to compare.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// What could not be read.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Writes the page to `path`.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        let page = self.render();
        atomic::write(path, |file| file.write_all(page.as_bytes())).map_err(ReportError::from)
    }

    /// The page.
    pub fn render(&self) -> String {
        let title = match (&self.title, self.len()) {
            (Some(title), _) => title.clone(),
            (None, 1) => "One run".to_owned(),
            (None, count) => format!("{count} runs compared"),
        };
        Page {
            title: &title,
            header: self.header(&title),
            sections: self.sections(),
            version: env!("CARGO_PKG_VERSION"),
            style: &format!("{}{}", include_str!("comparison.css"), palette::style(self.len())),
            script: Some(include_str!("comparison.js")),
        }
        .render()
    }

    fn header(&self, title: &str) -> Markup {
        html! {
            h1 { (title) }
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
        }
    }

    fn sections(&self) -> Vec<Section> {
        let sections = [
            ("summary", "Summary", Some(summary::section(&self.runs))),
            ("curves", "Curves", curves::section(&self.runs)),
            ("recipes", "Recipes", recipes::section(&self.runs)),
            ("pictures", "Pictures", pictures::section(&self.runs)),
            ("environment", "Hardware and versions", Some(environment::section(&self.runs))),
        ];
        sections
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
