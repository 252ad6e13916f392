//! A table as Markdown, LaTeX, CSV or HTML.

mod csv;
mod html;
mod latex;
mod markdown;

use std::path::Path;

use clap::ValueEnum;

use super::sheet::Sheet;

/// The format of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A Markdown table with footnotes.
    Markdown,
    /// A LaTeX table for the package `booktabs`.
    Latex,
    /// Comma-separated values: figures, deviations, counts, the paper's figures and the differences, with
    /// every digit.
    Csv,
    /// A page that needs no other file.
    Html,
}

impl Format {
    /// The format that goes by the ending of a file.
    pub fn of_file(file: &Path) -> Option<Self> {
        match file.extension()?.to_str()? {
            "md" => Some(Self::Markdown),
            "tex" => Some(Self::Latex),
            "csv" => Some(Self::Csv),
            "html" => Some(Self::Html),
            _ => None,
        }
    }
}

impl Sheet {
    /// The table as text. `sources` adds the runs that its figures come from; a page has them in any case.
    pub fn render(&self, format: Format, sources: bool) -> String {
        match format {
            Format::Markdown => markdown::render(self, sources),
            Format::Latex => latex::render(self, sources),
            Format::Csv => csv::render(self, sources),
            Format::Html => html::render(self),
        }
    }
}
