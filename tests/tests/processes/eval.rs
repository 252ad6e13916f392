//! `convmae eval` in several processes.

use std::fs;
use std::process::Output;

use super::{command, mpirun, succeeds};
use crate::support::{Folder, data, program};

fn eval(folder: &Folder, processes: usize, args: &[&str]) -> Output {
    command(folder, processes, "eval").args(args).output().unwrap()
}

/// That 1, 2 and 4 processes tell the same of a run of a recipe, which has a validation set of 7 images.
fn assert_same_figures(recipe: &str, sets: &[&str], more: &[&str], written: &[&str]) {
    let (folder, path) = (Folder::new(), data(recipe));
    let sets = [&["data.val.dataset.length=7", "data.val.batch_size=1"], sets].concat();
    let sets: Vec<_> = sets.into_iter().flat_map(|set| ["--set", set]).collect();
    let run =
        [&[path.to_str().unwrap(), "--out", "run", "--set", "train.length=2 iterations"], &sets[..]].concat();
    succeeds(&folder, 1, &run);
    let mut alone = None;
    for processes in [1, 2, 4] {
        let output = eval(&folder, processes, &[&["run", "--json"], more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{processes} processes: {said}");
        let files: Vec<_> = written.iter().map(|file| fs::read(folder.path(file)).unwrap()).collect();
        written.iter().for_each(|file| fs::remove_file(folder.path(file)).unwrap());
        let told = (String::from_utf8(output.stdout).unwrap(), files);
        assert!(told.0.contains("\"images\": 7"), "{}", told.0);
        assert_eq!(*alone.get_or_insert(told.clone()), told, "{processes} processes");
    }
}

#[test]
fn figures_of_pretraining_are_those_of_one_process() {
    assert_same_figures("tiny.yaml", &[], &[], &[]);
}

#[test]
fn figures_of_segmentation_are_those_of_one_process() {
    assert_same_figures("tiny_segmentation.yaml", &["init_from=null"], &[], &[]);
}

#[test]
fn figures_and_results_of_detection_are_those_of_one_process() {
    assert_same_figures("tiny_detection.yaml", &[], &["--results", "found.json"], &["found.json"]);
}

#[test]
fn what_one_process_cannot_do_is_told_once() {
    let folder = Folder::new();
    succeeds(&folder, 1, &["tiny.yaml", "--out", "run", "--set", "train.length=1 iterations"]);
    let output = eval(&folder, 2, &["run", "--weights", "nowhere.safetensors"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert_eq!(said.matches("nowhere.safetensors").count(), 1, "{said}");
    // A disk that the second process alone does not have.
    let mut both = mpirun(&folder, 1);
    both.arg(program()).args(["eval", "run", ":", "-n", "1"]).arg(program());
    both.args(["eval", "run", "--set", "data.val.dataset={type: ImageFolder, root: nowhere}"]);
    let output = both.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert_eq!(said.matches("process 1: ").count(), 1, "{said}");
}
