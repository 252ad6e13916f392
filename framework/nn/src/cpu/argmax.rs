//! Argmax.

/// The index of the largest value, the first of equal ones; what is not a number is not larger than anything.
pub fn argmax(values: &[f32]) -> usize {
    let mut largest = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[largest] || values[largest].is_nan() {
            largest = at;
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_values_counts_and_what_is_not_a_number_does_not() {
        assert_eq!(argmax(&[1.0, 3.0, f32::NAN, 3.0]), 1);
        assert_eq!(argmax(&[f32::NAN, 1.0, 3.0, f32::NAN, 3.0]), 2);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), 1);
    }
}
