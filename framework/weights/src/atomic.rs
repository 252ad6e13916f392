//! Atomic file writes: complete or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::error::WeightsError;
use super::faults::{self, Point};

const PREFIX: &str = ".convmae-";
const SUFFIX: &str = ".tmp";

/// Where [`write()`] lets the content be written.
pub type Writer<'f> = BufWriter<Content<'f>>;

/// Writes a file through `fill` so that a crash at any point leaves either the old content or the new one.
///
/// The bytes go to a temporary name in the same directory, are synced, renamed to `path`, and the directory
/// is synced. On an error the temporary file is removed and `path` is left as it was; what killed processes
/// have left in the directory is removed first.
pub fn write(path: &Path, fill: impl FnOnce(&mut Writer<'_>) -> io::Result<()>) -> Result<(), WeightsError> {
    let mut pending = Pending::create(path)?;
    let content = Content { file: pending.temporary.as_file_mut(), is_empty: true };
    let mut writer = BufWriter::new(content);
    fill(&mut writer).and_then(|()| writer.flush()).map_err(WeightsError::io("write", path))?;
    drop(writer);
    pending.commit()
}

/// A file that is written piece by piece: what [`write()`] is made of. It is removed if it is not committed.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    temporary: NamedTempFile,
}

impl Pending {
    /// A file that will be at a path, still empty and under a temporary name.
    ///
    /// # Errors
    /// If there can be none beside the path.
    pub fn create(path: &Path) -> Result<Self, WeightsError> {
        let directory = directory_of(path);
        remove_abandoned(directory);
        let temporary =
            create(directory).map_err(WeightsError::io("create a temporary file in", directory))?;
        Ok(Self { path: path.to_owned(), temporary })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A handle to write it by.
    ///
    /// # Errors
    /// If the system has none left.
    pub fn file(&self) -> Result<File, WeightsError> {
        self.temporary.as_file().try_clone().map_err(WeightsError::io("write", &self.path))
    }

    /// Puts it in its place, synced.
    ///
    /// # Errors
    /// If it cannot be synced or renamed.
    pub fn commit(self) -> Result<(), WeightsError> {
        let Self { path, temporary } = self;
        faults::pass(Point::Write)
            .and_then(|()| temporary.as_file().sync_all())
            .map_err(WeightsError::io("sync", &path))?;
        temporary.persist(&path).map_err(|failed| WeightsError::io("rename to", &path)(failed.error))?;
        faults::pass(Point::Directory).map_err(WeightsError::io("rename to", &path))?;
        sync_directory(directory_of(&path))
    }
}

/// [`write()`] of bytes, or of a text.
pub fn write_bytes(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), WeightsError> {
    write(path, |file| file.write_all(bytes.as_ref()))
}

/// [`write()`] of a value as indented JSON.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), WeightsError> {
    write(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value).map_err(io::Error::from)?;
        file.write_all(b"\n")
    })
}

/// Removes a file that was written by [`write()`].
pub fn remove(path: &Path) -> Result<(), WeightsError> {
    faults::pass(Point::Directory)
        .and_then(|()| fs::remove_file(path))
        .map_err(WeightsError::io("remove", path))
}

/// Removes temporary files that a crash left in `directory`, in which no other process writes.
pub fn remove_leftovers(directory: &Path) -> Result<(), WeightsError> {
    let entries = fs::read_dir(directory).map_err(WeightsError::io("list", directory))?;
    for entry in entries {
        let entry = entry.map_err(WeightsError::io("list", directory))?;
        if is_temporary(&entry) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes temporary files in `directory` that no process writes any more. They do no harm but for their
/// size: one that cannot be removed is left.
fn remove_abandoned(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(is_temporary) {
        let is_abandoned = |file: File| file.try_lock().is_ok();
        if File::open(entry.path()).is_ok_and(is_abandoned) {
            let _ = remove(&entry.path());
        }
    }
}

fn is_temporary(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
}

/// A new temporary file, locked as long as it is open: it is not abandoned.
fn create(directory: &Path) -> io::Result<NamedTempFile> {
    loop {
        // Its error names the temporary file, too, which nobody knows.
        let temporary = builder().tempfile_in(directory).map_err(|error| io::Error::from(error.kind()))?;
        let is_locked = !matches!(temporary.as_file().try_lock(), Err(TryLockError::WouldBlock));
        // Another process may have taken it for abandoned in the moment before.
        if is_locked && temporary.path().exists() {
            return Ok(temporary);
        }
    }
}

/// The content of a file that is being written.
#[derive(Debug)]
pub struct Content<'f> {
    file: &'f mut File,
    is_empty: bool,
}

impl Write for Content<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.is_empty) {
            faults::pass(Point::Write)?;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Content<'_> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
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

    #[test]
    fn a_write_removes_what_was_abandoned_and_nothing_that_is_being_written() {
        let directory = tempfile::tempdir().unwrap();
        let [abandoned, held] = ["a", "b"].map(|name| directory.path().join(format!(".convmae-{name}.tmp")));
        fs::write(&abandoned, b"half").unwrap();
        let holder = File::create(&held).unwrap();
        holder.lock().unwrap();
        write(&directory.path().join("weights"), |file| file.write_all(b"new")).unwrap();
        assert!(!abandoned.exists() && held.exists());
        drop(holder);
        write(&directory.path().join("weights"), |file| file.write_all(b"new")).unwrap();
        assert!(!held.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_takes_no_files_is_named_once() {
        let error = write(Path::new("/proc/self/weights"), |_| Ok(())).unwrap_err().to_string();
        assert!(error.starts_with("cannot create a temporary file in /proc/self: "), "{error}");
        assert!(!error.contains(PREFIX), "{error}");
    }
}
