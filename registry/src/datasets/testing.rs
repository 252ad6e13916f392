//! What the tests of datasets share.

use std::path::Path;

use image::{Rgb, RgbImage};
use serde_json::{Value, json};

/// A folder with so many images of every class, `class/0.png` and on; the red of each is its number.
pub(super) fn class_folders(classes: &[(&str, usize)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for &(class, images) in classes {
        let folder = root.path().join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..images {
            let image = RgbImage::from_pixel(2, 3, Rgb([number as u8, 0, 0]));
            image.save(folder.join(format!("{number}.png"))).unwrap();
        }
    }
    root
}

/// The block of an `ImageFolder`.
pub(super) fn image_folder(root: &Path) -> Value {
    json!({ "type": "ImageFolder", "root": root })
}
