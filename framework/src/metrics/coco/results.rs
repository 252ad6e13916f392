//! Results as files that COCO's tools read.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::average_precision::xywh;
use crate::component::Regions;
use crate::data::{Batch, Original, Rle};

/// A JSON file of detections, as pycocotools reads it (`COCO.loadRes`): of each the number of its image and of its category, the box
/// (corner, width, height), the score and, where there is one, the mask as compressed run lengths. It is no JSON before it is finished.
pub struct ResultsFile {
    path: PathBuf,
    /// By class; classes are numbered from 0 if nothing gives them numbers.
    category_ids: Option<Vec<u64>>,
    /// Of the process that writes it.
    file: Option<BufWriter<File>>,
    /// What another process is to write.
    handed_over: Vec<ImageResults>,
    /// The images that are in it.
    images: HashSet<u64>,
    detections: usize,
}

/// Why results cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the results to {}: {source}", path.display())]
pub struct ResultsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub source: io::Error,
}

/// What was found in an image, as the file tells it.
#[derive(Serialize, Deserialize)]
pub struct ImageResults {
    image_id: u64,
    /// JSON of each object.
    entries: Vec<String>,
}

/// An entry of the file.
#[derive(Serialize)]
struct Detection {
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    score: f64,
    #[serde(rename = "segmentation", skip_serializing_if = "Option::is_none")]
    mask: Option<Rle>,
}

impl ResultsFile {
    /// A file with no detection yet.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path, category_ids: Option<&[u64]>) -> Result<Self, ResultsError> {
        let failed = |source| ResultsError { path: path.to_owned(), source };
        let mut file = BufWriter::new(File::create(path).map_err(failed)?);
        file.write_all(b"[").map_err(failed)?;
        Ok(Self { file: Some(file), ..Self::of_another(path, category_ids) })
    }

    /// The file of another process, which is handed what is [added](Self::add).
    pub fn of_another(path: &Path, category_ids: Option<&[u64]>) -> Self {
        Self {
            path: path.to_owned(),
            category_ids: category_ids.map(<[u64]>::to_vec),
            file: None,
            handed_over: Vec::new(),
            images: HashSet::new(),
            detections: 0,
        }
    }

    /// Writes what was found in the images of a batch, in pixels of the images as they were read.
    ///
    /// # Errors
    /// If the disk is full, an image has no number, or its class none.
    pub fn add(&mut self, batch: &Batch, found: &[Regions]) -> Result<(), ResultsError> {
        let written = self.entries(batch, found).and_then(|images| self.write_all(images));
        written.map_err(|source| ResultsError { path: self.path.clone(), source })
    }

    /// What another process is to [`take`](Self::take).
    pub fn hand_over(&mut self) -> Vec<ImageResults> {
        std::mem::take(&mut self.handed_over)
    }

    /// Writes what another process has found.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn take(&mut self, images: Vec<ImageResults>) -> Result<(), ResultsError> {
        self.write_all(images).map_err(|source| ResultsError { path: self.path.clone(), source })
    }

    fn write_all(&mut self, images: Vec<ImageResults>) -> io::Result<()> {
        for image in images {
            // In place of a corrupt image comes the next one, which is there once.
            if !self.images.insert(image.image_id) {
                continue;
            }
            let Some(file) = &mut self.file else {
                self.handed_over.push(image);
                continue;
            };
            for entry in image.entries {
                let separator: &[u8] = if self.detections == 0 { b"\n" } else { b",\n" };
                file.write_all(separator)?;
                file.write_all(entry.as_bytes())?;
                self.detections += 1;
            }
        }
        Ok(())
    }

    fn entries(&self, batch: &Batch, found: &[Regions]) -> io::Result<Vec<ImageResults>> {
        let mut images = Vec::with_capacity(batch.len());
        for ((name, original), regions) in batch.ids.iter().zip(&batch.originals).zip(found) {
            let number = || io::Error::other(format!("{name} has no number in the annotations"));
            let image_id = original.image_id.ok_or_else(number)?;
            let entry = |at| Ok(serde_json::to_string(&self.entry(image_id, original, regions, at)?)?);
            let entries = (0..regions.len()).into_par_iter().map(entry).collect::<io::Result<_>>()?;
            images.push(ImageResults { image_id, entries });
        }
        Ok(images)
    }

    fn entry(
        &self,
        image_id: u64,
        original: &Original,
        regions: &Regions,
        at: usize,
    ) -> io::Result<Detection> {
        let class = regions.classes.get(at).copied().unwrap_or(0);
        let unknown = || io::Error::other(format!("class {class} (from 0) has no number in the annotations"));
        let category_id = match &self.category_ids {
            Some(ids) => *ids.get(class as usize).ok_or_else(unknown)?,
            None => class.into(),
        };
        Ok(Detection {
            image_id,
            category_id,
            bbox: xywh(regions.boxes[at]),
            score: regions.scores.get(at).copied().unwrap_or(0.0).into(),
            mask: regions.masks.get(at).map(|mask| mask.encode(regions.boxes[at], original.size)),
        })
    }

    /// Ends the file, and tells how many detections it has.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> Result<usize, ResultsError> {
        let end = |file: &mut BufWriter<File>| file.write_all(b"\n]\n").and_then(|()| file.flush());
        self.file
            .as_mut()
            .map_or(Ok(()), end)
            .map_err(|source| ResultsError { path: self.path.clone(), source })?;
        Ok(self.detections)
    }
}
