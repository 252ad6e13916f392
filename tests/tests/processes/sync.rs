//! `BatchNorm` over the images that several processes compute at the same time.

use std::path::PathBuf;

use convmae_framework::report::{MetricLog, Split};

use super::{Left, children, mpirun, run, signal, started, succeeds};
use crate::support::{Folder, data, program};

fn recipe() -> PathBuf {
    data("tiny_segmentation.yaml")
}

/// A run whose steps have 8 images, of which so many processes normalise 4 at a time: an epoch of 22 ends with a step of 6.
fn args<'a>(recipe: &'a str, out: &'a str, sizes: &'a [String; 2], more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![recipe, "--out", out];
    let sets = [
        "init_from=null",
        // The level behind the last stage has a BatchNorm of its own.
        "model.backbone.s4=max_pool",
        "model.decode.sync=true",
        "model.aux.sync=true",
        "data.train.dataset.length=22",
        "train.drop_last=false",
    ];
    for set in sets.into_iter().chain(sizes.iter().map(String::as_str)).chain(more.iter().copied()) {
        args.extend(["--set", set]);
    }
    args
}

fn sizes(processes: usize) -> [String; 2] {
    [format!("data.train.batch_size={}", 4 / processes), format!("train.accumulate={}", 2 * processes)]
}

fn train(folder: &Folder, processes: usize, out: &str) -> Left {
    let recipe = recipe();
    succeeds(folder, processes, &args(recipe.to_str().unwrap(), out, &sizes(processes), &[]));
    Left::of(&folder.path(out))
}

fn losses(folder: &Folder, out: &str) -> Vec<f64> {
    let log = MetricLog::open(&folder.path(out).join("metrics.parquet")).unwrap();
    let series = |(split, name)| log.series(split, name).into_iter().map(|point| point.value);
    [(Split::Train, "loss"), (Split::Train, "grad_norm")].into_iter().flat_map(series).collect()
}

#[test]
fn processes_with_shared_statistics_train_what_one_does_with_their_batches_in_one() {
    let folder = Folder::new();
    train(&folder, 1, "one");
    let one = losses(&folder, "one");
    assert_eq!(one.len(), 2 * 6);
    for (processes, out) in [(2, "two"), (4, "four")] {
        train(&folder, processes, out);
        let own = losses(&folder, out);
        let off = one.iter().zip(&own).map(|(one, own)| (one - own).abs() / one.abs());
        assert!(off.fold(0.0, f64::max) < 1e-4, "{processes} processes: {one:?} {own:?}");
    }
    assert!(train(&folder, 2, "again") == train(&folder, 2, "and_again"), "the same in every run");
}

#[test]
fn a_run_with_shared_statistics_goes_on_with_as_many_processes_alone() {
    let (folder, recipe, sizes) = (Folder::new(), recipe(), sizes(2));
    let more = ["train.length=60 iterations", "checkpoint.every=5 iterations"];
    let args = |out| [args(recipe.to_str().unwrap(), out, &sizes, &more), vec!["--resume"]].concat();
    succeeds(&folder, 2, &args("unbroken"));
    let mut command = mpirun(&folder, 2);
    command.arg(program()).arg("run").args(args("run"));
    let mut child = started(command, &folder.path("run"));
    signal("KILL", children(child.id())[1]);
    assert!(!child.wait().unwrap().success());
    for processes in [1, 4] {
        let output = run(&folder, processes, &args("run"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        let expected =
            format!("has normalised the batches of 2 processes together, and would those of {processes}");
        assert_eq!(said.matches(&expected).count(), 1, "{said}");
    }
    succeeds(&folder, 2, &args("run"));
    assert!(Left::of(&folder.path("run")) == Left::of(&folder.path("unbroken")));
}

#[test]
fn check_tells_how_many_images_are_normalised_together() {
    let (folder, recipe) = (Folder::new(), recipe());
    let sets = ["--set", "init_from=null", "--set", "model.decode.sync=true", "--set", "train.accumulate=4"];
    let said =
        folder.succeeds(["check", recipe.to_str().unwrap(), "--processes", "4"].into_iter().chain(sets));
    let said = crate::support::stdout(&said);
    assert!(
        said.contains("BatchNorm with `sync` is over the 16 images that they compute at a time"),
        "{said}"
    );
}
