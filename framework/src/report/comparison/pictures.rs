//! The last pictures of the runs side by side, the same validation image in a row.

use std::collections::HashMap;

use image::RgbImage;
use image::imageops::{FilterType, resize};
use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};
use maud::{Markup, html};

use super::palette;
use super::run::Run;
use crate::component::Picture;
use crate::report::html::number::count;
use crate::report::html::pictures::{data_url, img, png};

/// Bytes that all pictures may take in the page.
const BUDGET: usize = 2_200_000;
/// Longest sides that are tried, one after the other, where the pictures as they are do not fit.
const SIDES: [u32; 4] = [160, 112, 80, 56];
/// Quality of a JPEG, which a smaller picture may be stored as.
const QUALITY: u8 = 85;

/// `None` where no run has any.
pub(super) fn section(runs: &[Run]) -> Option<Markup> {
    let grid = Grid::new(runs);
    if grid.rows.is_empty() {
        return None;
    }
    let Fitted { rows, is_smaller } = grid.fit(BUDGET);
    Some(html! {
        p.note {
            "The last evaluation of each run."
            @if is_smaller { " The pictures are smaller than the runs keep them." }
            @if rows.len() < grid.rows.len() { " Shown are " (rows.len()) " of " (grid.rows.len()) " images." }
        }
        div.wide {
            table.pictures {
                thead {
                    tr {
                        @for (run, width) in grid.groups() {
                            @match run {
                                Some(run) => th.run scope="colgroup" colspan=(width) {
                                    (palette::sample(run)) (runs[run].label) " " small { "step " (count(runs[run].pictures.as_ref().map_or(0, |set| set.step))) }
                                },
                                None => th scope="colgroup" colspan=(width) { "All runs" },
                            }
                        }
                    }
                    tr { @for column in &grid.columns { th scope="col" { (column.caption.unwrap_or("")) } } }
                }
                tbody {
                    @for (row, urls) in rows.iter().enumerate() {
                        tr { @for (column, url) in grid.columns.iter().zip(urls) { td { (cell(runs, &grid, column, row, url.as_deref())) } } }
                    }
                }
            }
        }
    })
}

fn cell(runs: &[Run], grid: &Grid<'_>, column: &Column<'_>, row: usize, url: Option<&str>) -> Markup {
    let Some((picture, url)) = grid.rows[row].get(&(column.run, column.index)).zip(url) else {
        return html! {};
    };
    let of = column.run.map(|run| format!(" by {}", runs[run].label)).unwrap_or_default();
    let alt = format!("{} of image {}{of}", picture.caption, row + 1);
    html! {
        (img(url, picture.image.dimensions(), &alt))
        @if column.caption.is_none() { small { (picture.caption) } }
    }
}

/// What stands below one heading.
struct Column<'a> {
    /// `None` for what is the same in all runs.
    run: Option<usize>,
    /// Its place in the runs' own rows.
    index: usize,
    /// `None` where it is another one in every row.
    caption: Option<&'a str>,
}

type Cells<'a> = HashMap<(Option<usize>, usize), &'a Picture>;

struct Grid<'a> {
    columns: Vec<Column<'a>>,
    rows: Vec<Cells<'a>>,
}

impl<'a> Grid<'a> {
    fn new(runs: &'a [Run]) -> Self {
        let mut rows: Vec<Cells<'a>> = Vec::new();
        // An image is known by its pixels: the runs may have drawn others, or in another order.
        let mut known: HashMap<(u32, &[u8]), usize> = HashMap::new();
        for (index, run) in runs.iter().enumerate() {
            for pictures in run.pictures.iter().flat_map(|set| &set.rows) {
                let Some(original) = original(pictures) else { continue };
                let image = &pictures[original].image;
                let row = *known.entry((image.width(), image.as_raw())).or_insert_with(|| {
                    rows.push(HashMap::new());
                    rows.len() - 1
                });
                for (at, picture) in pictures.iter().enumerate() {
                    let run = (at != original).then_some(index);
                    let at = if at == original { usize::MAX } else { at };
                    rows[row].insert((run, at), picture);
                }
            }
        }
        share(&mut rows, runs.len());
        let mut keys: Vec<_> = rows.iter().flat_map(HashMap::keys).copied().collect();
        // The original first, then what else all have in common, then run by run.
        keys.sort_unstable_by_key(|&(run, at)| (run, at.wrapping_add(1)));
        keys.dedup();
        let columns =
            keys.into_iter().map(|key| Column { run: key.0, index: key.1, caption: caption(&rows, key) });
        Self { columns: columns.collect(), rows }
    }

    /// Neighbouring columns of one run, with their number.
    fn groups(&self) -> Vec<(Option<usize>, usize)> {
        let groups = self.columns.chunk_by(|a, b| a.run == b.run);
        groups.map(|group| (group[0].run, group.len())).collect()
    }

    /// The pictures of as many rows as fit, in the largest size in which all of them do.
    fn fit(&self, budget: usize) -> Fitted {
        let encode = |cells: &[Cells<'a>], side: Option<u32>| -> Vec<Vec<Option<String>>> {
            let url = |row: &Cells<'_>, column: &Column<'_>| {
                row.get(&(column.run, column.index)).and_then(|picture| encoded(&picture.image, side))
            };
            cells.iter().map(|row| self.columns.iter().map(|column| url(row, column)).collect()).collect()
        };
        let size =
            |rows: &[Vec<Option<String>>]| rows.iter().flatten().flatten().map(String::len).sum::<usize>();
        // The first row tells about how large the rest is, without encoding all of them in every size.
        let seems_to_fit =
            |side: Option<u32>| size(&encode(&self.rows[..1], side)) * self.rows.len() <= budget;
        let sides = [None].into_iter().chain(SIDES.map(Some));
        let side = sides.clone().find(|side| seems_to_fit(*side)).or(sides.last()).flatten();
        let is_smaller = side.is_some();
        let mut rows = encode(&self.rows, side);
        while rows.len() > 1 && size(&rows) > budget {
            rows.pop();
        }
        Fitted { rows, is_smaller }
    }
}

struct Fitted {
    /// By row and column.
    rows: Vec<Vec<Option<String>>>,
    is_smaller: bool,
}

/// Which of the pictures of a row is the image itself.
fn original(pictures: &[Picture]) -> Option<usize> {
    let named = pictures.iter().position(|picture| picture.caption == "original");
    named.or_else(|| pictures.len().checked_sub(1))
}

/// Makes one column of those that are the same in all runs, such as the masked image.
fn share(rows: &mut [Cells<'_>], runs: usize) {
    let places: Vec<usize> = rows
        .iter()
        .flat_map(|row| row.keys())
        .filter(|(run, _)| *run == Some(0))
        .map(|(_, at)| *at)
        .collect();
    for at in places {
        let same = |row: &Cells<'_>| {
            let of = |run: usize| row.get(&(Some(run), at)).map(|picture| (&picture.caption, &picture.image));
            (1..runs).all(|run| of(run).is_some() && of(run) == of(0))
        };
        if runs > 1 && rows.iter().all(same) {
            for row in rows.iter_mut() {
                let picture = row.remove(&(Some(0), at));
                row.retain(|key, _| key.0.is_none() || key.1 != at);
                row.extend(picture.map(|picture| ((None, at), picture)));
            }
        }
    }
}

/// The caption of a column, if it has one.
fn caption<'a>(rows: &[Cells<'a>], key: (Option<usize>, usize)) -> Option<&'a str> {
    let mut captions = rows.iter().filter_map(|row| row.get(&key)).map(|picture| picture.caption.as_str());
    let first = captions.next()?;
    captions.all(|caption| caption == first).then_some(first)
}

/// As it is, or with a longest side, as the smaller one of PNG and JPEG.
fn encoded(image: &RgbImage, side: Option<u32>) -> Option<String> {
    let Some(side) = side else { return Some(data_url("png", &png(image)?)) };
    let (width, height) = image.dimensions();
    let longest = width.max(height).max(side);
    let scaled = |length: u32| (length * side / longest).max(1);
    let small = if longest > side {
        resize(image, scaled(width), scaled(height), FilterType::Triangle)
    } else {
        image.clone()
    };
    let png = png(&small)?;
    let (width, height) = (small.width() as usize, small.height() as usize);
    let jpeg = compress(small.as_raw(), width, height, PixelFormat::Rgb, QUALITY, Subsampling::S444);
    match jpeg {
        Ok(jpeg) if jpeg.len() < png.len() => Some(data_url("jpeg", &jpeg)),
        _ => Some(data_url("png", &png)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use image::Rgb;

    use super::*;

    fn noise(seed: u32, side: u32) -> RgbImage {
        RgbImage::from_fn(side, side, |x, y| {
            Rgb([0, 1, 2].map(|c| ((x * 31 + y * 17 + c * 7 + seed).wrapping_mul(2_654_435_761) >> 13) as u8))
        })
    }

    #[test]
    fn pictures_shrink_before_rows_are_left_out() {
        let pictures: Vec<Picture> =
            (0..8).map(|seed| Picture { caption: "original".to_owned(), image: noise(seed, 160) }).collect();
        let rows = pictures.iter().map(|picture| HashMap::from([((None, usize::MAX), picture)])).collect();
        let grid = Grid { columns: vec![Column { run: None, index: usize::MAX, caption: None }], rows };
        let size = |fitted: &Fitted| fitted.rows.iter().flatten().flatten().map(String::len).sum::<usize>();
        let whole = grid.fit(usize::MAX);
        assert!(!whole.is_smaller && whole.rows.len() == 8);
        let half = grid.fit(size(&whole) / 3);
        assert!(half.is_smaller && half.rows.len() == 8 && size(&half) <= size(&whole) / 3);
        assert_eq!(grid.fit(1).rows.len(), 1);
    }

    #[test]
    fn a_small_picture_stays_as_large_as_it_is() {
        let url = encoded(&noise(1, 8), Some(56)).unwrap();
        assert!(url.starts_with("data:image/"));
    }
}
