//! `report.html`: a run on one page that needs nothing but itself.

pub(super) mod curves;
mod drawing;
pub(super) mod number;
pub(super) mod page;
pub(super) mod pictures;
pub(super) mod plot;
pub(super) mod recipe;
pub(super) mod tables;
pub(super) mod thin;

use std::io::Write as _;
use std::path::Path;

use maud::{Markup, html};

use super::{Environment, MetricLog, PictureSet, ReportError, Summary};
use crate::component::ParameterGroup;
use crate::weights::atomic;
use page::{Page, Section};

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// It goes on.
    Running,
    /// It did all its steps.
    Finished,
    /// It was stopped and can be resumed.
    Interrupted,
    /// It ended with an error.
    Failed(String),
}

impl Status {
    /// One word for it: in `summary.json`, and on the page.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed(_) => "failed",
        }
    }
}

/// A node of the model graph.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphNode {
    /// Its name in the recipe.
    pub name: String,
    /// The type of its component.
    pub kind: String,
    /// Where its inputs come from: `backbone`, or `backbone.s2` for one level. What is no node is drawn as a source.
    pub inputs: Vec<String>,
    /// What it gives, with shapes: `s3 [196, 768]`.
    pub outputs: Vec<String>,
    /// Number of parameters.
    pub parameters: u64,
    /// Multiply-accumulates of a forward pass over one image, in units of 10^9.
    pub gmacs: f64,
}

/// A sample that could not be read and was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorruptSample {
    /// Its file or index.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A file worth opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its path within the run directory.
    pub path: String,
    /// What it is.
    pub text: String,
}

/// All that the page shows. A section with nothing to show is left out.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// The name of the run.
    pub name: &'a str,
    /// How it stands.
    pub status: &'a Status,
    /// The figures at the top.
    pub summary: &'a Summary,
    /// The curves.
    pub metrics: &'a MetricLog,
    /// The pictures over time, by step; see [`PictureStore::overview`](super::PictureStore::overview).
    pub pictures: &'a [PictureSet],
    /// The model.
    pub graph: &'a [GraphNode],
    /// The optimizer's parameter groups.
    pub parameter_groups: &'a [ParameterGroup],
    /// What ran it.
    pub environment: &'a Environment,
    /// The resolved recipe.
    pub recipe: &'a str,
    /// Samples left out.
    pub corrupt_samples: &'a [CorruptSample],
    /// Files worth opening.
    pub links: &'a [Link],
}

impl Report<'_> {
    /// Writes the page to `path`.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        let page = self.render();
        atomic::write(path, |file| file.write_all(page.as_bytes())).map_err(ReportError::from)
    }

    /// The page.
    pub fn render(&self) -> String {
        Page {
            title: self.name,
            header: self.header(),
            sections: self.sections(),
            version: &self.environment.version,
            style: "",
            script: None,
        }
        .render()
    }

    fn header(&self) -> Markup {
        let status = self.status.name();
        html! {
            p.status.(status) { (status) }
            h1 { (self.name) }
            @if let Status::Failed(reason) = self.status {
                pre.failure { (reason) }
            }
            (tables::summary(self.summary))
        }
    }

    fn sections(&self) -> Vec<Section> {
        let graph = html! { (drawing::graph(self.graph)) (tables::graph(self.graph)) };
        [
            ("curves", "Curves", !self.metrics.is_empty(), curves::section(self.metrics)),
            ("pictures", "Pictures", !self.pictures.is_empty(), pictures::section(self.pictures)),
            ("model", "Model", !self.graph.is_empty(), graph),
            (
                "parameters",
                "Parameter groups",
                !self.parameter_groups.is_empty(),
                tables::parameter_groups(self.parameter_groups),
            ),
            (
                "corrupt",
                "Corrupt samples",
                !self.corrupt_samples.is_empty(),
                tables::corrupt_samples(self.corrupt_samples),
            ),
            ("recipe", "Recipe", !self.recipe.is_empty(), recipe::highlighted(self.recipe)),
            ("environment", "Environment", true, tables::environment(self.environment)),
            ("files", "Files", !self.links.is_empty(), tables::links(self.links)),
        ]
        .into_iter()
        .filter(|(_, _, is_shown, _)| *is_shown)
        .map(|(id, title, _, content)| Section { id, title, content })
        .collect()
    }
}

#[cfg(test)]
mod tests;
