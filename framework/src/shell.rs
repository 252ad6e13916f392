//! Commands as one writes them in a shell.

/// A word as a shell reads it back.
pub(crate) fn quote(word: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_./=,:+@%".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_spaces_and_quotes_are_quoted() {
        assert_eq!(quote("optimizer.lr=1e-3"), "optimizer.lr=1e-3");
        assert_eq!(quote("train.length=9 epochs"), "'train.length=9 epochs'");
        assert_eq!(quote("name=it's"), r"'name=it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
