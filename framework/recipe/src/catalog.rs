//! What a recipe may say: the registered components and the schema of the whole; how keywords of schemas are
//! read.

use serde_json::Value;

/// One registered component.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    /// What it is: `backbone`, `masker`, `head` ...
    pub kind: String,
    /// The name under `type:`, for example `ConvViT`.
    pub name: String,
    /// JSON schema of its keys (without `type`), as schemars writes it.
    pub schema: Value,
}

/// Everything a recipe is checked against.
///
/// The root schema is a JSON schema with some keywords of our own:
/// - `"x-component": "dataset"`, or a list of kinds, marks a *slot*: a mapping whose `type` names a component
///   of that kind and whose other keys are those of the component. Other keywords beside it are ignored,
///   except
/// - `"x-extra": {"properties": .., "required": [..]}`: keys that the slot adds to those of the component
///   (`from`).
/// - `"x-called-elsewhere": ["epochs"]`: what other frameworks call the key, for messages.
#[derive(Debug, Clone)]
pub struct Catalog {
    entries: Vec<CatalogEntry>,
    root: Value,
    /// What the root schema describes, in messages: `recipe`.
    subject: &'static str,
}

impl Catalog {
    /// A catalog of these components, for recipes of this shape.
    pub fn new(entries: Vec<CatalogEntry>, root: Value) -> Self {
        Self { entries, root, subject: "recipe" }
    }

    /// The schema of a file that is no recipe and names no components: a [`Document`](super::Document).
    pub fn of_document(subject: &'static str, root: Value) -> Self {
        Self { entries: Vec::new(), root, subject }
    }

    /// What the root schema describes, in messages.
    pub fn subject(&self) -> &'static str {
        self.subject
    }

    /// The schema of a whole recipe.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// The component of this name among these kinds.
    pub fn find(&self, kinds: &[&str], name: &str) -> Option<&CatalogEntry> {
        self.entries.iter().find(|entry| entry.name == name && kinds.contains(&entry.kind.as_str()))
    }

    /// The names of all components of these kinds, sorted.
    pub fn names(&self, kinds: &[&str]) -> Vec<&str> {
        let of_kind = self.entries.iter().filter(|entry| kinds.contains(&entry.kind.as_str()));
        let mut names: Vec<_> = of_kind.map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The kinds under which this name is registered.
    pub(super) fn kinds_of(&self, name: &str) -> Vec<&str> {
        let named = self.entries.iter().filter(|entry| entry.name == name);
        named.map(|entry| entry.kind.as_str()).collect()
    }
}

/// The kinds of an `x-component` keyword: a name or a list of names.
pub(super) fn kinds(keyword: &Value) -> Vec<&str> {
    match keyword {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    }
}

/// The schemas of a list keyword.
pub(super) fn list<'a>(schema: &'a Value, keyword: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    schema.get(keyword).and_then(Value::as_array).into_iter().flatten()
}

/// The schema of a list item.
pub(super) fn item_schema(schema: &Value, index: usize) -> Option<&Value> {
    schema.get("prefixItems").and_then(|fixed| fixed.get(index)).or(schema.get("items"))
}

/// The schema a `$ref` names.
pub(super) fn target<'a>(schema: &Value, document: &'a Value) -> Option<&'a Value> {
    let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
    document.pointer(pointer)
}

/// Follows `$ref`s to the end.
pub(super) fn resolve<'a>(mut schema: &'a Value, document: &'a Value) -> &'a Value {
    const MAX_HOPS: usize = 16;
    for _ in 0..MAX_HOPS {
        match target(schema, document) {
            Some(next) if schema.get("x-component").is_none() => schema = next,
            _ => break,
        }
    }
    schema
}
