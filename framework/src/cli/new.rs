//! `convmae new`: a crate with components of one's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::output::CliError;
use crate::terminal::say;

/// Make a crate with a component of its own, for a program that is this one and more.
///
/// It has a head, a recipe with it, a test that trains it, and the build profiles and locked dependencies of convmae. Its README says how
/// to go on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder to make; the crate is called as it.
    #[arg(value_name = "NAME")]
    folder: PathBuf,
    /// A checkout of convmae, which the crate depends on; the one that this program was built in if left out.
    #[arg(long, value_name = "DIR")]
    convmae: Option<PathBuf>,
}

/// The files of the crate. Some are named otherwise here: cargo takes a folder with a `Cargo.toml` for another package.
const FILES: [(&str, &str); 8] = [
    ("Cargo.toml", include_str!("new/plugin/manifest.toml")),
    ("build.rs", include_str!("new/plugin/build.rs")),
    ("src/main.rs", include_str!("new/plugin/main.rs")),
    ("src/mean_color_head.rs", include_str!("new/plugin/mean_color_head.rs")),
    ("tests/train.rs", include_str!("new/plugin/train.rs")),
    ("mean_color.yaml", include_str!("new/plugin/mean_color.yaml")),
    ("README.md", include_str!("new/plugin/README.md")),
    (".gitignore", include_str!("new/plugin/gitignore")),
];

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let name = name(&args.folder)?;
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Checkout { folder, manifest, lock } = Checkout::open(args.convmae.as_ref().unwrap_or(&built_in))?;
    let filled = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{convmae}}", &folder)
            .replace("{{profiles}}", profiles(&manifest).trim_end())
    };
    fs::create_dir(&args.folder).map_err(|error| cannot_write(&args.folder, &error))?;
    let files = FILES.map(|(file, text)| (file, filled(text)));
    write(&args.folder, files.iter().chain([&("Cargo.lock", lock)])).map_err(|error| {
        // Half a crate would be taken for a whole one.
        let _ = fs::remove_dir_all(&args.folder);
        cannot_write(&args.folder, &error)
    })?;
    let shown = args.folder.display();
    say(format!("{shown}: a program with a head of its own, of {folder}; try `cd {shown}; cargo test`"));
    Ok(())
}

/// The name of the crate, if cargo takes it for one.
fn name(folder: &Path) -> Result<&str, CliError> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter));
    is_name.then_some(name).ok_or_else(|| CliError::Usage {
        message: format!("`{name}` is no name for a crate"),
        help: Some("a letter, then letters, digits, `-` and `_`: `my_convmae`".to_owned()),
    })
}

/// The sources of convmae.
struct Checkout {
    /// Its absolute path.
    folder: String,
    /// Its `Cargo.toml`.
    manifest: String,
    /// Its `Cargo.lock`.
    lock: String,
}

impl Checkout {
    fn open(folder: &Path) -> Result<Self, CliError> {
        let read = || -> io::Result<Self> {
            let folder = folder.canonicalize()?;
            fs::metadata(folder.join("registry/Cargo.toml"))?;
            let [manifest, lock] =
                ["Cargo.toml", "Cargo.lock"].map(|file| fs::read_to_string(folder.join(file)));
            let folder = folder.into_os_string().into_string();
            let folder = folder.map_err(|_| io::Error::other("its path is no text"))?;
            Ok(Self { folder, manifest: manifest?, lock: lock? })
        };
        read().map_err(|error| CliError::Usage {
            message: format!("{} is no checkout of convmae: {error}", folder.display()),
            help: Some("`--convmae DIR` names one, the folder with `framework` and `registry`".to_owned()),
        })
    }
}

/// The build profiles of a `Cargo.toml`, with the comments within and between them.
fn profiles(manifest: &str) -> String {
    let mut is_profile = false;
    let lines = manifest.lines().filter(|line| {
        if line.starts_with('[') {
            is_profile = line.starts_with("[profile.");
        }
        is_profile
    });
    lines.fold(String::new(), |text, line| text + line + "\n")
}

fn write<'f>(folder: &Path, files: impl Iterator<Item = &'f (&'f str, String)>) -> io::Result<()> {
    for (file, text) in files {
        let path = folder.join(file);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)?;
    }
    Ok(())
}

fn cannot_write(folder: &Path, error: &io::Error) -> CliError {
    CliError::Usage { message: format!("cannot make {}: {error}", folder.display()), help: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_taken_and_nothing_else() {
        let manifest = "[package]\nname = \"x\"\n\n[profile.dev]\nopt-level = 1\n\n# Fast.\n[profile.dev.package.gemm]\nopt-level = 3\n\n[lints]\nx = 1\n\n[profile.release]\nstrip = true\n";
        let taken = "[profile.dev]\nopt-level = 1\n\n# Fast.\n[profile.dev.package.gemm]\nopt-level = 3\n\n[profile.release]\nstrip = true\n";
        assert_eq!(profiles(manifest), taken);
    }

    #[test]
    fn a_crate_has_a_name_that_cargo_takes() {
        for folder in ["my_convmae", "../a/my-convmae2"] {
            assert!(name(Path::new(folder)).is_ok(), "{folder}");
        }
        for folder in ["", "..", "2nd", "my convmae", "my.convmae", "größe"] {
            assert!(name(Path::new(folder)).is_err(), "{folder}");
        }
    }
}
