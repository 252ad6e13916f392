use super::*;
use crate::tensor::HostTensor;

/// The names that a file's become for a model, and what is said.
fn fitted(file: &[&str], model: &[&str], prefixes: &[&'static str]) -> (Vec<String>, Vec<String>) {
    let tensor = HostTensor::from_f32(vec![1], &[0.0]).unwrap();
    let tensors = file.iter().map(|name| (*name, tensor.clone())).collect();
    let expected =
        Expected { names: model.iter().copied().collect(), prefixes: prefixes.to_vec(), rules: &[] };
    let (tensors, notes) = fit(tensors, &expected).unwrap();
    (tensors.names().map(str::to_owned).collect(), notes)
}

fn names(file: &[&str], model: &[&str]) -> Vec<String> {
    fitted(file, model, &[]).0
}

#[test]
fn names_that_fit_are_left_alone() {
    let (names, notes) = fitted(&["module.a", "b", "c.d"], &["module.a", "b"], &[]);
    assert_eq!((names, notes), (vec!["module.a".into(), "b".into(), "c.d".into()], Vec::<String>::new()));
}

#[test]
fn wrappers_and_prefixes_go_in_any_nesting() {
    let file = ["module._orig_mod.model.encoder.a.w", "module._orig_mod.model.encoder.b.w", "module.c"];
    let (names, notes) = fitted(&file, &["a.w", "b.w", "head.w"], &[]);
    assert_eq!(names, ["a.w", "b.w", "c"]);
    assert_eq!(
        notes,
        ["names taken without `module.`, `_orig_mod.`", "2 names taken without `model.encoder.`"]
    );
}

#[test]
fn parts_under_prefixes_of_their_own_are_both_found() {
    let file = ["model.encoder.a.w", "model.encoder.b.w", "model.decoder.c.w", "model.neck.d.w"];
    assert_eq!(names(&file, &["a.w", "b.w", "c.w", "d.w"]), ["a.w", "b.w", "c.w", "d.w"]);
}

#[test]
fn two_prefixes_that_fit_alike_are_told_and_left() {
    let file = ["student.a.w", "teacher.a.w"];
    let (names, notes) = fitted(&file, &["a.w"], &[]);
    assert_eq!(names, file);
    assert!(notes[0].starts_with("names would fit without `student.`, and without `teacher.`"), "{notes:?}");
}

#[test]
fn that_two_names_end_alike_is_no_prefix() {
    // The decoder's norm is not the encoder's.
    let file = ["a.w", "b.w", "decoder.norm.w", "decoder.x.w", "decoder.y.w"];
    assert_eq!(names(&file, &["a.w", "b.w", "norm.w", "head.w"]), file);
}

#[test]
fn a_prefix_of_less_than_half_its_names_is_one_if_it_makes_most_of_the_model_fit() {
    let file = ["net.a.w", "net.b.w", "net.decoder.x", "net.decoder.y", "net.decoder.z"];
    assert_eq!(names(&file, &["a.w", "b.w", "head.w"])[..2], ["a.w", "b.w"]);
}

#[test]
fn the_tensors_of_a_backbone_alone_fit_one_with_a_prefix() {
    let model = ["backbone.conv", "backbone.norm", "head.conv"];
    let parts = ["backbone", "head"];
    let names = |file: &[&str]| fitted(file, &model, &parts).0;
    assert_eq!(names(&["conv", "decoder"]), ["backbone.conv", "decoder"]);
    // A file with prefixes is taken as it is.
    assert_eq!(names(&["backbone.conv", "head.conv", "norm"]), ["backbone.conv", "head.conv", "norm"]);
    // Both at once.
    assert_eq!(names(&["model.conv", "model.norm"]), ["backbone.conv", "backbone.norm"]);
    assert_eq!(names(&["model.backbone.conv", "model.backbone.norm"]), ["backbone.conv", "backbone.norm"]);
}

#[test]
fn a_layout_is_taken_where_it_makes_more_names_fit() {
    let file = ["m.backbone.layers.0.ffn.layers.0.0.weight", "m.backbone.layers.0.ln1.weight"];
    let (names, notes) = fitted(&file, &["blocks.0.mlp.fc1.weight", "blocks.0.norm1.weight"], &[]);
    assert_eq!(names, ["blocks.0.mlp.fc1.weight", "blocks.0.norm1.weight"]);
    assert_eq!(notes, ["2 translated from the names of mmpretrain"]);
    let of_their_own = ["backbone.layers.0.ffn.layers.0.0.weight", "backbone.layers.0.ln1.weight"];
    assert_eq!(fitted(&of_their_own, &of_their_own, &[]).0, of_their_own);
}

#[test]
fn rules_come_first_and_one_that_fits_nothing_is_told() {
    let tensor = HostTensor::from_f32(vec![1], &[0.0]).unwrap();
    let tensors: TensorMap =
        ["model.layers.0.w", "model.norm.w"].map(|name| (name, tensor.clone())).into_iter().collect();
    let rules = [("model.layers", "model.blocks"), ("model.laiers", "x")];
    let rules = rules.map(|(from, to)| Rule::new(from, to).unwrap());
    let names = ["blocks.0.w", "norm.w"];
    let expected = Expected { names: names.into(), prefixes: Vec::new(), rules: &rules };
    let (fitted, notes) = fit(tensors, &expected).unwrap();
    assert_eq!(fitted.names().collect::<Vec<_>>(), names);
    assert_eq!(
        notes,
        [
            "1 renamed by `rename`",
            "`rename` from `model.laiers` fits no name",
            "2 names taken without `model.`"
        ]
    );
}
