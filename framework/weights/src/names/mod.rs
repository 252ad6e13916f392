//! Names of other tools' tensors, and how they become those of a model.
//!
//! A [`Renaming`] is planned on names alone, in steps, then done at once: what wrapping modules add to names
//! is taken off, a [`Layout`] translates those of another library, [`Rule`]s do what their user says, and
//! [`fit`] finds what brings the names of a file to those of a model.

mod fit;
mod layout;
mod pattern;
mod renaming;

pub use fit::{Expected, fit};
pub use layout::Layout;
pub use pattern::{Pattern, Rule, RuleError};
pub use renaming::Renaming;
