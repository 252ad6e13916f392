//! What can be wrong with a sweep once its recipes are looked at: at the line of the sweep that causes it.

use convmae_framework::sweep::Sweep;

use crate::support::Folder;

/// The report on a sweep of `tiny.yaml` with this text behind it.
fn report(text: &str) -> String {
    let folder = Folder::new();
    let path = folder.path("sweep.yaml");
    std::fs::write(&path, format!("name: test\n{text}\n")).unwrap();
    let report = Sweep::load(&path).unwrap().expand(None, &[]).unwrap_err().render(false);
    report.replace(&format!("{}/", folder.root().display()), "")
}

macro_rules! mistakes {
    ($($name:ident: $text:literal;)*) => {
        $(#[test] fn $name() { insta::assert_snapshot!(report($text)); })*
    };
}

mistakes! {
    a_missing_recipe: "recipe: tyni.yaml";
    a_misspelt_key: "recipe: tiny.yaml\nsweep:\n  grid:\n    model.mask.mask_ration: [0.5, 0.75]\n  seeds: 3";
    a_value_of_another_type: "recipe: tiny.yaml\nsweep:\n  grid:\n    model.backbone.num_heads: [2, four]";
    an_unknown_component: "recipe: tiny.yaml\nsweep:\n  list:\n    - { name: random, set: { model.mask.type: RandomMaskr } }";
    a_shape_that_does_not_fit: "recipe: tiny.yaml\nsweep:\n  grid:\n    image_size: [32, 36]\n    optimizer.lr: [0.001]";
    a_fixed_override: "recipe: tiny.yaml\nset:\n  train.lenght: 3 epochs";
    a_list_item_that_is_not_there: "recipe: tiny.yaml\nsweep:\n  grid:\n    data.train.transforms.7.p: [0.5]";
    a_stage_from_a_file_and_a_run: "stages:\n  a: { recipe: tiny.yaml }\n  b: { recipe: tiny.yaml, init_from: a, set: { init_from.weights: a.pth } }";
    an_empty_key: "recipe: tiny.yaml\nsweep:\n  grid:\n    model..mask: [1]";
    no_combination: "recipe: tiny.yaml\nsweep:\n  seeds: [1]\n  exclude: [{ seed: 1 }]";
}
