//! What a label says of the class of its image.

use convmae_framework::data::composed;
use serde_json::Value;

use crate::datasets::some_names;

/// A class by its index or by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    Index(usize),
    Name(String),
}

impl Label {
    /// Reads a `.cls` member, or the value of a key of a `.json` member.
    ///
    /// # Errors
    /// Why there is no label.
    pub fn parse(bytes: &[u8], extension: &str, key: &str) -> Result<Self, String> {
        if extension == "cls" {
            let text = String::from_utf8_lossy(bytes);
            return Ok(text.trim().parse().map_or_else(|_| Self::Name(composed(text.trim())), Self::Index));
        }
        let json: Value = serde_json::from_slice(bytes).map_err(|error| format!("no JSON: {error}"))?;
        let label = json.get(key).ok_or_else(|| match &json {
            Value::Object(fields) => {
                format!(
                    "no key `{key}` (`label_key`); its keys are {}",
                    some_names(fields.keys().cloned().collect())
                )
            }
            _ => format!("no key `{key}` (`label_key`): it is no mapping"),
        })?;
        match label {
            Value::Number(number) if number.is_u64() => {
                Ok(Self::Index(number.as_u64().unwrap_or_default() as usize))
            }
            Value::String(name) => Ok(Self::Name(composed(name.trim()))),
            other => Err(format!(
                "the label `{}` is no class: neither an index nor a name",
                shorten(&other.to_string())
            )),
        }
    }

    /// The index of the class; `names` are those of all classes, where they are known. A text that is none of
    /// the names may be an index.
    ///
    /// # Errors
    /// Why it is none.
    pub fn class(&self, names: Option<&[String]>) -> Result<usize, String> {
        let is_listed = |name: &String| names.is_some_and(|names| names.contains(name));
        match (self, names) {
            (Self::Name(name), _) if !is_listed(name) && name.parse::<usize>().is_ok() => {
                Self::Index(name.parse().unwrap_or_default()).class(names)
            }
            (Self::Index(class), Some(names)) if *class >= names.len() => {
                Err(format!("class {class}, but only {} classes are named", names.len()))
            }
            (Self::Index(class), _) => Ok(*class),
            (Self::Name(name), None) => {
                Err(format!("the label `{}` is no class index; list the names in `classes`", shorten(name)))
            }
            (Self::Name(name), Some(names)) => {
                let mut found = names.iter().enumerate().filter(|(_, known)| *known == name);
                match (found.next(), found.next()) {
                    (Some((class, _)), None) => Ok(class),
                    (Some(_), Some(_)) => {
                        Err(format!("the label `{}` stands more than once in `classes`", shorten(name)))
                    }
                    (None, _) => Err(format!(
                        "the label `{}` is none of the {} names in `classes`",
                        shorten(name),
                        names.len()
                    )),
                }
            }
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn json(text: &str) -> Result<Label, String> {
        Label::parse(text.as_bytes(), "json", "label")
    }

    #[test]
    fn a_label_is_an_index_or_a_name() {
        let cls = |text: &str| Label::parse(text.as_bytes(), "cls", "label").unwrap();
        assert_eq!(cls(" 7\n"), Label::Index(7));
        assert_eq!(cls("E\u{301}pagneul\n"), Label::Name("\u{c9}pagneul".to_owned()));
        assert_eq!(json(r#"{ "label": 3 }"#).unwrap(), Label::Index(3));
        assert_eq!(json(r#"{ "label": "dog" }"#).unwrap(), Label::Name("dog".to_owned()));
    }

    #[test]
    fn what_is_no_label_says_what_is_there() {
        let message = json(r#"{ "text": "cat", "id": 1 }"#).unwrap_err();
        assert_eq!(message, "no key `label` (`label_key`); its keys are id, text");
        assert_eq!(json("[1]").unwrap_err(), "no key `label` (`label_key`): it is no mapping");
        for label in ["-1", "1.5", "null", "[1]"] {
            let message = json(&format!(r#"{{ "label": {label} }}"#)).unwrap_err();
            assert_eq!(message, format!("the label `{label}` is no class: neither an index nor a name"));
        }
        assert!(json("{").unwrap_err().starts_with("no JSON: "));
    }

    #[test]
    fn a_name_is_the_class_that_is_called_so() {
        let names = ["cat", "crane", "crane"].map(str::to_owned);
        let class = |name: &str| Label::Name(name.to_owned()).class(Some(&names));
        assert_eq!(class("cat"), Ok(0));
        assert_eq!(class("fox").unwrap_err(), "the label `fox` is none of the 3 names in `classes`");
        assert_eq!(class("crane").unwrap_err(), "the label `crane` stands more than once in `classes`");
        assert_eq!(
            Label::Name("dog".to_owned()).class(None).unwrap_err(),
            "the label `dog` is no class index; list the names in `classes`"
        );
        assert_eq!(Label::Index(2).class(Some(&names)), Ok(2));
        assert_eq!((class("2"), Label::Name("7".to_owned()).class(None)), (Ok(2), Ok(7)));
        assert_eq!(Label::Name("1".to_owned()).class(Some(&["1", "0"].map(str::to_owned))), Ok(0));
        assert_eq!(Label::Index(3).class(Some(&names)).unwrap_err(), "class 3, but only 3 classes are named");
    }
}
