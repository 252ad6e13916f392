//! The index of a shard: offsets and sizes of its members.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use convmae_framework::data::{DataError, IMAGE_EXTENSIONS, PassedOver, check_size};

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
    /// Folder and name before the extension.
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
///
/// # Errors
/// [`DataError::Corrupt`], naming shard and member, if it is too large or cannot be read.
pub fn read(shard: &Path, stem: &str, member: &Member) -> Result<Vec<u8>, DataError> {
    let corrupt = |reason: String| DataError::Corrupt { path: member_path(shard, stem, member), reason };
    check_size(member.size).map_err(corrupt)?;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(shard)?;
        file.seek(SeekFrom::Start(member.offset))?;
        let mut bytes = vec![0; member.size as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| corrupt(error.to_string()))
}

/// What is in a shard.
pub struct Index {
    /// The samples, as they are stored.
    pub groups: Vec<Group>,
    /// Members that belong to none.
    pub passed_over: PassedOver,
    /// Whether the blocks of zeros that end an archive are there. If not, it may have been cut off behind a
    /// member.
    pub has_end: bool,
}

/// What headers and contents of an archive are multiples of.
const BLOCK: u64 = 512;

/// Scans the headers of a shard; contents are skipped, not read.
///
/// # Errors
/// [`DataError::Invalid`], naming the shard and the member, if the archive is damaged or truncated, or a
/// sample lacks its image or, where labels are asked for, its label.
pub fn scan(shard: &Path, labelled: bool) -> Result<Index, DataError> {
    let io = |source| DataError::Io { path: shard.to_owned(), source };
    let invalid = |reason: String| DataError::Invalid { path: shard.to_owned(), reason };
    let mut file = File::open(shard).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    refuse_other_formats(&mut file, length).map_err(io)?.map_or(Ok(()), |reason| Err(invalid(reason)))?;

    let mut groups = Groups { labelled, ..Groups::default() };
    let mut last = "the beginning".to_owned();
    let mut end = 0;
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek().map_err(io)? {
        let entry = entry.map_err(|error| invalid(format!("damaged after {last}: {error}")))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        end = offset.saturating_add(size);
        if end > length {
            return Err(invalid(format!(
                "truncated: `{name}` ends at byte {end}, the file at byte {length}; copy or download it again"
            )));
        }
        if entry.header().entry_type().is_file() {
            groups.add(&name, offset, size).map_err(invalid)?;
        }
        last = format!("`{name}`");
    }
    let (groups, passed_over) = groups.finish().map_err(invalid)?;
    if groups.is_empty() {
        return Err(invalid(format!("no image ({}) in it", IMAGE_EXTENSIONS.join(", "))));
    }
    let has_end = is_zero(&mut archive.into_inner(), end.next_multiple_of(BLOCK)).map_err(io)?;
    Ok(Index { groups, passed_over, has_end })
}

/// Whether a whole block of zeros begins at a position.
fn is_zero(file: &mut File, position: u64) -> std::io::Result<bool> {
    let mut block = Vec::new();
    file.seek(SeekFrom::Start(position))?;
    file.take(BLOCK).read_to_end(&mut block)?;
    Ok(block.len() as u64 == BLOCK && block.iter().all(|&byte| byte == 0))
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

/// Groups members as they come: those that share a name up to the first dot, as `WebDataset` does.
#[derive(Default)]
struct Groups {
    labelled: bool,
    /// Folder and name up to the first dot of `members`.
    stem: String,
    members: Vec<(Box<str>, Member)>,
    done: Vec<Group>,
    passed_over: PassedOver,
}

impl Groups {
    fn add(&mut self, name: &str, offset: u64, size: u64) -> Result<(), String> {
        let name = name.strip_prefix("./").unwrap_or(name);
        let file = name.rfind('/').map_or(0, |slash| slash + 1);
        if name[file..].starts_with('.') {
            return Ok(());
        }
        let (Some(first), Some((stem, extension))) = (name[file..].find('.'), name.rsplit_once('.')) else {
            self.passed_over.add(Path::new(name));
            return Ok(());
        };
        if self.stem != name[..file + first] {
            self.complete()?;
            name[..file + first].clone_into(&mut self.stem);
        }
        let extension = extension.to_ascii_lowercase().into();
        self.members.push((stem.into(), Member { offset, size, extension }));
        Ok(())
    }

    /// Makes samples of the members so far. Without an image that is called as the group, the dots belong to
    /// names: those are one sample that are the same up to the last dot.
    fn complete(&mut self) -> Result<(), String> {
        let members = std::mem::take(&mut self.members);
        let is_named_as_group =
            members.iter().any(|(stem, member)| **stem == *self.stem && is_image(&member.extension));
        let mut samples: Vec<Incomplete> = Vec::new();
        for (stem, member) in members {
            let is_other = is_named_as_group && *stem != *self.stem;
            if is_other || !is_image(&member.extension) && !is_label(&member.extension) {
                self.passed_over.add(Path::new(&format!("{stem}.{}", member.extension)));
                continue;
            }
            let known = samples.iter().position(|sample| sample.stem == stem);
            let sample = known.unwrap_or_else(|| {
                samples.push(Incomplete { stem, image: None, label: None });
                samples.len() - 1
            });
            samples[sample].add(member)?;
        }
        for sample in samples {
            let is_beside = sample.image.is_none() && *sample.stem != *self.stem;
            match sample.label {
                Some(label) if is_beside => {
                    self.passed_over.add(Path::new(&format!("{}.{}", sample.stem, label.extension)));
                }
                _ => self.done.extend(sample.complete(self.labelled)?),
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<Group>, PassedOver), String> {
        self.complete()?;
        Ok((self.done, self.passed_over))
    }
}

fn is_image(extension: &str) -> bool {
    IMAGE_EXTENSIONS.contains(&extension)
}

fn is_label(extension: &str) -> bool {
    matches!(extension, "cls" | "json")
}

/// A sample to be.
struct Incomplete {
    stem: Box<str>,
    image: Option<Member>,
    label: Option<Member>,
}

impl Incomplete {
    /// Adds an image or a label.
    fn add(&mut self, member: Member) -> Result<(), String> {
        let slot = if is_image(&member.extension) { &mut self.image } else { &mut self.label };
        // Where there is both, `.cls` is the label and `.json` something else.
        match slot.as_ref().map(|other| (&*other.extension, &*member.extension)) {
            None | Some(("json", "cls")) => *slot = Some(member),
            Some(("cls", "json")) => {}
            Some((other, this)) => {
                return Err(format!("`{}` has two of one kind: .{other} and .{this}", self.stem));
            }
        }
        Ok(())
    }

    fn complete(self, labelled: bool) -> Result<Option<Group>, String> {
        let Self { stem, image, label } = self;
        match (image, label) {
            (Some(_), None) if labelled => Err(format!(
                "`{stem}` has an image but no label beside it (.cls or .json): members of a sample follow each other, as \
                 `tar --sort=name` stores them; set `labelled: false` to do without"
            )),
            (Some(image), label) => Ok(Some(Group { stem, image, label: label.filter(|_| labelled) })),
            (None, Some(label)) if labelled => {
                Err(format!("`{stem}.{}` is a label without an image beside it", label.extension))
            }
            (None, _) => Ok(None),
        }
    }
}
