use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::walk::{Files, dangling, is_hidden, leads_nowhere, walk};
use convmae_framework::data::{
    DataError, IMAGE_EXTENSIONS, PassedOver, Sample, Target, composed, has_extension, read_image,
};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{some_names, what_is_there, yes};

/// JPEG, PNG, WebP, TIFF and BMP files in one folder per class, as torchvision's `ImageFolder`:
/// `root/split/class/**/image.jpg`. Classes and files are sorted by name; names that begin with a dot are
/// passed over.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageFolder {
    /// Folder of the dataset.
    #[schemars(extend("examples" = ["data/imagenet"]))]
    pub root: PathBuf,
    /// Subfolder of `root` to use, such as `train` or `val`; by default `root` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<PathBuf>,
    /// Whether subfolders are classes. If not, every image below the folder is taken, without a class: enough
    /// for pretraining.
    #[serde(default = "yes")]
    pub labelled: bool,
}

#[typetag::serde]
impl Dataset for ImageFolder {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        let folder = self.split.as_ref().map_or_else(|| self.root.clone(), |split| self.root.join(split));
        if !folder.is_dir() {
            let reason = format!("no such folder{}", what_is_there(&folder));
            return Err(DataError::Invalid { path: folder, reason });
        }
        let images = if self.labelled { Images::labelled(&folder)? } else { Images::flat(&folder)? };
        Ok(Box::new(Images { root: folder, ..images }))
    }
}

convmae_framework::register!(Dataset: ImageFolder);

/// The files of a dataset. There may be millions, so folders are shared.
#[derive(Default)]
struct Images {
    root: PathBuf,
    folders: Vec<PathBuf>,
    files: Vec<File>,
    classes: Option<Vec<String>>,
    passed_over: PassedOver,
    warnings: Vec<String>,
}

struct File {
    folder: u32,
    class: u32,
    name: Box<OsStr>,
}

impl Images {
    fn labelled(root: &Path) -> Result<Self, DataError> {
        let Listing { classes, files, warnings } = Listing::of(root)?;
        if classes.is_empty() {
            return Err(no_classes(root, files));
        }
        let walks: Vec<_> =
            classes.par_iter().map(|(_, folder)| walk(&root.join(folder), is_image)).collect();
        let mut images = Self { warnings, ..Self::default() };
        files.iter().for_each(|name| images.passed_over.add(Path::new(name)));
        let mut empty = Vec::new();
        for (class, files) in walks.into_iter().enumerate() {
            let files = files?;
            if files.wanted.is_empty() {
                let others = files.passed_over.to_string();
                let name = &classes[class].0;
                empty.push(if others.is_empty() { name.clone() } else { format!("{name} ({others})") });
            }
            images.extend(class, files);
        }
        if !empty.is_empty() {
            let reason = format!(
                "{} of {} class folders hold no image ({}): {}; remove or fill them",
                empty.len(),
                classes.len(),
                IMAGE_EXTENSIONS.join(", "),
                some_names(empty)
            );
            return Err(DataError::Invalid { path: root.to_owned(), reason });
        }
        images.classes = Some(classes.into_iter().map(|(name, _)| name).collect());
        Ok(images)
    }

    fn flat(root: &Path) -> Result<Self, DataError> {
        let mut images = Self::default();
        images.extend(0, walk(root, is_image)?);
        if images.files.is_empty() {
            let reason = format!("no image ({}) in it or below it", IMAGE_EXTENSIONS.join(", "));
            return Err(DataError::Invalid { path: root.to_owned(), reason });
        }
        Ok(images)
    }

    /// Adds the files, sorted by folder, of one class.
    fn extend(&mut self, class: usize, files: Files) {
        for (folder, name) in files.wanted {
            if self.folders.last() != Some(&folder) {
                self.folders.push(folder);
            }
            let folder = self.folders.len() as u32 - 1;
            self.files.push(File { folder, class: class as u32, name });
        }
        self.passed_over.merge(files.passed_over);
        self.warnings.extend(files.warnings);
    }
}

fn no_classes(root: &Path, files: Vec<String>) -> DataError {
    let images: Vec<_> = files.iter().filter(|name| is_image(Path::new(name))).cloned().collect();
    let found = match (files.len(), images.len()) {
        (0, _) => "the folder is empty".to_owned(),
        (others, 0) => format!("found {others} files, none an image ({})", some_names(files)),
        (_, count) => format!(
            "found {count} images ({}) but no subfolders; set `labelled: false` to use images without classes",
            some_names(images)
        ),
    };
    let reason = format!("{found}; expected one subfolder per class, with images");
    DataError::Invalid { path: root.to_owned(), reason }
}

/// What is in the folder of the classes.
struct Listing {
    /// The names of the visible subfolders, composed (NFC) and sorted, with those that they have on the disk.
    classes: Vec<(String, String)>,
    files: Vec<String>,
    /// Links that lead nowhere.
    warnings: Vec<String>,
}

impl Listing {
    fn of(folder: &Path) -> Result<Self, DataError> {
        let error = |source| DataError::Io { path: folder.to_owned(), source };
        let mut listing = Self { classes: Vec::new(), files: Vec::new(), warnings: Vec::new() };
        for entry in std::fs::read_dir(folder).map_err(error)? {
            let (name, path) = entry.map(|entry| (entry.file_name(), entry.path())).map_err(error)?;
            if is_hidden(&name) {
                continue;
            }
            // Follows links, as torchvision does.
            if leads_nowhere(&path) {
                listing.warnings.push(dangling(&path));
            } else if !path.is_dir() {
                listing.files.push(name.to_string_lossy().into_owned());
            } else if let Ok(name) = name.into_string() {
                listing.classes.push((composed(&name), name));
            } else {
                let reason = "the name of a class must be UTF-8; rename the folder".to_owned();
                return Err(DataError::Invalid { path, reason });
            }
        }
        listing.classes.sort();
        if let Some([(name, _), _]) = listing.classes.array_windows().find(|[a, b]| a.0 == b.0) {
            let reason = format!(
                "two folders of the class `{name}`: their names differ only in how accents are encoded; merge them"
            );
            return Err(DataError::Invalid { path: folder.to_owned(), reason });
        }
        Ok(listing)
    }
}

fn is_image(name: &Path) -> bool {
    has_extension(name, &IMAGE_EXTENSIONS)
}

impl Samples for Images {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let file = &self.files[index];
        let path = self.folders[file.folder as usize].join(&*file.name);
        let image = read_image(&path)?;
        let class = self.classes.as_ref().map(|_| file.class as usize);
        Ok(Sample::new(path.display().to_string(), image, Target { class, ..Target::default() }))
    }

    fn identity(&self, index: usize) -> Option<String> {
        let file = &self.files[index];
        let folder = &self.folders[file.folder as usize];
        let path = folder.strip_prefix(&self.root).unwrap_or(folder).join(&*file.name);
        Some(path.to_string_lossy().into_owned())
    }

    fn class(&self, index: usize) -> Option<usize> {
        self.classes.as_ref().map(|_| self.files[index].class as usize)
    }

    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        self.classes.as_deref().filter(|_| task == TaskKind::Classify)
    }

    fn passed_over(&self) -> PassedOver {
        self.passed_over.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use image::{Rgb, RgbImage};

    use super::*;

    /// A folder with PNG files whose colour is their number.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (number, file) in files.iter().enumerate() {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut bytes = std::io::Cursor::new(Vec::new());
            let image = RgbImage::from_pixel(2, 3, Rgb([number as u8; 3]));
            image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
            std::fs::write(path, bytes.into_inner()).unwrap();
        }
        root
    }

    fn open(root: &Path, labelled: bool) -> Result<Box<dyn Samples>, DataError> {
        ImageFolder { root: root.to_owned(), split: None, labelled }.open()
    }

    fn error(root: &Path) -> String {
        open(root, true).err().unwrap().to_string().replace(root.to_str().unwrap(), "ROOT")
    }

    #[test]
    fn a_sample_is_the_same_wherever_the_folder_is() {
        let identities = || {
            let root = folder(&["a/z/1.png", "b/2.png"]);
            let samples = open(root.path(), true).unwrap();
            [0, 1].map(|index| samples.identity(index).unwrap())
        };
        assert_eq!(identities(), ["a/z/1.png", "b/2.png"]);
        assert_eq!(identities(), identities());
    }

    #[test]
    fn classes_and_files_are_sorted_as_by_torchvision() {
        let files = [
            "b/2.png",
            "b/10.PNG",
            "a/z/1.png",
            "a/y.png",
            "B/x.png",
            ".git/x.png",
            "a/.x.png",
            "a/notes.txt",
        ];
        let root = folder(&files);
        let samples = open(root.path(), true).unwrap();
        assert_eq!(samples.classes(TaskKind::Classify).unwrap(), ["B", "a", "b"]);
        let read: Vec<_> = (0..samples.len())
            .map(|index| {
                let sample = samples.get(index).unwrap();
                (sample.rgb("").unwrap().get_pixel(0, 0).0[0], sample.target.class.unwrap())
            })
            .collect();
        // B/x, a/y, a/z/1, b/10, b/2
        assert_eq!(read, [(4, 0), (3, 1), (2, 1), (1, 2), (0, 2)]);
        assert!(samples.get(1).unwrap().id.ends_with("a/y.png"));
    }

    #[test]
    fn other_files_are_passed_over_and_counted() {
        let root =
            folder(&["a/1.TIF", "a/2.bmp", "b/x/3.gif", "b/4.png", "b/5.GIF", "list.txt", ".git/6.gif"]);
        for (labelled, samples) in [(true, 3), (false, 3)] {
            let found = open(root.path(), labelled).unwrap();
            assert_eq!(found.len(), samples);
            assert_eq!(found.passed_over().to_string(), "2 .gif, 1 .txt", "{labelled}");
        }
    }

    #[test]
    fn names_are_compared_composed() {
        let (composed, decomposed) = ("\u{c9}pagneul", "E\u{301}pagneul");
        let root = folder(&[&format!("{decomposed}/1.png"), "Ecureuil/2.png"]);
        let samples = open(root.path(), true).unwrap();
        assert_eq!(samples.classes(TaskKind::Classify).unwrap(), ["Ecureuil", composed]);
        assert!(samples.get(1).is_ok());
        std::fs::create_dir(root.path().join(composed)).unwrap();
        assert!(
            error(root.path()).contains("two folders of the class `\u{c9}pagneul`"),
            "{}",
            error(root.path())
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_an_image_that_is_gone_is_a_corrupt_sample() {
        let root = folder(&["a/1.png"]);
        std::os::unix::fs::symlink("../gone/2.png", root.path().join("a/2.png")).unwrap();
        std::os::unix::fs::symlink("gone", root.path().join("b")).unwrap();
        let samples = open(root.path(), true).unwrap();
        assert_eq!((samples.len(), samples.warnings().len()), (2, 1));
        let error = samples.get(1).unwrap_err();
        assert!(matches!(&error, DataError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().ends_with("a link to `../gone/2.png`, which does not exist"), "{error}");
    }

    #[test]
    fn a_split_is_a_subfolder() {
        let root = folder(&["train/a/1.png", "train/a/2.png", "val/a/3.png"]);
        let dataset: Box<dyn Dataset> = serde_json::from_value(serde_json::json!({
            "type": "ImageFolder", "root": root.path(), "split": "train"
        }))
        .unwrap();
        assert_eq!(dataset.open().unwrap().len(), 2);
    }

    #[test]
    fn a_flat_folder_has_no_classes() {
        let root = folder(&["2.png", "1.png", "more/3.png"]);
        let samples = open(root.path(), false).unwrap();
        assert_eq!((samples.len(), samples.classes(TaskKind::Classify)), (3, None));
        assert_eq!(samples.get(0).unwrap().target.class, None);
    }

    #[test]
    fn a_missing_folder_tells_what_is_there() {
        let root = folder(&["train/a/1.png", "val/a/2.png"]);
        let dataset =
            ImageFolder { root: root.path().to_owned(), split: Some("test".into()), labelled: true };
        let message =
            dataset.open().err().unwrap().to_string().replace(root.path().to_str().unwrap(), "ROOT");
        assert_eq!(message, "ROOT/test: no such folder; `ROOT` holds train, val");
    }

    #[test]
    fn a_folder_without_classes_tells_what_was_found_and_what_is_expected() {
        let expected = "expected one subfolder per class, with images";
        let root = tempfile::tempdir().unwrap();
        assert_eq!(error(root.path()), format!("ROOT: the folder is empty; {expected}"));
        let root = folder(&["notes.txt"]);
        assert_eq!(error(root.path()), format!("ROOT: found 1 files, none an image (notes.txt); {expected}"));
        let root = folder(&["1.png", "2.png", "notes.txt"]);
        assert_eq!(
            error(root.path()),
            format!(
                "ROOT: found 2 images (1.png, 2.png) but no subfolders; set `labelled: false` to use images without \
                 classes; {expected}"
            )
        );
    }

    #[test]
    fn classes_without_images_are_named() {
        let root = folder(&["a/1.png", "b/notes.txt", "c/notes.txt"]);
        let message = error(root.path());
        assert!(
            message.contains(
                "2 of 3 class folders hold no image (jpg, jpeg, png, webp, tif, tiff, bmp): b (1 .txt), c (1 .txt);"
            ),
            "{message}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_a_class_must_have_a_name_in_utf8() {
        use std::os::unix::ffi::OsStrExt as _;

        let root = folder(&["a/1.png"]);
        let odd = |name: &[u8]| root.path().join(OsStr::from_bytes(name));
        std::fs::write(odd(b"notes\xff.txt"), "").unwrap();
        std::fs::create_dir(odd(b".hidden\xff")).unwrap();
        std::fs::copy(odd(b"a/1.png"), odd(b"a/2\xff.png")).unwrap();
        let samples = open(root.path(), true).unwrap();
        assert_eq!(samples.len(), 2);
        assert_eq!(samples.get(1).unwrap().size(), (3, 2));
        std::fs::create_dir(odd(b"b\xff")).unwrap();
        assert!(error(root.path()).contains("the name of a class must be UTF-8"));
    }

    #[test]
    fn a_broken_file_is_corrupt_and_named() {
        let root = folder(&["a/1.png"]);
        std::fs::write(root.path().join("a/2.png"), "not an image").unwrap();
        let samples = open(root.path(), true).unwrap();
        let error = samples.get(1).unwrap_err();
        assert!(matches!(&error, DataError::Corrupt { path, .. } if path.ends_with("a/2.png")), "{error}");
    }
}
