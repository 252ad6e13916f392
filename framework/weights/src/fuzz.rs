//! Damaged files of every format: read or refused, without a panic and without more memory than they justify.
//!
//! Mutations are seeded. `CONVMAE_FUZZ_SECONDS` is how long each target runs; without it a fixed number.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::names::{Expected, Layout, Renaming, fit};
use super::*;

fn data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "tests", "data", "checkpoints", name].iter().collect()
}

const ALL: Selection<'_> = Selection { entry: None, optimizer: true };

/// Reads a file that is in memory.
fn read_bytes(bytes: &[u8]) -> Result<WeightsFile, FormatError> {
    let len = bytes.len() as u64;
    match bytes {
        [b'P', b'K', ..] => pth::unzip(Cursor::new(bytes), len, ALL),
        [pickle::opcode::PROTO, ..] => pth::unpickle(bytes, ALL),
        _ => of_safetensors(safetensors::read(&mut Cursor::new(bytes), len)?, ALL),
    }
}

#[test]
fn no_truncation_is_accepted() {
    let names = [
        "odd_views_zip.pth",
        "odd_views_legacy.pth",
        "odd_views_expected.safetensors",
        "numpy_protocol2.pkl",
        "numpy_protocol5.pkl",
        "objects_protocol4.pth",
    ];
    for (name, whole) in names.iter().zip(seeds(&names)) {
        for len in 0..whole.len() {
            assert!(read_bytes(&whole[..len]).is_err(), "{name} cut to {len} bytes");
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Changes bytes, takes some out, repeats some, puts numbers at the edge of their range in.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    const EDGES: [&[u8]; 7] =
        [&[0], &[0xff], &[0x7f, 0xff, 0xff, 0xff], &[0xff; 4], &[0, 0, 0, 0x80], &[0xff; 8], &[0; 8]];
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at.min(end)..end)),
            2 => {
                let copy = bytes[at.min(end)..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            3 => {
                let edge = EDGES[random.below(EDGES.len())];
                let end = (at + edge.len()).min(bytes.len());
                bytes.splice(at.min(end)..end, edge.iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
        }
    }
}

/// How often a target is run, if no time is given.
const CASES: u64 = 3000;

/// Runs a target on mutations of seeds.
fn fuzz(default_cases: u64, seeds: &[Vec<u8>], target: impl Fn(&[u8])) {
    let seconds = std::env::var("CONVMAE_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let started = Instant::now();
    let mut cases = 0;
    while seconds.map_or(cases < default_cases, |seconds| started.elapsed() < Duration::from_secs(seconds)) {
        let mut random = Random(cases);
        let mut bytes = seeds[random.below(seeds.len())].clone();
        mutate(&mut bytes, &mut random);
        let before = Instant::now();
        target(&bytes);
        assert!(before.elapsed() < Duration::from_secs(10), "case {cases} takes {:?}", before.elapsed());
        cases += 1;
    }
    println!("{cases} cases in {:?}", started.elapsed());
}

/// What is read takes no more than a multiple of the file, and its messages can be shown.
fn check(file: Result<WeightsFile, FormatError>, len: usize) {
    match file {
        Ok(file) => {
            assert!(file.tensors.bytes() <= 32 * len, "{} bytes of {len}", file.tensors.bytes());
            assert!(file.notes().iter().all(|note| !note.contains(char::is_control)));
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
}

fn seeds(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| fs::read(data(name)).unwrap()).collect()
}

#[test]
fn mutated_zips_are_read_or_refused() {
    fuzz(CASES, &seeds(&["odd_views_zip.pth", "objects_protocol2.pth"]), |bytes| {
        check(pth::unzip(Cursor::new(bytes), bytes.len() as u64, ALL), bytes.len());
    });
}

/// Mutations of the pickle alone, for those of the archive are found by its checksums.
#[test]
fn mutated_pickles_in_zips_are_read_or_refused() {
    for name in ["odd_views_zip.pth", "objects_protocol2.pth", "objects_protocol4.pth", "whole_module.pth"] {
        let mut archive = ::zip::ZipArchive::new(fs::File::open(data(name)).unwrap()).unwrap();
        let mut entries = Vec::new();
        for at in 0..archive.len() {
            let mut entry = archive.by_index(at).unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            entries.push((entry.name().to_owned(), bytes));
        }
        let is_pickle = |name: &str| name.ends_with("data.pkl");
        let pickle = entries.iter().find(|(name, _)| is_pickle(name)).unwrap().1.clone();
        fuzz(CASES, &[pickle], |bytes| {
            let mut writer = ::zip::ZipWriter::new(Cursor::new(Vec::new()));
            let stored = ::zip::write::SimpleFileOptions::default()
                .compression_method(::zip::CompressionMethod::Stored);
            for (name, content) in &entries {
                writer.start_file(name.as_str(), stored).unwrap();
                writer.write_all(if is_pickle(name) { bytes } else { content }).unwrap();
            }
            let file = writer.finish().unwrap().into_inner();
            check(pth::unzip(Cursor::new(&file), file.len() as u64, ALL), file.len());
        });
    }
}

#[test]
fn mutated_streams_of_pickles_are_read_or_refused() {
    let names = [
        "odd_views_legacy.pth",
        "numpy_protocol2.pkl",
        "numpy_protocol3.pkl",
        "numpy_protocol4.pkl",
        "numpy_protocol5.pkl",
    ];
    fuzz(CASES, &seeds(&names), |bytes| check(pth::unpickle(bytes, ALL), bytes.len()));
}

#[test]
fn mutated_safetensors_are_read_or_refused() {
    let seeds = seeds(&["odd_views_expected.safetensors", "numpy_expected.safetensors"]);
    fuzz(CASES, &seeds, |bytes| {
        let read = |bytes: &[u8]| {
            let file = safetensors::read(&mut Cursor::new(bytes), bytes.len() as u64)?;
            of_safetensors(file, ALL)
        };
        check(read(bytes), bytes.len());
        // The length of the header made to fit, so that more than it is looked at.
        if let Some(end) = bytes.windows(2).rposition(|pair| pair == b"}}") {
            let mut fitted = bytes.to_vec();
            if end + 2 >= 8 {
                fitted[..8].copy_from_slice(&(end as u64 + 2 - 8).to_le_bytes());
            }
            check(read(&fitted), fitted.len());
        }
    });
}

#[test]
fn mutated_indices_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [("a", HostTensor::scalar_i64(1))].into_iter().collect();
    write_safetensors(&folder.path().join("p.safetensors"), &tensors, &std::collections::BTreeMap::new())
        .unwrap();
    let path = folder.path().join("i.json");
    // Of files on a disk, which take longer.
    fuzz(CASES / 10, &[br#"{"metadata": {}, "weight_map": {"a": "p.safetensors"}}"#.to_vec()], |bytes| {
        fs::write(&path, bytes).unwrap();
        let _ = read(&path);
    });
}

#[test]
fn names_of_any_kind_are_fitted_or_refused() {
    let seed = "module.vit.encoder.layer.0.attention.attention.query.weight\n\
                backbone.layers.0.ffn.layers.0.0.weight\nmodel.blocks.0.ls1.gamma\n_orig_mod.norm.weight\na..b";
    fuzz(CASES, &[seed.into()], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let tensors: TensorMap = text.split('\n').map(|name| (name, HostTensor::scalar_i64(0))).collect();
        let names = ["norm.weight", "blocks.0.gamma_1", "backbone.blocks.0.mlp.fc1.weight"];
        let expected = Expected { names: names.into(), prefixes: vec!["backbone"], rules: &[] };
        if let Ok((fitted, _)) = fit(tensors.clone(), &expected) {
            assert!(fitted.len() <= tensors.len());
        }
        for layout in Layout::all() {
            let _ = layout.of_official(&mut Renaming::new(&tensors));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_pickle_program_is_read_or_refused(
        program in prop::collection::vec(prop::sample::select(&b"(.012N\x88\x89K\x01\x02]ael)t\x85\x86\x87}dsuhq\x94R\x81bQ\x8f\x90\x91\x92\x98"[..]), 0..200),
    ) {
        let _ = pickle::load(&program);
    }
}
