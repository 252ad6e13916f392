//! Lengths of training in epochs or iterations: `40 epochs`, `1500 iterations`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of training, in a recipe `40 epochs` or `1500 iterations`. One value, so that a layer that
/// overrides it replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Span {
    /// Passes over the training set; parts of one are allowed.
    Epochs(f64),
    /// Optimizer steps.
    Iterations(u64),
}

impl Span {
    /// The length in optimizer steps.
    pub fn steps(self, steps_per_epoch: u64) -> u64 {
        match self {
            Self::Epochs(epochs) => (epochs * steps_per_epoch as f64).round() as u64,
            Self::Iterations(iterations) => iterations,
        }
    }

    /// Whether it is none at all.
    pub fn is_zero(self) -> bool {
        match self {
            Self::Epochs(epochs) => epochs <= 0.0,
            Self::Iterations(iterations) => iterations == 0,
        }
    }

    /// The length in epochs.
    pub fn epochs(self, steps_per_epoch: f64) -> f64 {
        match self {
            Self::Epochs(epochs) => epochs,
            Self::Iterations(iterations) => iterations as f64 / steps_per_epoch,
        }
    }
}

/// A text that is no [`Span`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a length: write `40 epochs` or `1500 iterations`")]
pub struct SpanError(String);

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError(text.to_owned());
        let (number, unit) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
        match unit.trim_start() {
            "epoch" | "epochs" => match number.parse::<f64>() {
                Ok(epochs) if epochs.is_finite() && epochs >= 0.0 => Ok(Self::Epochs(epochs)),
                _ => Err(wrong()),
            },
            "iteration" | "iterations" => number.parse().map(Self::Iterations).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |one: bool| if one { "" } else { "s" };
        match *self {
            Self::Epochs(epochs) => {
                write!(f, "{epochs} epoch{}", plural((epochs - 1.0).abs() < f64::EPSILON))
            }
            Self::Iterations(iterations) => write!(f, "{iterations} iteration{}", plural(iterations == 1)),
        }
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*([0-9]+(\.[0-9]*)?(e[0-9]+)?\s+epochs?|[0-9]+\s+iterations?)\s*$",
            "examples": ["40 epochs", "1500 iterations"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["40 epochs", "1 epoch", "0.5 epochs", "1500 iterations", "1 iteration"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in ["", "40", "40 days", "-1 epochs", "nan epochs", "1.5 iterations", "epochs"] {
            let message = text.parse::<Span>().unwrap_err().to_string();
            assert!(message.contains("40 epochs"), "{message}");
        }
    }

    #[test]
    fn both_units_agree_on_an_epoch() {
        assert_eq!(Span::Epochs(2.0).steps(50), 100);
        assert_eq!(Span::Iterations(100).steps(50), 100);
        assert!((Span::Iterations(100).epochs(50.0) - 2.0).abs() < 1e-12);
    }
}
