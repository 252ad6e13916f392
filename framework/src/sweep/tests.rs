#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::block::variants;
use super::spec::Sweep;
use crate::recipe::{self, Catalog, Diagnostics, Sources};

/// A sweep of this text, which names recipes that are not read yet.
fn load(text: &str) -> Result<Sweep, Diagnostics> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sweep.yaml"), text).unwrap();
    Sweep::load(&folder.path().join("sweep.yaml"))
}

/// The variants of a `sweep:` block, each as `key=value` pairs.
fn expand(block: &str) -> Vec<String> {
    let sweep = load(&format!("name: test\nrecipe: recipe.yaml\nsweep: {block}")).unwrap();
    axes(&sweep)
}

fn axes(sweep: &Sweep) -> Vec<String> {
    let stages: Vec<usize> = (0..sweep.stages.0.len()).collect();
    let text = |(key, value): &(String, Value)| format!("{key}={}", super::resolve::text(value));
    let line = |axes: Vec<(String, Value)>| axes.iter().map(text).collect::<Vec<_>>().join(" ");
    variants(&sweep.block).iter().map(|variant| line(variant.axes(&stages))).collect()
}

#[test]
fn parts_are_combined_in_the_order_of_the_file() {
    assert_eq!(
        expand("{ grid: { b: [1, 2], a: [x] }, seeds: 2 }"),
        ["b=1 a=x seed=0", "b=1 a=x seed=1", "b=2 a=x seed=0", "b=2 a=x seed=1"]
    );
    assert_eq!(expand("{ seeds: [7], grid: { a: [1, 2] } }"), ["seed=7 a=1", "seed=7 a=2"]);
    assert_eq!(expand("{}"), [""]);
}

#[test]
fn a_zip_goes_in_step() {
    assert_eq!(expand("{ zip: { a: [1, 2], b: [3, 4] } }"), ["a=1 b=3", "a=2 b=4"]);
    assert_eq!(expand("{ zip: {}, seeds: 2 }"), ["seed=0", "seed=1"]);
}

#[test]
fn lists_go_one_after_the_other_and_nest() {
    let block = "{ list: [{ name: small, set: { depth: 1 }, sweep: { list: [{ name: a }, { name: b }] } }, { set: { depth: 2 } }] }";
    assert_eq!(expand(block), ["variant=small/a", "variant=small/b", "depth=2"]);
}

#[test]
fn conditions_leave_out_combinations() {
    let block = "{ grid: { a: [1, 2], b: [1, 2] }, exclude: [{ a: 1, b: 2 }, { a: 2, b: 1 }] }";
    assert_eq!(expand(block), ["a=1 b=1", "a=2 b=2"]);
    let block = "{ grid: { a: [1, 2] }, list: [{ name: x }, { name: y, when: { a: 2 } }] }";
    assert_eq!(expand(block), ["a=1 variant=x", "a=2 variant=x", "a=2 variant=y"]);
    let block = "{ list: [{ name: x, set: { k: 1 } }, { name: y }], seeds: 2, exclude: [{ k: 1, seed: 1 }] }";
    assert_eq!(expand(block), ["variant=x seed=0", "variant=y seed=0", "variant=y seed=1"]);
}

#[test]
fn seeds_go_to_every_stage_that_does_not_fix_its_own() {
    let text = "\
name: chain
stages:
  pretrain: { recipe: a.yaml, set: { seed: 5 } }
  finetune: { recipe: b.yaml, init_from: pretrain }
sweep: { seeds: 2, grid: { pretrain.lr: [1] } }
";
    let sweep = load(text).unwrap();
    let all = variants(&sweep.block);
    let set = |stage: usize| -> Vec<_> {
        all.iter().flat_map(|variant| variant.assignments(stage)).map(|set| set.key.as_str()).collect()
    };
    assert_eq!((set(0), set(1)), (vec!["lr", "lr"], vec!["seed", "seed"]));
    assert_eq!(all[1].axes(&[0]), [("pretrain.lr".to_owned(), json!(1))]);
}

/// What is said about the first problem of a sweep.
fn refusal(sweep: &str) -> String {
    load(sweep).unwrap_err().render(false)
}

#[test]
fn a_block_and_a_key_within_it_do_not_vary_both() {
    let block = |text: &str| refusal(&format!("name: s\nrecipe: r.yaml\nsweep: {text}\n"));
    let report = block("{ grid: { model.mask.ratio: [1, 2], model.mask: [{ ratio: 3 }] } }");
    assert!(report.contains("`model.mask.ratio` within it varies already"), "{report}");
    let report = block("{ grid: { model.mask: [{ ratio: 3 }] }, zip: { model.mask.ratio: [1, 2] } }");
    assert!(report.contains("`model.mask` around it varies already"), "{report}");
    let report = block("{ grid: { a.b: [1] }, list: [{ set: { a: { b: 2 } } }] }");
    assert!(report.contains("`a.b` within it varies already"), "{report}");
    // Only part of a key's name.
    assert_eq!(expand("{ grid: { a.b: [1], a.bc: [2] } }"), ["a.b=1 a.bc=2"]);
    // What is nested in a variant comes after what that sets.
    let nested = "{ list: [{ name: x, set: { a: { b: 1 } }, sweep: { grid: { a.b: [2, 3] } } }] }";
    assert_eq!(expand(nested), ["variant=x a.b=2", "variant=x a.b=3"]);
}

#[test]
fn the_seed_of_a_stage_does_not_vary_beside_seeds() {
    let stages = "name: s\nstages: { a: { recipe: r.yaml }, b: { recipe: r.yaml, set: { seed: 1 } } }\n";
    let report = refusal(&format!("{stages}sweep: {{ grid: {{ a.seed: [5, 6] }}, seeds: 2 }}\n"));
    assert!(report.contains("`a.seed` varies already"), "{report}");
    assert!(load(&format!("{stages}sweep: {{ grid: {{ b.seed: [5, 6] }}, seeds: 2 }}\n")).is_ok());
}

#[test]
fn a_variant_is_not_called_like_a_file_of_the_sweep() {
    for name in ["a.log", "sweep.json", "Runs.SBATCH"] {
        let report = refusal(&format!("name: s\nrecipe: r.yaml\nsweep: {{ list: [{{ name: {name} }}] }}\n"));
        assert!(report.contains("mixed up with a file"), "{report}");
    }
}

macro_rules! mistakes {
    ($($name:ident: $text:literal;)*) => {
        $(#[test] fn $name() {
            let report = load($text).unwrap_err().render(false);
            let folder = regex::Regex::new(r"[^\s\[]*/sweep\.yaml").unwrap();
            insta::assert_snapshot!(folder.replace_all(&report, "sweep.yaml"));
        })*
    };
}

mistakes! {
    a_misspelt_part: "name: s\nrecipe: r.yaml\nsweep:\n  gird: { a: [1] }\n";
    a_value_that_is_no_list: "name: s\nrecipe: r.yaml\nsweep:\n  grid: { model.mask.mask_ratio: 0.5 }\n";
    an_empty_list: "name: s\nrecipe: r.yaml\nsweep:\n  grid: { a: [] }\n";
    lists_of_two_lengths: "name: s\nrecipe: r.yaml\nsweep:\n  zip:\n    a.b: [1, 2, 3]\n    c.d: [1, 2]\n";
    a_key_that_varies_twice: "name: s\nrecipe: r.yaml\nsweep:\n  grid: { seed: [1] }\n  seeds: 3\n";
    no_recipe: "name: s\nsweep: { seeds: 3 }\n";
    a_recipe_and_stages: "name: s\nrecipe: r.yaml\nstages: { a: { recipe: r.yaml } }\n";
    an_unknown_stage: "name: s\nstages: { pretrain: { recipe: r.yaml } }\nsweep:\n  grid:\n    pretrian.seed: [1]\n    model.depth: [1]\n";
    an_unknown_source: "name: s\nstages:\n  pretrain: { recipe: r.yaml }\n  finetune: { recipe: r.yaml, init_from: pretrained }\n";
    a_circle: "name: s\nstages:\n  a: { recipe: r.yaml, init_from: b }\n  b: { recipe: r.yaml, init_from: a }\n";
    conditions_that_never_hold: "name: s\nrecipe: r.yaml\nsweep:\n  grid: { model.mask.mask_ratio: [0.5, 0.75] }\n  exclude:\n    - { model.mask.mask_ration: 0.5 }\n    - { model.mask.mask_ratio: 0.6 }\n";
    two_variants_of_one_name: "name: s\nrecipe: r.yaml\nsweep:\n  list:\n    - { name: a }\n    - { name: a }\n";
    too_many_combinations: "name: s\nrecipe: r.yaml\nsweep:\n  grid: { a: [1, 2, 3, 4, 5], b: [1, 2, 3, 4, 5] }\n  seeds: 1000\n";
    all_at_once: "name: s\nstages: { a: { recipe: r.yaml, init_from: a }, b: { recipe: r.yaml } }\nsweep:\n  zip: { b.x: [1], c.y: [1, 2] }\n";
    a_syntax_error: "name: s\nsweep: { grid: { a: [1, 2 }\n";
}

/// Lists of values for up to four keys.
fn grids() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    proptest::collection::btree_map("[a-d]", proptest::collection::vec(0_u8..9, 1..5), 1..4)
}

proptest! {
    #[test]
    fn a_grid_has_the_size_of_the_product_and_all_orders_agree(grid in grids(), seeds in 1_u64..4) {
        let block = json!({ "grid": grid, "seeds": seeds });
        let found = expand(&block.to_string());
        let product: usize = grid.values().map(Vec::len).product();
        prop_assert_eq!(found.len(), product * seeds as usize);
        let reversed = expand(&json!({ "seeds": seeds, "grid": grid }).to_string());
        let sorted = |lines: Vec<String>| {
            let mut lines: Vec<_> =
                lines.iter().map(|line| line.split(' ').map(str::to_owned).collect::<std::collections::BTreeSet<_>>()).collect();
            lines.sort();
            lines
        };
        prop_assert_eq!(sorted(found), sorted(reversed));
    }

    #[test]
    fn what_is_excluded_is_what_is_missing(grid in grids(), at in 0_usize..100) {
        let (key, values) = grid.iter().nth(at % grid.len()).unwrap();
        let value = values[at % values.len()];
        let all = expand(&json!({ "grid": grid }).to_string());
        let exclude = json!({ "grid": grid, "exclude": [{ key: value }] }).to_string();
        let left = load(&format!("name: t\nrecipe: r.yaml\nsweep: {exclude}")).map(|sweep| axes(&sweep)).unwrap();
        let expected: Vec<_> = all.into_iter()
            .filter(|line| !line.split(' ').any(|pair| *pair == format!("{key}={value}")))
            .collect();
        prop_assert_eq!(left, expected);
    }

    #[test]
    fn no_file_makes_it_panic(text in "[a-z:{}\\[\\]., \n-]{0,80}") {
        let _ = load(&text);
        let _ = load(&format!("name: s\nrecipe: r.yaml\nsweep: {text}"));
    }

    #[test]
    fn an_argument_is_read_back_as_the_value(text in "[^$\u{fffd}]{0,12}", number in -1e300..1e300_f64) {
        let folder = tempfile::tempdir().unwrap();
        let recipe = folder.path().join("recipe.yaml");
        std::fs::write(&recipe, "b: 1").unwrap();
        let catalog = Catalog::of_document("test", json!({ "type": "object" }));
        for value in [json!(text), json!(number), json!([text, 1]), json!({ "a": text })] {
            let sets = vec![format!("a={}", super::resolve::text(&value))];
            let sources = Sources { recipe: recipe.clone(), sets: sets.clone(), ..Sources::default() };
            let loaded = recipe::load(&sources, &catalog).map_err(|error| TestCaseError::fail(error.render(false)))?;
            prop_assert_eq!(loaded.get("a"), Some(&value), "{:?}", sets);
        }
    }
}
