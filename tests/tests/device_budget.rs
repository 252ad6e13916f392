//! What a training step asks of a card, as the stand-in counts it (`tests/cuda-standin`).

use std::collections::HashMap;
use std::fs;

use assert_cmd::assert::OutputAssertExt as _;
use serde_json::Value;

use crate::golden::on;
use crate::support::{Arithmetic, Folder, recipe, stdout};

/// Calls that the stand-in has counted, by what is called.
struct Counts(HashMap<String, u64>);

impl Counts {
    /// Of each line of a log the first columns: what, and how many calls.
    fn read(log: &str) -> Self {
        let line = |line: &str| {
            let mut columns = line.split('\t');
            let what = columns.next().unwrap().to_owned();
            (what, columns.next().unwrap().parse().unwrap())
        };
        Self(log.lines().skip(1).map(line).collect())
    }

    /// What is called more often than in a run that is a step shorter.
    fn since(mut self, shorter: &Self) -> Self {
        let before = |what: &String| shorter.0.get(what).copied().unwrap_or(0);
        self.0.iter_mut().for_each(|(what, calls)| *calls = calls.saturating_sub(before(what)));
        self
    }

    /// Calls of all that begin so.
    fn of(&self, prefix: &str) -> u64 {
        self.0.iter().filter(|(what, _)| what.starts_with(prefix)).map(|(_, calls)| calls).sum()
    }
}

/// A step of the base model: as deep as that, but narrow, for as many calls.
fn step(precision: &str) -> Option<Counts> {
    let folder = Folder::new();
    let [shorter, longer] = [2, 3].map(|steps| {
        let recipe = recipe("pretrain/convmae_base.yaml");
        let log = folder.path(&format!("{steps}.log"));
        let length = format!("train.length={steps} iterations");
        let out = format!("run-{steps}");
        let sets = [
            "image_size=64",
            "data.train.dataset={type: SyntheticScenes, length: 8, size: 64}",
            "data.train.batch_size=2",
            "data.val=null",
            "evaluate.evaluators=[]",
            "evaluate.pictures=0",
            "model.backbone.embed_dim=[8, 12, 24]",
            "model.backbone.num_heads=4",
            "model.decoder.embed_dim=16",
            "model.decoder.num_heads=4",
            "schedule.warmup=1 iterations",
            "train.accumulate=1",
            precision,
            &length,
        ];
        let args = ["run", recipe.to_str().unwrap(), "--out", &out];
        let mut command = folder.convmae(args.into_iter().chain(sets.iter().flat_map(|set| ["--set", *set])));
        command.env("FAKECUDA_LOG", &log).assert().code(0);
        fs::read_to_string(log).ok().map(|log| Counts::read(&log))
    });
    Some(longer?.since(&shorter?))
}

/// Only the stand-in counts: on the CPU nothing is called, and a card tells nothing.
#[test]
fn a_device_is_asked_for_no_more_than_the_budget_of_a_step() {
    if on() == Arithmetic::Cpu {
        return;
    }
    for precision in ["precision=f32", "precision=bf16"] {
        let Some(step) = step(precision) else { return };
        let (kernels, products) = (step.of("kernel "), step.of("gemm "));
        let converted = step.of("kernel to_");
        let calls = &step.0;
        assert!(products <= 300, "{precision}: {products} products");
        assert!(
            kernels - converted <= 560,
            "{precision}: {kernels} kernels, {converted} of them convert: {calls:?}"
        );
        assert!(step.of("memset") <= 20, "{precision}: {calls:?}");
        assert!(step.of("copy on device") <= 20, "{precision}: {calls:?}");
        // The losses with the norm, behind an event; no other wait.
        assert_eq!(step.of("copy to host"), 1, "{precision}: {calls:?}");
        assert_eq!(step.of("synchronize"), 0, "{precision}: {calls:?}");
    }
}

/// The model of the paper at its size: the stand-in computes nothing, and says how much was taken.
#[test]
fn a_device_holds_what_a_step_of_the_base_model_on_64_images_takes() {
    if on() == Arithmetic::Cpu {
        return;
    }
    let (folder, recipe) = (Folder::new(), recipe("pretrain/convmae_base.yaml"));
    let steps = ["--steps", "1", "--warmup", "1", "--json"];
    let sets = ["--set", "data.train.batch_size=64", "--set", "precision=bf16"];
    let mut command =
        folder.convmae(["bench", recipe.to_str().unwrap()].into_iter().chain(steps).chain(sets));
    let log = folder.path("log");
    let assert = command.env("FAKECUDA_COUNT_ONLY", "1").env("FAKECUDA_LOG", &log).assert().code(0);
    if log.exists() {
        let report: Value = serde_json::from_str(&stdout(&assert)).unwrap();
        let peak = report["peak_memory_bytes"].as_u64().unwrap();
        assert!(peak <= 5_200_000_000, "{peak}");
    }
}

/// The stand-in has as much memory as it is told.
#[test]
fn a_device_without_enough_memory_is_told_with_the_ways_out() {
    if on() == Arithmetic::Cpu {
        return;
    }
    let mut refused = 0;
    for kib in [40, 60, 90, 130, 190, 280, 400, 600, 900, 1300, 1900, 2800] {
        let folder = Folder::new();
        let mut command = folder.convmae(["run", "tiny.yaml", "--out", "run"]);
        let output = command.env("FAKECUDA_MEMORY", (kib << 10).to_string()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => {}
            // The model itself does not fit.
            Some(2) => assert!(error.contains("no memory left"), "{kib} KiB: {error}"),
            Some(1) => {
                refused += 1;
                let ways = ["data.train.batch_size", "train.accumulate", "checkpoint_activations"];
                for words in ["no memory left"].into_iter().chain(ways) {
                    assert!(error.contains(words), "{kib} KiB: {error}");
                }
            }
            code => panic!("{kib} KiB: {code:?}: {error}"),
        }
    }
    assert!(refused >= 3, "{refused}");
}
