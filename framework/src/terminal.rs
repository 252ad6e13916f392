//! Text on its way to a terminal, and standard error, which may be gone.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};

use serde::Serialize;

/// A text in a line: ends of lines and tabs are spaces, and what else controls a terminal is its escape,
/// `\u{1b}`.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => shown.push(' '),
            letter => show(letter, &mut shown),
        }
    }
    shown
}

/// A text of several lines, in which what else controls a terminal is its escape.
pub(crate) fn visible_lines(text: &str) -> Cow<'_, str> {
    let is_layout = |letter: char| matches!(letter, '\n' | '\t');
    if !text.contains(|letter: char| letter.is_control() && !is_layout(letter)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for letter in text.chars() {
        if is_layout(letter) { shown.push(letter) } else { show(letter, &mut shown) }
    }
    Cow::Owned(shown)
}

/// As [`visible_lines`], but for colours.
pub(crate) fn visible_in_colour(text: &str) -> String {
    const START: &str = "\u{1b}[";
    let mut parts = text.split(START);
    let mut shown = visible_lines(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let is_parameter = |letter: char| letter.is_ascii_digit() || letter == ';';
        match part.trim_start_matches(is_parameter).strip_prefix('m') {
            Some(rest) => {
                shown += START;
                shown += &part[..part.len() - rest.len()];
                shown += &visible_lines(rest);
            }
            None => shown += &visible_lines(&format!("{START}{part}")),
        }
    }
    shown
}

/// A value as indented JSON, in which everything that controls a terminal is its escape.
pub(crate) fn indented_json(value: &impl Serialize) -> String {
    // Values of the program always serialise.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut shown = String::new();
    for letter in text.chars() {
        match letter {
            // What JSON itself does not escape. Writing to a string does not fail.
            '\u{7f}'..='\u{9f}' => drop(write!(shown, "\\u{:04x}", u32::from(letter))),
            letter => shown.push(letter),
        }
    }
    shown
}

fn show(letter: char, shown: &mut String) {
    if letter.is_control() { shown.extend(letter.escape_unicode()) } else { shown.push(letter) }
}

/// Writes a message to standard error. If that is closed or full there is nobody to tell, which is no reason
/// to fail.
pub(crate) fn say(message: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{}", visible_lines(&message.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controls_a_terminal_is_shown() {
        assert_eq!(visible("a\u{1b}[31m\nb\tc\u{9b}"), "a\\u{1b}[31m b c\\u{9b}");
        assert_eq!(visible_lines("a\u{1b}]0;title\u{7}\n\tb\r"), "a\\u{1b}]0;title\\u{7}\n\tb\\u{d}");
        assert!(matches!(visible_lines("plain\ntext"), Cow::Borrowed(_)));
        let coloured = "\u{1b}[1;31mred\u{1b}[0m \u{1b}[2J\u{1b}]0;x";
        assert_eq!(visible_in_colour(coloured), "\u{1b}[1;31mred\u{1b}[0m \\u{1b}[2J\\u{1b}]0;x");
    }

    #[test]
    fn json_that_is_shown_is_the_same_value() {
        let value = serde_json::json!({ "a\u{1b}\u{9b}": ["\u{7f}", "é", 1] });
        let text = indented_json(&value);
        assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok(), Some(value));
    }
}
