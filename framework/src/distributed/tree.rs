//! Sums in pairs, whose order depends on the number of terms alone.
//!
//! Terms are added as a counter in base two carries: the first two, the next two, then these sums, and so on; what is
//! left over joins at the end, the last first. A part of a power of two of terms that begins at a multiple of that power
//! is a sum of its own: who adds up such parts in the same way has the same bits as who adds up all terms.

use std::convert::Infallible;

/// A sum in progress.
#[derive(Debug)]
pub struct TreeSum<T> {
    /// Partial sums with the number of their terms: powers of two, the largest first.
    partial: Vec<(usize, T)>,
}

impl<T> Default for TreeSum<T> {
    fn default() -> Self {
        Self { partial: Vec::new() }
    }
}

impl<T> TreeSum<T> {
    /// Takes in the next term; `add` adds its second argument to its first.
    ///
    /// # Errors
    /// Those of `add`.
    pub fn push<E>(&mut self, mut term: T, add: impl Fn(&mut T, T) -> Result<(), E>) -> Result<(), E> {
        let mut terms = 1;
        while let Some((_, mut before)) = self.partial.pop_if(|(count, _)| *count == terms) {
            add(&mut before, term)?;
            (term, terms) = (before, 2 * terms);
        }
        self.partial.push((terms, term));
        Ok(())
    }

    /// The sum of all terms; none of none.
    ///
    /// # Errors
    /// Those of `add`.
    pub fn finish<E>(mut self, add: impl Fn(&mut T, T) -> Result<(), E>) -> Result<Option<T>, E> {
        let Some((_, mut sum)) = self.partial.pop() else { return Ok(None) };
        while let Some((_, mut before)) = self.partial.pop() {
            add(&mut before, sum)?;
            sum = before;
        }
        Ok(Some(sum))
    }
}

/// Sums of so many terms that are kept at once at most, the last term among them.
pub fn kept(terms: usize) -> usize {
    terms.max(1).ilog2() as usize + 1
}

/// Adds up `parts` of equal length in place: the sum is in the first of them.
pub fn sum_parts(parts: &mut [f32], length: usize) {
    /// A part of the values.
    struct Part<'a>(&'a mut [f32]);

    let add = |sum: &mut Part<'_>, term: Part<'_>| {
        sum.0.iter_mut().zip(term.0).for_each(|(sum, term)| *sum += *term);
        Ok::<_, Infallible>(())
    };
    let mut sum = TreeSum::default();
    let Ok(()) = parts.chunks_exact_mut(length.max(1)).try_for_each(|part| sum.push(Part(part), add));
    let Ok(_) = sum.finish(add);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is added to what, in words.
    fn words(terms: impl IntoIterator<Item = String>) -> Option<String> {
        let add = |sum: &mut String, term: String| {
            *sum = format!("({sum}{term})");
            Ok::<_, Infallible>(())
        };
        let mut sum = TreeSum::default();
        let Ok(()) = terms.into_iter().try_for_each(|term| sum.push(term, add));
        let Ok(sum) = sum.finish(add);
        sum
    }

    fn letters(count: u8) -> impl Iterator<Item = String> {
        (0..count).map(|at| char::from(b'a' + at).to_string())
    }

    #[test]
    fn terms_are_added_in_pairs_and_what_is_left_over_last_first() {
        let sums = [None, Some("a"), Some("(ab)"), Some("((ab)c)"), Some("((ab)(cd))")];
        for (count, expected) in (0..).zip(sums) {
            assert_eq!(words(letters(count)).as_deref(), expected);
        }
        assert_eq!(words(letters(7)).unwrap(), "(((ab)(cd))((ef)g))");
    }

    #[test]
    fn processes_with_a_power_of_two_of_terms_each_add_up_as_one_does() {
        for (processes, terms) in [(2, 1), (3, 2), (4, 2), (5, 4), (2, 8), (7, 1)] {
            let all: Vec<_> = letters(processes * terms).collect();
            let parts = all.chunks(terms.into()).filter_map(|own| words(own.to_vec()));
            assert_eq!(words(parts.collect::<Vec<_>>()), words(all.clone()), "{processes} of {terms}");
        }
    }

    proptest! {
        #[test]
        fn at_most_so_many_sums_are_kept(terms in 1_usize..200) {
            let (mut sum, mut most) = (TreeSum::default(), 0);
            for term in 0..terms {
                most = most.max(sum.partial.len() + 1);
                let Ok(()) = sum.push(term, |sum, term| { *sum += term; Ok::<_, Infallible>(()) });
            }
            prop_assert_eq!(most, kept(terms));
        }

        /// The oracle adds whole vectors.
        #[test]
        fn parts_are_added_up_in_place(count in 1_usize..9, length in 1_usize..20, seed: u64) {
            let values = crate::nn::testing::noise(seed, count * length);
            let mut parts = values.clone();
            sum_parts(&mut parts, length);
            let mut sum = TreeSum::default();
            let add = |sum: &mut Vec<f32>, term: Vec<f32>| {
                sum.iter_mut().zip(term).for_each(|(sum, term)| *sum += term);
                Ok::<_, Infallible>(())
            };
            for part in values.chunks(length) {
                let Ok(()) = sum.push(part.to_vec(), add);
            }
            let Ok(expected) = sum.finish(add);
            prop_assert_eq!(&parts[..length], &expected.unwrap()[..]);
        }
    }
}
