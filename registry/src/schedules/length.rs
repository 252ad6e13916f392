use convmae_framework::component::{Progress, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A length of training, `250 iterations` or `40 epochs`, or a fraction of the whole, `0.005`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Length {
    /// A fraction of the training.
    Fraction(#[schemars(range(min = 0.0, max = 1.0))] f64),
    /// Epochs or iterations.
    Span(Span),
}

impl Length {
    /// The length in optimizer steps, with the fraction of one.
    pub(super) fn steps(self, at: Progress) -> f64 {
        match self {
            Self::Fraction(fraction) => fraction * at.steps as f64,
            Self::Span(Span::Iterations(iterations)) => iterations as f64,
            Self::Span(Span::Epochs(epochs)) => epochs * at.steps_per_epoch(),
        }
    }

    /// The length in epochs.
    pub(super) fn epochs(self, at: Progress) -> f64 {
        match self {
            Self::Fraction(fraction) => fraction * at.epochs,
            Self::Span(span) => span.epochs(at.steps_per_epoch()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_fraction_and_a_text_has_a_unit() {
        let at = Progress { epoch: 0.0, epochs: 20.0, step: 0, steps: 1000 };
        for (json, steps) in
            [("0.005", 5.0), ("0", 0.0), (r#""250 iterations""#, 250.0), (r#""2 epochs""#, 100.0)]
        {
            let length: Length = serde_json::from_str(json).unwrap();
            assert_eq!((length.steps(at), length.epochs(at)), (steps, steps / 50.0), "{json}");
        }
        assert!(serde_json::from_str::<Length>(r#""250""#).is_err());
    }
}
