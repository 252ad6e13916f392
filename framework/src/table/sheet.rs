//! A filled table, independent of its format.

use super::code::code;
use super::paired::PairedDifference;
use crate::metrics::Spread;
use crate::terminal::visible;

/// A filled table.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    pub(super) title: String,
    pub(super) description: String,
    pub(super) columns: Vec<Heading>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// What cells refer to. `code` stands in backquotes.
    pub(super) notes: Vec<String>,
    /// The runs that the figures come from.
    pub(super) sources: Vec<SourceRun>,
}

/// The head of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    pub name: String,
    /// Digits behind the point; four significant ones if none.
    pub digits: Option<usize>,
    /// Whether its values are figures of runs, which have a mean, a deviation and a count.
    pub measured: bool,
    /// Whether it compares rows with the baseline, which has an interval and a count.
    pub paired: bool,
    /// Whether any of its values is a number.
    pub numeric: bool,
    /// Whether a row quotes a paper for it.
    pub quoted: bool,
    /// Whether another column shows its differences from the papers.
    pub has_differences: bool,
}

/// A cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    /// Our value.
    pub ours: Option<Content>,
    /// The figure of a paper.
    pub paper: Option<f64>,
    /// Whether there are, or will be, runs of this row: without a value, a dash stands for it.
    pub awaited: bool,
    /// Whether it is the best of its column.
    pub best: bool,
    /// Numbers of notes, from 0.
    pub notes: Vec<usize>,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A text.
    Text(String),
    /// A number, or a mean over runs.
    Figure(Spread),
    /// Ours minus the paper's, which has a sign.
    Difference(f64),
    /// Ours minus the baseline's, seed by seed.
    Paired(PairedDifference),
}

impl Cell {
    /// The figure that counts when the best one is looked for: ours, or that of a paper as long as there is
    /// none.
    pub fn figure(&self) -> Option<f64> {
        match &self.ours {
            Some(Content::Figure(figure)) => Some(figure.mean),
            Some(Content::Difference(difference)) => Some(*difference),
            Some(Content::Paired(paired)) => Some(paired.mean),
            Some(Content::Text(_)) => None,
            None => self.paper,
        }
    }

    /// Whether it is the best of its column by the paper's figure beside a dash.
    pub fn is_best_beside(&self) -> bool {
        self.best && self.awaited && self.ours.is_none()
    }

    /// Ours minus the paper's.
    pub fn difference(&self) -> Option<f64> {
        match &self.ours {
            Some(Content::Figure(figure)) => Some(figure.mean - self.paper?),
            _ => None,
        }
    }

    /// What stands in the cell, and what stands beside it: the paper's figure and the difference.
    pub fn text(&self, column: &Heading) -> (String, Option<String>) {
        let number = |number| super::figure::number(number, column.digits);
        let ours = self.ours.as_ref().map(|content| match content {
            Content::Text(text) => text.clone(),
            Content::Figure(figure) => super::figure::text(figure, column.digits),
            Content::Difference(difference) => super::figure::signed(*difference, column.digits),
            Content::Paired(paired) => super::figure::paired(paired, column.digits),
        });
        match (ours, self.paper) {
            (None, Some(paper)) if !self.awaited => (number(paper), None),
            (None, paper) => {
                let dash = if self.awaited { "–" } else { "" };
                (dash.to_owned(), paper.map(|paper| format!("paper {}", number(paper))))
            }
            (Some(ours), None) => (ours, None),
            (Some(ours), Some(paper)) => {
                let difference = self.difference().filter(|_| !column.has_differences);
                let difference =
                    difference.map(|value| format!(", {}", super::figure::signed(value, column.digits)));
                (ours, Some(format!("paper {}{}", number(paper), difference.unwrap_or_default())))
            }
        }
    }
}

/// A run that figures come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRun {
    /// Its row, from 0, and the label of that.
    pub row: usize,
    pub label: String,
    pub stage: String,
    pub directory: String,
    /// Empty for a directory that is shown whatever its recipe.
    pub recipe: String,
    pub digest: String,
    /// The commit that the run was started at, if it says so.
    pub commit: Option<String>,
}

impl SourceRun {
    /// The run, its recipe and its commit in a line; `code` in backquotes.
    pub fn line(&self) -> String {
        let stage = if self.stage.is_empty() { String::new() } else { format!(", {}", self.stage) };
        let recipe =
            if self.recipe.is_empty() { String::new() } else { format!(" of {}", code(&self.recipe)) };
        let commit = self.commit.as_ref().map(|commit| format!(", commit {}", code(short(commit))));
        let commit = commit.unwrap_or_default();
        let (directory, digest) = (code(&self.directory), code(short(&self.digest)));
        // A backquote of its own would begin code.
        let label = self.label.replace('`', "'");
        visible(&format!("{label}{stage}: {directory}{recipe}, digest {digest}{commit}"))
    }
}

/// The beginning of a digest, enough to find it.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
