//! What a training step asks of a card, as the stand-in counts it (`tests/cuda-standin`).

use std::collections::HashMap;
use std::fs;

use assert_cmd::assert::OutputAssertExt as _;
use serde_json::Value;

use crate::golden::on;
use crate::support::{Arithmetic, Folder, recipe, stdout};

/// Calls of a step of the base model, by what is called.
fn calls_of_a_step(precision: &str) -> Option<HashMap<String, u64>> {
    let counts = counts_of_a_step(precision, 2, 64)?;
    Some(counts.into_iter().map(|(what, [calls, _])| (what, calls)).collect())
}

/// Calls and amount of what is done in a step of the base model: as deep as that, but narrow, for as many calls. Bytes that go up do not
/// depend on the width.
fn counts_of_a_step(precision: &str, batch: usize, side: usize) -> Option<HashMap<String, [u64; 2]>> {
    let folder = Folder::new();
    let [image_size, batch_size] = [format!("image_size={side}"), format!("data.train.batch_size={batch}")];
    let [shorter, longer] = [1, 2].map(|steps| {
        let recipe = recipe("pretrain/convmae_base.yaml");
        let log = folder.path(&format!("{steps}.log"));
        let length = format!("train.length={steps} iterations");
        // No more than the steps take: the images of the next step go up ahead, where they are ready.
        let samples = steps * batch;
        let dataset = format!("data.train.dataset={{type: SyntheticScenes, length: {samples}, size: 64}}");
        let out = format!("run-{steps}");
        let sets = [
            &image_size,
            &dataset,
            &batch_size,
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
        fs::read_to_string(log).ok().map(|log| counts(&log))
    });
    let (shorter, mut longer) = (shorter?, longer?);
    for (what, counts) in &mut longer {
        let before = shorter.get(what).copied().unwrap_or_default();
        *counts = [0, 1].map(|at| counts[at].saturating_sub(before[at]));
    }
    Some(longer)
}

/// Of each line the first columns: what, how many calls, and the amount.
fn counts(log: &str) -> HashMap<String, [u64; 2]> {
    let line = |line: &str| {
        let mut columns = line.split('\t');
        let what = columns.next().unwrap().to_owned();
        (what, [(); 2].map(|()| columns.next().unwrap().parse().unwrap()))
    };
    log.lines().skip(1).map(line).collect()
}

/// Only the stand-in counts: on the CPU nothing is called, and a card tells nothing.
#[test]
fn a_device_is_asked_for_no_more_than_the_budget_of_a_step() {
    if on() == Arithmetic::Cpu {
        return;
    }
    for precision in ["precision=f32", "precision=bf16"] {
        let Some(calls) = calls_of_a_step(precision) else { return };
        let sum = |prefix: &str| -> u64 {
            calls.iter().filter(|(what, _)| what.starts_with(prefix)).map(|(_, calls)| calls).sum()
        };
        // Kernels of ours and products, which may be several kernels of the library each; conversions to bf16 are among them.
        let launches = sum("kernel ") + sum("gemm ");
        assert!(launches <= 700, "{precision}: {launches} launches: {calls:?}");
        // The plans of products are made once.
        assert_eq!(sum("cublasLtMatmulAlgoGetHeuristic"), 0, "{precision}");
        assert!(sum("memset") <= 20, "{precision}: {calls:?}");
        assert!(sum("copy on device") <= 20, "{precision}: {calls:?}");
        // The losses with the norm, behind an event; no other wait.
        assert_eq!(sum("copy to host"), 1, "{precision}: {calls:?}");
        assert_eq!(sum("synchronize"), 0, "{precision}: {calls:?}");
    }
}

/// The images go up in bytes, and serve as the target where they lie.
#[test]
fn little_goes_up_to_a_device_in_a_step() {
    if on() == Arithmetic::Cpu {
        return;
    }
    let up = |batch| {
        let counts = counts_of_a_step("precision=f32", batch, 224)?;
        let up = counts.into_iter().filter(|(what, _)| what.starts_with("copy to device"));
        Some(up.fold([0, 0], |sum, (_, counts)| [0, 1].map(|at| sum[at] + counts[at])))
    };
    let (Some(two), Some(four)) = (up(2), up(4)) else { return };
    let bytes_of_an_image = (four[1] - two[1]) / 2;
    let at_64 = two[1] + 62 * bytes_of_an_image;
    assert!(at_64 <= 12_000_000, "{at_64} bytes at batch 64, {bytes_of_an_image} for each image");
    assert_eq!(two[0], four[0], "as many uploads, however many images");
    assert!(two[0] <= 16, "{} uploads", two[0]);
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
        let mut check =
            folder.convmae(["check", recipe.to_str().unwrap(), "--memory", "--json"].into_iter().chain(sets));
        let assert = check.env("FAKECUDA_COUNT_ONLY", "1").assert().code(0);
        let report: Value = serde_json::from_str(&stdout(&assert)).unwrap();
        let predicted = report["training"]["memory"]["total"].as_f64().unwrap();
        assert!((predicted / peak as f64 - 1.0).abs() < 0.1, "{predicted} predicted of {peak}");
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
            Some(2) => {
                let words = ["no memory left", "not enough memory"];
                assert!(words.iter().any(|words| error.contains(words)), "{kib} KiB: {error}");
            }
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
