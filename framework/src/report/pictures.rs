//! `pictures/`: what the model drew at each evaluation, one PNG per step.
//!
//! The pictures of a step are laid out as a grid in one image that any viewer shows; a text chunk of the PNG
//! says where each of them is and what its caption is, so that they can be taken apart again.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::PathBuf;

use image::{GenericImageView as _, Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use super::ReportError;
use crate::component::Picture;
use crate::guard::decoded;
use crate::weights::atomic;

/// The pictures of one evaluation: a row per validation image, a column per kind (`masked`, `reconstruction`,
/// `original`).
#[derive(Debug, Clone)]
pub struct PictureSet {
    /// Optimizer steps taken.
    pub step: u64,
    /// The rows.
    pub rows: Vec<Vec<Picture>>,
}

/// The folder that keeps them.
#[derive(Debug, Clone)]
pub struct PictureStore {
    folder: PathBuf,
}

/// Pixels between pictures.
const GAP: u32 = 4;
const BACKGROUND: Rgb<u8> = Rgb([255; 3]);
const KEYWORD: &str = "convmae-pictures";
const WHAT: &str = "picture grid";

/// Where a picture is in the grid, in pixels.
#[derive(Debug, Serialize, Deserialize)]
struct Cell {
    caption: String,
    /// Absent of older programs, too.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
    /// Whether it is the picture before it without what that borrows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unborrowed: bool,
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

impl PictureStore {
    /// Pictures are kept in `folder`, which exists.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Keeps a set, in place of another one of the same step.
    pub fn save(&self, set: &PictureSet) -> Result<(), ReportError> {
        let layout = lay_out(&set.rows);
        let grid = compose(&set.rows, &layout);
        atomic::write(&self.path(set.step), |file| encode(&grid, &layout, file)).map_err(ReportError::from)
    }

    /// The steps of which there are pictures, in order.
    pub fn steps(&self) -> Result<Vec<u64>, ReportError> {
        let mut steps = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(ReportError::io("list", &self.folder))? {
            let name = entry.map_err(ReportError::io("list", &self.folder))?.file_name();
            steps.extend(name.to_str().and_then(step_of));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// The pictures of one step.
    pub fn load(&self, step: u64) -> Result<PictureSet, ReportError> {
        let path = self.path(step);
        let file = File::open(&path).map_err(ReportError::io("open", &path))?;
        let (grid, layout) =
            decoded("PNG", || decode(file)).map_err(|reason| ReportError::format(&path, WHAT, reason))?;
        let rows = layout.into_iter().map(|row| cut_row(&grid, row));
        match rows.collect::<Option<Vec<_>>>() {
            Some(rows) => Ok(PictureSet { step, rows }),
            None => Err(ReportError::format(&path, WHAT, "a picture lies outside of it")),
        }
    }

    /// Up to `limit` sets: that of the step `best`, if there is one, and then others spread evenly over the run, the first and the
    /// last among them. A damaged one is left out with a warning: pictures are no reason to stop a run.
    pub fn overview(&self, limit: usize, best: Option<u64>) -> Result<Vec<PictureSet>, ReportError> {
        let mut steps = self.steps()?;
        let best = best.filter(|best| limit > 0 && steps.contains(best));
        steps.retain(|step| Some(*step) != best);
        let others = spread(&steps, limit - usize::from(best.is_some()));
        let load = |step| match self.load(step) {
            Ok(set) => Some(set),
            Err(error) => {
                tracing::warn!("{error}; left out of the report");
                None
            }
        };
        Ok(best.into_iter().chain(others).filter_map(load).collect())
    }

    /// Forgets what was drawn after `step`: a resumed run draws it again.
    pub fn truncate_after(&self, step: u64) -> Result<(), ReportError> {
        for later in self.steps()?.into_iter().filter(|&later| later > step) {
            atomic::remove(&self.path(later))?;
        }
        Ok(())
    }

    /// The file of a step.
    pub(super) fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:08}.png"))
    }
}

fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.strip_suffix(".png")?.parse().ok()
}

/// Up to `limit` of `steps`, evenly spaced, the first and the last among them (only the last if one is asked
/// for).
fn spread(steps: &[u64], limit: usize) -> Vec<u64> {
    match (limit, steps.last()) {
        (0, _) | (_, None) => Vec::new(),
        (1, Some(&last)) => vec![last],
        _ if steps.len() <= limit => steps.to_vec(),
        _ => (0..limit).map(|i| steps[i * (steps.len() - 1) / (limit - 1)]).collect(),
    }
}

/// The images of a row, each with its picture and whether it is the one without what that borrows.
fn images(row: &[Picture]) -> impl Iterator<Item = (&Picture, &RgbImage, bool)> {
    row.iter().flat_map(|picture| {
        let unborrowed = picture.unborrowed.iter().map(move |image| (picture, image, true));
        std::iter::once((picture, &picture.image, false)).chain(unborrowed)
    })
}

/// All cells have the size of the largest picture.
fn lay_out(rows: &[Vec<Picture>]) -> Vec<Vec<Cell>> {
    let sides = || rows.iter().flat_map(|row| images(row)).map(|(_, image, _)| image.dimensions());
    let width = sides().map(|(width, _)| width).max().unwrap_or(0) + GAP;
    let height = sides().map(|(_, height)| height).max().unwrap_or(0) + GAP;
    let lay_row = |(row, pictures): (usize, &Vec<Picture>)| {
        let cell = |(column, (picture, image, unborrowed)): (usize, (&Picture, &RgbImage, bool))| Cell {
            caption: picture.caption.clone(),
            note: picture.note.clone(),
            unborrowed,
            x: column as u32 * width,
            y: row as u32 * height,
            width: image.width(),
            height: image.height(),
        };
        images(pictures).enumerate().map(cell).collect()
    };
    rows.iter().enumerate().map(lay_row).collect()
}

fn compose(rows: &[Vec<Picture>], layout: &[Vec<Cell>]) -> RgbImage {
    let cells = || layout.iter().flatten();
    // A PNG has at least one pixel.
    let width = cells().map(|cell| cell.x + cell.width).max().unwrap_or(1).max(1);
    let height = cells().map(|cell| cell.y + cell.height).max().unwrap_or(1).max(1);
    let mut grid = RgbImage::from_pixel(width, height, BACKGROUND);
    for (cell, (_, image, _)) in cells().zip(rows.iter().flat_map(|row| images(row))) {
        image::imageops::replace(&mut grid, image, i64::from(cell.x), i64::from(cell.y));
    }
    grid
}

fn encode(grid: &RgbImage, layout: &[Vec<Cell>], file: impl Write) -> io::Result<()> {
    let mut encoder = png::Encoder::new(file, grid.width(), grid.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    encoder.add_itxt_chunk(KEYWORD.to_owned(), serde_json::to_string(layout)?)?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(grid.as_raw())?;
    writer.finish()?;
    Ok(())
}

fn decode(file: File) -> Result<(RgbImage, Vec<Vec<Cell>>), String> {
    let mut reader =
        png::Decoder::new(BufReader::new(file)).read_info().map_err(|error| error.to_string())?;
    let info = reader.info();
    let layout = info
        .utf8_text
        .iter()
        .find(|chunk| chunk.keyword == KEYWORD)
        .ok_or("it has no captions")?
        .get_text()
        .map_err(|error| error.to_string())?;
    let layout = serde_json::from_str(&layout).map_err(|error| error.to_string())?;
    let (width, height) = info.size();
    if reader.output_color_type() != (png::ColorType::Rgb, png::BitDepth::Eight) {
        return Err("its pixels are not 8-bit RGB".to_owned());
    }
    let mut pixels = vec![0; reader.output_buffer_size().ok_or("it is too large")?];
    reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
    let grid = RgbImage::from_raw(width, height, pixels).ok_or("its pixels are incomplete")?;
    Ok((grid, layout))
}

/// `None` if a picture lies outside.
fn cut_row(grid: &RgbImage, row: Vec<Cell>) -> Option<Vec<Picture>> {
    let mut pictures: Vec<Picture> = Vec::with_capacity(row.len());
    for cell in row {
        let image = cut(grid, &cell)?;
        match pictures.last_mut() {
            Some(picture) if cell.unborrowed => picture.unborrowed = Some(image),
            _ => pictures.push(Picture { note: cell.note, ..Picture::new(cell.caption, image) }),
        }
    }
    Some(pictures)
}

fn cut(grid: &RgbImage, cell: &Cell) -> Option<RgbImage> {
    let is_inside =
        cell.x.checked_add(cell.width)? <= grid.width() && cell.y.checked_add(cell.height)? <= grid.height();
    is_inside.then(|| grid.view(cell.x, cell.y, cell.width, cell.height).to_image())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn picture(caption: &str, width: u32, height: u32, seed: u8) -> Picture {
        let pixel = |x: u32, y: u32| Rgb([seed, (x * 7) as u8, (y * 11) as u8]);
        Picture::new(caption, RgbImage::from_fn(width, height, pixel))
    }

    fn set(step: u64) -> PictureSet {
        let borrowing = Picture {
            note: "Katze 93.1 %, truth: \"Hund\"".to_owned(),
            unborrowed: Some(RgbImage::from_pixel(9, 3, Rgb([7; 3]))),
            ..picture("wiederhergestellt: \"ö\"", 8, 8, 2)
        };
        let rows = vec![
            vec![picture("masked", 8, 8, 1), borrowing, picture("original", 8, 8, 4)],
            vec![picture("masked", 5, 9, 3)],
        ];
        PictureSet { step, rows }
    }

    #[test]
    fn pictures_come_back_with_their_captions() {
        let folder = tempfile::tempdir().unwrap();
        let store = PictureStore::new(folder.path().to_path_buf());
        for set in [set(120), PictureSet { step: 7, rows: Vec::new() }] {
            store.save(&set).unwrap();
            let loaded = store.load(set.step).unwrap();
            assert_eq!(loaded.rows, set.rows);
        }
        assert_eq!(store.steps().unwrap(), [7, 120]);
        assert!(folder.path().join("step-00000120.png").exists());
    }

    #[test]
    fn an_overview_has_the_first_and_the_last() {
        let steps: Vec<u64> = (1..=100).collect();
        assert_eq!(spread(&steps, 4), [1, 34, 67, 100]);
        assert_eq!(spread(&steps[..3], 4), [1, 2, 3]);
        assert_eq!(spread(&steps, 1), [100]);
        assert!(spread(&[], 4).is_empty());
    }

    #[test]
    fn an_overview_begins_with_the_best() {
        let folder = tempfile::tempdir().unwrap();
        let store = PictureStore::new(folder.path().to_path_buf());
        [1, 2, 3, 4].into_iter().for_each(|step| store.save(&set(step)).unwrap());
        let steps =
            |limit, best| store.overview(limit, best).unwrap().iter().map(|set| set.step).collect::<Vec<_>>();
        assert_eq!(steps(3, Some(3)), [3, 1, 4]);
        assert_eq!(steps(9, Some(4)), [4, 1, 2, 3]);
        assert_eq!(steps(1, Some(2)), [2]);
        assert_eq!((steps(2, Some(7)), steps(0, Some(1))), (vec![1, 4], vec![]));
    }

    #[test]
    fn a_damaged_grid_is_left_out_and_named_when_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let store = PictureStore::new(folder.path().to_path_buf());
        store.save(&set(1)).unwrap();
        store.save(&set(2)).unwrap();
        let path = store.path(2);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 60]).unwrap();
        let overview = store.overview(9, None).unwrap();
        assert_eq!(overview.iter().map(|set| set.step).collect::<Vec<_>>(), [1]);
        let message = store.load(2).unwrap_err().to_string();
        assert!(message.contains("step-00000002.png is not a valid picture grid"), "{message}");
        RgbImage::new(2, 2).save(&path).unwrap();
        assert!(store.load(2).unwrap_err().to_string().contains("no captions"));
    }

    #[test]
    fn a_resumed_run_forgets_later_pictures_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = PictureStore::new(folder.path().to_path_buf());
        for step in [1, 20, 30] {
            store.save(&set(step)).unwrap();
        }
        fs::write(folder.path().join("step-mine.png"), "").unwrap();
        store.truncate_after(20).unwrap();
        assert_eq!(store.steps().unwrap(), [1, 20]);
        assert!(folder.path().join("step-mine.png").exists());
    }

    #[test]
    fn a_picture_outside_of_the_grid_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = PictureStore::new(folder.path().to_path_buf());
        let (x, width) = (u32::MAX, 2);
        let cell = Cell {
            caption: String::new(),
            note: String::new(),
            unborrowed: false,
            x,
            y: 0,
            width,
            height: 1,
        };
        let file = File::create(store.path(1)).unwrap();
        encode(&RgbImage::new(2, 2), &[vec![cell]], file).unwrap();
        assert!(store.load(1).unwrap_err().to_string().contains("outside"));
    }
}
