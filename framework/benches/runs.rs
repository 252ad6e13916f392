//! Listing many runs: the first time, and when they were read before.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use convmae_framework::condition::Test;
use convmae_framework::runs::{filter, overview, scan, sort};
use criterion::{Criterion, criterion_group, criterion_main};

const RUNS: usize = 5000;

/// Run directories of the size of real ones: a recipe of a hundred keys, and a summary.
fn make(root: &Path) {
    for at in 0..RUNS {
        let directory = root.join(format!("sweep_{}/run_{at}", at / 100));
        fs::create_dir_all(&directory).unwrap();
        let mut recipe =
            format!("name: run\nseed: {at}\noptimizer:\n  type: AdamW\n  lr: {}e-5\nmodel:\n", at % 7);
        for node in 0..20 {
            let _ = writeln!(
                recipe,
                "  node{node}:\n    type: ConvViT\n    depth: [2, 2, 11]\n    drop_path: 0.{node}"
            );
        }
        fs::write(directory.join("recipe.lock.yaml"), recipe).unwrap();
        let summary = format!(
            "{{\"status\": \"finished\", \"step\": 800, \"val.top1\": {}.5, \"val.loss\": 1.5, \"train.loss\": 1.25}}",
            at % 90
        );
        fs::write(directory.join("summary.json"), summary).unwrap();
    }
}

fn runs(criterion: &mut Criterion) {
    let root = tempfile::tempdir().unwrap();
    make(root.path());
    let mut group = criterion.benchmark_group("runs");
    group.sample_size(10).measurement_time(Duration::from_secs(20));
    let tests: Vec<Test> =
        ["metrics.top1>80", "recipe.optimizer.lr=3e-5"].map(|test| test.parse().unwrap()).into();
    let list = || {
        let frame = scan(root.path()).unwrap().frame;
        let frame = sort(&filter(&frame, &tests).unwrap(), &["-metrics.top1".to_owned()]).unwrap();
        overview(&frame).unwrap()
    };
    group.bench_function("5000 for the first time", |bencher| {
        bencher.iter(|| {
            let _ = fs::remove_file(root.path().join(".convmae-runs.parquet"));
            list()
        });
    });
    group.bench_function("5000 again", |bencher| bencher.iter(list));
    group.finish();
}

criterion_group!(benches, runs);
criterion_main!(benches);
