//! The index of a shard: offsets and sizes of its members.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use convmae_framework::data::DataError;

use crate::datasets::IMAGE_EXTENSIONS;

/// A file within a shard.
#[derive(Debug, Clone)]
pub struct Member {
    /// First byte of its content.
    offset: u64,
    size: u64,
    /// Its extension, in lower case.
    pub extension: Box<str>,
}

/// Members that share a stem.
#[derive(Debug, Clone)]
pub struct Group {
    /// Folder and name up to the first dot.
    pub stem: Box<str>,
    /// The image.
    pub image: Member,
    /// `.cls` or `.json`.
    pub label: Option<Member>,
}

/// A member's name in messages: the shard, then the member.
pub fn member_path(shard: &Path, stem: &str, member: &Member) -> PathBuf {
    shard.join(format!("{stem}.{}", member.extension))
}

/// Reads a member's content.
pub fn read(shard: &Path, stem: &str, member: &Member) -> Result<Vec<u8>, DataError> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(shard)?;
        file.seek(SeekFrom::Start(member.offset))?;
        let mut bytes = vec![0; member.size as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| DataError::Corrupt {
        path: member_path(shard, stem, member),
        reason: error.to_string(),
    })
}

/// Scans the headers of a shard; contents are skipped, not read.
///
/// # Errors
/// [`DataError::Invalid`], naming the shard and the member, if the archive is damaged or truncated, or a
/// sample lacks its image or, where labels are asked for, its label.
pub fn scan(shard: &Path, labelled: bool) -> Result<Vec<Group>, DataError> {
    let io = |source| DataError::Io { path: shard.to_owned(), source };
    let invalid = |reason: String| DataError::Invalid { path: shard.to_owned(), reason };
    let mut file = File::open(shard).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    refuse_other_formats(&mut file, length).map_err(io)?.map_or(Ok(()), |reason| Err(invalid(reason)))?;

    let mut groups = Groups { labelled, current: None, done: Vec::new() };
    let mut last = "the beginning".to_owned();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek().map_err(io)? {
        let entry = entry.map_err(|error| invalid(format!("damaged after {last}: {error}")))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(invalid(format!(
                "truncated: `{name}` ends at byte {}, the file at byte {length}; copy or download it again",
                offset.saturating_add(size)
            )));
        }
        if entry.header().entry_type().is_file() {
            groups.add(&name, offset, size).map_err(invalid)?;
        }
        last = format!("`{name}`");
    }
    let groups = groups.finish().map_err(invalid)?;
    if groups.is_empty() {
        return Err(invalid(format!("no image ({}) in it", IMAGE_EXTENSIONS.join(", "))));
    }
    Ok(groups)
}

/// Says what the file is, if not a tar archive.
fn refuse_other_formats(file: &mut File, length: u64) -> std::io::Result<Option<String>> {
    if length == 0 {
        return Ok(Some("the file is empty".to_owned()));
    }
    let mut magic = [0; 2];
    file.read_exact(&mut magic[..length.min(2) as usize])?;
    file.rewind()?;
    let compressed = "compressed with gzip: unpack it to a plain tar, samples are read by position";
    Ok((magic == [0x1f, 0x8b]).then(|| compressed.to_owned()))
}

/// Groups members as they come.
struct Groups {
    labelled: bool,
    current: Option<Incomplete>,
    done: Vec<Group>,
}

struct Incomplete {
    stem: Box<str>,
    image: Option<Member>,
    label: Option<Member>,
}

impl Groups {
    fn add(&mut self, name: &str, offset: u64, size: u64) -> Result<(), String> {
        let name = name.strip_prefix("./").unwrap_or(name);
        let file = name.rfind('/').map_or(0, |slash| slash + 1);
        let Some(dot) = name[file..].find('.').map(|dot| file + dot).filter(|&dot| dot > file) else {
            return Ok(());
        };
        let (stem, extension) = (&name[..dot], name[dot + 1..].to_ascii_lowercase());
        if self.current.as_ref().is_none_or(|current| *current.stem != *stem) {
            self.complete()?;
            self.current = Some(Incomplete { stem: stem.into(), image: None, label: None });
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        let slot = if IMAGE_EXTENSIONS.contains(&extension.as_str()) {
            &mut current.image
        } else if matches!(extension.as_str(), "cls" | "json") {
            &mut current.label
        } else {
            return Ok(());
        };
        // Where there is both, `.cls` is the label and `.json` something else.
        let member = Member { offset, size, extension: extension.into() };
        match slot.as_ref().map(|other| (&*other.extension, &*member.extension)) {
            None | Some(("json", "cls")) => *slot = Some(member),
            Some(("cls", "json")) => {}
            Some((other, this)) => return Err(format!("`{stem}` has two of one kind: .{other} and .{this}")),
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), String> {
        let Some(Incomplete { stem, image, label }) = self.current.take() else { return Ok(()) };
        match (image, label) {
            (Some(_), None) if self.labelled => Err(format!(
                "`{stem}` has an image but no label beside it (.cls or .json); set `labelled: false` to do without"
            )),
            (Some(image), label) => {
                self.done.push(Group { stem, image, label: label.filter(|_| self.labelled) });
                Ok(())
            }
            (None, Some(label)) if self.labelled => {
                Err(format!("`{stem}.{}` is a label without an image beside it", label.extension))
            }
            (None, _) => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Vec<Group>, String> {
        self.complete()?;
        Ok(self.done)
    }
}
