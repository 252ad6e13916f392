//! Text out of files.

/// A text in a line: ends of lines and tabs are spaces, and what else controls a terminal is its escape,
/// `\u{1b}`.
pub fn visible(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => shown.push(' '),
            letter if letter.is_control() => shown.extend(letter.escape_unicode()),
            letter => shown.push(letter),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_controls_a_terminal() {
        assert_eq!(visible("a\u{1b}]0;title\u{7}\n\u{9b}31mé"), "a\\u{1b}]0;title\\u{7} \\u{9b}31mé");
    }
}
