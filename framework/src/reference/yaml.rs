//! Values as YAML.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// A mapping, one key a line.
pub(super) fn block(value: &Value) -> String {
    let Some(map) = value.as_object() else { return flow(value) };
    let mut text = String::new();
    for (key, value) in map {
        let _ = writeln!(text, "{key}: {}", flow(value));
    }
    text
}

/// A value on one line.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::Number(number) => self::number(number),
        Value::String(text) if is_plain(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries: Vec<_> = map.iter().map(|(key, value)| format!("{key}: {}", flow(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

/// A default of an `f32` in the few digits that it was written with: 0.1, not 0.10000000149.
fn number(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) if f64::from(float as f32) == float => format!("{:?}", float as f32),
        _ => number.to_string(),
    }
}

/// Whether a text is read back as this text without quotes.
fn is_plain(text: &str) -> bool {
    let begins_plainly = match text.chars().next() {
        // A number followed by a word is none.
        Some('0'..='9') => text.contains(' '),
        first => first.is_some_and(|first| first.is_ascii_alphabetic() || first == '_'),
    };
    let is_a_word =
        ["true", "false", "null", "yes", "no", "on", "off"].contains(&text.to_lowercase().as_str());
    begins_plainly && !is_a_word && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./ ".contains(c))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_as_people_write_them() {
        let value =
            json!({ "type": "A", "size": [1, 2], "eps": f64::from(1e-6_f32), "lr": 0.1, "none": null });
        assert_eq!(flow(&value), "{ type: A, size: [1, 2], eps: 1e-6, lr: 0.1, none: null }");
        assert_eq!(block(&json!({ "a": [0.5], "b": { "c": 1 } })), "a: [0.5]\nb: { c: 1 }\n");
    }

    #[test]
    fn texts_that_yaml_reads_otherwise_are_quoted() {
        for text in ["", "yes", "1e3", "0x1f", "train-{000..146}.tar", "a: b"] {
            assert_eq!(flow(&json!(text)), format!("{text:?}"));
        }
        for text in ["data/imagenet", "40 epochs", "mean"] {
            assert_eq!(flow(&json!(text)), text);
        }
    }
}
