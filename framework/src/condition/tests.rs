#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn meets(condition: &Value, settings: &[(&str, Value)]) -> bool {
    let condition = Condition::from_map(condition.as_object().unwrap()).unwrap();
    condition.is_met(&settings.iter().map(|(key, value)| (*key, value)))
}

#[test]
fn values_lists_operators_and_patterns() {
    let run = [
        ("seed", json!(3)),
        ("lr", json!(1e-3)),
        ("mask", json!("RandomMasker")),
        ("scale", json!([0.2, 1.0])),
        ("frozen", json!(true)),
    ];
    for (condition, expected) in [
        (json!({ "seed": 3, "mask": "RandomMasker" }), true),
        (json!({ "seed": 3.0 }), true),
        (json!({ "seed": 3, "mask": "BlockwiseMasker" }), false),
        (json!({ "seed": [1, 3] }), true),
        (json!({ "seed": [1, 2] }), false),
        (json!({ "seed": "!= [1, 2]" }), true),
        (json!({ "seed": ">= 3", "lr": "<1e-2" }), true),
        (json!({ "seed": "> 3" }), false),
        (json!({ "lr": "= 0.001" }), true),
        (json!({ "mask": "*Masker" }), true),
        (json!({ "mask": "!= Block*" }), true),
        (json!({ "scale": [0.2, 1.0] }), true),
        (json!({ "scale": [[0.2, 1.0], [0.08, 1.0]] }), true),
        (json!({ "frozen": "!= false" }), true),
        (json!({ "gone": null, "seed": "!= null" }), true),
        (json!({ "gone": "!= 3" }), true),
        (json!({ "gone": "< 3" }), false),
        (json!({ "gone": "*" }), false),
        (json!({}), true),
    ] {
        assert_eq!(meets(&condition, &run), expected, "{condition}");
    }
}

#[test]
fn texts_of_numbers_and_booleans_are_these() {
    let run = [("lr", json!("0.001")), ("frozen", json!("true")), ("seed", json!(u64::MAX))];
    assert!(meets(&json!({ "lr": 1e-3, "frozen": true, "seed": u64::MAX }), &run));
    assert!(meets(&json!({ "lr": "< 1" }), &run));
    // As floats the two are the same.
    assert!(!meets(&json!({ "seed": u64::MAX - 1 }), &run));
}

#[test]
fn of_several_values_one_is_as_asked_and_none_as_ruled_out() {
    let run = [("seed", json!(0)), ("seed", json!(1))];
    assert!(meets(&json!({ "seed": 1 }), &run) && meets(&json!({ "seed": "< 1" }), &run));
    assert!(!meets(&json!({ "seed": "!= 1" }), &run) && meets(&json!({ "seed": "!= 2" }), &run));
}

#[test]
fn what_never_holds_is_told() {
    let (random, block) = (json!("RandomMasker"), json!("BlockwiseMasker"));
    let (half, most) = (json!(0.5), json!(0.75));
    let known = [("mask.type", &random), ("mask.type", &block), ("ratio", &half), ("ratio", &most)];
    for (condition, message, help) in [
        (json!({ "mask.tpye": "x" }), "this key does not vary", "did you mean `mask.type`?"),
        (json!({ "optimizer": "x" }), "this key does not vary", "these vary: `mask.type`, `ratio`"),
        (json!({ "mask.type": "RandomMaskr" }), "is never RandomMaskr", "did you mean `RandomMasker`?"),
        (json!({ "mask.type": "!= Radnom*" }), "is never Radnom*", "`BlockwiseMasker`, `RandomMasker`"),
        (json!({ "ratio": [0.5, 0.6] }), "`ratio` is never 0.6", "it is one of `0.5`, `0.75`"),
        (json!({ "ratio": "> 0.75" }), "`ratio` is never > 0.75", "it is one of"),
    ] {
        let condition = Condition::from_map(condition.as_object().unwrap()).unwrap();
        let (keys, values) = condition.problems(&known);
        let problem = [keys, values].concat().remove(0);
        assert!(problem.message.contains(message), "{}", problem.message);
        assert!(problem.help.unwrap().contains(help), "{}", problem.message);
    }
    let fine = json!({ "mask.type": ["*Masker", null], "ratio": "<= 0.5" });
    let condition = Condition::from_map(fine.as_object().unwrap()).unwrap();
    assert_eq!(condition.problems(&known), (Vec::new(), Vec::new()));
}

#[test]
fn mistakes_are_pointed_at() {
    for (text, message, place, help) in [
        ("", "there is no key", "", "write"),
        ("= 80", "there is no key", "= 80", "write"),
        ("metrics.top1", "there is no operator", "metrics.top1", "`metrics.top1 > 80`"),
        ("name ~ mae", "there is no operator", "name ~ mae", "`status = finished`"),
        ("step =>3", "`=>` is no operator", "=>3", "`>=`"),
        ("step >", "there is nothing after `>`", ">", "`null`"),
        ("step > 8x", "`>` compares numbers, and `8x` is none", "> 8x", "`> 80`"),
        ("name = [a", "", "= [a", "YAML"),
        ("name = a**", "`a**` is no pattern", "= a**", "`convmae_*`"),
    ] {
        let error = text.parse::<Test>().unwrap_err();
        assert!(error.to_string().contains(message), "{text}: {error}");
        assert_eq!(&text[error.place.offset()..][..error.place.len()], place, "{text}");
        assert!(error.help.contains(help), "{text}: {}", error.help);
    }
    let problems = Condition::from_map(json!({ "a": "<> 3", "b": "> x" }).as_object().unwrap()).unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["a", "b"]);
}

proptest! {
    /// A map and its tests as arguments say the same.
    #[test]
    fn arguments_read_as_the_map_does(
        key in "[a-z][a-z0-9_.-]{0,8}",
        sign in prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]),
        number in -1e6..1e6_f64,
    ) {
        let argument: Test = format!("{key}{sign}{number:?}").parse().unwrap();
        let map = json!({ &key: format!("{sign} {number:?}") });
        prop_assert_eq!(&Condition::from_map(map.as_object().unwrap()).unwrap(), &Condition(vec![argument.clone()]));
        prop_assert_eq!(argument.to_string().parse::<Test>().unwrap(), argument);
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".*|([a-z.]|[0-9]|[<>=!*'\"\\[\\] ]|é){0,20}") {
        if let Err(error) = text.parse::<Test>() {
            prop_assert!(text.get(error.place.offset()..error.place.offset() + error.place.len()).is_some());
        }
    }

    /// Every value is either equal or not, and below, at or above another.
    #[test]
    fn operators_divide_all_numbers(found in -3..3_i64, wanted in -3..3_i64) {
        let holds = |sign: &str| {
            format!("a {sign} {wanted}").parse::<Test>().unwrap().holds(&[&json!(found)])
        };
        prop_assert_eq!(holds("="), !holds("!="));
        prop_assert_eq!(holds("<"), !holds(">="));
        prop_assert_eq!(holds(">"), !holds("<="));
        prop_assert_eq!(holds("<="), holds("<") || holds("="));
    }
}
