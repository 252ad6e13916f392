//! Counter-based randomness: every stream is a function of named integers, never of thread timing.

use rand::SeedableRng as _;

/// The generator behind every random decision. Its output is the same on every platform.
pub type Rng = rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for; keeps streams with equal counters apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Initial value of a parameter.
    Init = 1,
    /// Order of the samples within an epoch.
    Order = 2,
    /// Augmentation of one sample.
    Augment = 3,
    /// Masks, dropout and stochastic depth of one training step.
    Step = 4,
    /// Content of generated data.
    Synthesis = 5,
    /// Masks of an evaluation.
    Evaluate = 6,
    /// Whatever is random about one image of a pass.
    Image = 7,
    /// What happens to one batch.
    Mix = 8,
}

/// The stream of `purpose` for the given counters, for example `(seed, epoch, index)`.
pub fn stream(purpose: Purpose, counters: &[u64]) -> Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(purpose as u64).to_le_bytes());
    for counter in counters {
        hasher.update(&counter.to_le_bytes());
    }
    Rng::from_seed(*hasher.finalize().as_bytes())
}

/// A stable 64-bit number for a name, to be used as a counter.
pub fn name_counter(name: &str) -> u64 {
    let digest = blake3::hash(name.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}
