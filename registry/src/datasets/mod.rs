//! Datasets: where samples come from.

mod ade20k;
mod cifar;
mod class_names;
mod coco;
mod concat;
mod idx;
mod image_folder;
mod parquet_images;
mod pattern;
mod repeat;
mod segmentation_folder;
mod subset;
mod synthetic_scenes;
mod tar_shards;
#[cfg(test)]
mod testing;

pub use ade20k::{Ade20k, Ade20kSplit};
pub use cifar::{Cifar, CifarSplit};
pub use class_names::Classes;
pub use coco::Coco;
pub use concat::Concat;
pub use idx::Idx;
pub use image_folder::ImageFolder;
pub use parquet_images::ParquetImages;
pub use pattern::Shards;
pub use repeat::Repeat;
pub use segmentation_folder::SegmentationFolder;
pub use subset::Subset;
pub use synthetic_scenes::{ShapeClass, SyntheticScenes};
pub use tar_shards::TarShards;

use std::path::Path;

use convmae_framework::component::{Samples, TaskKind};

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

/// In what the classes of two datasets differ, for any task.
fn what_differs(one: &dyn Samples, other: &dyn Samples) -> Option<String> {
    for task in [TaskKind::Classify, TaskKind::Segment, TaskKind::Detect] {
        match (one.classes(task), other.classes(task)) {
            (None, None) => {}
            (Some(_), None) => return Some("only the first one has classes".to_owned()),
            (None, Some(_)) => return Some("only the second one has classes".to_owned()),
            (Some(one), Some(other)) => {
                if let Some(class) = (0..one.len().min(other.len())).find(|&class| one[class] != other[class])
                {
                    let (one, other) = (&one[class], &other[class]);
                    return Some(format!("class {class} is `{one}` in the one and `{other}` in the other"));
                }
                if one.len() != other.len() {
                    return Some(format!("{} classes and {}", one.len(), other.len()));
                }
            }
        }
    }
    let differ = one.category_ids() != other.category_ids();
    differ.then(|| "the annotations give their classes other numbers".to_owned())
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
