//! The heads of a model, and what they are for.

use super::plan::Planned;
use crate::component::TaskKind;

/// The heads among the nodes of a model.
pub struct Heads<'a>(Vec<&'a Planned>);

impl<'a> Heads<'a> {
    /// Those of these nodes, in their order.
    pub(super) fn of(nodes: impl Iterator<Item = &'a Planned>) -> Self {
        Self(nodes.collect())
    }

    /// The heads of a task that tell classes apart, with how many.
    pub fn classes(&self, kind: TaskKind) -> Vec<(&'a str, usize)> {
        let heads = self.of_task(kind).filter_map(|head| Some((head, head.node.kind.task()?.classes()?)));
        heads.map(|(head, classes)| (head.node.name.as_str(), classes)).collect()
    }

    /// The names of the heads of a task.
    pub fn names(&self, kind: TaskKind) -> Vec<&'a str> {
        self.of_task(kind).map(|head| head.node.name.as_str()).collect()
    }

    /// The heads that predict for a task: none of them auxiliary, or before another one in a chain.
    pub fn predicting(&self, kind: TaskKind) -> Vec<&'a str> {
        let heads = self.of_task(kind).filter(|head| self.predicts(head));
        heads.map(|head| head.node.name.as_str()).collect()
    }

    /// Whether a node is a head that predicts: an auxiliary one only helps to train, and what an instance head
    /// finds goes to the next one of its chain.
    pub(super) fn predicts(&self, node: &Planned) -> bool {
        let mut takers = self.0.iter().flat_map(|other| &other.sources);
        node.node.kind.wiring().is_some_and(|wiring| !wiring.auxiliary)
            && !takers.any(|source| source.node == node.node.name)
    }

    fn of_task(&self, kind: TaskKind) -> impl Iterator<Item = &'a Planned> {
        let is_it = move |node: &&Planned| node.node.kind.task().is_some_and(|task| task.kind() == kind);
        self.0.iter().copied().filter(is_it)
    }
}
