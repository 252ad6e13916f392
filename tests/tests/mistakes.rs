//! Mistakes that people make in recipes, and all that `convmae check` says of each: what is wrong, on which
//! line, and what would be right. The mistakes that the loader finds by schemas alone are in
//! `framework/recipe/src/tests/mistakes.rs` too, in more variants.

use assert_cmd::assert::OutputAssertExt as _;

use crate::support::{Folder, stderr};

/// The whole message on `tiny.yaml` with one text replaced.
fn message(from: &str, to: &str) -> String {
    let folder = Folder::new();
    folder.recipe_with(from, to);
    refused(&folder, &[], &[])
}

/// The whole message on `recipe.yaml`, overridden by environment variables and arguments.
fn refused(folder: &Folder, environment: &[(&str, &str)], sets: &[&str]) -> String {
    let sets = sets.iter().flat_map(|set| ["--set", *set]);
    let mut command = folder.convmae(["check", "recipe.yaml"].into_iter().chain(sets));
    let assert = command.envs(environment.iter().copied()).assert().code(2);
    let message = stderr(&assert);
    assert_eq!(message.matches("help: ").count(), message.matches("╭─[").count(), "a remedy each: {message}");
    message
}

macro_rules! mistakes {
    ($($name:ident: $from:literal => $to:literal;)*) => {
        $(#[test] fn $name() { insta::assert_snapshot!(message($from, $to)); })*
    };
}

mistakes! {
    // Keys and names.
    a_misspelt_key: "mask_ratio: 0.75" => "mask_ration: 0.75";
    a_key_in_the_wrong_block: "accumulate: 2" => "batch_size: 2";
    a_misspelt_component: "type: ConvViT" => "type: ConvNeXt";
    a_component_of_another_kind: "{ type: ReconstructionLoss }" => "{ type: MaeDecoder }";
    a_component_without_its_type: "optimizer: { type: AdamW, lr: 1.0e-3, betas: [0.9, 0.95], weight_decay: 0.05 }"
        => "optimizer: AdamW";
    a_missing_key: "    batch_size: 4\n  val" => "  val";
    a_colon_without_a_space: "num_heads: 4\n" => "num_heads:4\n";
    a_number_for_a_list_of_three: "depth: [1, 1, 1]" => "depth: 4";
    a_duplicate_key: "image_size: 32\n" => "image_size: 32\nname: again\n";
    // Values.
    a_word_for_a_number: "num_heads: 4\n" => "num_heads: four\n";
    a_number_in_quotes: "lr: 1.0e-3" => "lr: \"1e-3\"";
    a_number_out_of_range: "mask_ratio: 0.75" => "mask_ratio: 75";
    a_list_that_is_too_short: "depth: [1, 1, 1]" => "depth: [1, 1]";
    a_switch_that_is_no_mapping: "ema: { decay: 0.9 }" => "ema: yes";
    a_length_without_its_unit: "length: 12 iterations" => "length: 12";
    a_length_in_an_unknown_unit: "length: 12 iterations" => "length: 12 steps";
    // YAML.
    a_tab: "    depth: [1, 1, 1]" => "\tdepth: [1, 1, 1]";
    a_key_that_is_indented_too_far: "    depth: [1, 1, 1]" => "      depth: [1, 1, 1]";
    a_bracket_that_stays_open: "depth: [1, 1, 1]" => "depth: [1, 1, 1";
    a_reference_without_quotes: "size: \"${image_size}\" }\n      -" => "size: ${image_size} }\n      -";
    a_reference_to_nothing: "size: \"${image_size}\" }\n      -" => "size: \"${imagesize}\" }\n      -";
    // The model.
    a_source_that_is_not_there: "from: backbone" => "from: encoder";
    a_level_that_is_not_there: "from: backbone" => "from: backbone.s4";
    a_masker_that_is_not_there: "  mask: { type: BlockwiseMasker, mask_ratio: 0.75 }\n" => "";
    a_decoder_without_a_mask: "  mask: { type: BlockwiseMasker, mask_ratio: 0.75 }\n  backbone:\n    type: ConvViT\n    from: mask\n"
        => "  backbone:\n    type: ConvViT\n";
    nodes_in_a_circle: "\n\noptimizer:" => "
  a: { type: ProjectionNeck, from: b, channels: 4 }
  b: { type: ProjectionNeck, from: a, channels: 4 }\n\noptimizer:";
    two_heads_with_the_same_parameters: "\n\noptimizer:"
        => "\n  second: { type: MaeDecoder, from: backbone, embed_dim: 16, depth: 1, num_heads: 4 }\n\noptimizer:";
    an_image_size_that_patches_do_not_divide: "image_size: 32" => "image_size: 36";
    heads_that_do_not_divide_the_channels: "num_heads: 4\n" => "num_heads: 5\n";
    a_masker_that_masks_nothing: "mask_ratio: 0.75" => "mask_ratio: 0.0";
    an_evaluator_without_its_head: "{ type: ReconstructionLoss }" => "{ type: ReconstructionLoss }, { type: Accuracy }";
    // Data.
    transforms_in_the_wrong_order: "      - { type: RandomHorizontalFlip }\n      - { type: Normalize }"
        => "      - { type: Normalize }\n      - { type: RandomHorizontalFlip }";
    no_normalisation: "      - { type: RandomHorizontalFlip }\n      - { type: Normalize }" => "      - { type: RandomHorizontalFlip }";
    images_of_another_size: "size: \"${image_size}\" }\n      -" => "size: 40 }\n      -";
    // Training.
    a_parameter_that_the_model_lacks: "betas:" => "no_weight_decay: [pos_embd], betas:";
    initial_weights_from_two_places: "optimizer:" => "init_from: { run: runs/a, weights: b.safetensors }\n\noptimizer:";
    initial_weights_from_nowhere: "optimizer:" => "init_from: { leave: [decoder_*] }\n\noptimizer:";
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> Folder {
    let folder = Folder::new();
    for (name, text) in files {
        std::fs::write(folder.path(name), text).unwrap();
    }
    folder
}

#[test]
fn evaluators_without_a_validation_set() {
    let folder = folder(&[("recipe.yaml", "extends: tiny.yaml\ndata: { val: null }\n")]);
    insta::assert_snapshot!(refused(&folder, &[], &[]));
}

#[test]
fn a_base_that_is_not_there() {
    let folder = folder(&[("recipe.yaml", "extends: tinny.yaml\nname: mine\n")]);
    insta::assert_snapshot!(refused(&folder, &[], &[]));
}

#[test]
fn files_that_extend_each_other() {
    let folder = folder(&[
        ("recipe.yaml", "extends: base.yaml\n"),
        ("base.yaml", "name: base\nextends: recipe.yaml\n"),
    ]);
    insta::assert_snapshot!(refused(&folder, &[], &[]));
}

#[test]
fn a_mistake_in_a_base() {
    let folder = folder(&[
        ("recipe.yaml", "extends: base.yaml\nname: mine\n"),
        ("base.yaml", "extends: tiny.yaml\nsede: 1\n"),
    ]);
    insta::assert_snapshot!(refused(&folder, &[], &[]));
}

const MINE: &str = "extends: tiny.yaml\nname: mine\n";

#[test]
fn an_override_of_an_unknown_key() {
    insta::assert_snapshot!(refused(
        &folder(&[("recipe.yaml", MINE)]),
        &[],
        &["optimizer.learning_rate=1e-3"]
    ));
}

#[test]
fn an_override_of_an_item_that_is_not_there() {
    insta::assert_snapshot!(refused(
        &folder(&[("recipe.yaml", MINE)]),
        &[],
        &["data.train.transforms.7.size=32"]
    ));
}

#[test]
fn an_override_without_a_value() {
    insta::assert_snapshot!(refused(&folder(&[("recipe.yaml", MINE)]), &[], &["optimizer.lr"]));
}

/// The one that holds is at fault, and is named.
#[test]
fn a_seed_that_is_set_twice() {
    let folder = folder(&[("recipe.yaml", MINE)]);
    insta::assert_snapshot!(refused(&folder, &[("CONVMAE_SEED", "0")], &["seed=one"]));
    insta::assert_snapshot!(refused(&folder, &[("CONVMAE_SEED", "-1")], &[]));
}
