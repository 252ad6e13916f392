//! Names with `*`, and what they become.

use regex::Regex;
use thiserror::Error;

/// A name in which `*` stands for anything, dots too. It fits a name, or what a name begins with up to a dot:
/// `layers.*.ln1` fits `layers.0.ln1.weight`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// What a pattern found in a name.
pub struct Found<'n> {
    stars: Vec<&'n str>,
    /// What follows the dot behind the pattern.
    rest: Option<&'n str>,
}

/// Why a rule is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{from}` has {stars} `*`, `{to}` has {expected}; each is filled by its counterpart")]
pub struct RuleError {
    /// The pattern.
    pub from: String,
    /// What it should become.
    pub to: String,
    stars: usize,
    expected: usize,
}

impl Pattern {
    /// Any text is a pattern.
    pub fn new(text: &str) -> Option<Self> {
        let pieces: Vec<String> = text.split('*').map(regex::escape).collect();
        let regex = Regex::new(&format!(r"(?s)^{}(?:\.(.*))?$", pieces.join("(.*)"))).ok()?;
        Some(Self { text: text.to_owned(), regex })
    }

    /// What of a name the stars stand for.
    pub fn find<'n>(&self, name: &'n str) -> Option<Found<'n>> {
        let captures = self.regex.captures(name)?;
        let group = |at| captures.get(at).map(|found| found.as_str());
        let stars = self.stars();
        Some(Found { stars: (1..=stars).filter_map(group).collect(), rest: group(stars + 1) })
    }

    /// The name that this pattern is with its stars filled.
    pub fn fill(&self, found: &Found<'_>) -> String {
        let mut stars = found.stars.iter();
        let mut name = String::new();
        for (at, piece) in self.text.split('*').enumerate() {
            if at > 0 {
                name.push_str(stars.next().copied().unwrap_or_default());
            }
            name.push_str(piece);
        }
        match found.rest {
            Some(rest) if name.is_empty() => rest.to_owned(),
            Some(rest) => format!("{name}.{rest}"),
            None => name,
        }
    }

    /// The pattern as it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Letters that are no stars: the more, the more special.
    pub fn literal(&self) -> usize {
        self.text.len() - self.stars()
    }

    fn stars(&self) -> usize {
        self.text.matches('*').count()
    }
}

/// A pattern and what the names that it fits become.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Names of the file.
    pub from: Pattern,
    /// Names of the model.
    pub to: Pattern,
}

impl Rule {
    /// A rule that fills each `*` of `to` with what it stands for in `from`.
    ///
    /// # Errors
    /// Unless both have as many.
    pub fn new(from: &str, to: &str) -> Result<Self, RuleError> {
        let count = |text: &str| text.matches('*').count();
        let error =
            || RuleError { from: from.into(), to: to.into(), stars: count(from), expected: count(to) };
        match (Pattern::new(from), Pattern::new(to)) {
            (Some(from), Some(to)) if from.stars() == to.stars() => Ok(Self { from, to }),
            _ => Err(error()),
        }
    }

    /// What a name becomes, if the rule fits it.
    pub fn apply(&self, name: &str) -> Option<String> {
        self.from.find(name).map(|found| self.to.fill(&found))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn stars_are_filled_and_what_follows_is_kept() {
        for (from, to, name, expected) in [
            (
                "backbone.layers.*.ln1",
                "blocks.*.norm1",
                "backbone.layers.10.ln1.weight",
                Some("blocks.10.norm1.weight"),
            ),
            ("backbone.layers.*.ln1", "blocks.*.norm1", "backbone.layers.10.ln12.weight", None),
            ("module.*", "*", "module.a.b", Some("a.b")),
            ("module", "", "module.a.b", Some("a.b")),
            ("*.gamma", "*.g", "blocks.0.ls1.gamma", Some("blocks.0.ls1.g")),
            ("a.*.b.*", "x.*.*", "a.1.b.2", Some("x.1.2")),
            ("norm", "fc_norm", "norm", Some("fc_norm")),
            ("norm", "fc_norm", "pre.norm", None),
            ("a+b", "c", "a+b.c", Some("c.c")),
            ("a\n*", "b*", "a\nb\nc", Some("bb\nc")),
        ] {
            assert_eq!(Rule::new(from, to).unwrap().apply(name).as_deref(), expected, "{from}: {name}");
        }
    }

    #[test]
    fn both_sides_have_as_many_stars() {
        let error = Rule::new("a.*.b", "c").unwrap_err().to_string();
        assert_eq!(error, "`a.*.b` has 1 `*`, `c` has 0; each is filled by its counterpart");
    }
}
