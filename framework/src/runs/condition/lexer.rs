//! The words of a condition.

use std::ops::Range;

use super::{ConditionError, Operator};

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A column, or one of the words `and`, `or`, `not`, `true`, `false`, `null`.
    Word(String),
    /// A column in backquotes.
    Column(String),
    Number(f64),
    Text(String),
    Operator(Operator),
    Open,
    Close,
}

/// A word and its place.
pub type Placed = (Token, Range<usize>);

/// Splits a condition into its words.
pub fn tokens(text: &str) -> Result<Vec<Placed>, ConditionError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(letter) = text[at..].chars().next() {
        if letter.is_whitespace() {
            at += letter.len_utf8();
            continue;
        }
        let (token, length) = token(text, at, letter)?;
        tokens.push((token, at..at + length));
        at += length;
    }
    Ok(tokens)
}

/// The word at `at`, and its length in bytes.
fn token(text: &str, at: usize, letter: char) -> Result<(Token, usize), ConditionError> {
    let rest = &text[at..];
    let run = |is_part: fn(char) -> bool| rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
    match letter {
        '(' => Ok((Token::Open, 1)),
        ')' => Ok((Token::Close, 1)),
        '\'' | '"' | '`' => quoted(text, at, letter),
        letter if letter.is_alphabetic() || letter == '_' => {
            let length = run(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '.' | '-'));
            Ok((Token::Word(rest[..length].to_owned()), length))
        }
        letter if letter.is_ascii_digit() || matches!(letter, '-' | '+' | '.') => {
            let length =
                run(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '+' | '.' | '_'));
            // Rust reads `-inf` and `-NaN`, too.
            match rest[..length].parse::<f64>() {
                Ok(number) if number.is_finite() => Ok((Token::Number(number), length)),
                _ => {
                    let message = format!("`{}` is not a number", &rest[..length]);
                    Err(ConditionError::new(text, at..at + length, message, "not a number")
                        .help("text stands in quotes: `'80 epochs'`".to_owned()))
                }
            }
        }
        _ => operator(text, at, letter),
    }
}

fn operator(text: &str, at: usize, letter: char) -> Result<(Token, usize), ConditionError> {
    let rest = &text[at..];
    if let Some(operator) = Operator::ALL.into_iter().find(|operator| rest.starts_with(operator.sign())) {
        return Ok((Token::Operator(operator), operator.sign().len()));
    }
    let instead = match letter {
        '=' => Some("write `==`"),
        '&' => Some("write `and`"),
        '|' => Some("write `or`"),
        '!' => Some("write `not`"),
        _ => None,
    };
    let place = at..at + letter.len_utf8();
    Err(ConditionError::new(text, place, format!("`{letter}` means nothing here"), "here")
        .help(instead.map(str::to_owned)))
}

/// A text or a column between two marks; a backslash keeps the mark behind it.
fn quoted(text: &str, at: usize, mark: char) -> Result<(Token, usize), ConditionError> {
    let mut content = String::new();
    let mut letters = text[at + 1..].char_indices();
    while let Some((offset, letter)) = letters.next() {
        match letter {
            '\\' => content.extend(letters.next().map(|(_, letter)| letter)),
            letter if letter == mark => {
                let token = if mark == '`' { Token::Column(content) } else { Token::Text(content) };
                return Ok((token, offset + 2));
            }
            letter => content.push(letter),
        }
    }
    let place = at..text.len();
    Err(ConditionError::new(text, place, format!("the closing {mark} is missing"), "opened here"))
}
