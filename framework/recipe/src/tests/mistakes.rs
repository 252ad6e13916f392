//! Every kind of mistake: its words, its line, its suggestion.

use super::{BASE, Files, load_text};

/// The report on a recipe that is `BASE` with one text replaced.
fn report(from: &str, to: &str) -> String {
    assert!(BASE.contains(from), "{from}");
    report_text(&BASE.replacen(from, to, 1))
}

fn report_text(text: &str) -> String {
    let files = Files::new(&[("recipe.yaml", text)]);
    files.report(&files.load("recipe.yaml", &[], &[]).unwrap_err())
}

macro_rules! mistakes {
    ($($name:ident: $from:literal => $to:literal;)*) => {
        $(#[test] fn $name() { insta::assert_snapshot!(report($from, $to)); })*
    };
}

mistakes! {
    a_misspelt_key: "mask_ratio: 0.75" => "mask_ration: 0.75";
    an_unknown_key: "num_heads: 12" => "num_heads: 12\n    colour: red";
    a_key_of_another_section: "seed: 0" => "seed: 0\nepochs: 10";
    a_key_of_another_component: "seed: 0" => "seed: 0\nmask_ratio: 0.5";
    a_word_for_a_number: "mask_ratio: 0.75" => "mask_ratio: abc";
    a_word_for_an_integer: "num_heads: 12" => "num_heads: twelve";
    a_quoted_number: "num_heads: 12" => "num_heads: \"12\"";
    a_float_for_an_integer: "epochs: 1600" => "epochs: 1.6e3";
    a_fraction_for_an_integer: "epochs: 1600" => "epochs: 0.5";
    an_underscore_in_a_number: "epochs: 1600" => "epochs: 1_600";
    a_yaml_1_1_boolean: "epochs: 1600" => "epochs: 1600\n  amp: yes";
    a_number_for_a_name: "name: base" => "name: 5";
    a_scalar_for_a_list: "depth: [2, 2, 11]" => "depth: 2";
    a_wrong_list_item: "depth: [2, 2, 11]" => "depth: [2, two, 11]";
    a_list_of_the_wrong_length: "embed_dim: [256, 384, 768]" => "embed_dim: [256, 384]";
    a_missing_key: "    num_heads: 12\n" => "";
    a_missing_section: "train:\n  epochs: 1600\n" => "";
    an_empty_value: "num_heads: 12" => "num_heads:";
    a_number_below_the_minimum: "seed: 0" => "seed: -1";
    a_number_above_the_maximum: "mask_ratio: 0.75" => "mask_ratio: 75";
    a_word_outside_of_an_enum: "size: 224" => "size: 224\n      interpolation: bicubik";
    an_unknown_component: "type: ConvViT" => "type: ConvVit2";
    a_component_of_another_kind: "type: Flip" => "type: UperHead";
    a_component_nobody_knows: "type: Flip" => "type: Mosaic";
    a_missing_type: "    - type: Flip" => "    - p: 0.5";
    a_misspelt_type: "    - type: Flip" => "    - typ: Flip";
    a_type_that_is_no_name: "type: Flip" => "type: 3";
    a_name_for_a_component: "  mask: { type: BlockMasker, mask_ratio: 0.75 }" => "  mask: BlockMasker";
    an_optional_component_that_is_no_mapping: "seed: 0" => "seed: 0\noptimizer: 5";
    a_tagged_enum_names_its_branch: "epochs: 1600" => "epochs: 1600\n  decay: { shape: cosine, min_lr: low }";
    a_tagged_enum_with_an_unknown_tag: "epochs: 1600" => "epochs: 1600\n  decay: { shape: cosin, min_lr: 0.1 }";
    a_union_of_types: "epochs: 1600" => "epochs: 1600\n  accumulation: [1]";
    a_union_of_a_word_and_a_number: "epochs: 1600" => "epochs: 1600\n  accumulation: aut";
    a_duplicate_key: "seed: 0" => "seed: 0\nname: again";
    a_key_that_is_a_number: "seed: 0" => "seed: 0\n5: x";
    a_key_that_is_a_list: "seed: 0" => "seed: 0\n[a, b]: x";
    a_key_with_a_dot: "seed: 0" => "seed: 0\noptimizer.lr: 1";
    a_merge_key: "seed: 0" => "seed: 0\n<<: { a: 1 }";
    a_tag: "seed: 0" => "seed: !!int 0";
    an_alias_inside_of_its_anchor: "seed: 0" => "seed: &a [*a]";
    an_unknown_alias: "seed: 0" => "seed: *nobody";
    infinity: "mask_ratio: 0.75" => "mask_ratio: .inf";
    an_integer_too_large: "seed: 0" => "seed: 99999999999999999999";
    a_syntax_error: "embed_dim: [256, 384, 768]" => "embed_dim: [256, 384, 768";
    a_reference_without_quotes: "mask_ratio: 0.75 }" => "mask_ratio: ${.x} }";
    a_tab: "  epochs: 1600" => "\tepochs: 1600";
    a_second_document: "train:" => "---\ntrain:";
    text_beyond_ascii: "name: base" => "name: größer\nünknown: 日本";
}

#[test]
fn an_empty_file() {
    insta::assert_snapshot!(report_text(""));
    assert_eq!(report_text("# nothing but a comment\n").lines().next(), report_text("").lines().next());
}

#[test]
fn a_file_that_is_no_mapping() {
    insta::assert_snapshot!(report_text("- type: Vit\n"));
}

#[test]
fn a_file_that_is_not_utf_8() {
    let files = Files::new(&[]);
    std::fs::write(files.path().join("recipe.yaml"), b"seed: 0\nname: caf\xe9\n").unwrap();
    insta::assert_snapshot!(files.report(&files.load("recipe.yaml", &[], &[]).unwrap_err()));
}

#[test]
fn a_missing_recipe() {
    let files = Files::new(&[("recipe.yaml", BASE)]);
    insta::assert_snapshot!(files.report(&files.load("recipes.yaml", &[], &[]).unwrap_err()));
    let folder = files.load("", &[], &[]).unwrap_err();
    assert!(folder.lines()[0].ends_with("it is a folder"), "{:?}", folder.lines());
}

#[test]
fn a_missing_base() {
    let files =
        Files::new(&[("_base_/convmae.yaml", BASE), ("recipe.yaml", "extends: [_base_/convmea.yaml, 5]\n")]);
    insta::assert_snapshot!(files.report(&files.load("recipe.yaml", &[], &[]).unwrap_err()));
}

#[test]
fn files_that_extend_each_other() {
    let files = Files::new(&[("a.yaml", "extends: b.yaml\n"), ("b.yaml", "extends: [./a.yaml]\n")]);
    insta::assert_snapshot!(files.report(&files.load("a.yaml", &[], &[]).unwrap_err()));
}

#[test]
fn a_mistake_in_the_environment_and_on_the_command_line() {
    let files = Files::new(&[("recipe.yaml", BASE)]);
    let environment = [("CONVMAE_MODEL__MASK__MASK_RATIO", "abc"), ("CONVMAE_MODEL__MASK__RATIO", "0.5")];
    let sets = ["data.transforms.0.size=big", "data.transforms.5.size=3", "train.epoch=3", "seed=!x 1"];
    insta::assert_snapshot!(files.report(&files.load("recipe.yaml", &environment, &sets).unwrap_err()));
}

#[test]
fn malformed_assignments() {
    let files = Files::new(&[("recipe.yaml", BASE)]);
    let environment = [("CONVMAE_A____B", "1"), ("CONVMAE_SEED", "[1"), ("CONVMAE_NAME", "a\u{fffd}")];
    let sets = ["seed", "=1", "a..b=1", "extends=x.yaml", "seed={"];
    insta::assert_snapshot!(files.report(&files.load("recipe.yaml", &environment, &sets).unwrap_err()));
}

#[test]
fn a_key_lost_to_a_changed_type() {
    let files = Files::new(&[
        (
            "base.yaml",
            &BASE.replace("type: ConvViT", "type: Vit").replace("    embed_dim: [256, 384, 768]\n", ""),
        ),
        (
            "recipe.yaml",
            "extends: base.yaml\nmodel:\n  backbone:\n    type: ConvViT\n    embed_dim: [1, 2, 3]\n    depth: [1]\n",
        ),
    ]);
    insta::assert_snapshot!(files.report(&files.load("recipe.yaml", &[], &[]).unwrap_err()));
}

#[test]
fn a_missing_key_is_missed_in_the_file_and_not_where_its_block_was_last_touched() {
    let files = Files::new(&[("recipe.yaml", &BASE.replace("    num_heads: 12\n", ""))]);
    let lines = files.load("recipe.yaml", &[], &["model.backbone.drop_path=0.1"]).unwrap_err().lines();
    assert!(lines[0].contains("recipe.yaml:5:3: model.backbone.num_heads: the required key"), "{lines:?}");
    let lines = files.load("recipe.yaml", &[], &["model.backbone.type=Resize"]).unwrap_err().lines();
    assert!(lines[0].starts_with("command line:1:27: model.backbone.type: `Resize` is not"), "{lines:?}");
    let lines = files.load("recipe.yaml", &[], &["model.mask.type=UperHead"]).unwrap_err().lines();
    assert!(
        lines.iter().any(|line| line.starts_with("command line:1:13: model.mask.channels: the required")),
        "{lines:?}"
    );
}

#[test]
fn a_mistake_in_a_base_names_the_base() {
    let files = Files::new(&[
        ("base.yaml", &BASE.replace("seed: 0", "sede: 0")),
        ("recipe.yaml", "extends: base.yaml\nname: mine\nmodel: { mask: { mask_ratio: 2 } }\n"),
    ]);
    insta::assert_snapshot!(files.report(&files.load("recipe.yaml", &[], &[]).unwrap_err()));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = BASE
        .replace("seed: 0", "sead: 0\nname: twice")
        .replace("mask_ratio: 0.75", "mask_ration: 2")
        .replace("num_heads: 12", "num_heads: none")
        .replace("1600", "${data.epochs}");
    let diagnostics = load_text(&text).unwrap_err();
    let lines: Vec<_> = diagnostics
        .lines()
        .iter()
        .map(|line| line.split_once("recipe.yaml:").unwrap().1.to_owned())
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
    assert!(diagnostics.render(true).contains('\u{1b}'));
    assert!(!diagnostics.render(false).contains('\u{1b}'));
}
