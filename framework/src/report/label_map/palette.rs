//! Colours that can be told apart, for any number of classes.

use std::sync::LazyLock;

/// The colour of a class (red, green, blue): as far as possible from those of all classes before it, and from black and white.
pub fn color(class: u8) -> [u8; 3] {
    PALETTE[usize::from(class)]
}

static PALETTE: LazyLock<[[u8; 3]; 256]> = LazyLock::new(palette);

/// Steps between the values of a channel that colours are chosen from: 8 values.
const STEPS: usize = 7;

fn palette() -> [[u8; 3]; 256] {
    let value = |step: usize| (255 * step / STEPS) as u8;
    let sides = || 0..=STEPS;
    let candidates: Vec<[u8; 3]> = sides()
        .flat_map(|r| sides().flat_map(move |g| sides().map(move |b| [value(r), value(g), value(b)])))
        .collect();
    let mut nearest: Vec<u32> = candidates
        .iter()
        .map(|&candidate| distance(candidate, [0; 3]).min(distance(candidate, [255; 3])))
        .collect();
    std::array::from_fn(|_| {
        let farthest = (0..candidates.len()).rev().max_by_key(|&at| nearest[at]).unwrap_or_default();
        let chosen = candidates[farthest];
        for (nearest, &candidate) in nearest.iter_mut().zip(&candidates) {
            *nearest = distance(candidate, chosen).min(*nearest);
        }
        chosen
    })
}

/// The square of the distance of two colours.
fn distance(a: [u8; 3], b: [u8; 3]) -> u32 {
    a.into_iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_far_apart_and_the_farther_the_fewer() {
        for (classes, least) in [(6, 150), (20, 70), (150, 35), (255, 35)] {
            for a in 0..classes {
                for b in 0..a {
                    let apart = distance(color(a), color(b));
                    assert!(apart >= least * least, "{a} {b}: {apart}");
                }
            }
        }
    }
}
