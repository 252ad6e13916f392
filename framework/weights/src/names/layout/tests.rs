use std::collections::HashSet;

use super::*;
use crate::map::TensorMap;
use crate::tensor::HostTensor;

fn tensors(names: &[&str]) -> TensorMap {
    let tensor = |at: usize| HostTensor::from_f32(vec![1, 2], &[at as f32, at as f32 + 0.5]).unwrap();
    names.iter().enumerate().map(|(at, name)| (*name, tensor(at))).collect()
}

fn translated(layout: &str, file: &TensorMap) -> TensorMap {
    let mut renaming = Renaming::new(file);
    assert!(Layout::find(layout).unwrap().to_official(&mut renaming).unwrap().is_some());
    renaming.apply(file.clone()).unwrap()
}

#[test]
fn every_file_is_a_layout_whose_names_go_there_and_back() {
    assert_eq!(Layout::all().len(), FILES.len());
    for layout in Layout::all() {
        let officials: HashSet<&str> = layout.names.iter().map(|pair| pair.official.text()).collect();
        assert_eq!(officials.len(), layout.names.len(), "{}", layout.name);
        let stars = |pattern: &Pattern| pattern.text().matches('*').count();
        for Pair { official, others } in &layout.names {
            assert!(others.iter().all(|other| stars(other) == stars(official)), "{}", official.text());
        }
        let names: Vec<String> = layout
            .names
            .iter()
            .map(|pair| pair.official.text().replace('*', "3") + ".weight")
            .chain(["blocks.3.norm9.weight".to_owned()])
            .collect();
        let file: TensorMap = names
            .iter()
            .enumerate()
            .map(|(at, name)| {
                (name.as_str(), HostTensor::from_f32(vec![3, 1], &[at as f32, 1.0, 2.0]).unwrap())
            })
            .collect();
        let mut renaming = Renaming::new(&file);
        layout.of_official(&mut renaming).unwrap();
        let theirs = renaming.apply(file.clone()).unwrap();
        // `gamma_1` ends in `.weight` in the other library, too.
        let mut renaming = Renaming::new(&theirs);
        layout.to_official(&mut renaming).unwrap();
        let back = renaming.apply(theirs).unwrap();
        for (name, tensor) in file.iter() {
            assert_eq!(back.get(name), Some(tensor), "{}: {name}", layout.name);
        }
    }
}

#[test]
fn query_key_and_value_are_joined_in_this_order_whatever_theirs() {
    let of = |what: &str| format!("vit.encoder.layer.0.attention.attention.{what}.weight");
    let names = ["value", "query", "key"].map(of);
    let file = tensors(&names.each_ref().map(String::as_str));
    let official = translated("hf-vitmae", &file);
    assert_eq!(official.names().collect::<Vec<_>>(), ["blocks.0.attn.qkv.weight"]);
    let joined = official.get("blocks.0.attn.qkv.weight").unwrap();
    assert_eq!((joined.shape.as_slice(), joined.to_f32()), (&[3, 2][..], vec![1.0, 1.5, 2.0, 2.5, 0.0, 0.5]));
}

#[test]
fn a_part_without_its_counterparts_stays_as_it_is() {
    let names = ["query.weight", "key.weight", "value.weight", "query.bias"]
        .map(|what| format!("vit.encoder.layer.0.attention.attention.{what}"));
    let official = translated("hf-vitmae", &tensors(&names.each_ref().map(String::as_str)));
    assert_eq!(
        official.names().collect::<Vec<_>>(),
        ["blocks.0.attn.qkv.weight", "vit.encoder.layer.0.attention.attention.query.bias"]
    );
}

#[test]
fn what_stands_before_the_names_is_taken_off_and_a_trunk_may_be_missing() {
    let names = |before: &str, trunk: &str| {
        let file = [
            format!("{before}{trunk}layers.0.ffn.layers.0.0.weight"),
            format!("{before}{trunk}ln1.bias"),
            format!("{before}neck.ln1.bias"),
        ];
        let official = translated("mmpretrain", &tensors(&file.each_ref().map(String::as_str)));
        official.names().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names("", "backbone."), ["blocks.0.mlp.fc1.weight", "norm.bias", "decoder_norm.bias"]);
    assert_eq!(names("ema.", "backbone."), ["blocks.0.mlp.fc1.weight", "norm.bias", "decoder_norm.bias"]);
    // A backbone alone has no neck.
    assert_eq!(names("", ""), ["blocks.0.mlp.fc1.weight", "norm.bias", "neck.ln1.bias"]);
}

#[test]
fn names_of_no_layout_are_of_none() {
    let official = tensors(&["blocks.0.attn.qkv.weight", "norm.weight"]);
    for layout in Layout::all() {
        assert_eq!(layout.to_official(&mut Renaming::new(&official)).unwrap(), None, "{}", layout.name);
    }
    let others = tensors(&["stem.weight"]);
    for layout in Layout::all() {
        assert_eq!(layout.of_official(&mut Renaming::new(&others)).unwrap(), None, "{}", layout.name);
    }
}
