//! Which keys vary already. A key that is set twice, or once more with a block around it, would lose values without a word.

use crate::recipe::{Problem, is_within};

/// The keys that vary in a block and in those around it.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(Vec<Claim>);

#[derive(Debug, Clone)]
struct Claim {
    /// The key as the file has it.
    name: String,
    stage: usize,
    /// The key in the recipe.
    key: String,
    /// Whether keys within it may be set: it is always set before them.
    is_around: bool,
}

impl Claims {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Claims a key of a stage's recipe.
    ///
    /// # Errors
    /// When it varies already, or one within it, or one around it.
    pub fn claim(&mut self, name: &str, stage: usize, key: &str, place: &str) -> Result<(), Problem> {
        let around = |claim: &Claim| is_within(key, &claim.key) && (claim.key == key || !claim.is_around);
        let conflicts =
            |claim: &&Claim| claim.stage == stage && (around(claim) || is_within(&claim.key, key));
        let other = self.0.iter().find(conflicts).cloned();
        let (name, key) = (name.to_owned(), key.to_owned());
        let Some(other) = other else {
            self.0.push(Claim { name, stage, key, is_around: false });
            return Ok(());
        };
        let (message, help) = if other.key == key {
            ("varies already", "name a key once, and give all of its values there")
        } else if is_within(&key, &other.key) {
            ("around it varies already", "vary either a whole block or keys within it")
        } else {
            ("within it varies already", "vary either a whole block or keys within it")
        };
        Err(Problem::new(place, format!("`{}` {message}", other.name)).help(help))
    }

    /// The claims within a variant that made those after the first `before`: what it sets comes before what is nested in it.
    pub fn nested(mut self, before: usize) -> Self {
        self.0.iter_mut().skip(before).for_each(|claim| claim.is_around = true);
        self
    }
}
