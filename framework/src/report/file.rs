//! Files that are there completely or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::ReportError;

/// Writes a file through `fill` so that a crash at any point leaves either the old content or the new one: to a temporary
/// name in the same directory, synced, then renamed.
pub(super) fn write_atomically(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<(), ReportError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX).suffix(".tmp");
    // Temporary files are private by default; this one becomes a file like any other, so the umask decides.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary =
        builder.tempfile_in(directory).map_err(ReportError::io("create a temporary file in", directory))?;
    let mut writer = BufWriter::new(temporary.as_file_mut());
    fill(&mut writer).and_then(|()| writer.flush()).map_err(ReportError::io("write", path))?;
    drop(writer);
    temporary.as_file().sync_all().map_err(ReportError::io("sync", path))?;
    temporary.persist(path).map_err(|failed| ReportError::io("rename to", path)(failed.error))?;
    Ok(())
}

/// How the names of files begin that a crash may leave behind.
pub(super) const TEMPORARY_PREFIX: &str = ".convmae-";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.html");
        write_atomically(&path, |file| file.write_all(b"old")).unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot write {}", path.display())), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
