//! Datasets: where samples come from.

mod ade20k;
mod class_names;
mod coco;
mod image_folder;
mod segmentation_folder;
mod subset;
mod synthetic_scenes;
mod tar_shards;

pub use ade20k::{Ade20k, Ade20kSplit};
pub use class_names::Classes;
pub use coco::Coco;
pub use image_folder::ImageFolder;
pub use segmentation_folder::SegmentationFolder;
pub use subset::Subset;
pub use synthetic_scenes::{ShapeClass, SyntheticScenes};
pub use tar_shards::{Shards, TarShards};

use std::path::Path;

fn yes() -> bool {
    true
}

/// Up to five names, for a message.
fn some_names(mut names: Vec<String>) -> String {
    names.sort();
    let more = names.len().saturating_sub(5);
    names.truncate(5);
    let names = names.join(", ");
    if more > 0 { format!("{names} and {more} more") } else { names }
}

/// What the nearest existing folder above a missing path holds, for a message.
fn what_is_there(missing: &Path) -> String {
    let folder = missing.ancestors().skip(1).find_map(|folder| {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        std::fs::read_dir(folder).ok().map(|entries| (folder, entries))
    });
    let Some((folder, entries)) = folder else { return String::new() };
    let names: Vec<_> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    if names.is_empty() {
        format!("; `{}` is empty", folder.display())
    } else {
        format!("; `{}` holds {}", folder.display(), some_names(names))
    }
}
