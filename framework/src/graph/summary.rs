//! The checked graph as a table.

use std::fmt;

use serde::Serialize;

use super::model::{Built, Model, Module};
use crate::columns::aligned;
use crate::component::{ImageShape, LevelShape, Macs};
use crate::nn::ParamKind;

/// What `check` prints of a model.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The images it takes.
    pub image: ImageShape,
    /// A row per node, sources first.
    pub nodes: Vec<Row>,
    /// Parameters in all, running statistics left out.
    pub parameters: usize,
    /// Those that are trained.
    pub trainable: usize,
    /// Multiply-adds of one image's forward.
    pub macs: Macs,
}

/// A node of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub node: String,
    /// The kind of its component.
    pub kind: &'static str,
    /// The type of its component.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Where its input comes from.
    pub from: Vec<String>,
    /// What it yields: `s1 [784, 256]` for 784 positions of 256 channels, `4 x s1 [784, 256]` for those under each of four
    /// masks.
    pub outputs: Vec<String>,
    /// Its parameters.
    pub parameters: usize,
    /// Those that are trained.
    pub trainable: usize,
    /// Multiply-adds of one image's forward.
    pub macs: Macs,
}

impl Summary {
    /// The table of a model, built or described.
    pub fn new(model: &Model) -> Self {
        let params = model.params();
        let count = |range: std::ops::Range<usize>, trained_only: bool| -> usize {
            let counted = params[range].iter().filter(|param| match param.kind() {
                ParamKind::Trainable => true,
                ParamKind::Frozen => !trained_only,
                ParamKind::Buffer => false,
            });
            counted.map(crate::nn::Param::numel).sum()
        };
        let nodes = model
            .nodes()
            .iter()
            .map(|built| {
                let node = &built.planned.node;
                let images = matches!(built.module, Module::Backbone(_)).then(|| "images".to_owned());
                let sources = built.planned.sources.iter().map(ToString::to_string);
                Row {
                    node: node.name.clone(),
                    kind: node.kind.kind().name(),
                    type_name: node.type_name.clone(),
                    from: images.into_iter().chain(sources).collect(),
                    outputs: outputs(built),
                    parameters: count(built.params.clone(), false),
                    trainable: count(built.params.clone(), true),
                    macs: built.macs(),
                }
            })
            .collect();
        Self {
            image: model.image,
            nodes,
            parameters: count(0..params.len(), false),
            trainable: count(0..params.len(), true),
            macs: model.macs(),
        }
    }
}

fn outputs(built: &Built) -> Vec<String> {
    match &built.module {
        Module::Masker(Some((grid, plan))) => {
            vec![times(plan.masks, format!("{} of {} tokens", plan.kept, grid.tokens()))]
        }
        Module::InstanceHead(head) => vec![format!("{} regions", head.regions())],
        module => module.levels().iter().map(|of| times(built.masks, level(of))).collect(),
    }
}

/// What there is of each of so many masks.
fn times(masks: usize, output: String) -> String {
    if masks == 1 { output } else { format!("{masks} x {output}") }
}

fn level(level: &LevelShape) -> String {
    format!("{} [{}, {}]", level.name, level.tokens(), level.channels)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["node", "type", "from", "output per image", "parameters", "trained", "GMACs", "dense"]
            .map(str::to_owned);
        let mut table = vec![header];
        for row in &self.nodes {
            table.push([
                row.node.clone(),
                row.type_name.clone(),
                row.from.join(", "),
                row.outputs.join(", "),
                thousands(row.parameters),
                thousands(row.trainable),
                giga(row.macs.computed),
                giga(row.macs.dense),
            ]);
        }
        table.push([
            "total".to_owned(),
            String::new(),
            String::new(),
            String::new(),
            thousands(self.parameters),
            thousands(self.trainable),
            giga(self.macs.computed),
            giga(self.macs.dense),
        ]);
        writeln!(f, "images {}", self.image)?;
        aligned(&table, |column| column >= 4).iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn giga(macs: u64) -> String {
    format!("{:.3}", macs as f64 / 1e9)
}

/// `115041408` as `115,041,408`.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
