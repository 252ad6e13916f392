//! YAML nodes that remember where they were written.

use std::ops::Range;
use std::sync::Arc;

use miette::NamedSource;
use serde_json::{Map, Value};

/// A text that a layer was read from: a file, an environment variable, an argument.
pub(super) type Source = Arc<NamedSource<String>>;

/// A range of a source text, in bytes.
pub(super) type Span = Range<usize>;

/// Line and column (in characters) of a byte, from 1.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// A value and the place it was written at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub span: Span,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// Null, a boolean, a number or a string.
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping, the place of the key, and the value under it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

/// What a path leads to: a node and, unless it is a list item or the root, the place of its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Located<'n> {
    pub key_span: Option<&'n Span>,
    pub node: &'n Node,
}

impl Node {
    pub fn null(span: Span) -> Self {
        Self { span, content: Content::Scalar(Value::Null) }
    }

    fn child(&self, key: &str) -> Option<Located<'_>> {
        match &self.content {
            Content::Map(entries) => {
                let entry = entries.iter().find(|entry| entry.key == key)?;
                Some(Located { key_span: Some(&entry.key_span), node: &entry.value })
            }
            Content::List(items) => {
                Some(Located { key_span: None, node: items.get(key.parse::<usize>().ok()?)? })
            }
            Content::Scalar(_) => None,
        }
    }

    /// The node at a path.
    pub fn find<'k>(&self, mut keys: impl Iterator<Item = &'k str>) -> Option<Located<'_>> {
        keys.try_fold(Located { key_span: None, node: self }, |at, key| at.node.child(key))
    }

    /// The node without its places, keys in the order they were written.
    pub fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::Array(items.iter().map(Node::to_value).collect()),
            Content::Map(entries) => {
                let pairs = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_value()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// How many nodes this is, itself included.
    pub fn count(&self) -> usize {
        1 + match &self.content {
            Content::Scalar(_) => 0,
            Content::List(items) => items.iter().map(Node::count).sum(),
            Content::Map(entries) => entries.iter().map(|entry| entry.value.count()).sum(),
        }
    }
}
