//! Mutated files of every format that the program reads: each is read or refused, without a panic, in little
//! time and memory.
//!
//! Without more they are the same few hundred of each format every time. With `CONVMAE_FUZZ_SECONDS=600` the
//! search goes on for so long in each format, from a new start:
//! `cargo test -p convmae-tests --test e2e -- fuzz --nocapture --test-threads=1` tells how many files were
//! tried. A file that fails is kept in the folder of temporary files, and named.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use convmae_framework::component::{ClassFigures, Confusion, Dataset};
use convmae_framework::data::{decode, read_labels};
use convmae_framework::graph::{catalog, check};
use convmae_framework::metrics::coco::evaluate_files;
use convmae_framework::recipe::{Catalog, Sources, load};
use convmae_framework::report::{
    ClassTable, ConfusionTable, Details, Environment, MetricLog, PictureStore, Split, Summary,
};
use convmae_framework::weights::{Selection, check_safetensors, read_safetensors, read_selection};
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use serde_json::json;

use crate::support::{data, recipe};

/// Files of each format where no time is given.
const FEW: u64 = 400;
/// What no file may take longer than.
const LIMIT: Duration = Duration::from_secs(10);

/// Random numbers: splitmix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn of<'t, T>(&mut self, items: &'t [T]) -> &'t T {
        &items[self.below(items.len())]
    }
}

/// Numbers at which arithmetic goes wrong.
const NUMBERS: [u64; 12] =
    [0, 1, 7, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX];
/// The same as text, and what else stands in texts.
const WORDS: [&str; 22] = [
    "0",
    "-1",
    "1e400",
    "-0.0",
    "NaN",
    "18446744073709551616",
    "4294967295",
    "65536",
    "null",
    "true",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    "\n",
    "- ",
    "\u{1b}[2J",
    "\u{feff}",
];

/// A file of a format, changed in a few places.
fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.of(seeds).clone();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(32)).min(bytes.len());
        match random.below(10) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 | 3 => {
                let number = *random.of(&NUMBERS);
                let number = if random.below(2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
                let width = 1 << random.below(4);
                let number = if random.below(2) == 0 { &number[..width] } else { &number[8 - width..] };
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            4 => drop(bytes.drain(at..end)),
            5 => {
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            6 | 7 => {
                // In the place of a number, if there is one.
                let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
                let start = bytes[at..].iter().position(is_digit).map_or(at, |offset| at + offset);
                let digits = bytes[start..].iter().take_while(|byte| is_digit(byte)).count();
                bytes.splice(start..start + digits, random.of(&WORDS).bytes());
            }
            8 => {
                let other = random.of(seeds);
                let from = random.below(other.len());
                let part = other[from..(from + 64).min(other.len())].to_vec();
                bytes.splice(at..end, part);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// A folder for the files: in memory, where there is such a file system.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// The file that is being read, and since when.
type Current = Arc<Mutex<Option<(Instant, Vec<u8>)>>>;

fn keep(format: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("convmae-fuzz-{format}"));
    fs::write(&path, bytes).unwrap();
    path
}

/// Ends the process when a file takes too long: a thread cannot be stopped.
fn watch(format: &'static str, current: &Current) {
    let current = Arc::downgrade(current);
    std::thread::spawn(move || {
        while let Some(current) = current.upgrade() {
            if let Some((since, bytes)) = &*current.lock().unwrap()
                && since.elapsed() > LIMIT
            {
                eprintln!("{format}: more than {LIMIT:?} for {}", keep(format, bytes).display());
                std::process::exit(101);
            }
            drop(current);
            std::thread::sleep(Duration::from_millis(500));
        }
    });
}

/// Reads mutated files; `mend` makes checksums right again, without which nothing behind them would be
/// reached.
fn fuzz(format: &'static str, seeds: &[Vec<u8>], mend: impl Fn(&mut [u8]), read: impl Fn(&[u8])) {
    let seconds = std::env::var("CONVMAE_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let start = Instant::now();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut random = Random(if seconds.is_some() { since_1970 } else { 1 });
    let is_due = |tried: u64| match seconds {
        Some(seconds) => start.elapsed() < Duration::from_secs(seconds),
        None => tried < FEW,
    };
    seeds.iter().for_each(|seed| read(seed));
    let current = Current::default();
    watch(format, &current);
    let mut tried = 0;
    while is_due(tried) {
        let mut bytes = mutate(seeds, &mut random);
        if tried % 4 != 0 {
            mend(&mut bytes);
        }
        *current.lock().unwrap() = Some((Instant::now(), bytes.clone()));
        let is_read = catch_unwind(AssertUnwindSafe(|| read(&bytes))).is_ok();
        assert!(is_read, "{format}: a panic on {}, file {tried}", keep(format, &bytes).display());
        *current.lock().unwrap() = None;
        tried += 1;
    }
    println!("{format}: {tried} files in {:?}, {}", start.elapsed(), memory(seconds.is_some()));
}

/// The most memory that this process has had, where the system tells; of a search by itself it is little.
fn memory(is_alone: bool) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default().trim().to_owned();
    let kib = peak.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
    assert!(!is_alone || kib.is_none_or(|kib| kib < 1 << 20), "more than 1 GiB: {peak}");
    format!("at most {peak}")
}

/// [`fuzz`] of what is read from a path, with this ending.
fn fuzz_files(
    format: &'static str,
    ending: &str,
    seeds: &[Vec<u8>],
    mend: impl Fn(&mut [u8]),
    read: impl Fn(&Path),
) {
    let folder = folder();
    let path = folder.path().join(format!("file.{ending}"));
    fuzz(format, seeds, mend, |bytes| {
        fs::write(&path, bytes).unwrap();
        read(&path);
    });
}

fn nothing(_: &mut [u8]) {}

fn read_all(paths: &[PathBuf]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The files in a folder with this ending that are not large.
fn files(folder: &Path, ending: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    paths.retain(|path| path.metadata().unwrap().len() < 100_000);
    paths.sort();
    assert!(!paths.is_empty(), "{}", folder.display());
    read_all(&paths)
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn crc32(bytes: &[u8]) -> u32 {
    static TABLE: LazyLock<[u32; 256]> = LazyLock::new(|| {
        std::array::from_fn(|byte| {
            (0..8).fold(byte as u32, |crc, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 })
        })
    });
    !bytes.iter().fold(!0, |crc, &byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(byte)) & 0xff) as usize])
}

/// Writes the checksums of a PNG's chunks.
fn mend_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(Ok(length)) = bytes.get(at..at + 4).map(<[u8; 4]>::try_from) {
        let length = u32::from_be_bytes(length) as usize;
        let end = at.saturating_add(8).saturating_add(length);
        let Some(chunk) = bytes.get(at + 4..end) else { return };
        let crc = crc32(chunk).to_be_bytes();
        let Some(place) = bytes.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&crc);
        at = end + 4;
    }
}

/// Writes the checksums of what looks like a header of a tar archive.
fn mend_tar(bytes: &mut [u8]) {
    for header in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Writes the checksums of the members of a zip archive that are stored as they are.
fn mend_zip(bytes: &mut [u8]) {
    let number =
        |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let short = |bytes: &[u8], at: usize| {
        Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
    };
    let mend = |bytes: &mut [u8], entry: usize| {
        let (size, header) = (number(bytes, entry + 20)?, number(bytes, entry + 42)?);
        let data = header + 30 + short(bytes, header + 26)? + short(bytes, header + 28)?;
        let crc = crc32(bytes.get(data..data.checked_add(size)?)?).to_le_bytes();
        bytes.get_mut(entry + 16..entry + 20)?.copy_from_slice(&crc);
        bytes.get_mut(header + 14..header + 18)?.copy_from_slice(&crc);
        Some(())
    };
    for entry in 0..bytes.len().saturating_sub(46) {
        if bytes[entry..entry + 4] == *b"PK\x01\x02" {
            let _ = mend(bytes, entry);
        }
    }
}

#[test]
fn images() {
    let pixel = |x: u32, y: u32| Rgb([(x * 31) as u8, (y * 17) as u8, 99]);
    let image = RgbImage::from_fn(13, 9, pixel);
    let mut seeds = vec![
        encoded(image.clone(), ImageFormat::Png),
        encoded(image, ImageFormat::WebP),
        encoded(GrayImage::from_pixel(5, 5, Luma([7])), ImageFormat::Png),
    ];
    let small = ["png-short-palette-2.png", "png-decoder-panics-fuzzed.png", "jpeg-decoder-panics.jpg"];
    seeds.extend(read_all(&small.map(|name| data("cases/reliability").join(name))));
    seeds.extend(read_all(
        &["420_q75.jpg", "420_q75_progressive.jpg", "gray_q85.jpg", "cmyk_q85.jpg"]
            .map(|name| data("transforms").join(name)),
    ));
    fuzz("image", &seeds, mend_png, |bytes| drop(decode(bytes, Path::new("x"))));
}

#[test]
fn label_maps() {
    let labels = GrayImage::from_fn(16, 9, |x, y| Luma([(x * y) as u8]));
    let palette = fs::read(data("cases/reliability/png-short-palette-2.png")).unwrap();
    let seeds = [encoded(labels, ImageFormat::Png), palette];
    fuzz_files("label-map", "png", &seeds, mend_png, |path| drop(read_labels(path)));
}

/// What of weights is read.
const ALL: Selection<'_> = Selection { entry: None, optimizer: true };

#[test]
fn safetensors() {
    let seeds = files(&data("checkpoints"), "safetensors");
    fuzz_files("safetensors", "safetensors", &seeds, nothing, |path| {
        let is_read = read_safetensors(path).is_ok();
        assert!(!is_read || check_safetensors(path).is_ok());
        let _ = read_selection(path, ALL);
    });
}

#[test]
fn pth() {
    let seeds = ["pth", "pkl"].map(|ending| files(&data("checkpoints"), ending)).concat();
    fuzz_files("pth", "pth", &seeds, mend_zip, |path| drop(read_selection(path, ALL)));
}

#[test]
fn tar() {
    let image = encoded(RgbImage::from_pixel(4, 4, Rgb([1, 2, 3])), ImageFormat::Png);
    let member = |name: &str, content: &[u8]| {
        let mut header = vec![0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[156..157].copy_from_slice(b"0");
        header[257..265].copy_from_slice(b"ustar\x0000");
        let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
        [header, content.to_vec(), padding].concat()
    };
    let members = [
        member("a.png", &image),
        member("a.cls", b"3"),
        member("b/c.png", &image),
        member("b/c.json", b"{\"label\": 1}"),
    ];
    let mut archive = [members.concat(), vec![0; 1024]].concat();
    mend_tar(&mut archive);
    let seeds = [archive, fs::read(data("cases/reliability/escape-in-name.tar")).unwrap()];
    fuzz_files("tar", "tar", &seeds, mend_tar, |path| {
        let shards: Box<dyn Dataset> =
            serde_json::from_value(json!({ "type": "TarShards", "shards": path })).unwrap();
        if let Ok(samples) = shards.open() {
            (0..samples.len().min(8)).for_each(|index| drop(samples.get(index)));
        }
    });
}

#[test]
fn parquet() {
    // As the program writes them, with a digest that nothing mends here: the reader asks for any memory that
    // a damaged file without one names.
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let mut metrics = MetricLog::default();
    for step in 0..50_u32 {
        let value = 1.0 / f64::from(step + 1);
        metrics.push(step.into(), f64::from(step) / 7.0, Split::Train, "loss", value, f64::from(step));
        metrics.push(step.into(), f64::from(step) / 7.0, Split::Val, "top1", 1.0 - value, f64::from(step));
    }
    let figures = vec![("AP".to_owned(), 0.5), ("AR".to_owned(), 0.25)];
    let curves = vec![("precision".to_owned(), vec![1.0, 0.5, 0.25])];
    let classes = vec![ClassFigures { class: "cat".to_owned(), figures, curves }];
    ClassTable { step: 3, classes }.write(&path).unwrap();
    let mut seeds = vec![fs::read(&path).unwrap(), metrics.write(&path).unwrap()];
    let mut confusion = Confusion::new(&["cat".to_owned(), "dog".to_owned()]);
    [(0, Some(1)), (1, Some(1)), (7, None)]
        .into_iter()
        .for_each(|(class, predicted)| confusion.add(class, predicted));
    ConfusionTable { step: 3, confusion }.write(&path).unwrap();
    seeds.push(fs::read(&path).unwrap());
    fuzz_files("parquet", "parquet", &seeds, nothing, |path| {
        drop(MetricLog::open(path));
        drop(ClassTable::read(path));
        drop(ConfusionTable::read(path));
    });
}

#[test]
fn files_of_a_run() {
    let texts = [
        r#"{"best": 0.5, "name": "tiny", "status": "finished", "step": 12, "val.loss": null}"#,
        r#"{"nodes":[{"name":"a","type_name":"B","from":["c"],"outputs":["d"],"parameters":3,"gmacs":0.5}],"parameter_groups":[],"pixel_classes":["x"],"corrupt_samples":[{"index":1,"path":"a","reason":"b"}],"error":"no"}"#,
        r#"{"version":"0.1.0","command":"convmae run","directory":"/x","threads":2,"memory":7,"cores":2,"os":"Linux","started":"now","device":"cpu"}"#,
    ];
    let mut seeds: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    seeds.push(encoded(RgbImage::new(4, 4), ImageFormat::Png));
    let folder = folder();
    let path = folder.path().join("step-00000001.png");
    let pictures = PictureStore::new(folder.path().to_owned());
    fuzz("run", &seeds, mend_png, |bytes| {
        fs::write(&path, bytes).unwrap();
        drop((Summary::read(&path), Details::read(&path), Environment::read(&path), pictures.load(1)));
    });
}

#[test]
fn annotations_and_results() {
    let annotations = json!({
        "images": [
            { "id": 1, "file_name": "a.png", "height": 20, "width": 30 },
            { "id": 2, "file_name": "b.png", "height": 8, "width": 9 },
        ],
        "categories": [{ "id": 3, "name": "cat" }, { "id": 7, "name": "dog" }],
        "annotations": [
            { "id": 1, "image_id": 1, "category_id": 3, "bbox": [1.0, 2.0, 10.0, 5.0], "area": 50.0, "iscrowd": 0,
              "segmentation": [[1.0, 2.0, 11.0, 2.0, 11.0, 7.0, 1.0, 7.0]] },
            { "id": 2, "image_id": 1, "category_id": 7, "bbox": [0.0, 0.0, 3.0, 2.0], "area": 6.0, "iscrowd": 1,
              "segmentation": { "counts": [0, 4, 596], "size": [20, 30] } },
            { "id": 3, "image_id": 2, "category_id": 7, "bbox": [0.0, 0.0, 3.0, 2.0], "area": 6.0, "iscrowd": 1,
              "segmentation": { "counts": "04T2", "size": [8, 9] } },
        ],
    });
    let results = json!([
        { "image_id": 1, "category_id": 3, "bbox": [1.0, 2.0, 9.0, 5.0], "score": 0.9,
          "segmentation": { "counts": [22, 5, 573], "size": [20, 30] } },
        { "image_id": 2, "category_id": 7, "bbox": [0.0, 0.0, 3.0, 2.0], "score": 0.1,
          "segmentation": { "counts": "04T2", "size": [8, 9] } },
    ]);
    let seeds = [annotations.to_string().into_bytes(), results.to_string().into_bytes()];
    let folder = folder();
    let [file, known_annotations, known_results] =
        ["a.json", "b.json", "c.json"].map(|name| folder.path().join(name));
    fs::write(&known_annotations, &seeds[0]).unwrap();
    fs::write(&known_results, &seeds[1]).unwrap();
    fuzz("coco", &seeds, nothing, |bytes| {
        fs::write(&file, bytes).unwrap();
        let coco = json!({ "type": "Coco", "annotations": file, "images": folder.path() });
        let coco: Box<dyn Dataset> = serde_json::from_value(coco).unwrap();
        drop(coco.open());
        drop(evaluate_files(&known_results, &file, &[], false));
        drop(evaluate_files(&file, &known_annotations, &[], false));
    });
}

#[test]
fn recipes() {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(catalog);
    let mut seeds = files(&data(""), "yaml");
    seeds.extend(files(&recipe(""), "yaml"));
    fuzz_files("recipe", "yaml", &seeds, nothing, |path| {
        if let Ok(recipe) = load(&Sources { recipe: path.to_owned(), ..Sources::default() }, &CATALOG) {
            drop(check(&recipe));
        }
    });
}
