//! Commands of this program: as one writes them in a shell, and as children of this process.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// This program as it was called.
pub(crate) fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "convmae".to_owned())
}

/// A command, with the variables of its environment in front.
pub(crate) fn command<W: AsRef<str>>(
    environment: &[(String, String)],
    words: impl IntoIterator<Item = W>,
) -> String {
    let variables = environment.iter().map(|(name, value)| format!("{name}={}", quote(value)));
    let words = words.into_iter().map(|word| quote(word.as_ref()));
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it back.
pub(crate) fn quote(word: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_./=,:+@%".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A command of this program that stops, as on SIGTERM, when its standard input is closed or this process is
/// gone. Ctrl-C on the terminal is for this process alone.
pub(crate) fn child(program: &Path, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).arg("--stop-with-stdin").stdin(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
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

    #[test]
    fn variables_stand_before_a_command() {
        let environment = [("CONVMAE_TRAIN__LENGTH".to_owned(), "9 epochs".to_owned())];
        let command = command(&environment, ["convmae", "run", "a b.yaml"]);
        assert_eq!(command, "CONVMAE_TRAIN__LENGTH='9 epochs' convmae run 'a b.yaml'");
    }
}
