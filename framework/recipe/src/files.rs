//! Reads a recipe file and what it extends.
//!
//! `extends` names files relative to the file it stands in, lowest layer first. A file that is reached twice
//! (two bases that share a base) counts once, where it is first reached.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use miette::NamedSource;
use serde_json::Value;

use super::diagnostics::Finding;
use super::layer::{Layer, LayerKind};
use super::node::{Content, Entry, Node, Source, Span};
use super::suggest;
use super::yaml::{self, Keys, TextFault};

/// Layers read so far and what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// Lowest first.
    pub stack: Vec<Layer>,
    pub findings: Vec<Finding>,
    /// Paths whose value could not be read.
    pub broken: Vec<String>,
    /// A layer is missing: checking the rest would blame what is right.
    pub incomplete: bool,
}

impl Layers {
    /// Adds a recipe file on top of the files it extends.
    pub fn read(&mut self, recipe: &Path) {
        Files { out: self, chain: Vec::new(), seen: Vec::new() }.read(recipe, None);
    }

    pub(super) fn refuse(&mut self, finding: Finding) {
        self.findings.push(finding);
        self.incomplete = true;
    }
}

struct Files<'l> {
    out: &'l mut Layers,
    /// The files being read, outermost first: (identity, name).
    chain: Vec<(PathBuf, PathBuf)>,
    seen: Vec<PathBuf>,
}

/// The `extends` entry that asked for a file.
type Asker<'a> = Option<(&'a LayerKind, &'a Source, Span)>;

impl Files<'_> {
    fn read(&mut self, path: &Path, asker: Asker<'_>) {
        let name = clean(path);
        let bytes = match if asker.is_some() { read_regular(path) } else { read(path) } {
            Ok(bytes) => bytes,
            Err(error) => return self.out.refuse(unreadable(path, &name, &error, asker)),
        };
        let identity = path.canonicalize().unwrap_or_else(|_| name.clone());
        if self.chain.iter().any(|(open, _)| *open == identity) {
            return self.refuse_cycle(&name, asker);
        }
        if self.seen.contains(&identity) {
            return;
        }
        self.seen.push(identity.clone());
        self.chain.push((identity, name.clone()));
        self.add(path, &name, bytes);
        self.chain.pop();
    }

    fn add(&mut self, path: &Path, name: &Path, bytes: Vec<u8>) {
        let kind = LayerKind::File(name.to_owned());
        let (text, encoding_fault) = decode(bytes);
        let source: Source = Arc::new(NamedSource::new(name.to_string_lossy(), text).with_language("YAML"));
        if let Some(fault) = encoding_fault {
            return self.out.refuse(fault.found(&kind, &source));
        }
        let document = match yaml::parse(source.inner(), Keys::Plain) {
            Ok(document) => document,
            Err(fault) => return self.out.refuse(fault.found(&kind, &source)),
        };
        let faults = document.faults.into_iter().map(|fault| fault.found(&kind, &source));
        self.out.findings.extend(faults);
        self.out.broken.extend(document.broken);
        match document.root {
            Some(Node { span, content: Content::Map(entries) }) => {
                let (extends, entries): (Vec<_>, Vec<_>) =
                    entries.into_iter().partition(|entry| entry.key == "extends");
                let root = Node { span, content: Content::Map(entries) };
                self.extend(path, &kind, &source, &extends);
                self.out.stack.push(Layer { kind, source, root, override_depth: 0 });
            }
            root => self.out.refuse(not_a_mapping(root.as_ref()).found(&kind, &source)),
        }
    }

    fn extend(&mut self, path: &Path, kind: &LayerKind, source: &Source, extends: &[Entry]) {
        let folder = path.parent().unwrap_or(Path::new(""));
        for entry in extends {
            let names = match &entry.value.content {
                Content::List(items) => items.iter().collect(),
                _ => vec![&entry.value],
            };
            for node in names {
                if let Content::Scalar(Value::String(name)) = &node.content {
                    self.read(&folder.join(name), Some((kind, source, node.span.clone())));
                } else {
                    let fault = TextFault {
                        key: "extends".to_owned(),
                        span: node.span.clone(),
                        message: "expected the path of a recipe file, or a list of paths".to_owned(),
                        label: "not a path".to_owned(),
                        help: Some(
                            "paths are relative to this file: `extends: ../_base_/imagenet.yaml`".to_owned(),
                        ),
                    };
                    self.out.refuse(fault.found(kind, source));
                }
            }
        }
    }

    fn refuse_cycle(&mut self, name: &Path, asker: Asker<'_>) {
        let files = self.chain.iter().map(|(_, open)| open.as_path()).chain([name]);
        let chain = files.map(|file| file.display().to_string()).collect::<Vec<_>>().join(" -> ");
        let source = asker.map(|(kind, source, span)| (kind.clone(), (source.clone(), span)));
        let (origin, source) = source.unzip();
        self.out.refuse(Finding {
            key: "extends".to_owned(),
            message: format!("the files extend each other: {chain}"),
            help: Some("remove one of these `extends`".to_owned()),
            origin,
            label: "leads back to a file that is being read".to_owned(),
            source,
        });
    }
}

/// Largest file that is read, in bytes: what is longer is no recipe, and long to be complained about.
const MAX_SIZE: u64 = 1_000_000;

/// The content of a file.
///
/// # Errors
/// Also if it is too large.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_SIZE {
        true => Err(io::Error::other(format!("it has more than {MAX_SIZE} bytes"))),
        false => Ok(bytes),
    }
}

/// The content of a file that another one names: a pipe would be waited for in vain.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let about = path.metadata()?;
    if about.is_file() || about.is_dir() { read(path) } else { Err(io::Error::other("it is no file")) }
}

/// The text without its byte order mark; text that is not UTF-8 comes with replacement characters and a
/// fault.
pub(super) fn decode(bytes: Vec<u8>) -> (String, Option<TextFault>) {
    match String::from_utf8(bytes) {
        Ok(text) => (text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text), None),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let fault = TextFault {
                key: String::new(),
                span: at..at + char::REPLACEMENT_CHARACTER.len_utf8(),
                message: "the file is not UTF-8 text".to_owned(),
                label: "the first byte that is not UTF-8".to_owned(),
                help: Some("save it as UTF-8".to_owned()),
            };
            (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(fault))
        }
    }
}

fn not_a_mapping(root: Option<&Node>) -> TextFault {
    let empty = root.is_none_or(|node| node.content == Content::Scalar(Value::Null));
    TextFault {
        key: String::new(),
        span: root.map_or(0..0, |node| node.span.clone()),
        message: if empty { "the recipe is empty" } else { "a recipe is a mapping of keys to values" }
            .to_owned(),
        label: if empty { "nothing here" } else { "not a mapping" }.to_owned(),
        help: Some(
            "`convmae schema` prints what a recipe may hold; `extends: base.yaml` takes another one"
                .to_owned(),
        ),
    }
}

pub(super) fn unreadable(path: &Path, name: &Path, error: &std::io::Error, asker: Asker<'_>) -> Finding {
    let reason = match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::IsADirectory => "it is a folder".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    let source = asker.map(|(kind, source, span)| (kind.clone(), (source.clone(), span)));
    let (origin, source) = source.unzip();
    Finding {
        key: if source.is_some() { "extends".to_owned() } else { String::new() },
        message: format!("cannot read `{}`: {reason}", name.display()),
        help: (error.kind() == ErrorKind::NotFound).then(|| similar_file(path)).flatten(),
        origin,
        label: reason,
        source,
    }
}

fn similar_file(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let meant = suggest::nearest_path(path);
    match (folder.is_dir(), meant) {
        (true, meant) => Some(format!("did you mean `{}`?", meant?.file_name()?.display())),
        (false, Some(meant)) => Some(format!("did you mean `{}`?", clean(&meant).display())),
        (false, None) => Some(format!("the folder `{}` does not exist either", clean(folder).display())),
    }
}

/// The path without `.` and `folder/..`, for people.
pub fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut clean, part| {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(clean.components().next_back(), Some(Component::Normal(_))) => {
                clean.pop();
            }
            part => clean.push(part),
        }
        clean
    })
}
