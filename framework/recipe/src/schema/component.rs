//! Component slots: mappings whose `type` names a component.

use serde_json::{Map, Value};

use super::expected::{any_of, article, describe};
use super::mapping::{missing_key, missing_keys};
use super::{Check, Component, Fault, Scope};
use crate::catalog::kinds;
use crate::diagnostics::Place;
use crate::{path, suggest};

impl<'a> Check<'a> {
    pub(super) fn slot(
        self,
        value: &Value,
        keyword: &Value,
        extra: Option<&'a Value>,
        key: &str,
        scope: Scope<'a>,
    ) -> Vec<Fault> {
        let kinds = kinds(keyword);
        let noun = any_of(kinds.iter().map(|kind| article(kind)));
        let names = self.catalog.names(&kinds);
        let known = format!("known names: {}", suggest::list(&names));
        let Some(map) = value.as_object() else {
            let help = match value {
                Value::String(name) if names.contains(&name.as_str()) => {
                    format!("write `{{ type: {name} }}`")
                }
                _ => format!("write a mapping with `type`; {known}"),
            };
            let message = format!("expected {noun}, found {}", describe(value));
            return vec![Fault::new(key, message).label(format!("expected {noun}")).help(help)];
        };
        let Some(name) = map.get("type") else {
            return vec![missing_type(map, key, &noun, &known)];
        };
        let type_key = path::join(key, "type");
        if self.broken.contains(&type_key) {
            return Vec::new();
        }
        let entry = name.as_str().and_then(|name| self.catalog.find(&kinds, name));
        let Some(entry) = entry else {
            return vec![self.unknown_type(name, &type_key, &noun, &names, &known)];
        };
        let extra_properties = extra.and_then(|extra| extra.get("properties")).and_then(Value::as_object);
        let mut faults = Vec::new();
        let mut own = Map::new();
        for (name, value) in map.iter().filter(|(name, _)| *name != "type") {
            match extra_properties.and_then(|extra| extra.get(name)) {
                Some(schema) => faults.extend(self.value(value, schema, &path::join(key, name), scope)),
                None => {
                    own.insert(name.clone(), value.clone());
                }
            }
        }
        let slot_keys: Vec<_> =
            extra_properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let component = Component { name: &entry.name, slot_keys: &slot_keys };
        faults.extend(self.component(&own, &entry.schema, key, component));
        if let Some(extra) = extra {
            let missing = missing_keys(map, extra);
            faults.extend(missing.map(|name| missing_key(name, extra_properties, key, scope)));
        }
        faults
    }

    /// The keys of the component itself.
    fn component<'s>(
        self,
        own: &Map<String, Value>,
        schema: &'s Value,
        key: &str,
        component: Component<'s>,
    ) -> Vec<Fault>
    where
        'a: 's,
    {
        let check: Check<'s> = self;
        let scope = Scope { document: schema, component: Some(component) };
        check.value(&Value::Object(own.clone()), schema, key, scope)
    }

    fn unknown_type(self, name: &Value, key: &str, noun: &str, names: &[&str], known: &str) -> Fault {
        let Some(text) = name.as_str() else {
            let message = format!("expected the name of {noun}, found {}", describe(name));
            return Fault::new(key, message).label("not a name").help(known.to_owned());
        };
        let elsewhere = self.catalog.kinds_of(text);
        let help = match (elsewhere.first(), suggest::nearest(text, names.iter().copied())) {
            (Some(kind), _) => format!("`{text}` is {}; {known}", article(kind)),
            (None, Some(near)) => format!("did you mean `{near}`? {known}"),
            (None, None) => format!("{known}; a crate with components of its own must be linked"),
        };
        Fault::new(key, format!("`{text}` is not {noun}")).label("no such component").help(help)
    }
}

fn missing_type(map: &Map<String, Value>, key: &str, noun: &str, known: &str) -> Fault {
    let misspelt = map.keys().find(|name| suggest::nearest(name, ["type"]).is_some());
    let fault = match misspelt {
        Some(name) => Fault::new(path::join(key, name), "unknown key, and `type` is missing")
            .at(Place::Key)
            .label("did you mean `type`?"),
        None => Fault::new(path::join(key, "type"), format!("{noun} needs a `type`"))
            .at(Place::Missing)
            .label("`type` is missing here"),
    };
    fault.help(known.to_owned())
}
