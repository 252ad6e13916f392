//! The nodes of the `model` section, as the recipe states them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::Frozen;
use crate::component::{self, Backbone, Head, InstanceHead, Kind, Masker, Neck, Task};

/// The `model` section: named nodes in the order of the recipe.
#[derive(Debug, Default)]
pub struct Nodes(pub Vec<Node>);

impl Nodes {
    /// The nodes that yield features of whole images: backbones and necks, without what masks them.
    #[must_use]
    pub fn features(self) -> Self {
        let Self(nodes) = self;
        let is_kept = |node: &Node| matches!(node.kind.kind(), Kind::Backbone | Kind::Neck);
        let (mut kept, left): (Vec<Node>, Vec<Node>) = nodes.into_iter().partition(is_kept);
        for node in &mut kept {
            node.from.retain(|source| !left.iter().any(|other| other.name == source.node));
        }
        Self(kept)
    }
}

/// A node in whose block there are mistakes: what is known of it all the same.
#[derive(Debug)]
pub struct FlawedNode {
    /// Its name.
    pub name: String,
    /// What it is, where that is said.
    pub kind: Option<Kind>,
    /// Upstream nodes, as far as the recipe names them.
    pub from: Vec<Source>,
}

impl FlawedNode {
    /// What a block says that is no node.
    pub fn new(name: &str, block: &Value) -> Self {
        let type_name = block.get("type").and_then(Value::as_str).unwrap_or_default();
        let sources = block.get("from").and_then(|from| Sources::deserialize(from).ok());
        Self {
            name: name.to_owned(),
            kind: component::entry(type_name).map(|entry| entry.kind),
            from: sources.unwrap_or_default().sources(),
        }
    }
}

/// A node: a component, and where its input comes from.
#[derive(Debug)]
pub struct Node {
    /// Its name, unique in the model.
    pub name: String,
    /// Upstream nodes, as far as the recipe names them.
    pub from: Vec<Source>,
    /// What stands before the names of its parameters; empty in the official checkpoints.
    pub prefix: String,
    /// What of it stays as it is.
    pub frozen: Frozen,
    /// The value of `type`.
    pub type_name: String,
    /// The component.
    pub kind: NodeKind,
}

impl Node {
    /// The node of this name that a block states.
    ///
    /// # Errors
    /// What is wrong with the block.
    pub fn new(name: String, value: Value) -> Result<Self, String> {
        let Value::Object(mut fields) = value else { return Err(format!("`{name}` is not a mapping")) };
        let wiring: Wiring = typed(&name, take(&mut fields, &["from", "prefix", "frozen"]))?;
        let type_name = match fields.get("type") {
            Some(Value::String(type_name)) => type_name.clone(),
            _ => return Err(format!("`{name}` has no `type`")),
        };
        let kind = match component::entry(&type_name).map(|entry| entry.kind) {
            Some(Kind::Masker) => NodeKind::Masker(typed(&name, fields.into())?),
            Some(Kind::Backbone) => NodeKind::Backbone(typed(&name, fields.into())?),
            Some(Kind::Neck) => NodeKind::Neck(typed(&name, fields.into())?),
            Some(Kind::Head) => {
                let wiring = typed(&name, take(&mut fields, HEAD_WIRING))?;
                NodeKind::Head(typed(&name, fields.into())?, wiring)
            }
            Some(Kind::InstanceHead) => {
                let wiring = typed(&name, take(&mut fields, HEAD_WIRING))?;
                NodeKind::InstanceHead(typed(&name, fields.into())?, wiring)
            }
            Some(kind) => {
                return Err(format!("`{name}`: `{type_name}` is a {kind}, which is no part of a model"));
            }
            None => return Err(format!("`{name}`: there is no component `{type_name}`")),
        };
        Ok(Self {
            name,
            from: wiring.from.sources(),
            prefix: wiring.prefix,
            frozen: wiring.frozen,
            type_name,
            kind,
        })
    }
}

/// The component of a node.
#[derive(Debug)]
pub enum NodeKind {
    /// Draws masks for a backbone.
    Masker(Box<dyn Masker>),
    /// Images to features.
    Backbone(Box<dyn Backbone>),
    /// Features to features.
    Neck(Box<dyn Neck>),
    /// Features to losses and predictions.
    Head(Box<dyn Head>, HeadWiring),
    /// Features and regions to losses and regions.
    InstanceHead(Box<dyn InstanceHead>, HeadWiring),
}

impl NodeKind {
    /// The kind of the component.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Masker(_) => Kind::Masker,
            Self::Backbone(_) => Kind::Backbone,
            Self::Neck(_) => Kind::Neck,
            Self::Head(..) => Kind::Head,
            Self::InstanceHead(..) => Kind::InstanceHead,
        }
    }

    /// The task of a head, of either kind.
    pub fn task(&self) -> Option<Task> {
        match self {
            Self::Head(head, _) => Some(head.task()),
            Self::InstanceHead(head, _) => head.classes().map(|classes| Task::Detect { classes }),
            _ => None,
        }
    }

    /// How a head counts, of either kind.
    pub fn wiring(&self) -> Option<HeadWiring> {
        match self {
            Self::Head(_, wiring) | Self::InstanceHead(_, wiring) => Some(*wiring),
            _ => None,
        }
    }

    /// The names of the parameters of each block: [`Backbone::blocks`].
    pub fn blocks(&self) -> Vec<Vec<String>> {
        match self {
            Self::Backbone(backbone) => backbone.blocks(),
            _ => Vec::new(),
        }
    }
}

/// An upstream node, or one of its levels: `backbone`, `backbone.s2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name of the node.
    pub node: String,
    /// Name of the level; all levels if none is named.
    pub level: Option<String>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.level {
            Some(level) => write!(f, "{}.{level}", self.node),
            None => f.write_str(&self.node),
        }
    }
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        match text.split_once('.') {
            Some((node, level)) => Self { node: node.to_owned(), level: Some(level.to_owned()) },
            None => Self { node: text.to_owned(), level: None },
        }
    }
}

/// The keys that any node may have besides those of its component.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Wiring {
    /// The upstream node or nodes (`backbone`, or one level of it: `backbone.s2`). May be left out where only
    /// one fits.
    #[serde(default)]
    from: Sources,
    /// What stands before the names of this node's parameters. Needed where two nodes would use the same
    /// names.
    #[serde(default)]
    prefix: String,
    /// What of it stays as it is. `true`: everything, and it runs as in evaluation (no dropout, running
    /// statistics), for linear probing. `[patch_embed*, blocks1.*]`: parameters by name. `4`: the first blocks
    /// of a backbone and all that comes before them. Blocks of which nothing is trained drop no paths, and
    /// batch normalisations with a frozen scale and shift keep their running statistics.
    #[serde(default)]
    frozen: Frozen,
}

/// The keys that any head may have besides these and those of its component.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeadWiring {
    /// Factor of this head's loss in the total.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f32,
    /// Whether it only helps to train: it predicts nothing then.
    pub auxiliary: bool,
}

/// The keys of a [`HeadWiring`].
const HEAD_WIRING: &[&str] = &["loss_weight", "auxiliary"];

impl Default for HeadWiring {
    fn default() -> Self {
        Self { loss_weight: 1.0, auxiliary: false }
    }
}

/// One source or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Sources {
    One(String),
    Many(Vec<String>),
}

impl Default for Sources {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Sources {
    fn sources(&self) -> Vec<Source> {
        match self {
            Self::One(source) => vec![source.as_str().into()],
            Self::Many(sources) => sources.iter().map(|source| source.as_str().into()).collect(),
        }
    }
}

impl JsonSchema for Nodes {
    fn schema_name() -> Cow<'static, str> {
        "Nodes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let wiring = schema_for!(Wiring);
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "x-component": ["masker", "backbone", "neck", "head", "instance_head"],
                "x-extra": wiring,
            },
        })
    }
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let nodes = Map::<String, Value>::deserialize(deserializer)?;
        nodes
            .into_iter()
            .map(|(name, value)| Node::new(name, value).map_err(D::Error::custom))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Takes those of these keys that are there.
fn take(fields: &mut Map<String, Value>, keys: &[&str]) -> Value {
    keys.iter().filter_map(|key| fields.remove_entry(*key)).collect()
}

fn typed<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| format!("`{name}`: {error}"))
}
