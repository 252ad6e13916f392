//! The runs of a sweep.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::block::{Variant, variants};
use super::name::slugs;
use super::resolve::{Resolved, Resolver, Set};
use super::root::relative;
use super::spec::Sweep;
use crate::component::Span;
use crate::engine::lineage;
use crate::experiment::Train;
use crate::recipe::{Diagnostics, Problem, Sources};

/// The runs of a sweep: what starts from a run comes after it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The directory of the sweep.
    pub root: PathBuf,
    /// Its runs.
    pub runs: Vec<PlannedRun>,
}

/// A run of a sweep. Variants that do not differ in a stage, or before it, share its run.
#[derive(Debug, Clone)]
pub struct PlannedRun {
    /// Its stage; empty if the sweep has one recipe.
    pub stage: String,
    /// Its place in the directory of the sweep: `pretrain/mask-RandomMasker_seed-0`.
    pub name: String,
    /// What varies, in the order of the file, with the value it has here: keys as the sweep's file has them,
    /// `variant` for the names of a list, `seed` for seeds. A run that several variants share has the values
    /// of all of them.
    pub axes: Vec<(String, Value)>,
    /// Its run directory.
    pub directory: PathBuf,
    /// Its recipe and all overrides.
    pub sources: Sources,
    /// Digest of its resolved recipe: `recipe_digest` in the `summary.json` of its run.
    pub digest: String,
    /// What stands for it wherever the sweep lies: the digest of its recipe, in which the run that it starts
    /// from is meant, not its directory.
    pub identity: String,
    /// Parameters of its model.
    pub parameters: usize,
    /// Billions of multiply-adds of one image's forward.
    pub gmacs: f64,
    /// How long it trains.
    pub length: Span,
    /// Images of an optimizer step.
    pub images_per_step: usize,
    /// The run whose weights it starts from: an index of [`Plan::runs`].
    pub upstream: Option<usize>,
    /// The combinations of the sweep that come to it, by their numbers.
    pub(super) variants: Vec<usize>,
    /// That run.
    pub(super) source: Option<Box<PlannedRun>>,
    /// Its resolved recipe.
    pub(super) recipe: Arc<Value>,
    /// Images of a batch.
    pub(super) batch_size: usize,
    /// How it is trained.
    pub(super) train: Train,
    /// Its training set, as the recipe has it.
    pub(super) dataset: Value,
    /// What tells how long a step takes: the model and its images.
    pub(super) cost: String,
}

impl PlannedRun {
    /// Whether a combination of the sweep comes to both.
    pub fn shares_a_combination(&self, other: &Self) -> bool {
        self.variants.iter().any(|variant| other.variants.contains(variant))
    }
}

impl Sweep {
    /// All runs, every one of them checked. They go to `out`, or to `runs/<name>`; `sets` are overrides for
    /// all of them, `key=value` with keys as in the file.
    ///
    /// # Errors
    /// Everything wrong with any of the recipes, at the lines of the overrides that cause it where they do.
    pub fn expand(&self, out: Option<&Path>, sets: &[String]) -> Result<Plan, Diagnostics> {
        let sets = self.targets(sets)?;
        let variants = variants(&self.block);
        if variants.is_empty() {
            let problem = Problem::new("sweep", "the conditions leave no combination")
                .help("loosen `exclude` or `when`");
            return Err(self.document.diagnose(vec![problem]));
        }
        let root = out.map_or_else(|| self.directory(), relative);
        let expansion = Expansion {
            sweep: self,
            resolver: Resolver::new(self),
            sets,
            root,
            runs: Vec::new(),
            run_of: vec![vec![None; variants.len()]; self.stages.0.len()],
        };
        expansion.expand(&variants)
    }

    /// The stages and keys of overrides.
    fn targets(&self, sets: &[String]) -> Result<Vec<(usize, String)>, Diagnostics> {
        let mut problems = Vec::new();
        let mut targets = Vec::new();
        for set in sets {
            let (name, value) =
                set.split_once('=').map_or((set.as_str(), None), |(key, value)| (key, Some(value)));
            match self.stages.target(name) {
                Ok((stage, key)) => {
                    // Without a value it is refused when the recipe is loaded.
                    let set = value.map(|value| format!("{key}={value}"));
                    targets.push((stage, set.unwrap_or(key)));
                }
                Err(problem) => problems.push(Problem { key: format!("--set {set}"), ..problem }),
            }
        }
        if problems.is_empty() { Ok(targets) } else { Err(self.document.refuse_apart(problems)) }
    }
}

struct Expansion<'s> {
    sweep: &'s Sweep,
    resolver: Resolver<'s>,
    sets: Vec<(usize, String)>,
    root: PathBuf,
    runs: Vec<PlannedRun>,
    /// By stage and variant.
    run_of: Vec<Vec<Option<usize>>>,
}

/// A run before it has a name, and the variants that share it.
struct Shared {
    resolved: Resolved,
    upstream: Option<usize>,
    variants: Vec<usize>,
}

impl Expansion<'_> {
    fn expand(mut self, variants: &[Variant<'_>]) -> Result<Plan, Diagnostics> {
        for stage in self.sweep.stages.in_order() {
            let shared = self.share(stage, variants);
            self.add(stage, shared, variants);
        }
        let findings = self.resolver.findings();
        match findings.is_empty() {
            true => Ok(Plan { root: self.root, runs: self.runs }),
            false => Err(self.sweep.document.refuse(findings)),
        }
    }

    /// The different runs of a stage. A variant without a run upstream, because of a mistake there, has none
    /// here.
    fn share(&mut self, stage: usize, variants: &[Variant<'_>]) -> Vec<Shared> {
        let mut all: Vec<Shared> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        for (at, variant) in variants.iter().enumerate() {
            let init_from = self.sweep.stages.0[stage].init_from;
            let upstream = match init_from.map(|upstream| self.run_of[upstream][at]) {
                Some(None) => continue,
                Some(run) => run,
                None => None,
            };
            let Some(resolved) = self.resolve(stage, variant, upstream) else { continue };
            let upstream = upstream.filter(|_| resolved.starts_from_upstream);
            let place = *seen.entry(resolved.digest.clone()).or_insert(all.len());
            if place == all.len() {
                all.push(Shared { resolved, upstream, variants: Vec::new() });
            }
            all[place].variants.push(at);
        }
        all
    }

    fn resolve(&mut self, stage: usize, variant: &Variant<'_>, upstream: Option<usize>) -> Option<Resolved> {
        let upstream = upstream.map(|run| self.runs[run].directory.clone());
        let upstream = upstream.as_deref();
        let sets: Vec<Set> = self.resolver.sets(stage, variant, upstream, &self.sets);
        self.resolver.resolve(stage, &sets, upstream)
    }

    fn add(&mut self, stage: usize, shared: Vec<Shared>, variants: &[Variant<'_>]) {
        let axes: Vec<_> = shared.iter().map(|run| self.axes(stage, run, variants)).collect();
        let first: Vec<_> = shared.iter().map(|run| self.first_axes(stage, run, variants)).collect();
        let identities: Vec<String> = shared.iter().map(|run| self.identity(run)).collect();
        let named: Vec<_> =
            first.iter().map(Vec::as_slice).zip(identities.iter().map(String::as_str)).collect();
        let slugs = slugs(&named, &self.sweep.block.axes());
        let stage_name = &self.sweep.stages.0[stage].name;
        for (((run, axes), slug), identity) in shared.into_iter().zip(axes).zip(slugs).zip(identities) {
            for variant in &run.variants {
                self.run_of[stage][*variant] = Some(self.runs.len());
            }
            let name = if stage_name.is_empty() { slug } else { format!("{stage_name}/{slug}") };
            self.runs.push(PlannedRun {
                stage: stage_name.clone(),
                directory: self.root.join(&name),
                name,
                axes,
                sources: run.resolved.sources,
                digest: run.resolved.digest,
                identity,
                parameters: run.resolved.parameters,
                gmacs: run.resolved.gmacs,
                length: run.resolved.train.length,
                images_per_step: run.resolved.batch_size * run.resolved.train.accumulate,
                upstream: run.upstream,
                variants: run.variants,
                source: run.upstream.map(|upstream| Box::new(self.runs[upstream].clone())),
                recipe: run.resolved.recipe,
                batch_size: run.resolved.batch_size,
                train: run.resolved.train,
                dataset: run.resolved.dataset,
                cost: run.resolved.cost,
            });
        }
    }

    fn identity(&self, run: &Shared) -> String {
        match run.upstream {
            Some(upstream) => {
                lineage(&run.resolved.digest_without_source, Some(&self.runs[upstream].identity))
            }
            None => run.resolved.digest.clone(),
        }
    }

    /// What its variants vary, as far as it concerns the run and those it starts from: the values of the
    /// first one, then others that come to the same run.
    fn axes(&self, stage: usize, run: &Shared, variants: &[Variant<'_>]) -> Vec<(String, Value)> {
        let lineage = self.lineage(stage, run);
        let mut axes: Vec<(String, Value)> = Vec::new();
        for axis in run.variants.iter().flat_map(|at| variants[*at].axes(&lineage)) {
            if !axes.contains(&axis) {
                axes.push(axis);
            }
        }
        axes
    }

    /// What names a run: variants that are added to the file do not change it.
    fn first_axes(&self, stage: usize, run: &Shared, variants: &[Variant<'_>]) -> Vec<(String, Value)> {
        let first = run.variants.first().map(|at| variants[*at].axes(&self.lineage(stage, run)));
        first.unwrap_or_default()
    }

    fn lineage(&self, stage: usize, run: &Shared) -> Vec<usize> {
        match run.upstream {
            Some(_) => self.sweep.stages.lineage(stage).collect(),
            None => vec![stage],
        }
    }
}
