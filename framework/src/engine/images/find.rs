//! The images that a command names: files, folders and patterns.

use std::path::{Path, PathBuf};

use glob::MatchOptions;

use crate::data::walk::walk;
use crate::data::{DataError, IMAGE_EXTENSIONS, PassedOver, has_extension};

/// The images that files, folders and patterns (`photos/**/*.jpg`) stand for, in this order. A folder stands for
/// all images in it and below it, sorted by folder, then by name; names that begin with a dot are left out, and
/// so is, of folders and patterns, what is no image by its extension, which is logged. A file is taken as it is.
///
/// # Errors
/// If a path does not exist, a pattern fits nothing, or a folder cannot be read or holds no image.
pub fn find(named: &[PathBuf]) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Found::default();
    for path in named {
        let before = found.images.len();
        match path.to_str().filter(|text| !path.exists() && text.contains(['*', '?', '['])) {
            Some(pattern) => found.take_pattern(path, pattern)?,
            None if path.is_dir() => found.take_folder(path)?,
            None if path.exists() => found.images.push(path.clone()),
            None => return Err(invalid(path, "there is no such file or folder".to_owned())),
        }
        if found.images.len() == before {
            let mut reason = format!("no image ({})", IMAGE_EXTENSIONS.join(", "));
            if !found.passed_over.is_empty() {
                reason = format!("{reason}, but {}", found.passed_over);
            }
            return Err(invalid(path, reason));
        }
    }
    if !found.passed_over.is_empty() {
        tracing::info!("passed over, no images by their names: {}", found.passed_over);
    }
    Ok(found.images)
}

fn is_image(path: &Path) -> bool {
    has_extension(path, &IMAGE_EXTENSIONS)
}

fn invalid(path: &Path, reason: String) -> DataError {
    DataError::Invalid { path: path.to_owned(), reason }
}

#[derive(Default)]
struct Found {
    images: Vec<PathBuf>,
    passed_over: PassedOver,
}

impl Found {
    fn take_pattern(&mut self, path: &Path, pattern: &str) -> Result<(), DataError> {
        let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
        let paths = glob::glob_with(pattern, options)
            .map_err(|error| invalid(path, format!("no pattern: {}", error.msg)))?;
        for path in paths {
            let path = path.map_err(|error| {
                let path = error.path().to_owned();
                DataError::Io { path, source: error.into() }
            })?;
            if path.is_dir() {
                self.take_folder(&path)?;
            } else {
                self.take_file(path);
            }
        }
        Ok(())
    }

    fn take_folder(&mut self, root: &Path) -> Result<(), DataError> {
        let files = walk(root, is_image)?;
        self.images.extend(files.wanted.into_iter().map(|(folder, name)| folder.join(&*name)));
        self.passed_over.merge(files.passed_over);
        files.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        Ok(())
    }

    fn take_file(&mut self, path: PathBuf) {
        if is_image(&path) {
            self.images.push(path);
        } else {
            self.passed_over.add(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn folder() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in ["b/2.png", "b/10.JPG", "a.webp", "notes.txt", "b/Makefile", ".git/x.png", "c/d/1.jpeg"] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        root
    }

    fn names(root: &Path, named: &[&str]) -> Result<Vec<String>, String> {
        let named: Vec<_> = named.iter().map(|name| root.join(name)).collect();
        let found = find(&named).map_err(|error| error.to_string())?;
        Ok(found.iter().map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect())
    }

    #[test]
    fn a_folder_stands_for_all_images_below_it() {
        let root = folder();
        assert_eq!(names(root.path(), &[""]).unwrap(), ["a.webp", "b/10.JPG", "b/2.png", "c/d/1.jpeg"]);
        assert_eq!(names(root.path(), &["c", "a.webp"]).unwrap(), ["c/d/1.jpeg", "a.webp"]);
    }

    #[test]
    fn a_pattern_stands_for_the_images_that_fit_it_and_a_file_for_itself() {
        let root = folder();
        assert_eq!(names(root.path(), &["b/*"]).unwrap(), ["b/10.JPG", "b/2.png"]);
        assert_eq!(names(root.path(), &["**/*.png"]).unwrap(), ["b/2.png"]);
        assert_eq!(names(root.path(), &["?"]).unwrap(), ["b/10.JPG", "b/2.png", "c/d/1.jpeg"]);
        assert_eq!(names(root.path(), &["notes.txt"]).unwrap(), ["notes.txt"]);
        // A name with such a letter in it is that file.
        std::fs::write(root.path().join("a[1].png"), "").unwrap();
        assert_eq!(names(root.path(), &["a[1].png"]).unwrap(), ["a[1].png"]);
    }

    /// As in a dataset: whoever reads it tells of it.
    #[cfg(unix)]
    #[test]
    fn a_link_to_an_image_that_is_gone_is_an_image() {
        let root = folder();
        std::os::unix::fs::symlink("gone.png", root.path().join("c/link.png")).unwrap();
        assert_eq!(names(root.path(), &["c"]).unwrap(), ["c/link.png", "c/d/1.jpeg"]);
    }

    #[test]
    fn what_stands_for_no_image_is_refused() {
        let root = folder();
        assert!(names(root.path(), &["gone.png"]).unwrap_err().ends_with("there is no such file or folder"));
        assert!(names(root.path(), &["*.gif"]).unwrap_err().contains("no image (jpg, jpeg, png, webp, "));
        let message = names(root.path(), &["*.txt"]).unwrap_err();
        assert!(message.ends_with(", but 1 .txt"), "{message}");
    }
}
