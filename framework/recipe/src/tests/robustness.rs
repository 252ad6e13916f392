//! Nothing a user writes makes the loader panic.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::super::lock;
use super::super::reference::resolve;
use super::super::yaml::{Keys, parse};
use super::{BASE, Files, load_text};

/// Pieces that YAML, references and paths give meaning to.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~\n\t]{0,6}",
        "\\PC{0,3}",
        proptest::sample::select(vec![
            "${",
            "}",
            "${.",
            "$${",
            "{",
            "[",
            "]",
            ": ",
            "- ",
            "\n  ",
            "\n",
            "&a ",
            "*a",
            "<<: ",
            "!x ",
            "---\n",
            "type: ",
            "null",
            "'",
            "\"",
            "|\n",
            "# ",
            "? ",
            "\r\n",
            "\u{feff}",
            "1e-6",
            "extends: ",
            "..",
        ])
        .prop_map(str::to_owned),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |float| float.is_finite()).prop_map(Value::from),
        "[ -~\n\t\u{e9}]{0,12}".prop_map(Value::from),
        proptest::sample::select(vec![
            "yes", "1e3", "~", "0x1f", "0o7", ".5", "1.", "+1", "1_0", "${a}", "$${", "- a", "a: b", ""
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let key =
            prop_oneof!["[a-z]{1,5}", Just("true".to_owned()), Just("5".to_owned()), Just("a b".to_owned())];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let files = Files::new(&[]);
        std::fs::write(files.path().join("recipe.yaml"), bytes).unwrap();
        if let Err(diagnostics) = files.load("recipe.yaml", &[], &[]) {
            prop_assert!(!diagnostics.render(false).is_empty());
        }
    }

    #[test]
    fn mutated_recipes_never_panic(
        edits in proptest::collection::vec((0..BASE.len(), 0..12_usize, fragment()), 1..5),
        set in "[a-z]{0,5}[.=][ -~]{0,10}",
    ) {
        let mut text = BASE.to_owned();
        for (at, len, fragment) in edits {
            let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let end = (at + len..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
            text.replace_range(at..end.max(at), &fragment);
        }
        let files = Files::new(&[("recipe.yaml", &text)]);
        match files.load("recipe.yaml", &[], &[&set]) {
            Ok(recipe) => prop_assert!(recipe.why("model").is_some()),
            Err(diagnostics) => {
                prop_assert!(!diagnostics.findings().is_empty());
                prop_assert!(!diagnostics.render(false).is_empty());
                prop_assert!(diagnostics.lines().iter().all(|line| !line.is_empty()));
            }
        }
    }

    #[test]
    fn any_value_survives_the_lock_file(value in any_value()) {
        let text = lock::yaml(&value);
        let document = parse(&text, Keys::Plain).map_err(|fault| TestCaseError::fail(format!("{fault:?}\n{text}")))?;
        prop_assert!(document.faults.is_empty(), "{:?}\n{}", document.faults, text);
        let read = document.root.map(|root| root.to_value()).unwrap_or_default();
        prop_assert_eq!(resolve(&read, &|_| None).value, value, "{}", text);
    }
}

#[test]
fn deep_and_exploding_files_are_refused() {
    let deep = format!("a: {}", "[".repeat(5_000));
    assert!(load_text(&deep).is_err());
    let deep = format!("a: {}1{}", "[".repeat(200), "]".repeat(200));
    assert!(load_text(&deep).unwrap_err().lines()[0].contains("too large"));
    for deep in ["? ", "- ", "- ? ", "? - ", "{? ", "a: {? ", "? [", "{[", "&a ? "] {
        let deep = deep.repeat(20_000) + "a";
        assert!(load_text(&deep).is_err());
    }
    let keys = format!("{}a", "? ".repeat(200));
    assert!(load_text(&keys).unwrap_err().lines().iter().any(|line| line.contains("too large")));
    let mut laughs = String::from("a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
    for level in 1..12 {
        let item = format!("*a{}, ", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", item.repeat(10));
    }
    assert!(load_text(&laughs).unwrap_err().lines()[0].contains("too many values"));
    let set = format!("{}=1", "a.".repeat(5_000) + "b");
    assert!(Files::new(&[("recipe.yaml", BASE)]).load("recipe.yaml", &[], &[&set]).is_err());
}
