//! Brace expansion and globs for the names of shards.

use std::path::{Path, PathBuf};

use convmae_framework::data::DataError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::what_is_there;

/// One pattern or several.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Shards {
    /// One path or pattern.
    One(String),
    /// Several paths or patterns.
    Many(Vec<String>),
}

impl Shards {
    /// The files, at least one, in their order.
    ///
    /// # Errors
    /// If one is not there, or a pattern is none.
    pub fn files(&self) -> Result<Vec<PathBuf>, DataError> {
        let patterns = match self {
            Self::One(pattern) => std::slice::from_ref(pattern),
            Self::Many(patterns) => patterns,
        };
        let shards = patterns.iter().map(|pattern| files(pattern)).collect::<Result<Vec<_>, _>>()?.concat();
        if shards.is_empty() {
            let reason = "the list of shards is empty".to_owned();
            return Err(DataError::Invalid { path: "shards".into(), reason });
        }
        Ok(shards)
    }
}

/// More names than anyone has shards: a typing error in a range.
const MAX_NAMES: usize = 1_000_000;

/// The files that a pattern stands for: `{000..146}` and `{a,b}` name files that must exist, `*`, `?` and
/// `[..]` find them.
fn files(pattern: &str) -> Result<Vec<PathBuf>, DataError> {
    let invalid = |path: &str, reason: String| DataError::Invalid { path: path.into(), reason };
    let mut files = Vec::new();
    for name in expand_braces(pattern).map_err(|reason| invalid(pattern, reason))? {
        let before = files.len();
        if name.contains(['*', '?', '[']) {
            let found =
                glob::glob(&name).map_err(|error| invalid(&name, format!("no valid pattern: {error}")))?;
            for path in found {
                let path = path
                    .map_err(|error| DataError::Io { path: error.path().to_owned(), source: error.into() })?;
                files.push(path);
            }
        } else if Path::new(&name).is_file() {
            files.push(PathBuf::from(&name));
        }
        if files.len() == before {
            return Err(invalid(&name, format!("no such file{}", what_is_there(Path::new(&name)))));
        }
    }
    Ok(files)
}

/// Expands `{a,b}` and `{000..146}`, nested too, as a shell does.
fn expand_braces(pattern: &str) -> Result<Vec<String>, String> {
    let Some(open) = pattern.find('{') else {
        return if pattern.contains('}') {
            Err("`}` without `{`".to_owned())
        } else {
            Ok(vec![pattern.to_owned()])
        };
    };
    let (choices, close) = split_choices(&pattern[open..])?;
    let (prefix, suffix) = (&pattern[..open], &pattern[open + close + 1..]);
    let choices = if let [range] = choices[..] {
        expand_range(range)?
    } else {
        let choices: Result<Vec<_>, _> = choices.into_iter().map(expand_braces).collect();
        choices?.concat()
    };
    let suffixes = expand_braces(suffix)?;
    if choices.len().saturating_mul(suffixes.len()) > MAX_NAMES {
        return Err(format!("stands for more than {MAX_NAMES} names"));
    }
    Ok(choices
        .iter()
        .flat_map(|choice| suffixes.iter().map(move |suffix| format!("{prefix}{choice}{suffix}")))
        .collect())
}

/// The parts between the commas of the brace that `text` begins with, and where it closes.
fn split_choices(text: &str) -> Result<(Vec<&str>, usize), String> {
    let mut choices = Vec::new();
    let (mut depth, mut start) = (0, 1);
    for (position, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && character == ',') {
            choices.push(&text[start..position]);
            start = position + 1;
        }
        if depth == 0 {
            return Ok((choices, position));
        }
    }
    Err("`{` without `}`".to_owned())
}

/// `000..146`, padded with zeros if an end is.
fn expand_range(range: &str) -> Result<Vec<String>, String> {
    let error =
        || format!("`{{{range}}}` is neither a range such as `{{000..146}}` nor a choice such as `{{a,b}}`");
    let (first, last) = range.split_once("..").ok_or_else(error)?;
    let number = |text: &str| text.parse::<usize>().map_err(|_| error());
    let (from, to) = (number(first)?, number(last)?);
    if from > to || to - from >= MAX_NAMES {
        return Err(format!("`{{{range}}}` is no range from a smaller to a larger number"));
    }
    let padded = [first, last].iter().any(|end| end.len() > 1 && end.starts_with('0'));
    let width = if padded { first.len().max(last.len()) } else { 0 };
    Ok((from..=to).map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn expand(pattern: &str) -> String {
        expand_braces(pattern).unwrap().join(" ")
    }

    #[test]
    fn ranges_keep_their_zeros() {
        assert_eq!(expand("a-{008..011}.tar"), "a-008.tar a-009.tar a-010.tar a-011.tar");
        assert_eq!(expand("{9..11}"), "9 10 11");
        assert_eq!(expand("plain.tar"), "plain.tar");
    }

    #[test]
    fn choices_nest_and_multiply() {
        assert_eq!(expand("{train,val}-{0..1}"), "train-0 train-1 val-0 val-1");
        assert_eq!(expand("x{a,b{1..2}}"), "xa xb1 xb2");
        assert_eq!(expand("x{,y}"), "x xy");
    }

    #[test]
    fn what_is_no_pattern_is_said_so() {
        for (pattern, reason) in [
            ("a{1..2", "`{` without `}`"),
            ("a1}", "`}` without `{`"),
            ("{5..2}", "`{5..2}` is no range from a smaller to a larger number"),
            ("{abc}", "`{abc}` is neither a range such as `{000..146}` nor a choice such as `{a,b}`"),
        ] {
            assert_eq!(expand_braces(pattern).unwrap_err(), reason);
        }
        assert!(expand_braces("{0..999999}{0..999999}").is_err());
    }

    #[test]
    fn patterns_find_files_and_name_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b-0.tar", "a-1.tar", "a-0.tar"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let found = files(&path("a-*.tar")).unwrap();
        assert_eq!(found, [folder.path().join("a-0.tar"), folder.path().join("a-1.tar")]);
        assert_eq!(files(&path("{a,b}-0.tar")).unwrap().len(), 2);
        let message = files(&path("a-{0..2}.tar")).unwrap_err().to_string();
        assert!(message.contains("a-2.tar: no such file; `"), "{message}");
        assert!(message.ends_with("holds a-0.tar, a-1.tar, b-0.tar"), "{message}");
    }

    proptest! {
        #[test]
        fn any_text_expands_or_is_refused(pattern in "[a{},.0-9]{0,12}") {
            let _ = expand_braces(&pattern);
        }
    }
}
