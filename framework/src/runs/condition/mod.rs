//! Conditions on columns: `metrics.top1 > 80 and not (recipe.optimizer.type ~ "Lars")`.
//!
//! A comparison is a column, one of `==`, `!=`, `<`, `<=`, `>`, `>=` or `~` (contains), and a number, a string in quotes, `true`, `false`
//! or `null`; a column alone asks whether it is true. `not` binds strongest, then `and`, then `or`; parentheses group. A column with
//! other letters than those of keys stands in backquotes. A run without the value satisfies `== null` and `!=` of anything else, and no
//! other comparison.

mod apply;
mod error;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

pub(super) use apply::similar_column;
pub use error::ConditionError;

/// A condition on the columns of a frame.
#[derive(Debug, Clone)]
pub struct Condition {
    text: String,
    root: Expression,
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { text: text.to_owned(), root: parser::parse(text)? })
    }
}

/// In full parentheses.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Compare { column: Name, operator: Operator, value: Literal, place: Range<usize> },
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
}

/// A column, and where it is named.
#[derive(Debug, Clone, PartialEq)]
struct Name {
    text: String,
    place: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Contains,
}

impl Operator {
    const ALL: [Self; 7] =
        [Self::Equal, Self::NotEqual, Self::AtMost, Self::AtLeast, Self::Less, Self::Greater, Self::Contains];

    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Contains => "~",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compare { column, operator, value, .. } => {
                write!(f, "`{}` {} {value}", column.text, operator.sign())
            }
            Self::And(left, right) => write!(f, "({left} and {right})"),
            Self::Or(left, right) => write!(f, "({left} or {right})"),
            Self::Not(inner) => write!(f, "not ({inner})"),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number:?}"),
            Self::Text(text) => write!(f, "'{}'", text.replace('\\', r"\\").replace('\'', r"\'")),
        }
    }
}
