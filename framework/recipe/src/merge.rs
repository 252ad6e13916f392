//! Layers to one value, through figment.
//!
//! Mappings merge, everything else replaces. Two rules are ours: a layer that changes the `type` of a block replaces the
//! whole block in the layers below (figment would leave the keys of the old type behind), and a `--set` key may go through
//! the index of a list item (figment would replace the list). Keys keep the order in which the layers first name them;
//! figment sorts its own.

use std::collections::HashMap;

use figment::value::{Dict, Map as FigmentMap, Tag, Value as Tagged};
use figment::{Figment, Metadata, Profile, Provider};
use serde_json::{Map, Value};

use super::diagnostics::{Fault, Place};
use super::layer::{Layer, LayerKind};
use super::node::{Content, Node};
use super::path;

/// The merged value, references not yet resolved.
#[derive(Debug)]
pub(super) struct Merged {
    pub value: Value,
    /// The layer that set each key, by path: an index into the layers.
    pub winners: HashMap<String, usize>,
    /// Blocks of lower layers that a changed `type` replaced.
    pub replaced: Vec<Replaced>,
    /// `--set` keys that fit nothing, each with its layer. Such a layer adds nothing.
    pub misfits: Vec<(usize, Fault)>,
}

/// A block whose `type` a layer changed.
#[derive(Debug, Clone)]
pub(super) struct Replaced {
    pub key: String,
    pub layer: usize,
    pub before: Value,
    pub after: Value,
}

/// Merges the layers, lowest first.
pub(super) fn merge(layers: &mut [Layer]) -> Result<Merged, Box<figment::Error>> {
    let mut figment = Figment::new();
    let mut views: Vec<Value> = Vec::with_capacity(layers.len());
    let mut replaced = Vec::new();
    let mut misfits = Vec::new();
    for index in 0..layers.len() {
        let (below, _) = ordered(&figment, &views)?;
        let view = match fit_spine(&mut layers[index], &below) {
            Ok(()) => overlay(Some(&below), &layers[index].root, layers[index].spine),
            Err(fault) => {
                misfits.push((index, fault));
                Value::Object(Map::new())
            }
        };
        let mut changes = Vec::new();
        changed_types(&below, &view, "", index, &mut changes);
        if !changes.is_empty() {
            for change in &changes {
                for view in &mut views {
                    remove(view, &change.key);
                }
            }
            let lower = layers.iter().zip(&views);
            figment =
                lower.fold(Figment::new(), |figment, (layer, view)| figment.merge(Provided { layer, view }));
        }
        figment = figment.merge(Provided { layer: &layers[index], view: &view });
        views.push(view);
        replaced.extend(changes);
    }
    let (value, winners) = ordered(&figment, &views)?;
    Ok(Merged { value, winners, replaced, misfits })
}

/// What figment holds, keys in the order of the layers, and the layer of each key.
fn ordered(
    figment: &Figment,
    views: &[Value],
) -> Result<(Value, HashMap<String, usize>), Box<figment::Error>> {
    let root = Tagged::Dict(
        Tag::Default,
        figment.data().map_err(Box::new)?.remove(&Profile::Default).unwrap_or_default(),
    );
    let mut ordering = Ordering { figment, winners: HashMap::new() };
    let value = ordering.restore(&root, &views.iter().collect::<Vec<_>>(), "");
    Ok((value, ordering.winners))
}

/// A layer as figment sees it.
struct Provided<'a> {
    layer: &'a Layer,
    view: &'a Value,
}

impl Provider for Provided<'_> {
    fn metadata(&self) -> Metadata {
        match &self.layer.kind {
            LayerKind::File(path) => Metadata::from("recipe file", path.as_path()),
            kind => Metadata::from("assignment", kind.to_string()),
        }
    }

    fn data(&self) -> Result<FigmentMap<Profile, Dict>, figment::Error> {
        let dict = Tagged::serialize(self.view)?.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

/// Fits the key of a `--set` or an environment variable to what is below it: indices must be those of list items, and
/// keys of the environment, which have lost their case, take that of the key they name.
fn fit_spine(layer: &mut Layer, below: &Value) -> Result<(), Fault> {
    let mut node = &mut layer.root;
    let mut below = Some(below);
    let mut key = String::new();
    for _ in 0..layer.spine {
        let Content::Map(entries) = &mut node.content else { break };
        let Some(entry) = entries.first_mut() else { break };
        match below {
            Some(Value::Array(items)) => check_index(&key, &entry.key, items.len())?,
            Some(Value::Object(map)) if !map.contains_key(&entry.key) => {
                if matches!(layer.kind, LayerKind::Environment(_))
                    && let Some(existing) = map.keys().find(|existing| existing.to_lowercase() == entry.key)
                {
                    entry.key.clone_from(existing);
                }
            }
            _ => {}
        }
        below = below.and_then(|value| path::child(value, &entry.key));
        key = path::join(&key, &entry.key);
        node = &mut entry.value;
    }
    Ok(())
}

fn check_index(list: &str, index: &str, len: usize) -> Result<(), Fault> {
    if index.parse::<usize>().is_ok_and(|index| index < len) {
        return Ok(());
    }
    let valid = match len {
        0 => "the list is empty; set the whole list".to_owned(),
        1 => "the only index is 0".to_owned(),
        len => format!("the indices are 0 to {}", len - 1),
    };
    let fault = Fault::new(
        path::join(list, index),
        format!("`{list}` is a list, and `{index}` is none of its items"),
    );
    Err(fault.at(Place::Key).label("no such item").help(valid))
}

/// What a layer says, as plain data; a list that a spine goes through comes whole.
fn overlay(below: Option<&Value>, node: &Node, spine: usize) -> Value {
    let Some(entry) = node.entries().first().filter(|_| spine > 0) else { return node.to_value() };
    let under = below.and_then(|value| path::child(value, &entry.key));
    let value = overlay(under, &entry.value, spine - 1);
    if let Some(Value::Array(items)) = below
        && let Ok(index) = entry.key.parse::<usize>()
        && let Some(item) = items.get(index)
    {
        let mut items = items.clone();
        items[index] = deep_merge(item.clone(), value);
        return Value::Array(items);
    }
    Value::Object(Map::from_iter([(entry.key.clone(), value)]))
}

/// The merge of figment, with the rule of a changed `type`, inside of a list item.
fn deep_merge(lower: Value, upper: Value) -> Value {
    match (lower, upper) {
        (Value::Object(mut lower), Value::Object(upper)) if !type_changes(&lower, &upper) => {
            for (key, value) in upper {
                let merged = match lower.remove(&key) {
                    Some(below) => deep_merge(below, value),
                    None => value,
                };
                lower.insert(key, merged);
            }
            Value::Object(lower)
        }
        (_, upper) => upper,
    }
}

fn type_changes(lower: &Map<String, Value>, upper: &Map<String, Value>) -> bool {
    matches!((lower.get("type"), upper.get("type")), (Some(before), Some(after)) if before != after)
}

fn changed_types(below: &Value, view: &Value, key: &str, layer: usize, changes: &mut Vec<Replaced>) {
    let (Value::Object(lower), Value::Object(upper)) = (below, view) else { return };
    if !key.is_empty() && type_changes(lower, upper) {
        let (before, after) = (lower["type"].clone(), upper["type"].clone());
        changes.push(Replaced { key: key.to_owned(), layer, before, after });
        return;
    }
    for (name, value) in upper {
        if let Some(below) = lower.get(name) {
            changed_types(below, value, &path::join(key, name), layer, changes);
        }
    }
}

fn remove(view: &mut Value, key: &str) {
    let Some((parent, last)) = path::split_last(key) else { return };
    let block = path::segments(parent).try_fold(view, |block, key| block.get_mut(key));
    if let Some(Value::Object(map)) = block {
        map.shift_remove(last);
    }
}

/// Puts figment's sorted keys back into the order of the layers, and notes the layer of each.
struct Ordering<'a> {
    figment: &'a Figment,
    winners: HashMap<String, usize>,
}

impl Ordering<'_> {
    fn restore(&mut self, value: &Tagged, views: &[&Value], key: &str) -> Value {
        if let Some(layer) = self.layer(value.tag()) {
            self.winners.insert(key.to_owned(), layer);
        }
        match value {
            Tagged::Dict(_, dict) => {
                let mut map = Map::new();
                for name in views.iter().filter_map(|view| view.as_object()).flat_map(Map::keys) {
                    if let Some(value) = dict.get(name)
                        && !map.contains_key(name)
                    {
                        let views: Vec<_> = views.iter().filter_map(|view| view.get(name)).collect();
                        map.insert(name.clone(), self.restore(value, &views, &path::join(key, name)));
                    }
                }
                Value::Object(map)
            }
            Tagged::Array(_, items) => {
                // A list is never merged: the highest one is this one.
                let view = views.iter().rev().find(|view| view.is_array());
                let item = |(index, item)| {
                    let view: Vec<_> = view.and_then(|view| view.get(index)).into_iter().collect();
                    self.restore(item, &view, &path::join(key, index))
                };
                Value::Array(items.iter().enumerate().map(item).collect())
            }
            Tagged::String(_, text) => Value::from(text.as_str()),
            Tagged::Char(_, letter) => Value::from(letter.to_string()),
            Tagged::Bool(_, flag) => Value::from(*flag),
            Tagged::Empty(..) => Value::Null,
            Tagged::Num(_, number) => serde_json::to_value(number).unwrap_or(Value::Null),
        }
    }

    /// figment tags what a provider gives; tags are ordered as the providers were merged, which is that of the layers.
    fn layer(&self, tag: Tag) -> Option<usize> {
        let metadata = self.figment.get_metadata(tag)?;
        self.figment.metadata().position(|other| std::ptr::eq(other, metadata))
    }
}
