//! What a training step asks of a card, as the stand-in counts it (`tests/cuda-standin`).

use std::collections::HashMap;
use std::fs;

use assert_cmd::assert::OutputAssertExt as _;

use crate::golden::on;
use crate::support::{Arithmetic, Folder, recipe};

/// Calls of a step of the base model, by what is called: as deep as that, but narrow, for as many calls.
fn calls_of_a_step(precision: &str) -> Option<HashMap<String, u64>> {
    let folder = Folder::new();
    let [shorter, longer] = [1, 2].map(|steps| {
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
        fs::read_to_string(log).ok().map(|log| calls(&log))
    });
    let (shorter, mut longer) = (shorter?, longer?);
    longer
        .iter_mut()
        .for_each(|(what, calls)| *calls = calls.saturating_sub(shorter.get(what).copied().unwrap_or(0)));
    Some(longer)
}

/// Of each line the first columns: what, and how many calls.
fn calls(log: &str) -> HashMap<String, u64> {
    let line = |line: &str| {
        let mut columns = line.split('\t');
        let what = columns.next().unwrap().to_owned();
        (what, columns.next().unwrap().parse().unwrap())
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
        assert!(sum("memset") <= 65, "{precision}: {calls:?}");
        // The loss, and the norm of the gradient.
        assert!(sum("copy to host") <= 2, "{precision}: {calls:?}");
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
