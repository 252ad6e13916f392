#![allow(clippy::unwrap_used)]

use image::{Rgb, RgbImage};
use tempfile::TempDir;

use super::*;

fn png(value: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(2, 3, Rgb([value; 3])).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn shard(folder: &TempDir, name: &str, members: &[(&str, Vec<u8>)]) -> String {
    let path = folder.path().join(name);
    let mut builder = tar::Builder::new(std::fs::File::create(&path).unwrap());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    builder.finish().unwrap();
    path.to_str().unwrap().to_owned()
}

/// A shard of samples `first..end`, whose colour and class are their number.
fn numbered(folder: &TempDir, name: &str, first: u8, end: u8) -> String {
    let members: Vec<_> = (first..end)
        .flat_map(|number| {
            [
                (format!("s/{number:03}.cls"), number.to_string().into_bytes()),
                (format!("s/{number:03}.png"), png(number)),
            ]
        })
        .collect();
    let members: Vec<_> = members.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
    shard(folder, name, &members)
}

fn dataset(shards: &str) -> TarShards {
    serde_json::from_value(serde_json::json!({ "shards": shards })).unwrap()
}

fn open_error(dataset: &TarShards, folder: &TempDir) -> String {
    dataset.open().err().unwrap().to_string().replace(folder.path().to_str().unwrap(), "DIR")
}

fn sample_error(shards: &str, index: usize, folder: &TempDir) -> String {
    let error = dataset(shards).open().unwrap().get(index).unwrap_err();
    assert!(matches!(error, DataError::Corrupt { .. }), "{error}");
    error.to_string().replace(folder.path().to_str().unwrap(), "DIR")
}

#[test]
fn samples_of_all_shards_are_read_by_position() {
    let folder = tempfile::tempdir().unwrap();
    numbered(&folder, "t-00.tar", 0, 3);
    numbered(&folder, "t-01.tar", 3, 7);
    let samples = dataset(&format!("{}/t-{{00..01}}.tar", folder.path().display())).open().unwrap();
    assert_eq!(samples.len(), 7);
    for index in [6, 0, 3, 2] {
        let sample = samples.get(index).unwrap();
        assert_eq!(sample.rgb("").unwrap().get_pixel(1, 1).0, [index as u8; 3]);
        assert_eq!(sample.target.class, Some(index));
    }
    assert!(samples.get(4).unwrap().id.ends_with("t-01.tar/s/004.png"));
}

#[test]
fn json_labels_and_long_names_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}/a", "deep".repeat(60));
    let json = |text: &str| text.as_bytes().to_vec();
    let path = shard(
        &folder,
        "t.tar",
        &[
            (&format!("{long}.json"), json(r#"{ "label": 3 }"#)),
            (&format!("{long}.png"), png(0)),
            (&format!("{long}.seg.png"), png(9)),
            ("x.json", json(r#"{ "label": 4 }"#)),
            ("x.txt", json("a caption")),
            ("x.PNG", png(1)),
            ("y.png", png(2)),
            ("y.cls", json(" 7\n")),
            ("y.json", json("{}")),
        ],
    );
    let samples = dataset(&path).open().unwrap();
    let classes: Vec<_> = (0..3).map(|index| samples.get(index).unwrap().target.class.unwrap()).collect();
    assert_eq!(classes, [3, 4, 7]);
    assert!(samples.get(0).unwrap().id.ends_with("deep/a.png"));
    let samples = TarShards { labelled: false, ..dataset(&path) }.open().unwrap();
    assert_eq!((samples.len(), samples.get(0).unwrap().target.class), (3, None));
}

#[test]
fn order_is_a_permutation_that_stays_near_the_storage() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..8 {
        numbered(&folder, &format!("t-{number}.tar"), number * 25, number * 25 + 25);
    }
    let dataset =
        TarShards { shuffle_buffer: 10, ..dataset(&format!("{}/t-*.tar", folder.path().display())) };
    let samples = dataset.open().unwrap();
    let order = samples.order(1, 0);
    assert_eq!(order, samples.order(1, 0));
    assert_ne!(order, samples.order(1, 1));
    assert_ne!(order, samples.order(2, 0));
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..200).collect::<Vec<_>>());
    // The first 25 samples come from the first two shards of the order, for only 10 more have been seen.
    let shards: std::collections::BTreeSet<_> = order[..25].iter().map(|index| index / 25).collect();
    assert!(shards.len() <= 2, "{order:?}");
}

#[test]
fn a_truncated_shard_is_named_with_its_member() {
    let folder = tempfile::tempdir().unwrap();
    let path = numbered(&folder, "t.tar", 0, 3);
    let bytes = std::fs::read(&path).unwrap();
    // Within the content of the second image: header and content are padded to 512 bytes each.
    std::fs::write(&path, &bytes[..512 * 7 + 20]).unwrap();
    let message = open_error(&dataset(&path), &folder);
    assert!(message.starts_with("DIR/t.tar: truncated: `s/001.png` ends at byte"), "{message}");
    // Within a header.
    std::fs::write(&path, &bytes[..512 * 4 + 100]).unwrap();
    let message = open_error(&dataset(&path), &folder);
    assert!(message.starts_with("DIR/t.tar: damaged after `s/000.png`"), "{message}");
}

#[test]
fn a_damaged_header_is_named_by_the_member_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = numbered(&folder, "t.tar", 0, 3);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[512 * 4 + 3] ^= 0xff;
    std::fs::write(&path, &bytes).unwrap();
    let message = open_error(&dataset(&path), &folder);
    assert!(message.starts_with("DIR/t.tar: damaged after `s/000.png`"), "{message}");
}

#[test]
fn missing_pieces_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = shard(&folder, "t.tar", &[("a.png", png(0)), ("b.png", png(1)), ("b.cls", b"1".to_vec())]);
    assert_eq!(
        open_error(&dataset(&path), &folder),
        "DIR/t.tar: `a` has an image but no label beside it (.cls or .json): members of a sample follow each other, as \
         `tar --sort=name` stores them; set `labelled: false` to do without"
    );
    let path =
        shard(&folder, "u.tar", &[("a.cls", b"0".to_vec()), ("b.png", png(1)), ("b.cls", b"1".to_vec())]);
    assert_eq!(
        open_error(&dataset(&path), &folder),
        "DIR/u.tar: `a.cls` is a label without an image beside it"
    );
    let path = shard(&folder, "v.tar", &[("a.png", png(0)), ("a.jpg", png(1))]);
    assert_eq!(open_error(&dataset(&path), &folder), "DIR/v.tar: `a` has two of one kind: .png and .jpg");
    let path = shard(&folder, "w.tar", &[("a.txt", b"0".to_vec())]);
    assert_eq!(
        open_error(&dataset(&path), &folder),
        "DIR/w.tar: no image (jpg, jpeg, png, webp, tif, tiff, bmp) in it"
    );
}

#[test]
fn a_file_that_is_no_tar_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        dataset(path.to_str().unwrap())
    };
    assert_eq!(open_error(&write("e.tar", b""), &folder), "DIR/e.tar: the file is empty");
    assert!(open_error(&write("z.tar", b"\x1f\x8b\x08rest"), &folder).contains("compressed with gzip"));
    assert!(open_error(&write("n.tar", &[7; 2000]), &folder).contains("damaged after the beginning"));
}

#[test]
fn broken_samples_are_corrupt_and_named_by_shard_and_member() {
    let folder = tempfile::tempdir().unwrap();
    let path = shard(
        &folder,
        "t.tar",
        &[
            ("a.png", b"no image".to_vec()),
            ("a.cls", b"1".to_vec()),
            ("b.png", png(1)),
            ("b.cls", b"cat".to_vec()),
            ("c.png", png(1)),
            ("c.json", br#"{ "text": "cat" }"#.to_vec()),
        ],
    );
    assert!(sample_error(&path, 0, &folder).starts_with("DIR/t.tar/a.png: not a JPEG"));
    assert_eq!(
        sample_error(&path, 1, &folder),
        "DIR/t.tar/b.cls: the label `cat` is no class index; list the names in `classes`"
    );
    assert_eq!(
        sample_error(&path, 2, &folder),
        "DIR/t.tar/c.json: no key `label` (`label_key`); its keys are text"
    );
}

#[test]
fn classes_are_named_by_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = numbered(&folder, "t.tar", 0, 3);
    let names = folder.path().join("classes.txt");
    std::fs::write(&names, "cat\ndog\n").unwrap();
    let samples = TarShards { classes: Some(names), ..dataset(&path) }.open().unwrap();
    assert_eq!(samples.classes(TaskKind::Classify).unwrap(), ["cat", "dog"]);
    assert!(samples.get(1).is_ok());
    let message = samples.get(2).unwrap_err().to_string();
    assert!(message.ends_with("002.cls: class 2, but only 2 classes are named"), "{message}");
}

/// Members with these names: images, and labels that are the number of the member.
fn named(folder: &TempDir, names: &[&str]) -> String {
    let content = |(number, name): (usize, &&str)| match name.ends_with('g') {
        true => png(number as u8),
        false => number.to_string().into_bytes(),
    };
    let members: Vec<_> =
        names.iter().enumerate().map(|(number, name)| (*name, content((number, name)))).collect();
    shard(folder, "t.tar", &members)
}

#[test]
fn dots_belong_to_names_where_no_image_is_called_up_to_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = named(&folder, &["v1.0/a.b.1.png", "v1.0/a.b.1.cls", "v1.0/a.b.2.png", "v1.0/a.b.2.cls"]);
    let samples = dataset(&path).open().unwrap();
    assert!(samples.get(0).unwrap().id.ends_with("t.tar/v1.0/a.b.1.png"));
    assert_eq!((samples.len(), samples.get(1).unwrap().target.class), (2, Some(3)));
    let path = named(&folder, &["a.png", "a.cls", "a.seg.png", "a.txt", "b.png", "b.seg.json", "b.cls"]);
    let samples = dataset(&path).open().unwrap();
    assert_eq!((samples.len(), samples.get(1).unwrap().target.class), (2, Some(6)));
    assert_eq!(samples.passed_over().to_string(), "1 .json, 1 .png, 1 .txt");
}

#[test]
fn labels_are_names_that_classes_lists() {
    let folder = tempfile::tempdir().unwrap();
    let names = folder.path().join("classes.txt");
    std::fs::write(&names, "cat\ndog\n").unwrap();
    let members = [
        ("a.png", png(0)),
        ("a.cls", b"dog".to_vec()),
        ("b.png", png(1)),
        ("b.json", br#"{ "label": "cat" }"#.to_vec()),
    ];
    let path = shard(&folder, "t.tar", &members);
    let samples = TarShards { classes: Some(names), ..dataset(&path) }.open().unwrap();
    let classes: Vec<_> = (0..2).map(|index| samples.get(index).unwrap().target.class).collect();
    assert_eq!(classes, [Some(1), Some(0)]);
}

#[test]
fn labels_that_are_no_classes_are_told_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let dog = || b"dog".to_vec();
    let members = [
        ("a.png", png(0)),
        ("a.cls", dog()),
        ("b.png", png(1)),
        ("b.cls", dog()),
        ("c.png", png(2)),
        ("c.cls", dog()),
        ("d.png", png(3)),
        ("d.cls", b"1".to_vec()),
    ];
    let path = shard(&folder, "t.tar", &members);
    assert_eq!(
        open_error(&dataset(&path), &folder),
        "DIR/t.tar/a.cls: the label `dog` is no class index; list the names in `classes`"
    );
    assert_eq!(TarShards { labelled: false, ..dataset(&path) }.open().unwrap().len(), 4);
}

#[test]
fn an_archive_without_its_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = numbered(&folder, "t.tar", 0, 3);
    let samples = || dataset(&path).open().unwrap();
    assert!(samples().warnings().is_empty());
    let bytes = std::fs::read(&path).unwrap();
    // One byte into the padding of the last image, at its end, and with half of the end.
    let content = 512 * 3 * 4;
    for (length, whole) in [(content - 512 + 100, false), (content, false), (content + 512, true)] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let warnings = samples().warnings();
        assert_eq!(warnings.is_empty(), whole, "{length}");
        if let Some(warning) = warnings.first() {
            let expected = "t.tar: no end of the archive; it may be truncated, 3 samples are used";
            assert!(warning.ends_with(expected), "{warning}");
        }
        assert_eq!(samples().len(), 3);
    }
}

#[test]
fn a_member_of_gigabytes_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.tar");
    let mut header = tar::Header::new_gnu();
    header.set_path("a.png").unwrap();
    header.set_size(8 << 30);
    header.set_cksum();
    let mut file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, header.as_bytes()).unwrap();
    // A hole: it takes no room.
    file.set_len((8 << 30) + 3 * 512).unwrap();
    let dataset = TarShards { labelled: false, ..dataset(path.to_str().unwrap()) };
    let error = dataset.open().unwrap().get(0).unwrap_err();
    assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().ends_with("a.png: 8589934592 bytes; at most 1073741824 are read"), "{error}");
}
