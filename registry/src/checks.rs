//! Validation that several components share.

use convmae_framework::component::Problem;

/// That the heads of an attention divide its channels.
pub fn heads(dim: usize, num_heads: usize) -> Result<(), Problem> {
    if dim.is_multiple_of(num_heads) {
        return Ok(());
    }
    let divides = |heads: &usize| dim.is_multiple_of(*heads);
    let nearest = [(1..num_heads.min(dim + 1)).rev().find(divides), (num_heads..=dim).find(divides)];
    let nearest: Vec<_> = nearest.iter().flatten().map(usize::to_string).collect();
    Err(Problem::new("num_heads", format!("{num_heads} heads do not divide {dim} channels"))
        .help(format!("choose a divisor of {dim}, such as {}", nearest.join(" or "))))
}

/// That channels suit a sin-cos position embedding.
pub fn sin_cos(key: &str, dim: usize) -> Result<(), Problem> {
    if dim.is_multiple_of(4) {
        return Ok(());
    }
    Err(Problem::new(key, format!("{dim} is no multiple of 4"))
        .help("the sin-cos position embedding needs a sine and a cosine for rows and columns"))
}

/// That an MLP has hidden channels.
pub fn hidden(key: &str, dim: usize, mlp_ratio: f32) -> Result<(), Problem> {
    if (dim as f32 * mlp_ratio) as usize > 0 {
        return Ok(());
    }
    Err(Problem::new(key, format!("{mlp_ratio} times {dim} channels leaves no hidden channel"))
        .help("choose a larger ratio"))
}
