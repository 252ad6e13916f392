//! Which layer and line set a key; the place of a fault.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::diagnostics::{Fault, Finding, Place};
use super::layer::{Layer, LayerKind};
use super::merge::{Merged, Replaced};
use super::node::{Content, Located, Span, position};
use super::path;

/// One layer's word on a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The file, environment variable or argument, or that it is a default.
    pub layer: LayerKind,
    /// Line of the key, from 1; 0 of a default.
    pub line: usize,
    /// Column of the key, from 1; 0 of a default.
    pub column: usize,
    /// What the layer says, references as they are written. Of a block only the layer's own part.
    pub value: Value,
}

/// `recipes/base.yaml:3:5: 0.75`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            LayerKind::File(_) => write!(f, "{}:{}:{}: {}", self.layer, self.line, self.column, self.value),
            _ => write!(f, "{}: {}", self.layer, self.value),
        }
    }
}

/// The layers of a recipe and which of them won.
#[derive(Debug, Clone)]
pub(super) struct Provenance {
    layers: Vec<Layer>,
    winners: HashMap<String, usize>,
    replaced: Vec<Replaced>,
    /// Keys that hold their default, and the component or block they are a key of.
    pub defaults: HashMap<String, String>,
}

impl Provenance {
    pub fn new(layers: Vec<Layer>, merged: Merged) -> (Self, Value) {
        let Merged { value, winners, replaced, .. } = merged;
        let provenance = Self { layers, winners, replaced, defaults: HashMap::new() };
        (provenance, value)
    }

    /// Every layer that sets a key, the winner last; a default is the last of all. A key inside of a block
    /// that a reference copied has the origins of the reference. `value` is what the key resolves to.
    pub fn origins(&self, key: &str, value: &Value) -> Vec<Origin> {
        let mut key = key;
        loop {
            let layers = self.layers.iter().filter_map(|layer| origin(layer, key));
            let default = self.defaults.get(key).map(|owner| default(owner, value));
            let origins: Vec<_> = layers.chain(default).collect();
            match path::split_last(key) {
                Some((parent, _)) if origins.is_empty() => key = parent,
                _ => return origins,
            }
        }
    }

    /// Where a layer is among the layers.
    pub fn rank(&self, finding: &Finding) -> (usize, usize) {
        let Some((source, span)) = &finding.source else { return (0, 0) };
        let same = |layer: &Layer| Arc::ptr_eq(&layer.source, source);
        (self.layers.iter().position(same).unwrap_or(0), span.start)
    }

    /// A fault with its line.
    pub fn locate(&self, mut fault: Fault) -> Finding {
        let key = fault.problem.key.as_str();
        let found = if fault.place == Place::Missing { None } else { self.winner(key) };
        if let Some((layer, at)) = found {
            let span = span_of(&fault.place, at, layer.source.inner());
            return fault.found(layer, span);
        }
        let mut block = key;
        while let Some((parent, _)) = path::split_last(block) {
            block = parent;
            if let Some((layer, at)) = self.holder(block) {
                let span = span_of(&Place::Key, at, layer.source.inner());
                if let Some(dropped) = self.dropped(block, key) {
                    let help = fault.problem.help.take();
                    fault.problem.help =
                        Some(help.into_iter().chain([dropped]).collect::<Vec<_>>().join("\n"));
                }
                return fault.found(layer, span);
            }
        }
        fault.problem.into()
    }

    /// A fault of one layer alone.
    pub fn locate_in(&self, index: usize, fault: Fault) -> Finding {
        let layer = &self.layers[index];
        let at = layer.find(&fault.problem.key).unwrap_or(Located { key_span: None, node: &layer.root });
        let span = span_of(&fault.place, at, layer.source.inner());
        fault.found(layer, span)
    }

    /// The layer that set a key. What a `--set` into a list item leaves of the list is the list's layer's.
    fn winner(&self, key: &str) -> Option<(&Layer, Located<'_>)> {
        let top = self.winners.get(key).map_or(self.layers.len(), |winner| winner + 1);
        self.layers.get(..top)?.iter().rev().find_map(|layer| Some((layer, layer.find(key)?)))
    }

    /// The layer in which a key that is missing from a block is best added: the highest file with the block,
    /// unless the block was replaced later.
    fn holder(&self, block: &str) -> Option<(&Layer, Located<'_>)> {
        let replaced = self.replaced.iter().filter(|replaced| path::is_within(block, &replaced.key));
        let first = replaced.map(|replaced| replaced.layer).max().unwrap_or(0);
        let with_block = |layer| Some((layer, Layer::find(layer, block)?));
        let candidates: Vec<_> = self.layers.get(first..)?.iter().filter_map(with_block).collect();
        candidates.iter().rev().find(|(layer, _)| layer.is_file()).or(candidates.first()).copied()
    }

    /// Why a key that a lower layer sets is missing: the `type` of its block was changed.
    fn dropped(&self, block: &str, key: &str) -> Option<String> {
        let replaced = self.replaced.iter().rfind(|replaced| replaced.key == block)?;
        let lower = self.layers.get(..replaced.layer)?.iter().rev().find_map(|layer| origin(layer, key))?;
        Some(format!(
            "{}:{} sets it, but {} changes `type` from `{}` to `{}`, which replaces the block",
            lower.layer,
            lower.line,
            self.layers[replaced.layer].kind,
            replaced.before.as_str().unwrap_or_default(),
            replaced.after.as_str().unwrap_or_default(),
        ))
    }
}

fn origin(layer: &Layer, key: &str) -> Option<Origin> {
    let at = layer.find(key)?;
    let start = at.key_span.unwrap_or(&at.node.span).start;
    let (line, column) = position(layer.source.inner(), start);
    Some(Origin { layer: layer.kind.clone(), line, column, value: at.node.to_value() })
}

fn default(owner: &str, value: &Value) -> Origin {
    Origin { layer: LayerKind::Default(owner.to_owned()), line: 0, column: 0, value: value.clone() }
}

/// What to underline: never more than a line.
pub(super) fn span_of(place: &Place, at: Located<'_>, text: &str) -> Span {
    let value = &at.node.span;
    let written = text.get(value.clone()).unwrap_or_default();
    let first_line = value.start..value.start + written.lines().next().unwrap_or_default().trim_end().len();
    let key = || at.key_span.cloned().unwrap_or_else(|| first_line.clone());
    match place {
        Place::Key | Place::Missing => key(),
        Place::Text(part) => match written.find(part.as_str()) {
            Some(start) => value.start + start..value.start + start + part.len(),
            None => first_line,
        },
        Place::Value => match at.node.content {
            Content::Map(_) => key(),
            // A list or a text over many lines, or a key without a value.
            _ if written.trim_end().contains('\n') || value.is_empty() => key(),
            _ => first_line,
        },
    }
}
