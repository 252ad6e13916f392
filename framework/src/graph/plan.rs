//! Connecting the nodes: who feeds whom, and in which order.

use std::rc::Rc;

use crate::component::{Kind, Problem};
use crate::experiment::{Node, Nodes, Source};
use crate::recipe::article;

/// The nodes in an order in which every node follows its sources.
#[derive(Debug)]
pub struct Plan {
    /// The nodes, sources first.
    pub nodes: Vec<Rc<Planned>>,
}

/// A node with its sources resolved.
#[derive(Debug)]
pub struct Planned {
    /// The node.
    pub node: Node,
    /// Its sources. Empty for a node that takes the images.
    pub sources: Vec<Source>,
}

impl Plan {
    /// Resolves every `from`, fills in the ones that are left out, and sorts. All problems are found at once;
    /// their keys are relative to the `model` section.
    pub fn new(nodes: Nodes) -> Result<Self, Vec<Problem>> {
        let known: Vec<(String, Kind)> =
            nodes.0.iter().map(|node| (node.name.clone(), node.kind.kind())).collect();
        let mut problems = Vec::new();
        let mut planned = Vec::new();
        problems.extend(nodes.0.iter().filter_map(|node| problem_of_name(&node.name)));
        for node in nodes.0 {
            match sources(&node, &known) {
                Ok(sources) => planned.push(Planned { node, sources }),
                Err(mut found) => problems.append(&mut found),
            }
        }
        if problems.is_empty() {
            Ok(Self { nodes: sort(planned)?.into_iter().map(Rc::new).collect() })
        } else {
            Err(problems)
        }
    }
}

/// Names are referred to by `from`, in which a dot stands before a level, and drawn.
fn problem_of_name(name: &str) -> Option<Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name == "images" {
        return Some(
            Problem::new(name, "`images` is the name of the model's input")
                .help("call this node something else"),
        );
    }
    (name.is_empty() || !name.chars().all(plain))
        .then(|| Problem::new(name, "a node's name is made of letters, digits, `_` and `-`"))
}

/// What a kind of node may be connected to.
fn upstream(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::Backbone => &[Kind::Masker],
        Kind::Neck | Kind::Head => &[Kind::Backbone, Kind::Neck],
        Kind::InstanceHead => &[Kind::Backbone, Kind::Neck, Kind::InstanceHead],
        _ => &[],
    }
}

fn sources(node: &Node, known: &[(String, Kind)]) -> Result<Vec<Source>, Vec<Problem>> {
    let kind = node.kind.kind();
    let fitting: Vec<&str> = known
        .iter()
        .filter(|(name, kind_of)| upstream(kind).contains(kind_of) && *name != node.name)
        .map(|(name, _)| name.as_str())
        .collect();
    if node.from.is_empty() {
        return default_source(node, kind, &fitting).map_err(|problem| vec![problem]);
    }
    let key = format!("{}.from", node.name);
    let mut problems = Vec::new();
    let mut resolved = Vec::new();
    for source in &node.from {
        if source.node == "images" && matches!(kind, Kind::Backbone | Kind::Masker) {
            continue;
        }
        match known.iter().find(|(name, _)| *name == source.node) {
            Some(_) if resolved.contains(source) => {
                problems.push(
                    Problem::new(&key, format!("`{source}` is named twice")).help("remove one of the two"),
                );
            }
            Some((_, kind_of @ (Kind::Masker | Kind::InstanceHead))) if source.level.is_some() => {
                problems.push(
                    Problem::new(&key, format!("`{}` is {}, it has no levels", source.node, a(*kind_of)))
                        .help(format!("write `{}`", source.node)),
                );
            }
            Some((_, kind_of)) if upstream(kind).contains(kind_of) => resolved.push(source.clone()),
            Some((_, kind_of)) => problems.push(
                Problem::new(
                    &key,
                    format!("`{}` is {}, which does not feed {}", source.node, a(*kind_of), a(kind)),
                )
                .help(names(kind, &fitting)),
            ),
            None => problems.push(
                Problem::new(&key, format!("there is no node `{}` in the model", source.node))
                    .help(names(kind, &fitting)),
            ),
        }
    }
    let of_regions = |source: &&Source| known.contains(&(source.node.clone(), Kind::InstanceHead));
    if let [first, second, ..] = resolved.iter().filter(of_regions).collect::<Vec<_>>()[..] {
        let message = format!("it takes the regions of one instance head, not of `{first}` and `{second}`");
        problems.push(Problem::new(&key, message).help("remove one of the two"));
    }
    if problems.is_empty() { Ok(resolved) } else { Err(problems) }
}

/// A kind with its article.
fn a(kind: Kind) -> String {
    article(&kind.name().replace('_', " "))
}

/// The source of a node whose `from` is left out: the only one that fits.
fn default_source(node: &Node, kind: Kind, fitting: &[&str]) -> Result<Vec<Source>, Problem> {
    match (kind, fitting) {
        (Kind::Masker, _) | (Kind::Backbone, []) => Ok(Vec::new()),
        (_, [only]) => Ok(vec![(*only).into()]),
        (_, []) => Err(Problem::new(&node.name, format!("the {kind} has nothing to take its input from"))
            .help("add a backbone to the model")),
        _ => Err(Problem::new(&node.name, format!("which node feeds this {kind}?")).help(format!(
            "say `from:` with one of {}",
            fitting.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// What a node of a kind may name in its `from`.
fn names(kind: Kind, fitting: &[&str]) -> String {
    match (kind, fitting) {
        (Kind::Masker, _) => "remove `from`: a masker takes no input".to_owned(),
        (Kind::Backbone, []) => "remove `from`, or add a masker to the model".to_owned(),
        (_, []) => "add a backbone to the model".to_owned(),
        (_, names) => format!("these fit: {}", names.join(", ")),
    }
}

/// Sorts so that sources come first, otherwise in the order of the recipe.
fn sort(mut waiting: Vec<Planned>) -> Result<Vec<Planned>, Vec<Problem>> {
    let mut sorted: Vec<Planned> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let ready = waiting.iter().position(|planned| {
            planned.sources.iter().all(|source| sorted.iter().any(|done| done.node.name == source.node))
        });
        let Some(at) = ready else {
            let cycle: Vec<_> = waiting.iter().map(|planned| planned.node.name.as_str()).collect();
            let message = format!("these nodes feed each other in a circle: {}", cycle.join(", "));
            let help = "let one of them take its input from another node, or leave its `from` out";
            return Err(vec![Problem::new(format!("{}.from", cycle[0]), message).help(help)]);
        };
        sorted.push(waiting.remove(at));
    }
    Ok(sorted)
}
