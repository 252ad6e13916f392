//! The files that a person reads: `summary.json` and `report.html`.

use crate::graph::{Row, Summary as ModelSummary};
use crate::report::{CorruptSample, GraphNode, Link, Report, Split, Status, Summary};

use super::session::Session;
use crate::engine::EngineError;
use crate::engine::setup::lineage::INIT_FROM_DIGEST;

/// Sets of pictures in the report, spread over the run.
const PICTURE_SETS: usize = 6;

/// Writes `summary.json` and `report.html` as the run stands.
pub fn write_report(session: &Session, status: &Status) -> Result<(), EngineError> {
    let summary = summary(session, status);
    summary.write(&session.dir.summary())?;
    session.environment.write(&session.dir.environment())?;
    let settings = &session.prepared.settings;
    let (train, val) = session.prepared.corrupt();
    let corrupt: Vec<_> = train
        .into_iter()
        .chain(val)
        .map(|sample| CorruptSample { name: sample.path.display().to_string(), reason: sample.reason })
        .collect();
    let links = [
        ("summary.json", "final metrics"),
        ("metrics.parquet", "all metrics"),
        ("recipe.lock.yaml", "the resolved recipe"),
        ("environment.json", "what ran it"),
        ("log.jsonl", "the log"),
    ];
    Report {
        name: &settings.name,
        status,
        summary: &headline(&summary),
        metrics: &session.metrics,
        pictures: &session.pictures_store().overview(PICTURE_SETS)?,
        graph: &graph(&session.prepared.summary),
        parameter_groups: &session.prepared.trainer.groups(),
        environment: &session.environment,
        recipe: &session.recipe_yaml,
        corrupt_samples: &corrupt,
        links: &links.map(|(path, text)| Link { path: path.to_owned(), text: text.to_owned() }),
    }
    .write(&session.dir.report())?;
    Ok(())
}

fn summary(session: &Session, status: &Status) -> Summary {
    let mut summary = Summary::default();
    let trainer = &session.prepared.trainer;
    let model = &session.prepared.summary;
    let step = trainer.steps_done();
    summary.set("name", session.prepared.settings.name.as_str());
    summary.set("status", status.name());
    summary.set("seed", session.prepared.settings.seed);
    summary.set("step", step);
    summary.set("epoch", trainer.plan().epoch_after(step));
    summary.set("seconds", session.seconds());
    summary.set("parameters", model.parameters);
    summary.set("gmacs", model.macs.computed as f64 / 1e9);
    let (corrupt_train, corrupt_val) = session.prepared.corrupt();
    summary.set("corrupt_samples", corrupt_train.len() + corrupt_val.len());
    summary.set("recipe_digest", session.digest.as_str());
    if let Some(source) = &session.init_from_digest {
        summary.set(INIT_FROM_DIGEST, source.as_str());
    }
    if let Some(commit) = &session.environment.git_commit {
        summary.set("git_commit", commit.as_str());
    }
    for (name, value) in &session.evaluation.metrics {
        summary.set(format!("val.{name}"), *value);
    }
    if let Some(best) = session.best {
        summary.set("best", best);
    }
    for name in session.metrics.names(Split::Train) {
        if let Some(point) = session.metrics.series(Split::Train, name).last() {
            summary.set(format!("train.{name}"), point.value);
        }
    }
    summary
}

/// The figures at the top of the page: what is not a figure, or said elsewhere on it, is left out.
fn headline(summary: &Summary) -> Summary {
    let mut headline = Summary::default();
    for (name, value) in summary.iter() {
        if !matches!(name, "name" | "status" | "seed" | "recipe_digest" | INIT_FROM_DIGEST | "git_commit") {
            headline.set(name, value.clone());
        }
    }
    headline
}

fn graph(summary: &ModelSummary) -> Vec<GraphNode> {
    let node = |row: &Row| GraphNode {
        name: row.node.clone(),
        kind: row.type_name.clone(),
        inputs: row.from.clone(),
        outputs: row.outputs.clone(),
        parameters: row.parameters as u64,
        gmacs: row.macs.computed as f64 / 1e9,
    };
    summary.nodes.iter().map(node).collect()
}
