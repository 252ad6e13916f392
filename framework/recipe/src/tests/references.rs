//! References.

use serde_json::json;

use super::super::reference::{escape, resolve};
use super::{BASE, Files, load_text, value};

fn resolved(value: &serde_json::Value) -> serde_json::Value {
    let resolved = resolve(value, &|_| None);
    assert!(resolved.faults.is_empty(), "{:?}", resolved.faults);
    resolved.value
}

#[test]
fn a_whole_reference_keeps_the_type() {
    let value = json!({"a": {"n": 3, "list": [1, 2]}, "n": "${a.n}", "list": "${a.list}", "item": "${a.list.1}", "block": "${a}"});
    let expected = json!({"a": {"n": 3, "list": [1, 2]}, "n": 3, "list": [1, 2], "item": 2, "block": {"n": 3, "list": [1, 2]}});
    assert_eq!(resolved(&value), expected);
}

#[test]
fn dots_go_outwards_by_mappings() {
    let value = json!({
        "size": 1,
        "data": {
            "size": 2,
            "transforms": [{"size": 3, "own": "${.size}", "outer": "${..size}", "outermost": "${...size}"}],
            "sizes": ["${.size}", "${..size}"]
        }
    });
    let resolved = resolved(&value);
    assert_eq!(resolved["data"]["transforms"][0], json!({"size": 3, "own": 3, "outer": 2, "outermost": 1}));
    assert_eq!(resolved["data"]["sizes"], json!([2, 1]));
}

#[test]
fn scalars_are_put_into_strings_and_escapes_stay_literal() {
    let value = json!({"a": 1e-6, "b": true, "c": "x", "text": "${a}-${b}-${ .c }", "literal": "$${a} $$${a} $a {b}"});
    let resolved = resolved(&value);
    assert_eq!(resolved["text"], "1e-6-true-x");
    assert_eq!(resolved["literal"], "${a} $${a} $a {b}");
    assert_eq!(escape("${a} $${a}"), "$${a} $$${a}");
}

#[test]
fn references_lead_through_references() {
    let value = json!({"a": "${b}", "b": {"x": "${c}", "y": "$${z}"}, "c": 5, "n": "${a.x}", "m": "${a.y}"});
    let resolved = resolved(&value);
    assert_eq!((&resolved["n"], &resolved["m"]), (&json!(5), &json!("${z}")));
}

#[test]
fn references_see_overrides() {
    let text = BASE.replace("epochs: 1600", "epochs: ${data.num_classes}");
    let files = Files::new(&[("recipe.yaml", &text)]);
    let recipe = files.load("recipe.yaml", &[], &["data.num_classes=10"]).unwrap();
    assert_eq!(recipe.get("train.epochs"), Some(&json!(10)));
    assert_eq!(recipe.why("train.epochs").unwrap()[0].value, json!("${data.num_classes}"));
}

#[test]
fn a_copied_block_points_at_its_reference() {
    let text = format!("{BASE}  decay: ${{data}}\n");
    let lines = load_text(&text).unwrap_err().lines();
    assert!(lines.iter().all(|line| line.contains(":18:")), "{lines:?}");
}

#[test]
fn broken_references_are_reported_where_they_stand() {
    let text = "\
name: run-${data.num_clases}
seed: ${nothing}
root: ${model.backbone}/x
model:
  backbone: { type: Vit, depth: '${.depth}' }
  other: { type: Vit, depth: '${......x}' }
data:
  size: ${
  num_classes: ${..train.epochs.x}
train:
  epochs: ${.amp}
  amp: ${.epochs}
  accumulation: ${}
";
    let files = Files::new(&[("recipe.yaml", text)]);
    insta::assert_snapshot!(files.report(&files.load("recipe.yaml", &[], &[]).unwrap_err()));
}

#[test]
fn exploding_references_are_refused() {
    let mut text = String::from("a0: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
    for level in 1..12 {
        let item = format!("\"${{a{}}}\", ", level - 1);
        text += &format!("a{level}: [{}]\n", item.repeat(10));
    }
    let report = load_text(&text).unwrap_err().lines();
    assert!(report.iter().any(|line| line.contains("too many values")), "{report:?}");
    let chain: String = (0..40).map(|n| format!("a{n}: ${{a{}}}\n", n + 1)).collect();
    let report = load_text(&chain).unwrap_err().lines();
    assert!(report.iter().any(|line| line.contains("more than 32 references")), "{report:?}");
}

#[test]
fn values_that_only_look_like_references_are_left_alone() {
    assert_eq!(value(&BASE.replace("name: base", "name: $base} $1"))["name"], "$base} $1");
}

fn in_environment(value: &serde_json::Value) -> Result<serde_json::Value, Vec<String>> {
    let environment = [("HOME", "/home/me/"), ("DATA", "/mnt/${x}"), ("LOCAL", "~/local")];
    let value_of = |name: &str| Some(environment.iter().find(|(known, _)| *known == name)?.1.to_owned());
    let resolved = resolve(value, &value_of);
    let faults: Vec<_> = resolved.faults.iter().map(|fault| format!("{fault:?}")).collect();
    if faults.is_empty() { Ok(resolved.value) } else { Err(faults) }
}

#[test]
fn environment_variables_are_texts_as_they_are() {
    let value = json!({"root": "${env:DATA}", "file": "${ env:DATA }/a.tar", "twice": "${root}", "list": ["${env:LOCAL}"]});
    let expected = json!({
        "root": "/mnt/${x}", "file": "/mnt/${x}/a.tar", "twice": "/mnt/${x}", "list": ["/home/me/local"]
    });
    assert_eq!(in_environment(&value), Ok(expected));
}

#[test]
fn a_tilde_is_the_home_folder_at_the_beginning_of_a_path() {
    let value = json!({"a": "~/data", "b": "~/${name}", "name": "x", "c": "a/~/b", "d": "~", "e": "~you/data", "f": "./~/x"});
    let expected = json!({
        "a": "/home/me/data", "b": "/home/me/x", "name": "x", "c": "a/~/b", "d": "~", "e": "~you/data", "f": "./~/x"
    });
    assert_eq!(in_environment(&value), Ok(expected));
    assert_eq!(resolved(&json!("~/data")), json!("~/data"), "without a home folder");
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let files = Files::new(&[("recipe.yaml", &BASE.replace("epochs: 1600", "epochs: ${env:NO_SUCH}"))]);
    let message = files.load("recipe.yaml", &[], &[]).unwrap_err().lines().concat();
    assert!(message.contains("`${env:NO_SUCH}`: there is no environment variable `NO_SUCH`"), "{message}");
    let files = Files::new(&[("recipe.yaml", &BASE.replace("epochs: 1600", "epochs: ${oc.env:DATA}"))]);
    let findings = files.load("recipe.yaml", &[], &[]).unwrap_err();
    assert_eq!(findings.findings()[0].help.as_deref(), Some("an environment variable is `${env:DATA}`"));
}
