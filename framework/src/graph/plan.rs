//! Connecting the nodes: who feeds whom, and in which order.

use std::rc::Rc;

use super::heads::Heads;
use crate::component::{Kind, Problem};
use crate::experiment::{FlawedNode, Node, Nodes, Source};
use crate::recipe::article;

/// The nodes in an order in which every node follows its sources.
#[derive(Debug)]
pub struct Plan {
    /// The nodes, sources first.
    pub nodes: Vec<Rc<Planned>>,
    /// Nodes that cannot be connected, or stand behind one that cannot.
    pub aside: Vec<Rc<Planned>>,
    /// Whether all nodes of the recipe are in order.
    pub is_whole: bool,
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
        let (plan, problems) = Self::draft(nodes, &[]);
        if problems.is_empty() { Ok(plan) } else { Err(problems) }
    }

    /// The same as far as it can be done, beside nodes with mistakes that are known already.
    pub fn draft(nodes: Nodes, flawed: &[FlawedNode]) -> (Self, Vec<Problem>) {
        let whole = nodes.0.iter().map(|node| (node.name.clone(), Some(node.kind.kind())));
        let known: Vec<_> = whole.chain(flawed.iter().map(|node| (node.name.clone(), node.kind))).collect();
        let mut problems: Vec<_> = known.iter().filter_map(|(name, _)| problem_of_name(name)).collect();
        let (mut planned, mut aside) = (Vec::new(), Vec::new());
        for node in nodes.0 {
            let (sources, found) = sources(&node.name, node.kind.kind(), &node.from, &known);
            let list = if found.is_empty() { &mut planned } else { &mut aside };
            list.push(Planned { node, sources });
            problems.extend(found);
        }
        for node in flawed {
            problems.extend(
                node.kind.map(|kind| sources(&node.name, kind, &node.from, &known).1).into_iter().flatten(),
            );
        }
        let is_there =
            |planned: &[Planned], source: &Source| planned.iter().any(|node| node.node.name == source.node);
        let is_cut_off = |planned: &[Planned], node: &Planned| {
            !node.sources.iter().all(|source| is_there(planned, source))
        };
        while let Some(at) = planned.iter().position(|node| is_cut_off(&planned, node)) {
            aside.push(planned.remove(at));
        }
        let (sorted, circle) = sort(planned);
        problems.extend(problem_of_circle(&circle));
        aside.extend(circle);
        let is_whole = flawed.is_empty() && aside.is_empty();
        let shared = |nodes: Vec<Planned>| nodes.into_iter().map(Rc::new).collect();
        (Self { nodes: shared(sorted), aside: shared(aside), is_whole }, problems)
    }

    /// Its heads, those that cannot be connected among them.
    pub fn heads(&self) -> Heads<'_> {
        Heads::of(self.nodes.iter().chain(&self.aside).map(Rc::as_ref))
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

/// The sources of a node among the nodes that are known, whose kinds need not be, and what is wrong with them.
fn sources(
    node: &str,
    kind: Kind,
    from: &[Source],
    known: &[(String, Option<Kind>)],
) -> (Vec<Source>, Vec<Problem>) {
    let fits = |of: Option<Kind>| of.is_some_and(|of| upstream(kind).contains(&of));
    let fitting = known.iter().filter(|(name, of)| fits(*of) && name != node);
    let fitting: Vec<&str> = fitting.map(|(name, _)| name.as_str()).collect();
    if from.is_empty() {
        let unknown = known.iter().find(|(name, of)| of.is_none() && name != node);
        return match (default_source(node, kind, &fitting), unknown) {
            // It may be the one that is meant.
            (Err(_), Some((name, _))) => (vec![name.as_str().into()], Vec::new()),
            (Err(problem), None) => (Vec::new(), vec![problem]),
            (Ok(sources), _) => (sources, Vec::new()),
        };
    }
    let key = format!("{node}.from");
    let mut problems = Vec::new();
    let mut resolved = Vec::new();
    for source in from {
        if source.node == "images" && matches!(kind, Kind::Backbone | Kind::Masker) {
            continue;
        }
        match known.iter().find(|(name, _)| *name == source.node) {
            Some(_) if resolved.contains(source) => {
                problems.push(
                    Problem::new(&key, format!("`{source}` is named twice")).help("remove one of the two"),
                );
            }
            Some((_, Some(of @ (Kind::Masker | Kind::InstanceHead)))) if source.level.is_some() => {
                problems.push(
                    Problem::new(&key, format!("`{}` is {}, it has no levels", source.node, a(*of)))
                        .help(format!("write `{}`", source.node)),
                );
            }
            Some((_, Some(of))) if !upstream(kind).contains(of) => problems.push(
                Problem::new(
                    &key,
                    format!("`{}` is {}, which does not feed {}", source.node, a(*of), a(kind)),
                )
                .help(names(kind, &fitting)),
            ),
            Some(_) => resolved.push(source.clone()),
            None => problems.push(
                Problem::new(&key, format!("there is no node `{}` in the model", source.node))
                    .help(names(kind, &fitting)),
            ),
        }
    }
    let of_regions = |source: &&Source| known.contains(&(source.node.clone(), Some(Kind::InstanceHead)));
    if let [first, second, ..] = resolved.iter().filter(of_regions).collect::<Vec<_>>()[..] {
        let message = format!("it takes the regions of one instance head, not of `{first}` and `{second}`");
        problems.push(Problem::new(&key, message).help("remove one of the two"));
    }
    (resolved, problems)
}

/// A kind with its article.
fn a(kind: Kind) -> String {
    article(&kind.name().replace('_', " "))
}

/// The source of a node whose `from` is left out: the only one that fits.
fn default_source(node: &str, kind: Kind, fitting: &[&str]) -> Result<Vec<Source>, Problem> {
    match (kind, fitting) {
        (Kind::Masker, _) | (Kind::Backbone, []) => Ok(Vec::new()),
        (_, [only]) => Ok(vec![(*only).into()]),
        (_, []) => Err(Problem::new(node, format!("the {kind} has nothing to take its input from"))
            .help("add a backbone to the model")),
        _ => Err(Problem::new(node, format!("which node feeds this {kind}?")).help(format!(
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

/// Sorts so that sources come first, otherwise in the order of the recipe. Nodes that feed each other are left over.
fn sort(mut waiting: Vec<Planned>) -> (Vec<Planned>, Vec<Planned>) {
    let mut sorted: Vec<Planned> = Vec::with_capacity(waiting.len());
    let is_ready = |sorted: &[Planned], node: &Planned| {
        node.sources.iter().all(|source| sorted.iter().any(|done| done.node.name == source.node))
    };
    while let Some(at) = waiting.iter().position(|node| is_ready(&sorted, node)) {
        sorted.push(waiting.remove(at));
    }
    (sorted, waiting)
}

fn problem_of_circle(nodes: &[Planned]) -> Option<Problem> {
    let names: Vec<_> = nodes.iter().map(|planned| planned.node.name.as_str()).collect();
    let message = format!("these nodes feed each other in a circle: {}", names.join(", "));
    let help = "let one of them take its input from another node, or leave its `from` out";
    Some(Problem::new(format!("{}.from", names.first()?), message).help(help))
}
