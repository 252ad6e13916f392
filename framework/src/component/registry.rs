//! The registry of components: names, kinds and schemas.

use std::fmt;

use super::Package;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// A kind of component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Where samples come from.
    Dataset,
    /// What happens to a sample before it is batched.
    Transform,
    /// What happens to samples once they are batched.
    #[serde(rename = "batch_transform")]
    #[value(name = "batch_transform")]
    BatchTransform,
    /// Which patches a backbone sees.
    Masker,
    /// Images to features.
    Backbone,
    /// Features to features.
    Neck,
    /// Features to losses and predictions.
    Head,
    /// Features and regions to losses and regions.
    #[serde(rename = "instance_head")]
    #[value(name = "instance_head")]
    InstanceHead,
    /// Gradients to new parameters.
    Optimizer,
    /// The learning rate over time.
    Schedule,
    /// Losses and predictions to metrics.
    Evaluator,
    /// How a model is shown images of other sizes than its own.
    Inference,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Dataset,
        Self::Transform,
        Self::BatchTransform,
        Self::Masker,
        Self::Backbone,
        Self::Neck,
        Self::Head,
        Self::InstanceHead,
        Self::Optimizer,
        Self::Schedule,
        Self::Evaluator,
        Self::Inference,
    ];

    /// The name in lower case, as in recipes' schemas and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Transform => "transform",
            Self::BatchTransform => "batch_transform",
            Self::Masker => "masker",
            Self::Backbone => "backbone",
            Self::Neck => "neck",
            Self::Head => "head",
            Self::InstanceHead => "instance_head",
            Self::Optimizer => "optimizer",
            Self::Schedule => "schedule",
            Self::Evaluator => "evaluator",
            Self::Inference => "inference",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A registered component.
pub struct Entry {
    /// Its kind.
    pub kind: Kind,
    /// Its name: the value of `type:` in a recipe.
    pub name: &'static str,
    /// The schema of its fields, with their docs and defaults.
    pub schema: fn() -> Schema,
    /// The package that it is of.
    pub package: Package,
}

inventory::collect!(Entry);

/// All registered components, by kind and name.
pub fn entries() -> Vec<&'static Entry> {
    let mut entries: Vec<_> = inventory::iter::<Entry>().collect();
    entries.sort_by_key(|entry| (entry.kind, entry.name));
    entries
}

/// The component registered under a name.
pub fn entry(name: &str) -> Option<&'static Entry> {
    inventory::iter::<Entry>().find(|entry| entry.name == name)
}

/// The packages of the registered components, by name.
pub fn packages() -> Vec<Package> {
    let mut packages: Vec<_> = inventory::iter::<Entry>().map(|entry| entry.package.clone()).collect();
    packages.sort();
    packages.dedup();
    packages
}

/// Announces a component: `register!(Backbone: ConvViT);` beside its
/// `#[typetag::serde] impl Backbone for ConvViT`.
#[macro_export]
macro_rules! register {
    ($kind:ident: $component:ident) => {
        $crate::__private::inventory::submit! {
            $crate::component::Entry {
                kind: $crate::component::Kind::$kind,
                name: stringify!($component),
                schema: || $crate::__private::schemars::schema_for!($component),
                package: $crate::package!(),
            }
        }
        const _: fn(&$component) -> &dyn $crate::component::$kind = |component| component;
    };
}

/// The schema of a slot that takes any component of a kind.
macro_rules! slot_schema {
    ($kind:ident) => {
        impl schemars::JsonSchema for dyn $kind {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($kind).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "x-component": $crate::component::Kind::$kind.name() })
            }
        }
    };
}
pub(super) use slot_schema;

/// The schema of a slot that may be null. That of a slot has no type, so schemars does not see it by itself:
/// `#[schemars(schema_with = "optional_slot::<Box<dyn Dataset>>")]`.
pub fn optional_slot<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [generator.subschema_for::<T>(), { "type": "null" }] })
}
