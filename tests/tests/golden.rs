//! What comparisons with the numbers of the official implementation have in common.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use assert_cmd::assert::OutputAssertExt as _;
use convmae_framework::weights::{TensorMap, read_safetensors, write_safetensors};

use crate::support::{Arithmetic, Folder, arithmetic};

/// Tokens along each side of the goldens' images.
pub const GRID: usize = 14;

/// How the program that is tested computes.
pub fn on() -> Arithmetic {
    static ARITHMETIC: OnceLock<Arithmetic> = OnceLock::new();
    *ARITHMETIC.get_or_init(arithmetic)
}

pub fn values(tensors: &TensorMap, name: &str) -> Vec<f32> {
    tensors.get(name).unwrap_or_else(|| panic!("no `{name}`")).to_f32()
}

/// Runs `convmae trace` on a recipe with more arguments, in a number of threads; returns the file.
pub fn trace_bytes(
    recipe: &Path,
    weights: &Path,
    inputs: &TensorMap,
    threads: &str,
    args: &[&str],
) -> Vec<u8> {
    let folder = Folder::new();
    write_safetensors(&folder.path("inputs.safetensors"), inputs, &BTreeMap::new()).unwrap();
    let fixed = ["trace", recipe.to_str().unwrap(), "--weights", weights.to_str().unwrap()];
    let files = ["--inputs", "inputs.safetensors", "--out", "out.safetensors"];
    let mut command = folder.convmae(fixed.into_iter().chain(files).chain(args.iter().copied()));
    command.env("RAYON_NUM_THREADS", threads).assert().code(0);
    std::fs::read(folder.path("out.safetensors")).unwrap()
}

/// [`trace_bytes`] in two threads, as tensors.
pub fn trace_file(recipe: &Path, weights: &Path, inputs: &TensorMap, args: &[&str]) -> TensorMap {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.safetensors");
    std::fs::write(&path, trace_bytes(recipe, weights, inputs, "2", args)).unwrap();
    read_safetensors(&path).unwrap().tensors
}

pub fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

#[track_caller]
pub fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().all(|value| value.is_finite()));
    let differences: Vec<_> = ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs).collect();
    largest(&differences)
}

#[track_caller]
pub fn assert_close(name: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    let difference = difference(ours, theirs);
    assert!(difference <= tolerance, "{name}: differs by {difference:e}, allowed are {tolerance:e}");
}

/// Leaves out the keys' third of the bias of queries, keys and values: its true gradient is zero.
pub fn without_keys(name: &str, mut values: Vec<f32>) -> Vec<f32> {
    if name.ends_with("attn.qkv.bias") {
        let third = values.len() / 3;
        values.drain(third..2 * third);
    }
    values
}

/// `[B, patches * cell * cell, C]`, positions grouped by patch, to `[B, C, H, W]`.
pub fn to_nchw(tokens: &[f32], batch: usize, cell: usize) -> Vec<f32> {
    let side = GRID * cell;
    let channels = tokens.len() / (batch * side * side);
    let mut map = vec![0.0; tokens.len()];
    for (at, token) in tokens.chunks_exact(channels).enumerate() {
        let (image, position) = (at / (side * side), at % (side * side));
        let (patch, within) = (position / (cell * cell), position % (cell * cell));
        let (row, col) = (patch / GRID * cell + within / cell, patch % GRID * cell + within % cell);
        for (channel, value) in token.iter().enumerate() {
            map[((image * channels + channel) * side + row) * side + col] = *value;
        }
    }
    map
}
