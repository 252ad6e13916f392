use convmae_framework::component::{Backbone, ImageShape};
use convmae_framework::graph::{Checked, Model, catalog, check};
use convmae_framework::nn::{Init, Scope};
use convmae_framework::recipe::{Sources, load};
use serde_json::{Value, json};

use super::*;

fn params() -> Vec<Param> {
    let scope = Scope::new(0);
    scope.at_layer(0).frozen("pos_embed", &[1, 2, 2], &Init::ONES);
    scope.at_layer(1).param("fc.weight", &[2, 2], &Init::ONES);
    scope.at_layer(1).param("fc.bias", &[2], &Init::ONES);
    scope.param("mask_token", &[1, 1, 2], &Init::ONES);
    scope.params()
}

fn grouping(no_weight_decay: &[String], layer_decay: Option<f64>) -> Grouping<'_> {
    Grouping { no_weight_decay, layer_decay, ..Grouping::by_decay(0.5) }
}

/// Name, tensors, parameters, scale of the learning rate and weight decay of every group.
fn table(grouping: Grouping<'_>) -> Vec<(String, usize, u64, f64, f64)> {
    let (groups, _) = grouping.sort(&params()).unwrap();
    groups.into_iter().map(|g| (g.name, g.tensors, g.parameters, g.lr_scale, g.weight_decay)).collect()
}

#[test]
fn only_tensors_with_several_axes_are_decayed_and_frozen_ones_are_left_out() {
    let expected = [("decay".to_owned(), 2, 6, 1.0, 0.5), ("no_decay".to_owned(), 1, 2, 1.0, 0.0)];
    assert_eq!(table(Grouping::by_decay(0.5)), expected);
}

#[test]
fn parameters_can_be_exempt_by_name() {
    let expected = [("decay".to_owned(), 1, 4, 1.0, 0.5), ("no_decay".to_owned(), 2, 4, 1.0, 0.0)];
    assert_eq!(table(grouping(&["mask_token".to_owned()], None)), expected);
}

#[test]
fn a_layer_gets_a_fraction_of_the_next_ones_rate_and_what_has_none_comes_last() {
    let expected = [
        ("layer_1_decay".to_owned(), 1, 4, 0.25, 0.5),
        ("layer_1_no_decay".to_owned(), 1, 2, 0.25, 0.0),
        ("layer_2_decay".to_owned(), 1, 2, 1.0, 0.5),
    ];
    assert_eq!(table(grouping(&[], Some(0.25))), expected);
}

#[test]
fn an_unknown_name_is_a_problem_with_the_nearest_name() {
    let problem = |name: &str| grouping(&[name.to_owned()], None).sort(&params()).unwrap_err();
    let misspelt = problem("pos_embd");
    assert_eq!(misspelt.key, "no_weight_decay.0");
    assert_eq!(misspelt.help.unwrap(), "did you mean `pos_embed`?");
    assert!(problem("x").help.unwrap().contains("as checkpoints name them"));
    assert!(problem("*.gamma").message.contains("no parameter `*.gamma`"));
    assert!(problem("***").message.contains("`***` is no pattern"));
    assert!(grouping(&["pos_embed".to_owned()], None).sort(&params()).is_ok());
}

#[test]
fn all_parameters_are_decayed_but_the_named_ones() {
    let exempt = ["mask_*".to_owned()];
    let expected = [("decay".to_owned(), 2, 6, 1.0, 0.5), ("no_decay".to_owned(), 1, 2, 1.0, 0.0)];
    assert_eq!(table(Grouping { decayed: Decayed::All, ..grouping(&exempt, None) }), expected);
}

#[test]
fn the_last_override_that_says_something_holds() {
    let of = |names: &[&str], lr_scale, weight_decay| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Override { names, lr_scale, weight_decay }
    };
    let overrides = [of(&["fc.*"], Some(2.0), Some(0.1)), of(&["*.bias", "mask_token"], Some(3.0), None)];
    let expected = [
        ("layer_1_decay (fc.*)".to_owned(), 1, 4, 2.0, 0.1),
        ("layer_1_no_decay (fc.*) (*.bias, mask_token)".to_owned(), 1, 2, 3.0, 0.1),
        ("layer_2_decay (*.bias, mask_token)".to_owned(), 1, 2, 3.0, 0.5),
    ];
    assert_eq!(table(Grouping { overrides: &overrides, ..grouping(&[], Some(0.25)) }), expected);
    let unknown = [of(&["fc.weight", "fc.weigt"], None, None)];
    let problem = Grouping { overrides: &unknown, ..grouping(&[], None) }.sort(&params()).unwrap_err();
    assert_eq!(
        (&*problem.key, &*problem.help.unwrap()),
        ("overrides.0.names.1", "did you mean `fc.weight`?")
    );
}

#[test]
fn a_layer_decay_without_layers_is_a_problem() {
    let scope = Scope::new(0);
    scope.param("w", &[2, 2], &Init::ONES);
    let problem = grouping(&[], Some(0.65)).sort(&scope.params()).unwrap_err();
    assert_eq!(problem.key, "layer_decay");
    assert!(problem.help.unwrap().contains("ConvViT"));
}

/// The classifier's parameters: the backbone's, then those of the head in the official order.
fn classifier(fields: &Value, classes: usize) -> Vec<Param> {
    let mut spec = json!({ "type": "ConvViT", "final_norm": false, "train_pos_embed": true });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let backbone: Box<dyn Backbone> = serde_json::from_value(spec).unwrap();
    let scope = Scope::describe();
    let image = ImageShape { channels: 3, height: 224, width: 224 };
    let levels = backbone.build(&scope, image, None).unwrap().levels();
    let dim = levels[2].channels;
    scope.param("head.weight", &[classes, dim], &Init::ONES);
    scope.param("head.bias", &[classes], &Init::ONES);
    scope.param("fc_norm.weight", &[dim], &Init::ONES);
    scope.param("fc_norm.bias", &[dim], &Init::ONES);
    scope.params()
}

#[test]
fn the_groups_are_the_official_ones() {
    let file =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/finetune/param_groups_layer_decay_0.65.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let narrow = json!({ "embed_dim": [8, 12, 24], "depth": [1, 1, 2], "num_heads": 4 });
    for (model, params) in [("narrow", classifier(&narrow, 10)), ("base", classifier(&json!({}), 1000))] {
        let exempt = ["pos_embed".to_owned()];
        let decayed = Grouping::by_decay(0.05);
        let grouping = Grouping { no_weight_decay: &exempt, layer_decay: Some(0.65), ..decayed };
        let (groups, members) = grouping.sort(&params).unwrap();
        let expected = golden[model]["groups"].as_array().unwrap();
        assert_eq!(groups.len(), expected.len());
        for (group, expected) in groups.iter().zip(expected) {
            let scale = expected["lr_scale"].as_f64().unwrap();
            assert!((group.lr_scale - scale).abs() <= 1e-12 * scale, "{group:?} {expected}");
            assert_eq!(json!(group.weight_decay), expected["weight_decay"]);
            assert_eq!(json!(group.tensors), expected["n_tensors"]);
        }
        let expected = golden[model]["params"].as_object().unwrap();
        assert_eq!(members.len(), expected.len());
        for (param, group) in &members {
            let expected = &expected[param.name()];
            assert_eq!(json!(group), expected["group"], "{}", param.name());
            assert_eq!(json!(param.shape()), expected["shape"], "{}", param.name());
        }
    }
}

/// The parameters of the recipe's model.
fn segmenter() -> Vec<Param> {
    let recipe =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes/segmentation/upernet_convmae_base_160k.yaml");
    let sources = Sources { recipe: recipe.into(), ..Sources::default() };
    let Checked { plan, image, .. } = check(&load(&sources, &catalog()).unwrap()).unwrap();
    Model::build(&plan, image, &Scope::describe()).unwrap().params()
}

/// Nothing is exempt by name there: `pos_embed` is decayed.
#[test]
fn the_groups_of_a_segmenter_are_the_official_ones() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/segmentation/layer_decay_groups.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let expected = golden["params"].as_object().unwrap();
    let params = segmenter();
    let grouping = Grouping { layer_decay: Some(0.75), ..Grouping::by_decay(0.05) };
    let (groups, members) = grouping.sort(&params).unwrap();
    let official = golden["groups"].as_array().unwrap();
    assert_eq!((groups.len(), members.len()), (official.len(), expected.len()));
    for group in &groups {
        // Groups are in the order of the parameters, which is another one.
        let official = official.iter().find(|official| official["group_name"] == json!(group.name)).unwrap();
        assert_eq!(json!(group.tensors), official["n_tensors"]);
        assert_eq!(json!(group.parameters), official["n_elements"]);
        assert_eq!(json!(group.weight_decay), official["weight_decay"]);
        let scale = official["lr_scale"].as_f64().unwrap();
        assert!((group.lr_scale - scale).abs() <= 1e-12 * scale, "{group:?} {official}");
    }
    for (param, group) in &members {
        let expected = &expected[param.name()];
        let official = &official[expected["group"].as_u64().unwrap() as usize];
        assert_eq!(json!(groups[*group].name), official["group_name"], "{}", param.name());
        assert_eq!(json!(param.shape()), expected["shape"], "{}", param.name());
    }
}

fn detection(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/detection/");
    serde_json::from_slice(&std::fs::read(format!("{folder}{name}.json")).unwrap()).unwrap()
}

/// The parameters of a detector by name and shape, in layers as `ConvViT` has them.
fn detector(golden: &Value) -> Vec<Param> {
    let scope = Scope::describe();
    let layer = |name: &str| {
        let name = name.strip_prefix("backbone.net.")?;
        let block = name.strip_prefix("blocks3.").and_then(|name| name.split_once('.'));
        Some(block.map_or(0, |(block, _)| block.parse::<usize>().unwrap() + 1))
    };
    for name in golden["frozen"].as_array().into_iter().flatten() {
        scope.frozen(name.as_str().unwrap(), &[1], &Init::ONES);
    }
    for (name, param) in golden["params"].as_object().unwrap() {
        let shape: Vec<usize> = serde_json::from_value(param["shape"].clone()).unwrap();
        let scope = layer(name).map_or_else(|| scope.clone(), |layer| scope.at_layer(layer));
        scope.param(name, &shape, &Init::ONES);
    }
    scope.params()
}

/// Asserts learning rate and weight decay of every parameter.
fn assert_official(golden: &Value, (groups, members): &Grouped) {
    let (base, expected) = (golden["base_lr"].as_f64().unwrap(), golden["params"].as_object().unwrap());
    assert_eq!(members.len(), expected.len());
    for (param, group) in members {
        let (group, expected) = (&groups[*group], &expected[param.name()]);
        let (lr, official) = (base * group.lr_scale, expected["lr"].as_f64().unwrap());
        assert!((lr - official).abs() <= 1e-12 * official, "{}: {lr}, not {official}", param.name());
        assert_eq!(json!(group.weight_decay), expected["weight_decay"], "{}", param.name());
    }
}

/// `optimizer_groups.json` of ConvMAE's `DET`.
#[test]
fn the_groups_of_a_detector_are_the_official_ones() {
    let golden = detection("optimizer_groups");
    let exempt = ["*norm*", "*relative_position_bias_table"].map(str::to_owned);
    let grouping = Grouping { decayed: Decayed::All, no_weight_decay: &exempt, ..Grouping::by_decay(0.1) };
    let grouped = grouping.sort(&detector(&golden)).unwrap();
    assert_official(&golden, &grouped);
    let official = golden["groups"].as_array().unwrap();
    assert_eq!(grouped.0.len(), official.len());
    for (group, official) in grouped.0.iter().zip(official) {
        assert_eq!(
            json!([group.tensors, group.parameters]),
            json!([official["n_tensors"], official["n_elements"]])
        );
    }
}

/// `optimizer_groups.json` of Official-ConvMAE-Det: the norms of pyramid and heads are decayed, and
/// `pos_embed`, a parameter of the first layer, has the full learning rate.
#[test]
fn the_groups_of_the_vitdet_style_detector_are_the_official_ones() {
    let golden = detection("optimizer_groups_vitdet");
    let exempt = ["*.pos_embed", "backbone.net.*norm*"].map(str::to_owned);
    let names = vec!["*.pos_embed".to_owned()];
    let overrides = [Override { names, lr_scale: Some(1.0), weight_decay: None }];
    let grouping = Grouping {
        weight_decay: 0.1,
        decayed: Decayed::All,
        no_weight_decay: &exempt,
        layer_decay: Some(0.8),
        overrides: &overrides,
    };
    assert_official(&golden, &grouping.sort(&detector(&golden)).unwrap());
}
