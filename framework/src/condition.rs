//! Conditions on values: one language for `convmae runs --where`, `when` and `exclude` of sweeps, and `where`
//! of tables.
//!
//! A condition maps keys to what they must be, all at once: a value; a list, for any of its items; or an
//! operator and a value, as in `"> 80"` and `"!= Lars"`. In a text `*` stands for anything. On the command
//! line every key has an argument of its own, `--where 'metrics.top1 > 80'`. Values are YAML; a number equals
//! a text that is written as that number. What is missing is null: it meets `null`, and `!=` of anything
//! else.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use glob::Pattern;
use miette::{Diagnostic, SourceSpan};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::recipe::{Problem, inline_value, list, nearest};

/// Tests that all have to hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Condition(Vec<Test>);

/// What the value of one key must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// The key.
    pub key: String,
    operator: Operator,
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

use Operator::{AtLeast, AtMost, Equal, Greater, Less, NotEqual};

const OPERATORS: [(&str, Operator); 7] = [
    ("=", Equal),
    ("==", Equal),
    ("!=", NotEqual),
    ("<", Less),
    ("<=", AtMost),
    (">", Greater),
    (">=", AtLeast),
];

/// What is wrong with a test, and what would be right.
struct Fault {
    message: String,
    help: &'static str,
}

impl Condition {
    /// A condition as a file has it.
    ///
    /// # Errors
    /// A problem for every key whose value is no test.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut tests = Vec::new();
        for (key, value) in map {
            let test = match value.as_str().map(split_sign) {
                Some((sign, rest)) if !sign.is_empty() => Test::read(key, sign, rest),
                _ => Test::new(key, Equal, value.clone()),
            };
            match test {
                Ok(test) => tests.push(test),
                Err(Fault { message, help }) => problems.push(Problem::new(key, message).help(help)),
            }
        }
        if problems.is_empty() { Ok(Self(tests)) } else { Err(problems) }
    }

    /// Whether settings meet it. A key may have several values: one of them has to be as asked, and none as
    /// ruled out.
    pub fn is_met<'v>(&self, settings: &(impl Iterator<Item = (&'v str, &'v Value)> + Clone)) -> bool {
        self.0.iter().all(|test| {
            let of_key = settings.clone().filter(|(key, _)| *key == test.key);
            test.holds(&of_key.map(|(_, value)| value).collect::<Vec<_>>())
        })
    }

    /// What can never hold: first problems with keys that no setting has, then those with values that none of
    /// theirs has.
    pub fn problems(&self, settings: &[(&str, &Value)]) -> (Vec<Problem>, Vec<Problem>) {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for test in &self.0 {
            let of_key = settings.iter().filter(|(key, _)| *key == test.key);
            let known: Vec<&Value> = of_key.map(|(_, value)| *value).collect();
            if known.is_empty() {
                let names = settings.iter().map(|(key, _)| (*key).to_owned());
                let help =
                    one_of(&test.key, names, "these vary:").unwrap_or_else(|| "nothing does".to_owned());
                keys.push(Problem::new(&test.key, "this key does not vary").help(help));
            } else if let Some(never) = test.never(&known) {
                let message = format!("`{}` is never {never}", test.key);
                let help = one_of(&never, known.into_iter().map(text_of), "it is one of");
                values.push(Problem { help, ..Problem::new(&test.key, message) });
            }
        }
        (keys, values)
    }
}

/// The name that is meant, or all of them; none if there is none.
fn one_of(name: &str, names: impl Iterator<Item = String>, all: &str) -> Option<String> {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names.dedup();
    match nearest(name, names.iter().map(String::as_str)).filter(|near| near.parse::<f64>().is_err()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if names.is_empty() => None,
        None => Some(format!("{all} {}", list(&names))),
    }
}

impl Test {
    fn new(key: &str, operator: Operator, value: Value) -> Result<Self, Fault> {
        if operator.is_order() && number(&value).is_none() {
            let message =
                format!("`{}` compares numbers, and `{}` is none", operator.sign(), text_of(&value));
            return Err(Fault { message, help: "write a number, as in `> 80`; `=` and `!=` take anything" });
        }
        for text in items(&value).iter().filter_map(Value::as_str).filter(|text| text.contains('*')) {
            if let Err(error) = Pattern::new(text) {
                let message = format!("`{text}` is no pattern: {}", error.msg);
                return Err(Fault { message, help: "one `*` stands for anything, as in `convmae_*`" });
            }
        }
        Ok(Self { key: key.to_owned(), operator, value })
    }

    /// A test of a sign and what follows it.
    fn read(key: &str, sign: &str, rest: &str) -> Result<Self, Fault> {
        let Some((_, operator)) = OPERATORS.into_iter().find(|(known, _)| *known == sign) else {
            let message = format!("`{sign}` is no operator");
            return Err(Fault { message, help: "operators are `=`, `!=`, `<`, `<=`, `>` and `>=`" });
        };
        if rest.is_empty() {
            let message = format!("there is nothing after `{sign}`");
            return Err(Fault { message, help: "write a value, `null` for none" });
        }
        let value = inline_value(rest).map_err(|message| Fault {
            message,
            help: "values are YAML, lists `[a, b]`; quotes make a text",
        })?;
        Self::new(key, operator, value)
    }

    /// Whether it holds for the values of its key; none are null.
    pub fn holds(&self, found: &[&Value]) -> bool {
        let found = if found.is_empty() { &[&Value::Null][..] } else { found };
        match self.operator {
            NotEqual => !found.iter().any(|found| is(found, &self.value)),
            operator => found.iter().any(|found| operator.holds(found, &self.value)),
        }
    }

    /// Whether it asks for an order, which numbers have alone.
    pub fn is_order(&self) -> bool {
        self.operator.is_order()
    }

    /// Whether it asks for a text that is not that of a number.
    pub fn is_of_text(&self) -> bool {
        let is_text = |value: &Value| value.is_string() && number(value).is_none();
        items(&self.value).iter().all(is_text) && !self.value.as_array().is_some_and(Vec::is_empty)
    }

    /// A value that it asks for and that none of these is.
    fn never(&self, known: &[&Value]) -> Option<String> {
        let operator = if self.operator == NotEqual { Equal } else { self.operator };
        let is_known =
            |value: &Value| value.is_null() || known.iter().any(|known| operator.holds(known, value));
        let wanted = if operator == Equal && known.contains(&&self.value) { &[] } else { items(&self.value) };
        let never = wanted.iter().find(|value| !is_known(value))?;
        Some(match operator {
            Equal => text_of(never),
            order => format!("{} {}", order.sign(), text_of(never)),
        })
    }
}

impl Operator {
    fn sign(self) -> &'static str {
        OPERATORS.iter().find(|(_, operator)| *operator == self).map_or("", |(sign, _)| sign)
    }

    fn is_order(self) -> bool {
        !matches!(self, Equal | NotEqual)
    }

    fn holds(self, found: &Value, wanted: &Value) -> bool {
        let order = || number(found)?.partial_cmp(&number(wanted)?);
        match self {
            Equal => is(found, wanted),
            NotEqual => !is(found, wanted),
            Less => order().is_some_and(Ordering::is_lt),
            AtMost => order().is_some_and(Ordering::is_le),
            Greater => order().is_some_and(Ordering::is_gt),
            AtLeast => order().is_some_and(Ordering::is_ge),
        }
    }
}

/// Whether a value is the wanted one, or one of the wanted list.
fn is(found: &Value, wanted: &Value) -> bool {
    found == wanted
        || match (found, wanted) {
            (_, Value::Array(wanted)) => wanted.iter().any(|wanted| is(found, wanted)),
            // Integers are compared as such: a seed may have more digits than a float.
            (Value::Number(found), Value::Number(wanted)) => {
                (found.is_f64() || wanted.is_f64()) && found.as_f64() == wanted.as_f64()
            }
            // A column of texts and numbers is one of texts.
            (Value::String(found), Value::Number(_)) => {
                inline_value(found).is_ok_and(|found| found.is_number() && is(&found, wanted))
            }
            (Value::String(found), Value::Bool(wanted)) => *found == wanted.to_string(),
            (found, Value::String(wanted)) if wanted.contains('*') && !found.is_null() => {
                Pattern::new(wanted).is_ok_and(|pattern| pattern.matches(&text_of(found)))
            }
            _ => false,
        }
}

/// The items of a list, or the one value.
fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    number.filter(|number| number.is_finite())
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The signs that a text begins with, and what comes after them.
fn split_sign(text: &str) -> (&str, &str) {
    let rest = text.trim_start_matches(['=', '!', '<', '>']);
    (&text[..text.len() - rest.len()], rest.trim())
}

/// A test as an argument has it: `metrics.top1 > 80`.
impl FromStr for Test {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let start = text.find(['=', '!', '<', '>']).unwrap_or(text.len());
        let (sign, rest) = split_sign(&text[start..]);
        let key = text[..start].trim();
        let (place, read) = match (key, sign) {
            ("", _) => (0..text.len(), Err(Fault { message: "there is no key".to_owned(), help: FORM })),
            (_, "") => (0..text.len(), Err(Fault { message: "there is no operator".to_owned(), help: FORM })),
            _ => (start..text.len(), Self::read(key, sign, rest)),
        };
        read.map_err(|fault| ConditionError::new(text, place, fault))
    }
}

const FORM: &str = "write `metrics.top1 > 80` or `status = finished`";

/// As an argument has it.
impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.key, self.operator.sign(), self.value)
    }
}

/// An argument that is no test.
#[derive(Debug, Clone, Error, Diagnostic)]
#[error("{message}")]
pub struct ConditionError {
    message: String,
    #[source_code]
    text: String,
    #[label("here")]
    place: SourceSpan,
    #[help]
    help: &'static str,
}

impl ConditionError {
    fn new(text: &str, place: Range<usize>, Fault { message, help }: Fault) -> Self {
        Self { message, text: text.to_owned(), place: place.into(), help }
    }
}

#[cfg(test)]
mod tests;
