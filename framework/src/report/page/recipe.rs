//! The recipe, its keys, strings and comments told apart; of several runs the keys in which the resolved
//! recipes differ.

use maud::{Markup, html};
use serde_json::Value;

use super::number::count;
use super::palette;
use super::run::Run;
use crate::recipe::{differences, lock, without};

pub(super) fn section(runs: &[Run]) -> Markup {
    if let [run] = runs {
        return of_one(run);
    }
    let recipes: Vec<_> = runs.iter().map(|run| &run.recipe).collect();
    let differences = differences(&recipes);
    html! {
        @if differences.is_empty() {
            p { "The recipes of all runs are the same." }
        } @else {
            p.note { "Keys in which the resolved recipes differ; what differs from the first run is marked." }
            div.wide {
                table.diff {
                    thead {
                        tr {
                            th scope="col" { "Key" }
                            @for (at, run) in runs.iter().enumerate() {
                                th.run scope="col" data-run=(at) { (palette::sample(run.entry)) (run.label) }
                            }
                        }
                    }
                    tbody {
                        @for difference in &differences {
                            tr {
                                th.path scope="row" { (breakable(&difference.key)) }
                                @for value in &difference.values {
                                    td.changed[*value != difference.values[0]] { (self::value(*value)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What somebody wrote, apart from the defaults where these are known.
fn of_one(run: &Run) -> Markup {
    let defaults = &run.details.defaults;
    if defaults.is_empty() {
        return highlighted(&run.recipe_yaml);
    }
    html! {
        (highlighted(&lock::yaml(&without(&run.recipe, defaults))))
        details {
            summary { "With " (count(defaults.len() as u64)) " keys that hold their defaults" }
            (highlighted(&run.recipe_yaml))
        }
    }
}

/// A key that may be broken behind its dots.
fn breakable(key: &str) -> Markup {
    html! { @for part in key.split_inclusive('.') { (part) wbr; } }
}

fn highlighted(yaml: &str) -> Markup {
    html! {
        pre.recipe { code { @for line in yaml.lines() { (highlighted_line(line)) "\n" } } }
    }
}

/// A value of a recipe: a scalar by itself, a block as YAML.
fn value(value: Option<&Value>) -> Markup {
    match value {
        None => html! { span.c { "unset" } },
        Some(block @ (Value::Array(_) | Value::Object(_))) if !is_flat(block) => {
            // A tree of JSON values always serialises.
            let yaml = serde_yaml::to_string(block).unwrap_or_default();
            html! { code.recipe-block { @for line in yaml.lines() { (highlighted_line(line)) "\n" } } }
        }
        Some(Value::String(text)) => html! { code.s { (text) } },
        Some(scalar) => html! { code.n { (scalar) } },
    }
}

/// Whether a value is short enough to stand in a line: `[0.9,0.95]`.
fn is_flat(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(|item| item.is_number() || item.is_boolean()))
}

fn highlighted_line(line: &str) -> Markup {
    let start = line.len() - line.trim_start_matches([' ', '-']).len();
    // A line of dashes only, or a negative number, is not the start of a list item.
    let start = if line[..start].ends_with('-') { line.len() - line.trim_start().len() } else { start };
    let (margin, content) = line.split_at(start);
    let (content, comment) = content.split_at(comment_start(content));
    let (key, value) = content.split_at(key_end(content));
    let trimmed = value.trim_start_matches([':', ' ']);
    let (colon, scalar) = value.split_at(value.len() - trimmed.len());
    html! {
        (margin)
        @if !key.is_empty() { span.k { (key) } }
        (colon)
        @match scalar_class(scalar) {
            Some(class) => span class=(class) { (scalar) },
            None => (scalar),
        }
        @if !comment.is_empty() { span.c { (comment) } }
    }
}

/// Where a comment starts: a `#` at the beginning or after a space, outside of quotes.
fn comment_start(text: &str) -> usize {
    let mut quote = None;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '#') if previous.is_whitespace() => return at,
            (None, '"' | '\'') if !previous.is_alphanumeric() => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
        previous = c;
    }
    text.len()
}

/// Where the key of `key: value` ends, 0 if there is none.
fn key_end(text: &str) -> usize {
    let end = text.find(": ").or_else(|| text.strip_suffix(':').map(str::len)).unwrap_or(0);
    let is_key = |c: char| c.is_alphanumeric() || "_-./<>'\"".contains(c);
    if text[..end].chars().all(is_key) { end } else { 0 }
}

fn scalar_class(scalar: &str) -> Option<&'static str> {
    let scalar = scalar.trim();
    match scalar {
        "" => None,
        "true" | "false" | "null" | "~" => Some("n"),
        _ if scalar.parse::<f64>().is_ok() => Some("n"),
        _ if scalar.starts_with(['[', '{', '|', '>', '&', '*']) => None,
        _ => Some("s"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> String {
        highlighted_line(text).into_string()
    }

    #[test]
    fn keys_numbers_strings_and_comments_are_told_apart() {
        assert_eq!(
            line("  - lr: 1.5e-4 # base"),
            r#"  - <span class="k">lr</span>: <span class="n">1.5e-4 </span><span class="c"># base</span>"#
        );
        assert_eq!(line("type: ConvViT"), r#"<span class="k">type</span>: <span class="s">ConvViT</span>"#);
        assert_eq!(line("model:"), r#"<span class="k">model</span>:"#);
        assert_eq!(line("- 3"), r#"- <span class="n">3</span>"#);
        assert_eq!(line("-3"), r#"<span class="n">-3</span>"#);
        assert_eq!(line("dims: [1, 2]"), r#"<span class="k">dims</span>: [1, 2]"#);
    }

    #[test]
    fn what_was_written_stands_apart_from_defaults() {
        let recipe = serde_json::json!({
            "train": {"length": "2 epochs", "log_every": 10}, "logging": {"tensorboard": false},
            "transforms": [{"type": "Flip", "p": 0.5}, {"type": "Normalize"}],
        });
        let defaults = ["train.log_every", "logging", "transforms.0.p"];
        let mut run = Run { recipe_yaml: lock::yaml(&recipe), recipe, ..Run::default() };
        let of = |run: &Run| section(std::slice::from_ref(run)).into_string();
        assert!(!of(&run).contains("<details>"));
        run.details.defaults = defaults.map(str::to_owned).to_vec();
        let page = of(&run);
        assert!(page.contains("With 3 keys that hold their defaults"), "{page}");
        assert_eq!((page.matches("log_every").count(), page.matches("length").count()), (1, 2));
    }

    #[test]
    fn markup_in_a_recipe_is_text() {
        let html = line("name: \"<script>alert('#')</script>\"");
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
    }

    proptest! {
        #[test]
        fn no_character_is_lost(text in "[ -~äß#:'\"<>&]{0,40}") {
            let html = line(&text);
            let mut plain = String::new();
            let mut inside = false;
            for c in html.chars() {
                match c {
                    '<' => inside = true,
                    '>' => inside = false,
                    c if !inside => plain.push(c),
                    _ => {}
                }
            }
            let plain = plain.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
            prop_assert_eq!(plain, text);
        }
    }
}
