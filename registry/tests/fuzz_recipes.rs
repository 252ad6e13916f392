//! Whatever is done to a recipe, it is loaded and checked, or refused with findings: no panic, no hang.
//!
//! The shipped recipes are edited at random, with the whole registry behind them. `PROPTEST_CASES=20000 cargo
//! test -p convmae-registry --test fuzz_recipes` looks for longer.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use convmae_framework::component::entries;
use convmae_framework::graph::{catalog, check};
use convmae_framework::recipe::{Catalog, Sources, load};
use convmae_registry as _;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const RECIPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes");

static CATALOG: LazyLock<Catalog> = LazyLock::new(catalog);

/// The shipped recipes below a folder: their paths in it, and their texts.
fn shipped(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            shipped(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(RECIPES).unwrap().to_owned(), text));
        }
    }
}

static SHIPPED: LazyLock<Vec<(PathBuf, String)>> = LazyLock::new(|| {
    let mut found = Vec::new();
    shipped(Path::new(RECIPES), &mut found);
    found
});

/// What is done to the lines of a recipe.
#[derive(Debug, Clone)]
enum Edit {
    Delete(Index),
    Duplicate(Index, Index),
    Swap(Index, Index),
    Indent(Index, i8),
    /// The value behind the first colon of a line.
    Value(Index, String),
    Insert(Index, String),
    /// A line of another recipe.
    Borrow(Index, Index),
    Bytes(Index, Vec<u8>),
}

/// Values that are wrong somewhere, or nearly right.
fn value() -> impl Strategy<Value = String> {
    let words = [
        "",
        "null",
        "~",
        "true",
        "yes",
        "0",
        "-1",
        "1",
        "3",
        "4095",
        "65535",
        "65536",
        "4294967295",
        "18446744073709551615",
        "99999999999999999999",
        "-9223372036854775808",
        "1e308",
        "1e400",
        "-1e-320",
        "0.0",
        "-0.0",
        ".nan",
        "-.inf",
        "0x7fffffff",
        "1_000",
        "40 epochs",
        "1e400 epochs",
        "-1 iterations",
        "18446744073709551616 iterations",
        "0 epochs",
        "[]",
        "{}",
        "[0, 0, 0]",
        "[1024, 1024, 1024]",
        "[65535, 65535]",
        "[1, 1, 1]",
        "{ type: }",
        "{ type: ConvViT }",
        "[{ type: Normalize }]",
        "&a [*a]",
        "*a",
        "&a",
        "${image_size}",
        "\"${image_size}\"",
        "\"${model}\"",
        "\"${.}\"",
        "\"${..x}\"",
        "\"${data.train.transforms.0}\"",
        "\"x${model}y\"",
        "\"${\"",
        "!!int 5",
        "!x",
        "|",
        ">",
        "?",
        "- a",
        "a: b",
        "\"",
        "'",
        "# x",
        "\t",
        "backbone",
        "backbone.s2",
        "[backbone, mask]",
        "images",
        "mask",
        "cuda:99",
        "_base_/mae_imagenet.yaml",
        "[., ..]",
        "/dev/null",
        "a.yaml",
    ];
    prop_oneof![
        6 => select(words.to_vec()).prop_map(str::to_owned),
        2 => (0..entries().len()).prop_map(|at| entries()[at].name.to_owned()),
        1 => any::<f64>().prop_map(|number| number.to_string()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => (1_usize..2_000, select(vec!["[", "{ a: ", "- ", "? ", "{ type: ", "[{ b: "])).prop_map(|(depth, open)| open.repeat(depth)),
        1 => "\\PC{0,12}",
    ]
}

/// Lines to put in, one of them a bomb of aliases.
fn line() -> impl Strategy<Value = String> {
    let bomb: String = (1..10).fold("b0: &b0 [x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
        let item = format!("*b{}", level - 1);
        format!("{text}b{level}: &b{level} [{}]\n", [item.as_str(); 8].join(", "))
    });
    let keys = [
        "extends",
        "name",
        "seed",
        "device",
        "image_size",
        "data",
        "model",
        "init_from",
        "optimizer",
        "train",
        "  train",
        "  val",
        "    dataset",
        "    transforms",
        "  backbone",
        "    type",
        "    from",
        "    prefix",
        "    frozen",
        "    patch_size",
        "    num_heads",
        "    kernel_size",
        "<<",
        "? [a]",
        "\"\"",
        "a.b",
        "-",
        "---\na",
        "...\na",
        "%YAML 1.2\n---\na",
    ];
    prop_oneof![
        8 => (select(keys.to_vec()), value()).prop_map(|(key, value)| format!("{key}: {value}")),
        1 => Just(bomb),
        1 => "\\PC{0,20}",
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        1 => at().prop_map(Edit::Delete),
        1 => (at(), at()).prop_map(|(from, to)| Edit::Duplicate(from, to)),
        1 => (at(), at()).prop_map(|(one, other)| Edit::Swap(one, other)),
        1 => (at(), -4..5_i8).prop_map(|(at, by)| Edit::Indent(at, by)),
        3 => (at(), value()).prop_map(|(at, value)| Edit::Value(at, value)),
        2 => (at(), line()).prop_map(|(at, line)| Edit::Insert(at, line)),
        1 => (at(), at()).prop_map(|(from, to)| Edit::Borrow(from, to)),
        1 => (at(), proptest::collection::vec(any::<u8>(), 1..6)).prop_map(|(at, bytes)| Edit::Bytes(at, bytes)),
    ]
}

fn apply(edit: &Edit, lines: &mut Vec<Vec<u8>>) {
    let place = |index: &Index, lines: &[Vec<u8>]| index.index(lines.len() + 1);
    match edit {
        Edit::Insert(at, line) => {
            let at = place(at, lines);
            lines.insert(at, line.clone().into_bytes());
        }
        Edit::Borrow(from, to) => {
            let all: Vec<_> = SHIPPED.iter().flat_map(|(_, text)| text.lines()).collect();
            let to = place(to, lines);
            lines.insert(to, from.get(&all).as_bytes().to_vec());
        }
        _ if lines.is_empty() => {}
        Edit::Delete(at) => {
            let at = at.index(lines.len());
            lines.remove(at);
        }
        Edit::Duplicate(from, to) => {
            let line = from.get(lines).clone();
            let to = place(to, lines);
            lines.insert(to, line);
        }
        Edit::Swap(one, other) => {
            let (one, other) = (one.index(lines.len()), other.index(lines.len()));
            lines.swap(one, other);
        }
        Edit::Indent(at, by) => {
            let line = at.get_mut(lines);
            let spaces = line.iter().take_while(|byte| **byte == b' ').count();
            let indent = spaces.saturating_add_signed(isize::from(*by));
            line.splice(..spaces, vec![b' '; indent]);
        }
        Edit::Value(at, value) => {
            let line = at.get_mut(lines);
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            line.truncate(colon);
            line.extend(format!(": {value}").into_bytes());
        }
        Edit::Bytes(at, bytes) => {
            let line = at.get_mut(lines);
            let place = at.index(line.len() + 1);
            line.splice(place..place, bytes.iter().copied());
        }
    }
}

/// A folder with the shipped recipes, one of them edited.
fn folder(edited: usize, edits: &[Edit]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (position, (path, text)) in SHIPPED.iter().enumerate() {
        let mut lines: Vec<_> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
        if position == edited {
            edits.iter().for_each(|edit| apply(edit, &mut lines));
        }
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, lines.join(&b'\n')).unwrap();
    }
    folder
}

/// As many cases as `PROPTEST_CASES` says, or a few.
fn cases(few: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { few };
    ProptestConfig { cases, failure_persistence: None, ..config }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn edited_recipes_are_checked_or_refused(
        edited in 0..SHIPPED.len(),
        loaded in 0..SHIPPED.len(),
        edits in proptest::collection::vec(edit(), 1..6),
        sets in proptest::collection::vec(("[a-z_]{1,8}([.][a-z_0-9]{1,8}){0,3}", value()).prop_map(|(key, value)| format!("{key}={value}")), 0..2),
    ) {
        let folder = folder(edited, &edits);
        // The edited recipe, and one that may extend it.
        for position in [edited, loaded] {
            let recipe = folder.path().join(&SHIPPED[position].0);
            let sources = Sources { recipe, sets: sets.clone(), ..Sources::default() };
            let checked = load(&sources, &CATALOG).and_then(|recipe| check(&recipe).map(drop));
            if let Err(diagnostics) = checked {
                prop_assert!(!diagnostics.findings().is_empty());
                prop_assert!(diagnostics.lines().iter().all(|line| !line.is_empty()));
                prop_assert!(!diagnostics.render(false).is_empty());
            }
        }
    }
}
