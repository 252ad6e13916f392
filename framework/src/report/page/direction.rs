//! What the names of metrics say of their direction.

/// Whether more of a metric is better, where its name tells.
pub(super) fn more_is_better(name: &str) -> Option<bool> {
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match () {
        () if has(&["loss", "error", "mse", "mae"]) => Some(false),
        () if has(&["top", "acc", "iou", "psnr", "precision", "recall", "images/s"])
            || name.split('_').any(is_average) =>
        {
            Some(true)
        }
        () => None,
    }
}

/// Whether a part of a name is that of an average precision or recall: `ap`, `ap50`, `ar100`.
fn is_average(part: &str) -> bool {
    let number = part.strip_prefix("ap").or_else(|| part.strip_prefix("ar"));
    number.is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direction_of_a_metric_shows_in_its_name() {
        let of = ["loss", "pixel_mse", "top1", "miou", "AP50", "box_ar_small"].map(more_is_better);
        assert_eq!(of, [Some(false), Some(false), Some(true), Some(true), Some(true), Some(true)]);
        assert_eq!(["seconds", "parameters", "artefacts", "apples"].map(more_is_better), [None; 4]);
    }
}
