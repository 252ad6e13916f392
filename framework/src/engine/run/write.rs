//! The files that tell a person how a run stands: `environment.json`, `report.json`, `summary.json` and the
//! page.

use crate::component::TaskKind;
use crate::graph::Row;
use crate::report::{
    BestMetric, Details, GraphNode, STOPPED_EARLY, Split, Status, Summary, write_page_and_summary,
};

use super::session::Session;
use crate::engine::EngineError;
use crate::engine::setup::lineage::INIT_FROM_DIGEST;

/// Writes them as the run stands; its metrics and pictures are written already.
pub fn write_report(session: &Session, status: &Status) -> Result<(), EngineError> {
    session.environment.write(&session.dir.environment())?;
    details(session, status).write(&session.dir.details())?;
    write_page_and_summary(&session.dir, &summary(session, status))?;
    Ok(())
}

/// Writes the summary alone.
pub fn write_summary(session: &Session, status: &Status) -> Result<(), EngineError> {
    Ok(summary(session, status).write(&session.dir.summary())?)
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
    for report in &session.prepared.data {
        for (extension, count) in report.passed_over.iter() {
            summary.set(format!("passed_over.{}.{extension}", report.split), count);
        }
    }
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
    if let Some(reason) = session.ended_early() {
        summary.set(STOPPED_EARLY, reason);
    }
    for name in session.metrics.names(Split::Train) {
        if let Some(point) = session.metrics.series(Split::Train, name).last() {
            summary.set(format!("train.{name}"), point.value);
        }
    }
    summary
}

fn details(session: &Session, status: &Status) -> Details {
    let prepared = &session.prepared;
    let node = |row: &Row| GraphNode {
        name: row.node.clone(),
        type_name: row.type_name.clone(),
        from: row.from.clone(),
        outputs: row.outputs.clone(),
        parameters: row.parameters as u64,
        gmacs: row.macs.computed as f64 / 1e9,
    };
    let predicts_pixels = !prepared.trainer.model.heads().predicting(TaskKind::Segment).is_empty();
    let samples = &prepared.train.pipeline().samples;
    let pixel_classes = samples.classes(TaskKind::Segment).filter(|_| predicts_pixels);
    let (corrupt_train, corrupt_val) = prepared.corrupt();
    let best = prepared.measures.first().map(|measure| measure.evaluator.best());
    Details {
        nodes: prepared.summary.nodes.iter().map(node).collect(),
        parameter_groups: prepared.trainer.groups(),
        pixel_classes: pixel_classes.unwrap_or_default().to_vec(),
        best: best.map(|(name, more_is_better)| BestMetric { name: name.to_owned(), more_is_better }),
        defaults: session.defaults.clone(),
        corrupt_samples: corrupt_train.into_iter().chain(corrupt_val).collect(),
        error: if let Status::Failed(error) = status { Some(error.clone()) } else { None },
    }
}
