//! What is wrong with a condition, and where.

use std::ops::Range;

use miette::{Diagnostic, SourceSpan};
use thiserror::Error;

/// A condition that cannot be read, or does not fit the columns.
#[derive(Debug, Clone, Error, Diagnostic)]
#[error("{message}")]
pub struct ConditionError {
    message: String,
    label: &'static str,
    #[source_code]
    text: String,
    #[label("{label}")]
    place: SourceSpan,
    #[help]
    help: Option<String>,
}

impl ConditionError {
    pub(super) fn new(
        text: &str,
        place: Range<usize>,
        message: impl Into<String>,
        label: &'static str,
    ) -> Self {
        Self { message: message.into(), label, text: text.to_owned(), place: place.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<Option<String>>) -> Self {
        Self { help: help.into(), ..self }
    }

    /// What would be right.
    pub fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The bytes at fault.
    pub fn place(&self) -> Range<usize> {
        self.place.offset()..self.place.offset() + self.place.len()
    }
}
