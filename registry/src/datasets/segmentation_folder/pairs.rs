//! Which label map belongs to which image.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use convmae_framework::data::walk::walk;
use convmae_framework::data::{
    DataError, IMAGE_EXTENSIONS, LABEL_MAP_EXTENSIONS, PassedOver, composed, has_extension,
};

use super::SegmentationFolder;
use crate::datasets::what_is_there;

/// Images and their label maps, sorted by name.
pub struct Pairs {
    /// Paths of images and of label maps.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// Other files of the folders.
    pub passed_over: PassedOver,
    /// What is odd about the folders.
    pub warnings: Vec<String>,
}

impl Pairs {
    /// Finds the images of a dataset and the label map of each.
    ///
    /// # Errors
    /// [`DataError::Invalid`] if there is no image, one has no label map, or two files have the same name.
    pub fn find(spec: &SegmentationFolder) -> Result<Self, DataError> {
        let (images, labels) = (Side::images(spec), Side::labels(spec));
        let (found, mut label_maps) = (images.find(&labels)?, labels.find(&images)?);
        let (mut passed_over, mut warnings) = (found.passed_over, found.warnings);
        // A folder of both was looked through twice.
        if spec.images != spec.labels {
            passed_over.merge(label_maps.passed_over);
            warnings.extend(label_maps.warnings);
        }
        if found.by_name.is_empty() {
            let any = spec.images.join("any");
            let reason = format!("no image ({}) in it{}", images.wanted(), what_is_there(&any));
            return Err(DataError::Invalid { path: spec.images.clone(), reason });
        }
        let count = found.by_name.len();
        let mut missing = Vec::new();
        let mut files = Vec::with_capacity(count);
        for (name, image) in found.by_name {
            match label_maps.by_name.remove(&name) {
                Some(label_map) => files.push((image, label_map)),
                None => missing.push((name, image)),
            }
        }
        if let Some((name, image)) = missing.first() {
            let mut path = spec.labels.join(name).into_os_string();
            path.push(spec.label_suffix.as_deref().unwrap_or(".png"));
            let path = PathBuf::from(path);
            let there = if missing.len() == count { what_is_there(&path) } else { String::new() };
            let reason = format!(
                "no such label map, but there is the image `{}`; {} of {count} images have none{there}",
                image.display(),
                missing.len()
            );
            return Err(DataError::Invalid { path, reason });
        }
        if let Some(label_map) = label_maps.by_name.values().next() {
            let count = label_maps.by_name.len();
            let example = label_map.display();
            warnings.push(format!("label maps without an image: {count}, such as `{example}`"));
        }
        Ok(Self { files, passed_over, warnings })
    }
}

/// One of the two folders, and which of its files are meant.
struct Side<'a> {
    folder: &'a Path,
    suffix: Option<&'a str>,
    extensions: &'static [&'static str],
    /// The key of the suffix.
    key: &'static str,
}

/// What is in a folder.
struct Found {
    /// The files that are meant, by their name without suffix, relative to the folder.
    by_name: BTreeMap<OsString, PathBuf>,
    passed_over: PassedOver,
    warnings: Vec<String>,
}

impl<'a> Side<'a> {
    fn images(spec: &'a SegmentationFolder) -> Self {
        let suffix = spec.image_suffix.as_deref();
        Self { folder: &spec.images, suffix, extensions: &IMAGE_EXTENSIONS, key: "image_suffix" }
    }

    fn labels(spec: &'a SegmentationFolder) -> Self {
        let suffix = spec.label_suffix.as_deref();
        Self { folder: &spec.labels, suffix, extensions: &LABEL_MAP_EXTENSIONS, key: "label_suffix" }
    }

    fn is_wanted(&self, name: &Path) -> bool {
        match self.suffix {
            Some(suffix) => ends_with(name.as_os_str(), suffix),
            None => has_extension(name, self.extensions),
        }
    }

    /// What is wanted, for messages.
    fn wanted(&self) -> String {
        self.suffix.map_or_else(|| self.extensions.join(", "), |suffix| format!("*{suffix}"))
    }

    /// Looks through the folder. What belongs to the other side is neither meant nor passed over.
    fn find(&self, other: &Self) -> Result<Found, DataError> {
        let is_shared = self.folder == other.folder;
        let files = walk(self.folder, |name| self.is_wanted(name) || is_shared && other.is_wanted(name))?;
        let is_within_other = |folder: &Path| {
            !is_shared && other.folder.starts_with(self.folder) && folder.starts_with(other.folder)
        };
        let mut by_name = BTreeMap::new();
        for (folder, file) in files.wanted {
            if !self.is_wanted(Path::new(&*file)) || is_within_other(&folder) {
                continue;
            }
            let path = folder.join(&*file);
            let name = self.name(path.strip_prefix(self.folder).unwrap_or(&path));
            if let Some(twin) = by_name.insert(name, path.clone()) {
                let reason = format!(
                    "of the same name as `{}`: say by `{}` which of them is meant",
                    twin.display(),
                    self.key
                );
                return Err(DataError::Invalid { path, reason });
            }
        }
        Ok(Found { by_name, passed_over: files.passed_over, warnings: files.warnings })
    }

    /// A relative path without suffix or extension, composed (NFC).
    fn name(&self, path: &Path) -> OsString {
        let without_suffix = path.to_str().and_then(|path| path.strip_suffix(self.suffix?));
        let name = without_suffix.map_or_else(|| path.with_extension(""), PathBuf::from);
        name.to_str().map(composed).map_or(name.into_os_string(), OsString::from)
    }
}

fn ends_with(name: &OsStr, suffix: &str) -> bool {
    name.as_encoded_bytes().ends_with(suffix.as_bytes())
}
