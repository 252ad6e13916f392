//! Layers to one value, through figment.
//!
//! figment merges: mappings key by key, everything else is replaced, and each value keeps the tag of its
//! layer. Three things are ours, for figment merges all mappings alike, never into a list, and sorts its
//! keys. A layer that changes the `type` of a block replaces the block: it is emptied before the layer is
//! merged. A `--set` key may go through the index of a list item: from then on the list is merged as a
//! mapping of its items. And keys stand in the order in which the layers first name them. For these,
//! [`LowerLayers`] knows of each key what it holds, not its value.

use std::collections::{BTreeMap, HashMap};

use figment::value::{Dict, Empty, Map as FigmentMap, Tag, Value as Tagged};
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
    let mut lower = LowerLayers::default();
    let (mut replaced, mut misfits) = (Vec::new(), Vec::new());
    for (index, layer) in layers.iter_mut().enumerate() {
        let lists = match lower.fit_override(layer) {
            Ok(lists) => lists,
            Err(fault) => {
                misfits.push((index, *fault));
                continue;
            }
        };
        for list in lists {
            let root = Tagged::from(data(&figment)?);
            let items = root.find_ref(&list).and_then(Tagged::as_array).unwrap_or_default();
            let items = items.iter().enumerate().map(|(at, item)| (at.to_string(), item.clone()));
            let items = Tagged::from(items.collect::<Dict>());
            figment = figment.merge(Provided::new(index, &list, NOTHING));
            figment = figment.merge(Provided::new(index, &list, items));
            lower.open(&list);
        }
        for key in lower.add(layer, index, &mut replaced) {
            figment = figment.merge(Provided::new(index, &key, NOTHING));
        }
        let view = Tagged::serialize(layer.root.to_value()).map_err(Box::new)?;
        figment = figment.merge(Provided::new(index, "", view));
    }
    let root = data(&figment)?;
    let mut winners = HashMap::new();
    let value = lower.restore(root.into(), "", &figment, &mut winners);
    Ok(Merged { value, winners, replaced, misfits })
}

/// What is merged over a block leaves nothing of it.
const NOTHING: Tagged = Tagged::Empty(Tag::Default, Empty::Unit);

/// A copy of what figment holds.
fn data(figment: &Figment) -> Result<Dict, Box<figment::Error>> {
    Ok(figment.data().map_err(Box::new)?.remove(&Profile::Default).unwrap_or_default())
}

/// What a layer, by its index, says of one key.
struct Provided {
    layer: usize,
    root: Dict,
}

impl Provided {
    fn new(layer: usize, key: &str, value: Tagged) -> Self {
        let keys = path::segments(key).rev();
        let root = keys.fold(value, |value, key| Tagged::from(Dict::from([(key.to_owned(), value)])));
        Self { layer, root: root.into_dict().unwrap_or_default() }
    }
}

impl Provider for Provided {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.layer.to_string())
    }

    fn data(&self) -> Result<FigmentMap<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.root.clone()))
    }
}

/// What the layers so far hold at every path.
#[derive(Default)]
struct LowerLayers {
    held: BTreeMap<String, Held>,
    /// How many keys were named.
    named: usize,
}

struct Held {
    /// When the key was named.
    order: usize,
    kind: Kind,
}

enum Kind {
    Scalar,
    /// A mapping, and its `type` if it has one.
    Block(Option<Value>),
    /// A list, and the number of its items.
    List(usize),
    /// A list that is merged as a mapping of its items.
    Opened(usize),
}

impl LowerLayers {
    fn kind(&self, key: &str) -> Option<&Kind> {
        self.held.get(key).map(|held| &held.kind)
    }

    /// Fits the override path of a layer to what lower layers hold: indices must be those of list items, and
    /// keys of the environment, which have lost their case, take that of the key they name. Returns the lists
    /// that it goes through and that are not opened yet.
    fn fit_override(&self, layer: &mut Layer) -> Result<Vec<String>, Box<Fault>> {
        let mut lists = Vec::new();
        let mut node = &mut layer.root;
        let mut key = String::new();
        for _ in 0..layer.override_depth {
            let Content::Map(entries) = &mut node.content else { break };
            let Some(entry) = entries.first_mut() else { break };
            match self.kind(&key) {
                Some(kind @ (Kind::List(len) | Kind::Opened(len))) => {
                    entry.key = check_index(&key, &entry.key, *len)?.to_string();
                    lists.extend(matches!(kind, Kind::List(_)).then(|| key.clone()));
                }
                _ if matches!(layer.kind, LayerKind::Environment(_)) => {
                    if let Some(existing) = self.same_but_case(&key, &entry.key) {
                        entry.key = existing;
                    }
                }
                _ => {}
            }
            key = path::join(&key, &entry.key);
            node = &mut entry.value;
        }
        Ok(lists)
    }

    /// The key of a block that is written in these small letters, unless one is just that.
    fn same_but_case(&self, block: &str, key: &str) -> Option<String> {
        if self.held.contains_key(&path::join(block, key)) {
            return None;
        }
        let named = self.held.iter().filter_map(|(path, held)| {
            let (parent, last) = path::split_last(path)?;
            (parent == block && last.to_lowercase() == key).then_some((held.order, last))
        });
        named.min().map(|(_, existing)| existing.to_owned())
    }

    /// Notes that a list is merged as a mapping of its items.
    fn open(&mut self, list: &str) {
        if let Some(held) = self.held.get_mut(list)
            && let Kind::List(len) = held.kind
        {
            held.kind = Kind::Opened(len);
        }
    }

    /// Notes what a layer says. Returns the blocks that it replaces, of which nothing may be left.
    fn add(&mut self, layer: &Layer, index: usize, replaced: &mut Vec<Replaced>) -> Vec<String> {
        let mut emptied = Vec::new();
        self.note("", &layer.root, layer.override_depth, &mut |key: &str, change: Option<(Value, Value)>| {
            emptied.push(key.to_owned());
            if let Some((before, after)) = change {
                replaced.push(Replaced { key: key.to_owned(), layer: index, before, after });
            }
        });
        emptied
    }

    fn note(
        &mut self,
        key: &str,
        node: &Node,
        override_depth: usize,
        empty: &mut impl FnMut(&str, Option<(Value, Value)>),
    ) {
        let held = self.held.get_mut(key);
        match &node.content {
            Content::Scalar(_) => {
                self.hold(key, Kind::Scalar);
                self.forget_within(key);
            }
            Content::List(items) => {
                self.hold(key, Kind::List(items.len()));
                self.forget_within(key);
                for (at, item) in items.iter().enumerate() {
                    self.note(&path::join(key, at), item, 0, empty);
                }
            }
            Content::Map(entries) => {
                let given =
                    entries.iter().find(|entry| entry.key == "type").map(|entry| entry.value.to_value());
                let kind = match held.map(|held| std::mem::replace(&mut held.kind, Kind::Scalar)) {
                    Some(Kind::Opened(len)) if override_depth > 0 => Kind::Opened(len),
                    Some(Kind::Opened(_)) => {
                        empty(key, None);
                        self.forget_within(key);
                        Kind::Block(given)
                    }
                    Some(Kind::Block(Some(before))) => match given {
                        Some(after) if after != before && !key.is_empty() => {
                            empty(key, Some((before, after.clone())));
                            self.held.remove(key);
                            self.forget_within(key);
                            Kind::Block(Some(after))
                        }
                        Some(after) => Kind::Block(Some(after)),
                        None => Kind::Block(Some(before)),
                    },
                    Some(Kind::List(_)) => {
                        self.forget_within(key);
                        Kind::Block(given)
                    }
                    _ => Kind::Block(given),
                };
                self.hold(key, kind);
                for entry in entries {
                    self.note(
                        &path::join(key, &entry.key),
                        &entry.value,
                        override_depth.saturating_sub(1),
                        empty,
                    );
                }
            }
        }
    }

    /// Notes what is at a path, which keeps its place among the others.
    fn hold(&mut self, key: &str, kind: Kind) {
        let order = self.held.get(key).map_or(self.named, |held| held.order);
        self.named += usize::from(order == self.named);
        self.held.insert(key.to_owned(), Held { order, kind });
    }

    fn forget_within(&mut self, key: &str) {
        let start = path::join(key, "");
        let within: Vec<_> = self
            .held
            .range(start.clone()..)
            .map(|(path, _)| path.clone())
            .take_while(|path| path.starts_with(&start))
            .collect();
        for path in within {
            self.held.remove(&path);
        }
    }

    /// The plain value of what figment holds, and the layer of every key.
    fn restore(
        &self,
        value: Tagged,
        key: &str,
        figment: &Figment,
        winners: &mut HashMap<String, usize>,
    ) -> Value {
        let layer = figment.get_metadata(value.tag()).and_then(|metadata| metadata.name.parse().ok());
        winners.extend(layer.map(|layer| (key.to_owned(), layer)));
        let mut child = |name: String, value| {
            let path = path::join(key, &name);
            let value = self.restore(value, &path, figment, winners);
            (self.held.get(&path).map(|held| held.order), name, value)
        };
        match value {
            Tagged::Dict(_, dict) if matches!(self.kind(key), Some(Kind::Opened(_))) => {
                let items =
                    dict.into_iter().map(|(name, item)| (name.parse::<usize>().ok(), child(name, item).2));
                let mut items: Vec<_> = items.collect();
                items.sort_by_key(|(at, _)| *at);
                Value::Array(items.into_iter().map(|(_, item)| item).collect())
            }
            Tagged::Dict(_, dict) => {
                let mut entries: Vec<_> = dict.into_iter().map(|(name, value)| child(name, value)).collect();
                entries.sort_by_key(|(order, ..)| *order);
                Value::Object(
                    entries.into_iter().map(|(_, name, value)| (name, value)).collect::<Map<_, _>>(),
                )
            }
            Tagged::Array(_, items) => {
                let items = items.into_iter().enumerate().map(|(at, item)| child(at.to_string(), item).2);
                Value::Array(items.collect())
            }
            Tagged::String(_, text) => Value::from(text),
            Tagged::Char(_, letter) => Value::from(letter.to_string()),
            Tagged::Bool(_, flag) => Value::from(flag),
            Tagged::Empty(..) => Value::Null,
            Tagged::Num(_, number) => serde_json::to_value(number).unwrap_or(Value::Null),
        }
    }
}

fn check_index(list: &str, index: &str, len: usize) -> Result<usize, Box<Fault>> {
    if let Some(index) = index.parse().ok().filter(|index| *index < len) {
        return Ok(index);
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
    Err(Box::new(fault.at(Place::Key).label("no such item").help(valid)))
}
