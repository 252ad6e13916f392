//! One layer of a recipe: a file, an environment variable or an argument.

use std::fmt;
use std::path::PathBuf;

use super::node::{Located, Node, Source};
use super::path;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// A recipe file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A `--set` argument, `key=value`.
    Set(String),
    /// An argument that is called as the key it sets, `--seed 3`.
    Flag(String),
    /// No layer: the default of a key of this component or block.
    Default(String),
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Set(argument) => write!(f, "--set {argument}"),
            Self::Flag(argument) => f.write_str(argument),
            Self::Default(owner) => write!(f, "default of {owner}"),
        }
    }
}

/// A parsed layer.
///
/// An environment variable or `--set a.b=1` is a file with the single line `a: { b: 1 }`, whose override path
/// is `a.b`: one that may lead through the indices of list items.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub kind: LayerKind,
    pub source: Source,
    pub root: Node,
    /// How many of the outer mappings stand for the keys of an override path; 0 in a file.
    pub override_depth: usize,
}

impl Layer {
    /// What the layer itself says at a path.
    pub fn find(&self, key: &str) -> Option<Located<'_>> {
        self.root.find(path::segments(key))
    }

    pub fn is_file(&self) -> bool {
        matches!(self.kind, LayerKind::File(_))
    }
}
