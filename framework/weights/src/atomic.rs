//! Atomic file writes: complete or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::error::WeightsError;

const PREFIX: &str = ".convmae-";
const SUFFIX: &str = ".tmp";

/// Writes a file through `fill` so that a crash at any point leaves either the old content or the new one.
///
/// The bytes go to a temporary name in the same directory, are synced, renamed to `path`, and the directory
/// is synced. On an error the temporary file is removed and `path` is left as it was.
pub fn write(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<(), WeightsError> {
    let directory = directory_of(path);
    let mut temporary = builder()
        .tempfile_in(directory)
        .map_err(WeightsError::io("create a temporary file in", directory))?;
    let mut writer = BufWriter::new(temporary.as_file_mut());
    fill(&mut writer).and_then(|()| writer.flush()).map_err(WeightsError::io("write", path))?;
    drop(writer);
    temporary.as_file().sync_all().map_err(WeightsError::io("sync", path))?;
    temporary.persist(path).map_err(|failed| WeightsError::io("rename to", path)(failed.error))?;
    sync_directory(directory)
}

/// [`write()`] of a value as indented JSON.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), WeightsError> {
    write(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value).map_err(io::Error::from)?;
        file.write_all(b"\n")
    })
}

/// Removes temporary files that a crash left in `directory`.
pub fn remove_leftovers(directory: &Path) -> Result<(), WeightsError> {
    let entries = fs::read_dir(directory).map_err(WeightsError::io("list", directory))?;
    for entry in entries {
        let entry = entry.map_err(WeightsError::io("list", directory))?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
            fs::remove_file(entry.path()).map_err(WeightsError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    // Temporary files are private by default; this one becomes a file like any other, so the umask decides.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> Result<(), WeightsError> {
    File::open(directory).and_then(|handle| handle.sync_all()).map_err(WeightsError::io("sync", directory))
}

/// Only Unix can sync a directory.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> Result<(), WeightsError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights");
        write(&path, |file| file.write_all(b"old")).unwrap();
        let error = write(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot write {}", path.display())), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        let error = write(&gone.join("weights"), |_| Ok(())).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("cannot create a temporary file in {}", gone.display())),
            "{error}"
        );
    }

    #[test]
    fn only_own_leftovers_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        for name in [".convmae-x1y2.tmp", "notes.tmp", ".convmae-keep"] {
            fs::write(directory.path().join(name), b"").unwrap();
        }
        remove_leftovers(directory.path()).unwrap();
        assert!(!directory.path().join(".convmae-x1y2.tmp").exists());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
