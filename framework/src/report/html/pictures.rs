//! The pictures over time: a row per image, the model's part once per step, what stays the same once.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder as _};
use maud::{Markup, html};

use super::number::count;
use crate::component::Picture;
use crate::report::PictureSet;

/// Pictures narrower than this are shown with their pixels.
const PIXELATED_BELOW: u32 = 128;

pub(in crate::report) fn section(sets: &[PictureSet]) -> Markup {
    let columns = columns(sets);
    let height = sets.iter().map(|set| set.rows.len()).max().unwrap_or(0);
    html! {
        div.wide {
            table.pictures {
                thead {
                    tr {
                        @for column in &columns {
                            th scope="col" {
                                (column.caption)
                                @if let Some(step) = column.step { br; small { "step " (count(step)) } }
                            }
                        }
                    }
                }
                tbody {
                    @for row in 0..height {
                        tr { @for column in &columns { td { (cell(sets, column, row)) } } }
                    }
                }
            }
        }
    }
}

struct Column<'a> {
    caption: &'a str,
    /// `None` for what is the same at all steps.
    step: Option<u64>,
    set: usize,
    index: usize,
}

/// The constant columns before and after those that change; in between, the changing ones of every step.
fn columns(sets: &[PictureSet]) -> Vec<Column<'_>> {
    let width = sets.iter().flat_map(|set| &set.rows).map(Vec::len).max().unwrap_or(0);
    let is_constant: Vec<bool> = (0..width).map(|index| is_constant(sets, index)).collect();
    let leading = is_constant.iter().take_while(|&&constant| constant).count();
    let trailing = is_constant[leading..].iter().rev().take_while(|&&constant| constant).count();
    let last = sets.len().saturating_sub(1);
    let column = |set: usize, index: usize, step: Option<u64>| Column {
        caption: sets[set].rows.iter().find_map(|row| row.get(index)).map_or("", |picture| &picture.caption),
        step,
        set,
        index,
    };
    let changing = leading..width - trailing;
    let over_time =
        (0..sets.len()).flat_map(|set| changing.clone().map(move |index| (set, index, Some(sets[set].step))));
    (0..leading)
        .map(|index| (last, index, None))
        .chain(over_time)
        .chain((width - trailing..width).map(|index| (last, index, None)))
        .map(|(set, index, step)| column(set, index, step))
        .collect()
}

fn is_constant(sets: &[PictureSet], index: usize) -> bool {
    let pictures = |set: &PictureSet| -> Vec<Option<image::RgbImage>> {
        set.rows.iter().map(|row| row.get(index).map(|picture| picture.image.clone())).collect()
    };
    let Some((first, others)) = sets.split_first() else { return true };
    let first = pictures(first);
    others.iter().all(|set| pictures(set) == first)
}

fn cell(sets: &[PictureSet], column: &Column<'_>, row: usize) -> Markup {
    let picture = sets[column.set].rows.get(row).and_then(|row| row.get(column.index));
    html! { @if let Some(picture) = picture { (shown(picture, row, column.step)) } }
}

fn shown(picture: &Picture, row: usize, step: Option<u64>) -> Markup {
    let alt = match step {
        Some(step) => format!("{} of image {}, step {step}", picture.caption, row + 1),
        None => format!("{} of image {}", picture.caption, row + 1),
    };
    let size = picture.image.dimensions();
    html! { @if let Some(png) = png(&picture.image) { (img(&data_url("png", &png), size, &alt)) } }
}

/// A picture whose file is in the page.
pub(in crate::report) fn img(url: &str, (width, height): (u32, u32), alt: &str) -> Markup {
    let class = if width < PIXELATED_BELOW { "pixelated" } else { "smooth" };
    html! { img class=(class) src=(url) width=(width) height=(height) alt=(alt) decoding="async"; }
}

/// A file as an address: `data:image/png;base64,..`.
pub(in crate::report) fn data_url(format: &str, file: &[u8]) -> String {
    format!("data:image/{format};base64,{}", BASE64_STANDARD.encode(file))
}

/// `None` for a picture without pixels, which PNG does not have.
pub(in crate::report) fn png(image: &image::RgbImage) -> Option<Vec<u8>> {
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Adaptive)
        .write_image(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8)
        .ok()?;
    Some(png)
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    fn picture(caption: &str, seed: u8) -> Picture {
        Picture { caption: caption.to_owned(), image: RgbImage::from_pixel(4, 4, Rgb([seed; 3])) }
    }

    fn set(step: u64, reconstruction: u8) -> PictureSet {
        let row = |seed| {
            vec![
                picture("masked", seed),
                picture("reconstruction", reconstruction),
                picture("original", seed + 1),
            ]
        };
        PictureSet { step, rows: vec![row(1), row(2)] }
    }

    fn header(sets: &[PictureSet]) -> Vec<(&str, Option<u64>)> {
        columns(sets).into_iter().map(|column| (column.caption, column.step)).collect()
    }

    #[test]
    fn what_stays_the_same_is_shown_once() {
        assert_eq!(
            header(&[set(10, 50), set(20, 60)]),
            [
                ("masked", None),
                ("reconstruction", Some(10)),
                ("reconstruction", Some(20)),
                ("original", None)
            ]
        );
    }

    #[test]
    fn one_set_is_shown_as_it_is() {
        assert_eq!(header(&[set(10, 50)]), [("masked", None), ("reconstruction", None), ("original", None)]);
    }

    #[test]
    fn rows_of_unequal_length_and_empty_pictures_do_no_harm() {
        let mut ragged = set(20, 60);
        ragged.rows[1].truncate(1);
        ragged.rows[0][0].image = RgbImage::new(0, 0);
        let page = section(&[set(10, 50), ragged, PictureSet { step: 30, rows: Vec::new() }]).into_string();
        assert!(page.contains("<img"));
        assert!(section(&[]).into_string().contains("table"));
    }
}
