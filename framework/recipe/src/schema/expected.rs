//! Words for values, and for what a schema says and expects.

use serde_json::Value;

use crate::catalog::{list, resolve};

/// The kind of a value and, if it is short, the value: a list, the number 1.5.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("the boolean `{flag}`"),
        Value::Number(number) if number.is_f64() => format!("the number {number}"),
        Value::Number(number) => format!("the integer {number}"),
        Value::String(text) => format!("the string `{}`", shorten(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

fn shorten(text: &str) -> String {
    const SHOWN: usize = 40;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= SHOWN && line.len() == text.len() {
        return line.to_owned();
    }
    line.chars().take(SHOWN).chain("...".chars()).collect()
}

/// A scalar as it is written in YAML, without quotes.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // Limits are written as floats; `0` reads better than `0.0`.
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => format!("{float}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn names(types: &Value) -> Vec<&str> {
    match types {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The words for the `type` of a schema.
pub(super) fn describe_type(schema: &Value) -> String {
    any_of(type_words(schema))
}

fn type_words(schema: &Value) -> Vec<String> {
    let words = names(schema.get("type").unwrap_or(&Value::Null)).into_iter().map(|name| match name {
        "integer" => "an integer".to_owned(),
        "number" => "a number".to_owned(),
        "string" => "a string".to_owned(),
        "boolean" => "a boolean".to_owned(),
        "array" => match fixed_length(schema) {
            Some(length) => format!("a list of {length}"),
            None => "a list".to_owned(),
        },
        "object" => "a mapping".to_owned(),
        other => other.to_owned(),
    });
    words.collect()
}

/// The length of a list that cannot have another one.
fn fixed_length(schema: &Value) -> Option<usize> {
    let length = schema.get("minItems")?;
    length.as_u64().filter(|_| schema.get("maxItems") == Some(length)).map(|length| length as usize)
}

/// How a list is written where a single value stands.
fn as_list(value: &Value, schema: &Value) -> String {
    let written = |items: Vec<String>| format!("`[{}]`", items.join(", "));
    let mut examples = list(schema, "examples").chain(schema.get("default")).filter_map(Value::as_array);
    match (fixed_length(schema), examples.next()) {
        (Some(length), Some(example)) if length > 1 => {
            format!("write {length} values, as in {}", written(example.iter().map(plain).collect()))
        }
        (length, _) => format!("write {}", written(vec![plain(value); length.unwrap_or(1)])),
    }
}

/// The words for what any of these schemas expects.
pub(super) fn describe_schemas<'a>(schemas: impl IntoIterator<Item = &'a Value>, document: &Value) -> String {
    let mut words: Vec<_> = schemas.into_iter().flat_map(|schema| schema_words(schema, document)).collect();
    words.dedup();
    if words.is_empty() { "a value".to_owned() } else { any_of(words) }
}

fn schema_words(schema: &Value, document: &Value) -> Vec<String> {
    let schema = resolve(schema, document);
    if let Some(kinds) = schema.get("x-component") {
        return names(kinds).into_iter().map(article).collect();
    }
    let choices: Vec<_> = schema.get("const").into_iter().chain(list(schema, "enum")).collect();
    match (choices.as_slice(), schema.get("type")) {
        ([], Some(_)) => type_words(schema),
        ([], None) => {
            let branches = list(schema, "anyOf").chain(list(schema, "oneOf"));
            branches.flat_map(|branch| schema_words(branch, document)).collect()
        }
        (choices, _) => choices.iter().map(|choice| format!("`{}`", plain(choice))).collect(),
    }
}

/// `a, b or c`.
pub(super) fn any_of(words: impl IntoIterator<Item = String>) -> String {
    let mut words: Vec<_> = words.into_iter().collect();
    match words.pop() {
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} or {last}", words.join(", ")),
        None => String::new(),
    }
}

/// `a head`, `an optimizer`.
pub fn article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// Whether a value has a type that the schema allows, whatever else is wrong with it.
pub(super) fn matches_type(value: &Value, schema: &Value, document: &Value) -> bool {
    let schema = resolve(schema, document);
    if schema.get("x-component").is_some() {
        return value.is_object();
    }
    if let Some(types) = schema.get("type") {
        return names(types).into_iter().any(|name| match name {
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "null" => value.is_null(),
            _ => true,
        });
    }
    let mut branches = list(schema, "anyOf").chain(list(schema, "oneOf")).peekable();
    if branches.peek().is_some() {
        return branches.any(|branch| matches_type(value, branch, document));
    }
    if let Some(constant) = schema.get("const") {
        return std::mem::discriminant(constant) == std::mem::discriminant(value);
    }
    match schema.get("properties") {
        Some(_) => value.is_object(),
        None => true,
    }
}

/// How to write what was meant.
pub(super) fn type_help(value: &Value, schema: &Value) -> Option<String> {
    let types = schema.get("type")?;
    let wants = |name| names(types).contains(&name);
    match value {
        Value::Number(number) if wants("integer") => {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15);
            Some(match float {
                Some(float) => format!("write `{float}`, without a point or an exponent"),
                None => "a fraction is not possible here".to_owned(),
            })
        }
        Value::String(text) if wants("number") || wants("integer") => {
            let number = text.replace('_', "");
            let is_number = number.parse::<f64>().is_ok_and(f64::is_finite);
            match (is_number, number == *text) {
                (true, true) => Some(format!("write `{number}`, without quotes")),
                (true, false) => Some(format!("write `{number}`, without `_`")),
                _ => None,
            }
        }
        Value::String(text) if wants("boolean") => match text.to_lowercase().as_str() {
            "yes" | "on" | "true" => Some("write `true`".to_owned()),
            "no" | "off" | "false" => Some("write `false`".to_owned()),
            _ => None,
        },
        Value::String(text) if wants("null") && text.eq_ignore_ascii_case("none") => {
            Some("write `null`".to_owned())
        }
        Value::Number(_) | Value::Bool(_) if wants("string") => {
            Some(format!("write `\"{value}\"`, in quotes"))
        }
        Value::Null => Some("a key without a value is null: give it a value, or remove the key".to_owned()),
        Value::Array(_) | Value::Object(_) => None,
        _ if wants("array") => Some(as_list(value, schema)),
        _ => None,
    }
}

/// The first sentence of a documentation, in one line. `(He et al. 2022)` does not end one.
pub fn first_sentence(text: &str) -> String {
    const ABBREVIATIONS: [&str; 5] = ["al.", "cf.", "e.g.", "i.e.", "vs."];
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let mut open_brackets = 0;
    let mut sentence = Vec::new();
    for word in paragraph.split_whitespace() {
        open_brackets += word.matches('(').count();
        open_brackets = open_brackets.saturating_sub(word.matches(')').count());
        sentence.push(word);
        let is_end =
            word.ends_with(['.', '!', '?']) && !ABBREVIATIONS.contains(&word.trim_start_matches('('));
        if is_end && open_brackets == 0 {
            break;
        }
    }
    sentence.join(" ")
}

#[cfg(test)]
mod tests {
    use super::first_sentence;

    #[test]
    fn a_sentence_ends_at_its_own_full_stop() {
        for (text, first) in [
            ("One.\nTwo.", "One."),
            ("A line\nand another. Two.", "A line and another."),
            (
                "Random erasing (Zhong et al. 2020; `timm` 0.3.2). Two.",
                "Random erasing (Zhong et al. 2020; `timm` 0.3.2).",
            ),
            ("As Long et al. do, e.g. by 0.5. Two.", "As Long et al. do, e.g. by 0.5."),
            ("Without a full stop\n\nTwo.", "Without a full stop"),
            ("", ""),
        ] {
            assert_eq!(first_sentence(text), first);
        }
    }
}
