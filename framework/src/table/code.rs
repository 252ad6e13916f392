//! Inline `code` in the notes of a table.

/// A text as code: between as many backquotes as it takes (`CommonMark` 6.1).
pub fn code(text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let is_bare = text.is_empty() || text.starts_with('`') || text.ends_with('`') || is_padded(text);
    let pad = if is_bare { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A text with its `code` told from its words. A backquote that nothing closes is one of the words.
pub fn spans(text: &str) -> Vec<(bool, &str)> {
    let mut spans = Vec::new();
    let (mut words, mut at) = (0, 0);
    while let Some(open) = text[at..].find('`').map(|offset| at + offset) {
        let fence = backquotes(&text[open..]);
        let inner = open + fence;
        at = inner;
        if let Some(close) = closing(text, inner, fence) {
            spans.extend([(false, &text[words..open]), (true, unpadded(&text[inner..close]))]);
            words = close + fence;
            at = words;
        }
    }
    spans.push((false, &text[words..]));
    spans.retain(|(_, part)| !part.is_empty());
    spans
}

/// How many backquotes a text begins with.
fn backquotes(text: &str) -> usize {
    text.len() - text.trim_start_matches('`').len()
}

/// Where so many backquotes, and no more, come next.
fn closing(text: &str, from: usize, fence: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = text[at..].find('`').map(|offset| at + offset) {
        let length = backquotes(&text[found..]);
        if length == fence {
            return Some(found);
        }
        at = found + length;
    }
    None
}

/// Whether it would lose a space at both ends.
fn is_padded(text: &str) -> bool {
    text.starts_with(' ') && text.ends_with(' ') && !text.trim_matches(' ').is_empty()
}

fn unpadded(text: &str) -> &str {
    if is_padded(text) { &text[1..text.len() - 1] } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn code_is_told_from_words() {
        assert_eq!(spans("a `b` c"), [(false, "a "), (true, "b"), (false, " c")]);
        assert_eq!(spans("a ``b`c`` d"), [(false, "a "), (true, "b`c"), (false, " d")]);
        assert_eq!(spans("it`s 5 o'clock"), [(false, "it`s 5 o'clock")]);
        assert_eq!(code("runs/a`b"), "``runs/a`b``");
    }

    proptest! {
        #[test]
        fn any_code_reads_back(text in "[ab` ]{1,12}", before in "[a-z ]{0,4}", after in "[a-z ]{0,4}") {
            let note = format!("{before}{}{after}", code(&text));
            let found: Vec<_> = spans(&note).into_iter().filter(|(is_code, _)| *is_code).collect();
            prop_assert_eq!(found, [(true, text.as_str())]);
        }
    }
}
