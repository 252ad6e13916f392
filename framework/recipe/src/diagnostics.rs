//! Problems of a recipe, each at its line, all at once.

use std::fmt;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, Severity, SourceCode};

use super::layer::{Layer, LayerKind};
use super::node::{Source, Span, position};

/// What a later check (graph, shapes) found wrong with one key. [`Recipe::diagnose`](super::Recipe::diagnose)
/// finds the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path: `model.backbone.depth`. List items by index.
    pub key: String,
    /// What is wrong, in lower case, without the key.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl Problem {
    /// A problem with one key. A component's own problems have keys relative to the component; empty for the
    /// whole of it.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), help: None }
    }

    /// Adds what would be right.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The same problem seen from outside: its key within `block`.
    #[must_use]
    pub fn within(self, block: &str) -> Self {
        let key = if self.key.is_empty() { block.to_owned() } else { format!("{block}.{}", self.key) };
        Self { key, ..self }
    }
}

/// What of a key to point at.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    /// The value, or the key when the value is a block.
    Value,
    /// The key.
    Key,
    /// A part of the value's text.
    Text(String),
    /// The block in which the key is missing.
    Missing,
}

/// How a key that is not known is passed over when the rest is looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Remedy {
    /// It was meant to be called so.
    Rename(String),
    /// Nobody knows what it was meant to be.
    Remove,
}

/// A problem, before its line is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub problem: Problem,
    pub label: Option<String>,
    pub place: Place,
    pub remedy: Option<Remedy>,
}

impl Fault {
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { key: key.into(), message: message.into(), help: None }.into()
    }

    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    pub fn remedy(self, remedy: Remedy) -> Self {
        Self { remedy: Some(remedy), ..self }
    }

    pub fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.problem.help = help.into();
        self
    }

    /// Says what would be right where nothing does yet.
    pub fn or_help(mut self, help: impl FnOnce() -> Option<String>) -> Self {
        self.problem.help = self.problem.help.or_else(help);
        self
    }

    /// The fault at its place in a layer.
    pub fn found(self, layer: &Layer, span: Span) -> Finding {
        Finding {
            origin: Some(layer.kind.clone()),
            label: self.label.unwrap_or_else(|| "here".to_owned()),
            source: Some((layer.source.clone(), span)),
            ..Finding::from(self.problem)
        }
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self { problem, label: None, place: Place::Value, remedy: None }
    }
}

/// One problem and where it is.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Dotted path of the key, empty when the problem is the file itself.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The file, environment variable or argument at fault. `None` for a recipe that cannot be read at all.
    pub origin: Option<LayerKind>,
    pub(super) label: String,
    pub(super) source: Option<(Source, Span)>,
}

impl Finding {
    /// Line and column in the origin, from 1; columns count characters.
    pub fn position(&self) -> Option<(usize, usize)> {
        let (source, span) = self.source.as_ref()?;
        Some(position(source.inner(), span.start))
    }
}

/// A problem that no line is to blame for.
impl From<Problem> for Finding {
    fn from(Problem { key, message, help }: Problem) -> Self {
        Self { key, message, help, origin: None, label: String::new(), source: None }
    }
}

/// `model.backbone.depth: expected an integer, found null`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.key, self.message)
        }
    }
}

impl std::error::Error for Finding {}

impl Diagnostic for Finding {
    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|(source, _)| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (_, span) = self.source.as_ref()?;
        let label = LabeledSpan::new_with_span(Some(self.label.clone()), span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

/// Everything wrong with a recipe. As a [`miette::Diagnostic`] its findings are the related errors.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    pub(super) recipe: String,
    pub(super) findings: Vec<Finding>,
}

impl Diagnostics {
    /// The problems, in the order of their layers and lines.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// One line a problem, `file:line:column: key: message`, for logs and editors.
    pub fn lines(&self) -> Vec<String> {
        let line = |finding: &Finding| match (&finding.source, finding.position()) {
            (Some((source, _)), Some((line, column))) => {
                format!("{}:{line}:{column}: {finding}", source.name())
            }
            _ => finding.to_string(),
        };
        self.findings.iter().map(line).collect()
    }

    /// The full report for a person: with colours and box drawing, or in plain ASCII for files, pipes and
    /// tests.
    pub fn render(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
        let handler = GraphicalReportHandler::new_themed(theme)
            .without_syntax_highlighting()
            .with_wrap_lines(false)
            .with_context_lines(1);
        let mut text = String::new();
        // Writing to a string fails only if a span lies outside of its source; the lines are right even so.
        match handler.render_report(&mut text, self) {
            Ok(()) => text,
            Err(fmt::Error) => self.lines().join("\n"),
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.findings.len() {
            1 => write!(f, "{} has a problem", self.recipe),
            count => write!(f, "{} has {count} problems", self.recipe),
        }
    }
}

impl std::error::Error for Diagnostics {}

impl Diagnostic for Diagnostics {
    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.findings.iter().map(|finding| finding as &dyn Diagnostic)))
    }
}
