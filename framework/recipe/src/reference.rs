//! References: `${train.length}`, `${.size}`, `${..num_classes}`, `${env:DATA}`.
//!
//! - `${a.b}` is a path from the top. List items go by index: `${data.train.transforms.0.size}`.
//! - `${.key}` is a key of the mapping the reference stands in, `${..key}` of the mapping around that one,
//!   and so on: one more dot, one mapping further out. Lists do not count: for a transform in a list, `..` is
//!   the block that holds the list.
//! - A value that is one reference takes the type of what it names, a block too. Inside of a longer string
//!   the text of a string, number or boolean is put in.
//! - `${env:NAME}` is the text of an environment variable.
//! - `$${` is a literal `${`.
//! - A string that begins with `~/` is a path in the home folder.
//!
//! References are resolved after all layers are merged, so they see overrides.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::diagnostics::{Fault, Place};
use super::path;
use super::suggest;
use super::yaml::{MAX_DEPTH, MAX_NODES};

/// What the name of an environment variable follows.
const ENVIRONMENT: &str = "env:";

/// References to references to references: more than this is refused.
const MAX_CHAIN: usize = 32;

/// A value without references.
#[derive(Debug)]
pub(super) struct Resolved {
    pub value: Value,
    pub faults: Vec<Fault>,
    /// Paths whose reference could not be resolved; the value holds null there.
    pub broken: HashSet<String>,
}

/// Values of environment variables by name.
type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Resolves every reference of a merged recipe.
pub(super) fn resolve(root: &Value, environment: Environment<'_>) -> Resolved {
    let mut resolver =
        Resolver { root, environment, done: HashMap::new(), open: Vec::new(), nodes: 0, faults: Vec::new() };
    let value = resolver.value(root, "").unwrap_or_default();
    let broken = resolver.done.into_iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key).collect();
    Resolved { value, faults: resolver.faults, broken }
}

/// Escapes a string so that it means itself.
pub(super) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

/// The string that was escaped.
pub(super) fn unescape(text: &str) -> String {
    text.replace("$${", "${")
}

/// A stretch of a string.
#[derive(Debug, PartialEq)]
enum Part<'t> {
    Text(&'t str),
    /// What stands between `${` and `}`.
    Reference(&'t str),
    /// `${` without its `}`.
    Open(&'t str),
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            parts.extend([Part::Text(&rest[..at - 1]), Part::Text("${")]);
            rest = &rest[at + 2..];
            continue;
        }
        parts.push(Part::Text(&rest[..at]));
        let Some(end) = rest[at..].find('}') else {
            parts.push(Part::Open(&rest[at..]));
            return parts;
        };
        parts.push(Part::Reference(&rest[at + 2..at + end]));
        rest = &rest[at + end + 1..];
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text(""));
    parts
}

struct Resolver<'r> {
    root: &'r Value,
    environment: Environment<'r>,
    /// Strings resolved so far; `None` could not be.
    done: HashMap<String, Option<Value>>,
    /// Strings being resolved, outermost first.
    open: Vec<String>,
    nodes: usize,
    faults: Vec<Fault>,
}

/// The fault is already noted.
type Broken = ();

impl Resolver<'_> {
    /// The value at `key`, resolved. Broken strings inside of a block become null.
    fn value(&mut self, value: &Value, key: &str) -> Result<Value, Broken> {
        match value {
            Value::Object(map) => {
                let mut resolved = Map::new();
                for (name, value) in map {
                    resolved
                        .insert(name.clone(), self.value(value, &path::join(key, name)).unwrap_or_default());
                }
                Ok(Value::Object(resolved))
            }
            Value::Array(items) => {
                let item = |(index, item)| self.value(item, &path::join(key, index)).unwrap_or_default();
                Ok(Value::Array(items.iter().enumerate().map(item).collect()))
            }
            Value::String(text) if text.contains("${") => self.string(text, key),
            Value::String(text) => Ok(Value::String(self.in_home(text))),
            other => Ok(other.clone()),
        }
    }

    fn string(&mut self, text: &str, key: &str) -> Result<Value, Broken> {
        if let Some(done) = self.done.get(key) {
            let done = done.clone().ok_or(())?;
            return self.count(&done, key).map(|()| done);
        }
        if let Some(start) = self.open.iter().position(|open| open == key) {
            let chain = self.open[start..].iter().chain([&self.open[start]]);
            let chain = chain.map(String::as_str).collect::<Vec<_>>().join(" -> ");
            self.faults
                .push(Fault::new(key, format!("the references go in a circle: {chain}")).label("circular"));
            return Err(());
        }
        if self.open.len() == MAX_CHAIN {
            let message = format!("more than {MAX_CHAIN} references lead to each other");
            self.faults.push(Fault::new(key, message).label("too many"));
            return Err(());
        }
        self.open.push(key.to_owned());
        let resolved = self.parts(text, key);
        self.open.pop();
        let resolved = resolved.and_then(|value| self.count(&value, key).map(|()| value));
        self.done.insert(key.to_owned(), resolved.clone().ok());
        resolved
    }

    fn parts(&mut self, text: &str, key: &str) -> Result<Value, Broken> {
        let parts = parts(text);
        if let [Part::Reference(reference)] = parts[..] {
            return self.reference(reference, key);
        }
        let mut resolved = String::new();
        for part in parts {
            match part {
                Part::Text(text) => resolved += text,
                Part::Open(rest) => {
                    let fault = Fault::new(key, "a reference is not closed").label("no `}` follows");
                    let help = "write `${key}`, or `$${` for a literal `${`".to_owned();
                    self.faults.push(fault.at(Place::Text(rest.to_owned())).help(help));
                    return Err(());
                }
                Part::Reference(reference) => match self.reference(reference, key)? {
                    Value::String(text) => resolved += &text,
                    value @ (Value::Number(_) | Value::Bool(_)) => resolved += &value.to_string(),
                    value => {
                        let what = match value {
                            Value::Null => "null",
                            Value::Array(_) => "a list",
                            _ => "a mapping",
                        };
                        let message =
                            format!("`${{{reference}}}` is {what}, which cannot be put into a string");
                        let fault = Fault::new(key, message).label("not a string, number or boolean");
                        self.faults.push(fault.at(Place::Text(format!("${{{reference}}}"))));
                        return Err(());
                    }
                },
            }
        }
        Ok(Value::String(self.in_home(&resolved)))
    }

    /// The text, if it begins with `~/` from the home folder on.
    fn in_home(&self, text: &str) -> String {
        let home = |path: &str| Some(format!("{}/{path}", (self.environment)("HOME")?.trim_end_matches('/')));
        text.strip_prefix("~/").and_then(home).unwrap_or_else(|| text.to_owned())
    }

    fn of_environment(&mut self, name: &str, reference: &str, key: &str) -> Result<Value, Broken> {
        if let Some(value) = (self.environment)(name) {
            return Ok(Value::String(self.in_home(&value)));
        }
        let fault = Fault::new(key, format!("`${{{reference}}}`: there is no environment variable `{name}`"));
        let place = Place::Text(format!("${{{reference}}}"));
        let help = format!("set it: `{name}=value convmae ..`");
        self.faults.push(fault.label("not set").at(place).help(help));
        Err(())
    }

    fn reference(&mut self, reference: &str, key: &str) -> Result<Value, Broken> {
        if let Some(name) = reference.trim().strip_prefix(ENVIRONMENT) {
            return self.of_environment(name, reference, key);
        }
        let target = self.target(reference, key).map_err(|reason| {
            let help = "`${a.b}` is a path from the top, `${.a}` a key beside this one, `${..a}` one block further out";
            let fault = Fault::new(key, format!("`${{{reference}}}` is not a reference: {reason}"));
            let place = Place::Text(format!("${{{reference}}}"));
            self.faults.push(fault.label(reason).at(place).help(help.to_owned()));
        })?;
        let root: &Value = self.root;
        // Borrowed: what stands in the recipe. Owned: what another reference on the way gave, already
        // resolved.
        let mut block = Cow::Borrowed(root);
        let mut at = String::new();
        for name in path::segments(&target) {
            if let Cow::Borrowed(Value::String(text)) = block
                && text.contains("${")
            {
                block = Cow::Owned(self.string(text, &at)?);
            }
            let next = match &block {
                Cow::Borrowed(value) => path::child(value, name).map(Cow::Borrowed),
                Cow::Owned(value) => path::child(value, name).cloned().map(Cow::Owned),
            };
            let Some(next) = next else {
                self.unknown(reference, &at, name, &block, key);
                return Err(());
            };
            block = next;
            at = path::join(&at, name);
        }
        match block {
            Cow::Owned(value) => Ok(value),
            Cow::Borrowed(value) => {
                let resolved = self.value(value, &target)?;
                let broken =
                    self.done.iter().any(|(key, value)| value.is_none() && path::is_within(key, &target));
                if broken { Err(()) } else { Ok(resolved) }
            }
        }
    }

    /// The absolute path that a reference at `key` means.
    fn target(&self, reference: &str, key: &str) -> Result<String, &'static str> {
        let name = reference.trim();
        let up = name.len() - name.trim_start_matches('.').len();
        let name = &name[up..];
        if name.is_empty() || name.split('.').any(str::is_empty) {
            return Err("the name of a key is missing");
        }
        let mut base = key;
        let mut mappings = 0;
        while mappings < up {
            let Some((parent, _)) = path::split_last(base) else {
                return Err("there are more dots than blocks");
            };
            base = parent;
            mappings += usize::from(path::lookup(self.root, base).is_some_and(Value::is_object));
        }
        Ok(if up == 0 { name.to_owned() } else { path::join(base, name) })
    }

    fn unknown(&mut self, reference: &str, at: &str, name: &str, block: &Value, key: &str) {
        let place = if at.is_empty() { "the recipe".to_owned() } else { format!("`{at}`") };
        let help = match block {
            // As OmegaConf writes it.
            Value::Object(_) if reference.starts_with("oc.env:") => {
                Some(format!("an environment variable is `${{env:{}}}`", &reference["oc.env:".len()..]))
            }
            Value::Object(map) => {
                let names: Vec<_> =
                    map.keys().map(String::as_str).filter(|name| !path::join(at, name).eq(key)).collect();
                match suggest::nearest(name, names.iter().copied()) {
                    Some(near) => Some(format!("did you mean `{}`?", path::join(at, near))),
                    None if names.is_empty() => None,
                    None => Some(format!("{place} has {}", suggest::list(names))),
                }
            }
            Value::Array(items) => Some(format!("{place} is a list of {} items", items.len())),
            _ => Some(format!("{place} is not a block")),
        };
        let message =
            format!("`${{{reference}}}` refers to `{}`, which does not exist", path::join(at, name));
        let fault = Fault::new(key, message).label(format!("no `{name}` in {}", place.trim_matches('`')));
        self.faults.push(fault.at(Place::Text(format!("${{{reference}}}"))).help(help));
    }

    /// Counts what references copy, so that blocks of references to blocks cannot fill the memory or the
    /// stack.
    fn count(&mut self, value: &Value, key: &str) -> Result<(), Broken> {
        let before = self.nodes;
        self.nodes = self.nodes.saturating_add(size(value));
        if path::segments(key).count() + depth(value) > MAX_DEPTH {
            self.faults.push(Fault::new(key, "the references expand to too many levels").label("too deep"));
            return Err(());
        }
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        if before <= MAX_NODES {
            self.faults.push(Fault::new(key, "the references expand to too many values").label("too large"));
        }
        Err(())
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::String(text) => 1 + text.len() / 64,
        _ => 1,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
