//! The files in and below a folder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::{DataError, PassedOver};

/// What is in and below a folder. Names that begin with a dot are left out altogether.
#[derive(Default)]
pub struct Files {
    /// The wanted files with their folders, sorted by folder, then by name. Links that lead nowhere are among
    /// them: to read one fails.
    pub wanted: Vec<(PathBuf, Box<OsStr>)>,
    /// The others.
    pub passed_over: PassedOver,
    /// Links that lead nowhere and have no wanted name, as sentences.
    pub warnings: Vec<String>,
}

/// Looks through a folder and those below it, following links.
///
/// # Errors
/// [`DataError::Io`] if one of them cannot be read, or links lead in a circle.
pub fn walk(root: &Path, is_wanted: impl Fn(&Path) -> bool) -> Result<Files, DataError> {
    let visible = |entry: &DirEntry| entry.depth() == 0 || !is_hidden(entry.file_name());
    let mut files = Files::default();
    for entry in WalkDir::new(root).follow_links(true).into_iter().filter_entry(visible) {
        let (path, is_folder) = match entry {
            Ok(entry) => (entry.path().to_owned(), entry.file_type().is_dir()),
            Err(error) => match error.path() {
                Some(path) if error.loop_ancestor().is_none() && leads_nowhere(path) => {
                    (path.to_owned(), false)
                }
                path => {
                    let path = path.unwrap_or(root).to_owned();
                    return Err(DataError::Io { path, source: error.into() });
                }
            },
        };
        let Some(name) = path.file_name().filter(|name| !is_folder && !is_hidden(name)) else { continue };
        let is_dangling = leads_nowhere(&path);
        if is_wanted(Path::new(name)) && (is_dangling || path.is_file()) {
            files.wanted.push((path.parent().unwrap_or(root).to_owned(), name.into()));
        } else if is_dangling {
            files.warnings.push(dangling(&path));
        } else {
            files.passed_over.add(Path::new(name));
        }
    }
    files.wanted.sort();
    Ok(files)
}

/// Whether a name is not meant to be seen.
pub fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a path is a link to nothing.
pub fn leads_nowhere(path: &Path) -> bool {
    path.is_symlink() && path.metadata().is_err()
}

/// Says of a link that it leads nowhere.
pub fn dangling(link: &Path) -> String {
    let target = link.read_link().unwrap_or_default();
    format!("`{}` is a link to `{}`, which does not exist", link.display(), target.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(files: &Files) -> Vec<&str> {
        files.wanted.iter().map(|(_, name)| name.to_str().unwrap()).collect()
    }

    #[test]
    fn wanted_files_are_sorted_and_the_others_counted() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b/2.png", "b/1.png", "a.png", "c.gif", "b/d.GIF", "README", ".e.gif", ".f/g.gif"] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let files = walk(root.path(), |name| name.extension() == Some(OsStr::new("png"))).unwrap();
        assert_eq!(names(&files), ["a.png", "1.png", "2.png"]);
        assert_eq!(files.passed_over.to_string(), "2 .gif, 1 without extension");
        assert!(files.warnings.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_nowhere_are_files_or_named() {
        use std::os::unix::fs::symlink;

        let root = tempfile::tempdir().unwrap();
        symlink("gone/x.png", root.path().join("x.png")).unwrap();
        symlink("itself.png", root.path().join("itself.png")).unwrap();
        symlink("gone", root.path().join("folder")).unwrap();
        symlink("gone", root.path().join(".hidden")).unwrap();
        let files = walk(root.path(), |name| name.extension() == Some(OsStr::new("png"))).unwrap();
        assert_eq!(names(&files), ["itself.png", "x.png"]);
        let [warning] = &files.warnings[..] else { panic!("{:?}", files.warnings) };
        assert!(warning.ends_with("/folder` is a link to `gone`, which does not exist"), "{warning}");
        assert!(files.passed_over.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_are_an_error() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(".", root.path().join("again")).unwrap();
        assert!(matches!(walk(root.path(), |_| true), Err(DataError::Io { .. })));
    }
}
