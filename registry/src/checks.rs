//! Validation that several components share.

use std::rc::Rc;

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

/// A weight for every class, if there are weights at all (`class_weight`).
pub fn class_weight(weights: Option<&[f32]>, classes: usize) -> Result<Option<Rc<[f32]>>, Problem> {
    const KEY: &str = "class_weight";
    let Some(weights) = weights else { return Ok(None) };
    if weights.len() != classes {
        let message = format!("{} weights for {classes} classes (`num_classes`)", weights.len());
        return Err(Problem::new(KEY, message).help("write one number for each class, in their order"));
    }
    let is_wrong = |weight: &f32| !weight.is_finite() || *weight < 0.0;
    if let Some(class) = weights.iter().position(is_wrong) {
        let message = format!("{} is no weight", weights[class]);
        return Err(Problem::new(format!("{KEY}.{class}"), message).help("a weight is 0 or more"));
    }
    if weights.iter().all(|&weight| weight == 0.0) {
        return Err(Problem::new(KEY, "all weights are 0: nothing would be trained"));
    }
    Ok(Some(weights.into()))
}

/// That an MLP has hidden channels.
pub fn hidden(key: &str, dim: usize, mlp_ratio: f32) -> Result<(), Problem> {
    if (dim as f32 * mlp_ratio) as usize > 0 {
        return Ok(());
    }
    Err(Problem::new(key, format!("{mlp_ratio} times {dim} channels leaves no hidden channel"))
        .help("choose a larger ratio"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_class_weights_as_classes_and_none_is_negative() {
        assert_eq!(class_weight(None, 3), Ok(None));
        assert_eq!(class_weight(Some(&[0.0, 2.5]), 2), Ok(Some([0.0, 2.5].into())));
        let refused = |weights: &[f32]| class_weight(Some(weights), 2).unwrap_err();
        assert_eq!(refused(&[1.0; 3]).message, "3 weights for 2 classes (`num_classes`)");
        assert_eq!(refused(&[]).key, "class_weight");
        assert_eq!(refused(&[1.0, -1.0]).key, "class_weight.1");
        assert_eq!(refused(&[f32::INFINITY, 1.0]).key, "class_weight.0");
        assert!(refused(&[0.0; 2]).message.contains("nothing would be trained"));
    }
}
