use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::weights::{self, HostTensor, write_safetensors};

fn checkpoint(step: u64) -> Checkpoint {
    let value = step as f32;
    let tensors = ["model.norm.weight", "optimizer.0.exp_avg", "ema.norm.weight"]
        .map(|name| (name, HostTensor::from_f32(vec![2, 3], &[value; 6]).unwrap()))
        .into_iter()
        .collect();
    Checkpoint { step, tensors, state: json!({"epoch": step / 10, "random": [u64::MAX, 0], "lr": 1.5e-4}) }
}

/// A store with checkpoints of the given steps.
fn store(directory: &Path, steps: &[u64]) -> CheckpointStore {
    let store = CheckpointStore::open(directory.join("checkpoints")).unwrap();
    for &step in steps {
        store.save(&checkpoint(step), Kind::Last).unwrap();
    }
    store
}

fn path(store: &CheckpointStore, step: u64) -> PathBuf {
    store.directory().join(format!("step-{step:08}.safetensors"))
}

fn files(store: &CheckpointStore) -> Vec<String> {
    let entries = fs::read_dir(store.directory()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn assert_resumes(store: &CheckpointStore, step: u64, refused: &[PathBuf]) {
    let loaded = store.load_last().unwrap().unwrap();
    assert_eq!(loaded.checkpoint, checkpoint(step));
    assert_eq!(loaded.refused.iter().map(|refusal| refusal.path.clone()).collect::<Vec<_>>(), refused);
}

#[test]
fn a_saved_checkpoint_loads_bitwise() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[]);
    assert_eq!(store.load_last().unwrap(), None);
    assert_eq!(store.best().unwrap(), None);
    let path = store.save(&checkpoint(120), Kind::Best).unwrap();
    assert_eq!(path.file_name().unwrap(), "step-00000120.safetensors");
    assert_resumes(&store, 120, &[]);
    assert_eq!(store.best().unwrap(), Some(checkpoint(120)));
    assert_eq!(store.load(&path).unwrap(), checkpoint(120));
}

#[test]
fn the_model_in_a_checkpoint_reads_as_weights() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[3]);
    let all = weights::Selection { optimizer: true, ..Default::default() };
    let file = weights::read_selection(&path(&store, 3), all).unwrap();
    assert_eq!(file.tensors.names().collect::<Vec<_>>(), ["norm.weight"]);
    assert_eq!(file.optimizer.unwrap().tensors.names().collect::<Vec<_>>(), ["0.exp_avg"]);
}

#[test]
fn the_two_newest_and_the_best_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[10]);
    store.save(&checkpoint(20), Kind::Best).unwrap();
    for step in [30, 40, 50] {
        store.save(&checkpoint(step), Kind::Last).unwrap();
    }
    let kept = ["best.json", "last.json", "step-00000020.safetensors", "step-00000040.safetensors"];
    assert_eq!(files(&store)[..4], kept);
    assert_eq!(files(&store)[4..], ["step-00000050.safetensors"]);
    assert_eq!(store.best().unwrap(), Some(checkpoint(20)));
    store.save(&checkpoint(60), Kind::Best).unwrap();
    assert!(!path(&store, 20).exists());
}

#[test]
fn the_rule_is_adjustable() {
    let directory = tempfile::tempdir().unwrap();
    let one = Retention { newest: 1, ..Retention::default() };
    let store = store(directory.path(), &[1, 2]).with_retention(one);
    store.save(&checkpoint(3), Kind::Last).unwrap();
    assert_eq!(files(&store), ["last.json", "step-00000003.safetensors"]);
}

fn steps(store: &CheckpointStore) -> Vec<String> {
    let names = files(store).into_iter().filter_map(|name| {
        let step = name.strip_prefix("step-")?.strip_suffix(".safetensors")?;
        Some(step.trim_start_matches('0').to_owned())
    });
    names.collect()
}

#[test]
fn the_best_few_and_one_of_every_so_many_stay_beside_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let rule = Retention { newest: 1, best: 2, every: Some(40) };
    let mut store = store(directory.path(), &[]).with_retention(rule);
    // From the best on, after each step.
    let rankings: [&[u64]; 7] =
        [&[10], &[20, 10], &[20, 10, 30], &[20, 40, 10, 30], &[20, 40, 10, 30, 50], &[60, 20, 40], &[60, 20]];
    for (step, ranking) in (10..).step_by(10).zip(rankings) {
        store.set_ranking(ranking.to_vec());
        let kind = if ranking[0] == step { Kind::Best } else { Kind::Last };
        store.save(&checkpoint(step), kind).unwrap();
        match step {
            30 => assert_eq!(steps(&store), ["10", "20", "30"]),
            50 => assert_eq!(steps(&store), ["20", "40", "50"]),
            _ => {}
        }
    }
    assert_eq!(steps(&store), ["20", "40", "60", "70"]);
    assert_eq!(store.best().unwrap(), Some(checkpoint(60)));
}

#[test]
fn what_is_removed_is_named_no_more_and_the_rest_still_resumes() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[10]);
    store.save(&checkpoint(20), Kind::Best).unwrap();
    store.save(&checkpoint(30), Kind::Last).unwrap();
    let none = store.clone().with_retention(Retention { newest: 0, best: 0, every: None });
    let (surplus, kept) = none.surplus().unwrap();
    assert_eq!((surplus.len(), kept), (2, 0));
    let (surplus, kept) =
        store.clone().with_retention(Retention { newest: 0, best: 1, every: None }).surplus().unwrap();
    assert_eq!((&surplus[..], kept), (&[path(&store, 30)][..], 1));
    store.remove(&path(&store, 30)).unwrap();
    assert!(!directory.path().join("checkpoints/last.json").exists());
    assert_eq!(store.best().unwrap(), Some(checkpoint(20)));
    assert_resumes(&store, 20, &[]);
    store.remove(&path(&store, 20)).unwrap();
    assert_eq!((store.best().unwrap(), store.load_last().unwrap()), (None, None));
}

#[test]
fn saving_after_a_rollback_gives_up_the_later_steps() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[80, 120]);
    store.save(&checkpoint(100), Kind::Last).unwrap();
    assert!(!path(&store, 120).exists());
    assert_resumes(&store, 100, &[]);
}

#[test]
fn every_truncation_is_refused_by_name_and_the_previous_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[1, 2]);
    let newest = path(&store, 2);
    let good = fs::read(&newest).unwrap();
    for len in (0..good.len()).step_by(37) {
        fs::write(&newest, &good[..len]).unwrap();
        assert_resumes(&store, 1, std::slice::from_ref(&newest));
    }
}

#[test]
fn every_flipped_bit_is_refused_by_name_and_the_previous_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[1, 2]);
    let newest = path(&store, 2);
    let good = fs::read(&newest).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&newest, bytes).unwrap();
        assert_resumes(&store, 1, std::slice::from_ref(&newest));
    }
}

#[test]
fn if_all_are_broken_the_error_lists_all() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[1, 2]);
    fs::write(path(&store, 1), b"").unwrap();
    fs::write(path(&store, 2), b"broken").unwrap();
    let error = store.load_last().unwrap_err().to_string();
    assert!(
        error.contains("step-00000001.safetensors: ") && error.contains("step-00000002.safetensors: "),
        "{error}"
    );
}

#[test]
fn a_crash_while_writing_leaves_the_previous_and_its_leftovers_go_with_the_next_save() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[1]);
    fs::write(store.directory().join(".convmae-abc123.tmp"), b"half a checkpoint").unwrap();
    assert_resumes(&store, 1, &[]);
    store.save(&checkpoint(2), Kind::Last).unwrap();
    assert_resumes(&store, 2, &[]);
    assert_eq!(files(&store), ["last.json", "step-00000001.safetensors", "step-00000002.safetensors"]);
}

#[test]
fn a_crash_before_the_pointer_is_moved_resumes_from_the_one_it_names() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[1]);
    let pointer = fs::read(store.directory().join("last.json")).unwrap();
    store.save(&checkpoint(2), Kind::Last).unwrap();
    fs::write(store.directory().join("last.json"), pointer).unwrap();
    assert_resumes(&store, 1, &[]);
}

#[test]
fn a_crash_before_the_first_pointer_resumes_from_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[1, 2]);
    fs::remove_file(store.directory().join("last.json")).unwrap();
    assert_resumes(&store, 2, &[]);
}

#[test]
fn a_crash_before_the_best_pointer_keeps_the_old_best() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[]);
    store.save(&checkpoint(1), Kind::Best).unwrap();
    let pointer = fs::read(store.directory().join("best.json")).unwrap();
    store.save(&checkpoint(2), Kind::Best).unwrap();
    fs::write(store.directory().join("best.json"), pointer).unwrap();
    assert_eq!(store.best().unwrap(), Some(checkpoint(1)));
}

#[test]
fn a_crash_before_the_first_pointer_is_made_good() {
    for (kind, pointers) in [(Kind::Last, &["last.json"][..]), (Kind::Best, &["best.json", "last.json"])] {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), &[]);
        store.save(&checkpoint(1), kind).unwrap();
        let whole = files(&store);
        pointers.iter().for_each(|name| fs::remove_file(store.directory().join(name)).unwrap());
        assert_resumes(&store, 1, &[]);
        assert_eq!(files(&store), whole);
    }
}

#[test]
fn a_broken_or_dangling_pointer_is_reported_and_the_newest_used() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[1, 2]);
    let last = store.directory().join("last.json");
    fs::write(&last, b"{").unwrap();
    assert_resumes(&store, 2, &[last]);
    store.save(&checkpoint(3), Kind::Last).unwrap();
    fs::remove_file(path(&store, 3)).unwrap();
    assert_resumes(&store, 2, &[path(&store, 3)]);
}

#[test]
fn a_file_exchanged_for_another_intact_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[1, 2]);
    fs::copy(path(&store, 1), path(&store, 2)).unwrap();
    assert_resumes(&store, 1, &[path(&store, 2)]);
}

#[test]
fn a_file_without_digest_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[1]);
    let stray = path(&store, 1);
    write_safetensors(&stray, &checkpoint(1).tensors, &[].into()).unwrap();
    let error = store.load(&stray).unwrap_err().to_string();
    assert!(error.ends_with("it carries no digest"), "{error}");
}

#[test]
fn a_save_that_fails_names_operation_and_path_and_keeps_the_previous() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), &[1]);
    // A directory in the way of the rename: fails for root, too.
    fs::create_dir(path(&store, 2)).unwrap();
    let error = store.save(&checkpoint(2), Kind::Last).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot rename to {}", path(&store, 2).display())), "{error}");
    fs::remove_dir(path(&store, 2)).unwrap();
    assert_resumes(&store, 1, &[]);
    assert_eq!(files(&store), ["last.json", "step-00000001.safetensors"]);
}
