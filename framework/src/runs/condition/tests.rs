#![allow(clippy::unwrap_used)]

use polars::prelude::*;
use proptest::prelude::*;

use super::{Condition, ConditionError, Expression, Literal, Name, Operator};

fn runs() -> DataFrame {
    df![
        "run" => ["a", "b", "c", "d"],
        "metrics.top1" => [Some(81.5), Some(79.0), None, Some(80.0)],
        "recipe.optimizer.lr" => [Some("0.001"), Some("auto"), None, Some("0.0005")],
        "recipe.frozen" => [Some(true), Some(false), None, Some(true)],
        "step" => [800_i64, 400, 0, 800],
    ]
    .unwrap()
}

fn satisfied(condition: &str) -> String {
    let rows = condition.parse::<Condition>().unwrap().apply(&runs()).unwrap();
    let names = ["a", "b", "c", "d"];
    rows.iter().zip(names).filter_map(|(row, name)| row.unwrap().then_some(name)).collect()
}

fn refused(condition: &str) -> (String, String, String) {
    let parsed = condition.parse::<Condition>();
    let error: ConditionError = match parsed {
        Err(error) => error,
        Ok(parsed) => parsed.apply(&runs()).unwrap_err(),
    };
    let place = condition[error.place()].to_owned();
    (error.to_string(), place, error.advice().unwrap_or_default().to_owned())
}

#[test]
fn comparisons_of_every_type() {
    for (condition, expected) in [
        ("metrics.top1 > 80", "a"),
        ("metrics.top1 >= 80", "ad"),
        ("metrics.top1 < 8.0e1", "b"),
        ("step == 800", "ad"),
        ("step != 800", "bc"),
        ("run == 'b'", "b"),
        (r#"run > "b""#, "cd"),
        ("recipe.optimizer.lr == 1e-3", "a"),
        ("recipe.optimizer.lr < 1e-3", "d"),
        ("recipe.optimizer.lr ~ '00'", "ad"),
        ("recipe.frozen", "ad"),
        ("recipe.frozen == false", "b"),
        ("recipe.frozen != true", "bc"),
        ("metrics.top1 == null", "c"),
        ("metrics.top1 != null", "abd"),
        ("`metrics.top1` <= -1", ""),
    ] {
        assert_eq!(satisfied(condition), expected, "{condition}");
    }
}

#[test]
fn and_binds_stronger_than_or_and_not_strongest() {
    for (condition, expected) in [
        ("run == 'c' or step == 800 and metrics.top1 > 81", "ac"),
        ("(run == 'c' or step == 800) and metrics.top1 > 81", "a"),
        ("not run == 'a' and step == 800", "d"),
        ("not (run == 'a' and step == 800)", "bcd"),
        ("not not recipe.frozen", "ad"),
    ] {
        assert_eq!(satisfied(condition), expected, "{condition}");
    }
}

#[test]
fn mistakes_are_pointed_at() {
    for (condition, message, place, advice) in [
        ("", "expected a column, found the end", "", "write a condition"),
        ("metrics.top1 = 80", "`=` means nothing here", "=", "write `==`"),
        ("step > 1 && step < 9", "`&` means nothing here", "&", "write `and`"),
        ("step >", "nothing to compare with after `>`", ">", ""),
        ("step > 8x", "`8x` is not a number", "8x", "text stands in quotes"),
        ("status == finished", "expected a value, found the word `finished`", "finished", "`'finished'`"),
        ("run == 'a", "the closing ' is missing", "'a", ""),
        ("(step > 1", "the closing `)` is missing", "(", ""),
        ("step > 1)", "there is no `(` for this `)`", ")", ""),
        ("step > 1 run == 'a'", "the condition should end here", "run", "join comparisons"),
        ("80 < step", "expected a column", "80", "starts with a column"),
        ("step > 1 and or", "expected a column", "or", "starts with a column"),
        ("top1 > 80", "no run has the column `top1`", "top1", "did you mean `metrics.top1`?"),
        ("metrics.top > 80", "no run has the column `metrics.top`", "metrics.top", "`metrics.top1`?"),
        ("momentum == 1", "no run has the column `momentum`", "momentum", "columns are `run`"),
        (
            "step == '800'",
            "`step` holds numbers: `==` of this value means nothing",
            "step == '800'",
            "a number",
        ),
        ("recipe.frozen > true", "`recipe.frozen` holds booleans", "recipe.frozen > true", "`==` or `!=`"),
        ("run ~ null", "`run` holds text", "run ~ null", "in quotes"),
    ] {
        let (said, at, help) = refused(condition);
        assert!(
            said.contains(message) && at == place && help.contains(advice),
            "{condition}: {said} {at} {help}"
        );
    }
    assert!(refused(&"(".repeat(10_000)).0.contains("more than 64 levels"));
    assert!(refused(&"not ".repeat(10_000)).0.contains("more than 64 levels"));
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        Just(Literal::Null),
        any::<bool>().prop_map(Literal::Bool),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Literal::Number),
        ".*".prop_map(Literal::Text),
    ]
}

fn expression() -> impl Strategy<Value = Expression> {
    let operator = (0..Operator::ALL.len()).prop_map(|index| Operator::ALL[index]);
    let leaf = ("[a-z][a-z0-9_. -]{0,8}", operator, literal()).prop_map(|(text, operator, value)| {
        Expression::Compare { column: Name { text, place: 0..0 }, operator, value, place: 0..0 }
    });
    leaf.prop_recursive(5, 24, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expression::And(a.into(), b.into())),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expression::Or(a.into(), b.into())),
            inner.prop_map(|inner| Expression::Not(inner.into())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(expression in expression()) {
        let text = expression.to_string();
        prop_assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
    }

    #[test]
    fn any_text_is_read_or_refused_within_it(text in ".*|([a-z.]|[0-9]|[()<>=!~'\"`\\\\ ]|and|or|not|é){0,20}") {
        if let Err(error) = text.parse::<Condition>() {
            prop_assert!(text.get(error.place()).is_some());
        }
    }

    /// The opposite of a condition is satisfied by the other rows, and conditions join as sets of rows do.
    #[test]
    fn conditions_are_sets_of_rows(number in 0..1000_i64, other in 70..90_i64) {
        let (a, b) = (format!("step <= {number}"), format!("metrics.top1 > {other}"));
        let set = |condition: &str| satisfied(condition).chars().collect::<std::collections::BTreeSet<_>>();
        let all = set("run != null");
        prop_assert_eq!(set(&format!("not {a}")), &all - &set(&a));
        prop_assert_eq!(set(&format!("{a} and {b}")), &set(&a) & &set(&b));
        prop_assert_eq!(set(&format!("{a} or {b}")), &set(&a) | &set(&b));
        prop_assert_eq!(set(&format!("not ({a} or {b})")), set(&format!("not {a} and not {b}")));
    }
}
