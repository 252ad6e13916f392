//! Files of samples: which of them are read, and how.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;

use unicode_normalization::UnicodeNormalization as _;

use super::DataError;

/// Extensions of the images that are read, in lower case.
pub const IMAGE_EXTENSIONS: [&str; 7] = ["jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp"];

/// Extensions of the label maps that are read, in lower case: formats that keep every value.
pub const LABEL_MAP_EXTENSIONS: [&str; 4] = ["png", "tif", "tiff", "bmp"];

/// Largest file, or member of an archive, that is read as a sample, in bytes.
pub const MAX_FILE: u64 = 1 << 30;

/// Whether a file has one of some extensions, which are in lower case; it may have it in any case.
pub fn has_extension(name: &Path, extensions: &[&str]) -> bool {
    let extension = name.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    extension.is_some_and(|extension| extensions.contains(&extension.as_str()))
}

/// A name whose letters and accents are one character each (Unicode's NFC): what macOS makes two characters
/// of is the same name.
pub fn composed(name: &str) -> String {
    name.nfc().collect()
}

/// Reads the whole file of a sample.
///
/// # Errors
/// [`DataError::Corrupt`] if it is no file, larger than [`MAX_FILE`], or cannot be read.
pub fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    let corrupt = |reason: String| DataError::Corrupt { path: path.to_owned(), reason };
    let metadata = path.metadata().map_err(|error| corrupt(why_not(path, &error)))?;
    if !metadata.is_file() {
        return Err(corrupt("not a file".to_owned()));
    }
    check_size(metadata.len()).map_err(corrupt)?;
    std::fs::read(path).map_err(|error| corrupt(error.to_string()))
}

/// Refuses what is too large to be a sample.
///
/// # Errors
/// Why it is not read.
pub fn check_size(bytes: u64) -> Result<(), String> {
    match bytes > MAX_FILE {
        true => Err(format!("{bytes} bytes; at most {MAX_FILE} are read")),
        false => Ok(()),
    }
}

/// Why a file cannot be opened: of a link that leads nowhere, where it leads.
fn why_not(path: &Path, error: &std::io::Error) -> String {
    match path.read_link() {
        Ok(target) if error.kind() == ErrorKind::NotFound => {
            format!("a link to `{}`, which does not exist", target.display())
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn extensions_are_known_in_any_case() {
        let is_image = |name: &str| has_extension(Path::new(name), &IMAGE_EXTENSIONS);
        assert!(is_image("a.JPG") && is_image("b.c.Tiff") && is_image("d.bmp"));
        assert!(!is_image("a.gif") && !is_image("jpg") && !is_image("a.jpg.txt"));
    }

    #[test]
    fn composed_and_decomposed_names_are_equal() {
        assert_eq!(composed("E\u{301}pagneul"), "\u{c9}pagneul");
        assert_eq!(composed("\u{c9}pagneul"), "\u{c9}pagneul");
    }

    #[test]
    fn what_is_no_file_is_corrupt_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let reason = |name: &str| match read_file(&folder.path().join(name)).unwrap_err() {
            DataError::Corrupt { reason, .. } => reason,
            error => error.to_string(),
        };
        assert!(reason("missing.png").starts_with("No such file"), "{}", reason("missing.png"));
        assert_eq!(reason(""), "not a file");
        let huge = std::fs::File::create(folder.path().join("huge.png")).unwrap();
        huge.set_len(MAX_FILE + 1).unwrap();
        assert_eq!(reason("huge.png"), "1073741825 bytes; at most 1073741824 are read");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("a.png");
        std::os::unix::fs::symlink("../gone/b.png", &link).unwrap();
        let message = read_file(&link).unwrap_err().to_string();
        assert!(message.ends_with("a.png: a link to `../gone/b.png`, which does not exist"), "{message}");
    }
}
