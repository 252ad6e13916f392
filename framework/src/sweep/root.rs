//! Normalised paths of sweeps: the directory of an upstream run is part of the recipes of those that start
//! from it.

use std::env;
use std::path::{Path, PathBuf};

use crate::recipe::clean;

/// A path without detours, relative to the working directory where it lies below it.
pub(super) fn relative(path: &Path) -> PathBuf {
    let here = env::current_dir().ok();
    // The working directory as the shell spells it, where links lead to it.
    let logical = env::var_os("PWD").map(PathBuf::from);
    let logical = logical.filter(|logical| logical.canonicalize().ok() == here);
    let path = short(path);
    let within = here.iter().chain(&logical).find_map(|here| path.strip_prefix(here).ok());
    let path = within.unwrap_or(&path);
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_path_buf() }
}

/// A path without `.` and `folder/..`, unless that leads elsewhere, as where the folder is a link.
pub(super) fn short(path: &Path) -> PathBuf {
    let short = clean(path);
    match (short.canonicalize(), path.canonicalize()) {
        (Ok(a), Ok(b)) if a == b => short,
        (_, Err(_)) => short,
        _ => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn all_spellings_of_a_directory_are_one() {
        let here = env::current_dir().unwrap();
        for path in ["runs/ch", "./runs/ch", "runs//ch/", "runs/x/../ch"] {
            assert_eq!(relative(Path::new(path)), Path::new("runs/ch"), "{path}");
            assert_eq!(relative(&here.join(path)), Path::new("runs/ch"), "{path}");
        }
        assert_eq!(relative(&here), Path::new("."));
        assert_eq!(relative(Path::new("/elsewhere/./ch")), Path::new("/elsewhere/ch"));
        assert_eq!(relative(Path::new("../ch")), Path::new("../ch"));
    }
}
