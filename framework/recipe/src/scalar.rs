//! Plain YAML scalars: what an unquoted word means.
//!
//! These are the rules of YAML 1.2 (core schema), not those of YAML 1.1 that `PyYAML` follows. `1e-6` and
//! `1.5e-4` are numbers (`PyYAML` reads `1e-6` as a string); `yes`, `no`, `on` and `off` are strings; `010`
//! is ten; `1_000` is a string.

use serde_json::{Number, Value};

/// The value of an unquoted scalar, or why it cannot be a value of a recipe.
pub fn plain(text: &str) -> Result<Value, &'static str> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err("infinity and NaN are not values of a recipe");
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|digit| digit.is_digit(radix))
        {
            return u64::from_str_radix(digits, radix).map(Value::from).map_err(|_| TOO_LARGE);
        }
    }
    if is_integer(unsigned) {
        return integer(text);
    }
    if is_float(unsigned) {
        let number = text.parse::<f64>().ok().and_then(Number::from_f64);
        return number.map(Value::Number).ok_or("the number does not fit in 64 bits");
    }
    Ok(Value::String(text.to_owned()))
}

const TOO_LARGE: &str = "the integer does not fit in 64 bits";

fn integer(text: &str) -> Result<Value, &'static str> {
    let signed = text.parse::<i64>().map(Value::from);
    signed.or_else(|_| text.parse::<u64>().map(Value::from)).map_err(|_| TOO_LARGE)
}

fn is_integer(unsigned: &str) -> bool {
    !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit())
}

/// `[0-9]+ (. [0-9]*)? | . [0-9]+`, then `([eE] [+-]? [0-9]+)?`.
fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|power| is_integer(power.strip_prefix(['+', '-']).unwrap_or(power)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::plain;

    #[test]
    fn words_mean_what_yaml_1_2_says() {
        let cases = [
            ("1.5e-4", json!(1.5e-4)),
            ("1e-6", json!(1e-6)),
            ("1e3", json!(1000.0)),
            ("1600.0", json!(1600.0)),
            (".5", json!(0.5)),
            ("-3", json!(-3)),
            ("+3", json!(3)),
            ("010", json!(10)),
            ("0x1f", json!(31)),
            ("18446744073709551615", json!(u64::MAX)),
            ("True", json!(true)),
            ("yes", json!("yes")),
            ("off", json!("off")),
            ("1_000", json!("1_000")),
            ("1.2.3", json!("1.2.3")),
            ("e5", json!("e5")),
            ("1e", json!("1e")),
            (".", json!(".")),
            ("~", json!(null)),
        ];
        for (text, value) in cases {
            assert_eq!(plain(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn numbers_that_are_no_numbers_are_refused() {
        for text in [".inf", "-.INF", ".nan", "1e999", "18446744073709551616"] {
            assert!(plain(text).is_err(), "{text}");
        }
    }
}
