//! The pictures, the same validation image in a row: of a single run over time, of several the best ones side by
//! side.

use std::collections::HashMap;

use maud::{Markup, html};

use super::embedded::encoded;
use super::legend::legend;
use super::number::count;
use super::palette;
use super::run::Run;
use super::summary::best_first;
use crate::component::Picture;
use crate::report::PictureSet;

/// Bytes that all pictures may take in the page.
const BUDGET: usize = 2_200_000;
/// Longest sides that are tried, one after the other, where the pictures as they are do not fit.
const SIDES: [u32; 4] = [160, 112, 80, 56];
/// Pictures narrower than this are shown with their pixels.
pub(super) const PIXELATED_BELOW: u32 = 128;
/// More columns than this are narrower.
const MANY: usize = 9;

/// `None` where no run has any.
pub(super) fn section(runs: &[Run]) -> Option<Markup> {
    let sources = sources(runs);
    let grid = Grid::new(&sources);
    if grid.rows.is_empty() {
        return None;
    }
    let Fitted { rows, is_smaller } = grid.fit(BUDGET);
    Some(html! {
        p.note {
            @if runs.len() == 1 { "The same validation images at every step, the best first." } @else { "Of each run the best evaluation, or the last where the best is not known." }
            @if is_smaller { " The pictures are smaller than the runs keep them." }
            @if rows.len() < grid.rows.len() { " Shown are " (rows.len()) " of " (grid.rows.len()) " images." }
        }
        (legend(pixel_classes(runs)))
        @if grid.borrows() { (borrowing()) }
        div.wide {
            table.pictures.many[grid.columns.len() > MANY] {
                thead {
                    tr {
                        @for (source, width) in grid.groups() {
                            @match source {
                                Some(source) => th.run scope="colgroup" colspan=(width) { (sources[source].heading) },
                                None => th scope="colgroup" colspan=(width) {
                                    @if runs.len() == 1 { "All steps" } @else { "All runs" }
                                },
                            }
                        }
                    }
                    tr { @for column in &grid.columns { th scope="col" { (column.caption.unwrap_or("")) } } }
                }
                tbody {
                    @for (row, urls) in rows.iter().enumerate() {
                        tr {
                            @for (column, urls) in grid.columns.iter().zip(urls) {
                                td { (cell(&sources, &grid, column, row, urls)) }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// Pictures that have a heading of their own.
struct Source<'a> {
    heading: Markup,
    /// What tells its pictures from those of the others: ` by base`, `, step 120`.
    of: String,
    set: &'a PictureSet,
}

/// The steps of a single run, or the last one of each run.
fn sources(runs: &[Run]) -> Vec<Source<'_>> {
    let step = |set: &PictureSet| html! { "step " (count(set.step)) };
    if let [run] = runs {
        let best = run.best_step();
        let heading = |set: &PictureSet| html! { (step(set)) @if best == Some(set.step) { " (best)" } };
        let of_step = |set| Source { heading: heading(set), of: format!(", step {}", set.step), set };
        return run.pictures.iter().map(of_step).collect();
    }
    let labelled = best_first(runs).into_iter().map(|at| (at, &runs[at])).filter_map(|(at, run)| {
        run.pictures.last().map(|set| Source {
            heading: html! { span data-run=(at) { (palette::sample(run.entry)) (run.label) } " " small { (step(set)) } },
            of: format!(" by {}", run.label),
            set,
        })
    });
    labelled.collect()
}

/// What pictures of normalised patches show, and the switch between them; the style sheet acts on it.
fn borrowing() -> Markup {
    html! {
        p.borrowing {
            label { input type="checkbox" name="borrow" checked; " Borrow the mean and the deviation of the hidden patches" }
            " "
            span.note {
                "With " code { "norm_pix_loss" } " the model predicts patches without their mean and deviation. Reconstructions borrow these of the "
                "truth; without borrowing they have those that the seen patches of the image have on average."
            }
        }
    }
}

/// The names of the classes of pixels, where a run predicts them.
fn pixel_classes(runs: &[Run]) -> &[String] {
    let mut names = runs.iter().map(|run| run.details.pixel_classes.as_slice());
    names.find(|names| !names.is_empty()).unwrap_or_default()
}

fn cell(sources: &[Source<'_>], grid: &Grid<'_>, column: &Column<'_>, row: usize, urls: &Urls) -> Markup {
    let Some((picture, url)) = grid.rows[row].get(&(column.source, column.index)).zip(urls.image.as_ref())
    else {
        return html! {};
    };
    let of = column.source.map_or("", |source| &sources[source].of);
    let (width, height) = picture.image.dimensions();
    let class = if width < PIXELATED_BELOW { "pixelated" } else { "smooth" };
    let image = |class: &str, url: &str, what: &str| {
        html! {
            img class=(class) src=(url) width=(width) height=(height) alt={ (picture.caption) (what) " of image " (row + 1) (of) }
                decoding="async";
        }
    };
    html! {
        @if let Some(unborrowed) = &urls.unborrowed {
            (image(&format!("{class} borrowed"), url, ""))
            (image(&format!("{class} unborrowed"), unborrowed, " without borrowing"))
        } @else {
            (image(class, url, ""))
        }
        @if column.caption.is_none() { small { (picture.caption) } }
        @if !picture.note.is_empty() { small { (picture.note) } }
    }
}

/// A picture as addresses, and what it is without borrowing; empty where there is none.
#[derive(Default)]
struct Urls {
    image: Option<String>,
    unborrowed: Option<String>,
}

impl Urls {
    fn of(picture: &Picture, side: Option<u32>) -> Self {
        let unborrowed = picture.unborrowed.as_ref().and_then(|image| encoded(image, side));
        Self { image: encoded(&picture.image, side), unborrowed }
    }

    fn len(&self) -> usize {
        self.image.iter().chain(&self.unborrowed).map(String::len).sum()
    }
}

/// What stands below one heading.
struct Column<'a> {
    /// `None` for what is the same in all sources.
    source: Option<usize>,
    /// Its place in the sources' own rows.
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
    fn new(sources: &[Source<'a>]) -> Self {
        let mut rows: Vec<Cells<'a>> = Vec::new();
        // An image is known by its pixels: the runs may have drawn others, or in another order.
        let mut known: HashMap<(u32, &[u8]), usize> = HashMap::new();
        for (index, source) in sources.iter().enumerate() {
            for pictures in &source.set.rows {
                let Some(original) = original(pictures) else { continue };
                let image = &pictures[original].image;
                let row = *known.entry((image.width(), image.as_raw())).or_insert_with(|| {
                    rows.push(HashMap::new());
                    rows.len() - 1
                });
                for (at, picture) in pictures.iter().enumerate() {
                    let source = (at != original).then_some(index);
                    let at = if at == original { usize::MAX } else { at };
                    rows[row].insert((source, at), picture);
                }
            }
        }
        share(&mut rows, sources.len());
        let mut keys: Vec<_> = rows.iter().flat_map(HashMap::keys).copied().collect();
        // The original first, then what else all have in common, then source by source.
        keys.sort_unstable_by_key(|&(source, at)| (source, at.wrapping_add(1)));
        keys.dedup();
        let columns =
            keys.into_iter().map(|key| Column { source: key.0, index: key.1, caption: caption(&rows, key) });
        Self { columns: columns.collect(), rows }
    }

    /// Whether a picture shows something that was not predicted.
    fn borrows(&self) -> bool {
        self.rows.iter().flat_map(HashMap::values).any(|picture| picture.unborrowed.is_some())
    }

    /// Neighbouring columns of one source, with their number.
    fn groups(&self) -> Vec<(Option<usize>, usize)> {
        let groups = self.columns.chunk_by(|a, b| a.source == b.source);
        groups.map(|group| (group[0].source, group.len())).collect()
    }

    /// The pictures of as many rows as fit, in the largest size in which all of them do.
    fn fit(&self, budget: usize) -> Fitted {
        let encode = |cells: &[Cells<'a>], side: Option<u32>| -> Vec<Vec<Urls>> {
            let urls = |row: &Cells<'_>, column: &Column<'_>| {
                row.get(&(column.source, column.index))
                    .map(|picture| Urls::of(picture, side))
                    .unwrap_or_default()
            };
            cells.iter().map(|row| self.columns.iter().map(|column| urls(row, column)).collect()).collect()
        };
        let size = |rows: &[Vec<Urls>]| rows.iter().flatten().map(Urls::len).sum::<usize>();
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
    rows: Vec<Vec<Urls>>,
    is_smaller: bool,
}

/// Which of the pictures of a row is the image itself.
fn original(pictures: &[Picture]) -> Option<usize> {
    let named = pictures.iter().position(|picture| picture.caption == "original");
    named.or_else(|| pictures.len().checked_sub(1))
}

/// Makes one column of those that are the same in all sources, such as the masked image.
fn share(rows: &mut [Cells<'_>], sources: usize) {
    let of_first = rows.iter().flat_map(|row| row.keys()).filter(|(source, _)| *source == Some(0));
    let places: Vec<usize> = of_first.map(|(_, at)| *at).collect();
    for at in places {
        let same = |row: &Cells<'_>| {
            let of = |source: usize| row.get(&(Some(source), at));
            (1..sources).all(|source| of(source).is_some() && of(source) == of(0))
        };
        if sources > 1 && rows.iter().all(same) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use image::{Rgb, RgbImage};

    use super::*;
    use crate::report::{BestMetric, Split};

    fn noise(seed: u32, side: u32) -> RgbImage {
        RgbImage::from_fn(side, side, |x, y| {
            Rgb([0, 1, 2].map(|c| ((x * 31 + y * 17 + c * 7 + seed).wrapping_mul(2_654_435_761) >> 13) as u8))
        })
    }

    #[test]
    fn pictures_shrink_before_rows_are_left_out() {
        let pictures: Vec<Picture> = (0..8).map(|seed| Picture::new("original", noise(seed, 160))).collect();
        let rows = pictures.iter().map(|picture| HashMap::from([((None, usize::MAX), picture)])).collect();
        let grid = Grid { columns: vec![Column { source: None, index: usize::MAX, caption: None }], rows };
        let size = |fitted: &Fitted| fitted.rows.iter().flatten().map(Urls::len).sum::<usize>();
        let whole = grid.fit(usize::MAX);
        assert!(!whole.is_smaller && whole.rows.len() == 8);
        let half = grid.fit(size(&whole) / 3);
        assert!(half.is_smaller && half.rows.len() == 8 && size(&half) <= size(&whole) / 3);
        assert_eq!(grid.fit(1).rows.len(), 1);
    }

    fn set(step: u64, reconstruction: u8) -> PictureSet {
        let picture =
            |caption: &str, seed: u8| Picture::new(caption, RgbImage::from_pixel(4, 4, Rgb([seed; 3])));
        let row = |seed| {
            vec![
                picture("masked", seed),
                picture("reconstruction", reconstruction),
                picture("original", seed + 1),
            ]
        };
        PictureSet { step, rows: vec![row(1), row(2)] }
    }

    fn columns(sets: &[PictureSet]) -> Vec<(Option<&str>, Option<usize>)> {
        let source = |set| Source { heading: html! {}, of: String::new(), set };
        let sources: Vec<_> = sets.iter().map(source).collect();
        Grid::new(&sources).columns.iter().map(|column| (column.caption, column.source)).collect()
    }

    #[test]
    fn what_stays_the_same_is_shown_once() {
        let over_time =
            [("original", None), ("masked", None), ("reconstruction", Some(0)), ("reconstruction", Some(1))];
        assert_eq!(
            columns(&[set(10, 50), set(20, 60)]),
            over_time.map(|(caption, source)| (Some(caption), source))
        );
        let once = [("original", None), ("masked", Some(0)), ("reconstruction", Some(0))];
        assert_eq!(columns(&[set(10, 50)]), once.map(|(caption, source)| (Some(caption), source)));
    }

    #[test]
    fn rows_of_unequal_length_and_empty_pictures_do_no_harm() {
        let mut ragged = set(20, 60);
        ragged.rows[1].truncate(1);
        ragged.rows[0][0].image = RgbImage::new(0, 0);
        let pictures = vec![set(10, 50), ragged, PictureSet { step: 30, rows: Vec::new() }];
        let page = section(&[Run { pictures, ..Run::default() }]).unwrap().into_string();
        assert!(page.contains("<img"));
        assert!(section(&[Run::default()]).is_none());
    }

    #[test]
    fn what_is_said_of_an_image_stands_below_its_picture() {
        let mut noted = set(10, 50);
        for (row, note) in noted.rows.iter_mut().zip(["cat 93.1 %, truth: cat", "cat 60.0 %, truth: dog"]) {
            row[1].note = note.to_owned();
        }
        let page = section(&[Run { pictures: vec![noted], ..Run::default() }]).unwrap().into_string();
        assert_eq!(page.matches(">reconstruction</th>").count(), 1, "the column keeps its heading");
        assert!(page.contains("<small>cat 60.0 %, truth: dog</small>") && !page.contains("borrow"), "{page}");
    }

    #[test]
    fn pictures_that_borrow_say_so_and_can_be_switched() {
        let mut borrowing = set(10, 50);
        for row in &mut borrowing.rows {
            row[1].unborrowed = Some(RgbImage::from_pixel(4, 4, Rgb([9; 3])));
        }
        let page = section(&[Run { pictures: vec![borrowing], ..Run::default() }]).unwrap().into_string();
        assert!(page.contains(r#"<input type="checkbox" name="borrow" checked>"#), "{page}");
        assert_eq!(page.matches("class=\"pixelated unborrowed\"").count(), 2);
        assert_eq!(page.matches("class=\"pixelated borrowed\"").count(), 2);
        assert!(page.contains("alt=\"reconstruction without borrowing of image 1, step 10\""));
    }

    #[test]
    fn the_best_evaluation_is_marked() {
        let mut run = Run { pictures: vec![set(20, 60), set(10, 50)], ..Run::default() };
        run.details.best = Some(BestMetric { name: "top1".to_owned(), more_is_better: true });
        for (step, value) in [(10, 1.0), (20, 3.0), (30, 2.0)] {
            run.metrics.push(step, 0.0, Split::Val, "top1", value, 0.0);
        }
        let page = section(&[run]).unwrap().into_string();
        assert!(page.contains("step 20 (best)</th>") && page.contains("step 10</th>"), "{page}");
    }

    #[test]
    fn label_maps_have_a_legend_that_is_folded_away_where_it_is_long() {
        let legend = |classes: usize| {
            let mut run = Run { pictures: vec![set(10, 50)], ..Run::default() };
            run.details.pixel_classes = (0..classes).map(|class| format!("<{class}>")).collect();
            section(&[run]).unwrap().into_string()
        };
        let page = legend(21);
        assert!(
            page.contains(r#"<span class="swatch" style="background:#800000"></span>&lt;1&gt;"#),
            "{page}"
        );
        assert!(!page.contains("<details>") && legend(150).contains("<summary>150 classes</summary>"));
        assert!(!legend(0).contains("swatch"));
    }
}
