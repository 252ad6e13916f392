//! What a meter has collected, as bytes that another process reads.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::component::MeterError;

/// `MessagePack` of numbers, strings, lists and mappings; every number stays the same to the bit.
pub fn write(state: &impl Serialize) -> Vec<u8> {
    // A tree of numbers and strings always serialises.
    rmp_serde::to_vec(state).unwrap_or_default()
}

/// What [`write()`] wrote of a value of the same type.
///
/// # Errors
/// [`MeterError::State`] if the bytes are of something else.
pub fn read<T: DeserializeOwned>(state: &[u8]) -> Result<T, MeterError> {
    rmp_serde::from_slice(state).map_err(|error| MeterError::State(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::WeightedMean;

    #[test]
    fn numbers_stay_the_same_to_the_bit() {
        for value in [0.1 + 0.2, -0.0, f64::INFINITY, f64::NAN, f64::MIN_POSITIVE / 2.0] {
            let read: f64 = read(&write(&value)).unwrap();
            assert_eq!(read.to_bits(), value.to_bits());
        }
        let counts = vec![0, 1, u64::MAX];
        assert_eq!(read::<Vec<u64>>(&write(&counts)).unwrap(), counts);
    }

    #[test]
    fn what_is_no_state_is_an_error() {
        for state in [&b""[..], b"\xc1", &write(&"a text")] {
            let error = read::<WeightedMean>(state).unwrap_err();
            assert!(
                error.to_string().starts_with("what another process has measured cannot be read: "),
                "{error}"
            );
        }
    }
}
