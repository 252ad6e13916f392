//! `convmae convert`: weights from PyTorch's format to safetensors and back, or a listing.

// PyTorch and ConvMAE are names, not code.
#![allow(clippy::doc_markdown)]

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use serde_json::Value as Json;
use thiserror::Error;

use super::weights_target::WeightsTarget;
use crate::weights::names::{Layout, Renaming, Rule};
use crate::weights::{self, Selection, TensorMap, WeightsError, WeightsFile, visible};

/// Convert weights between PyTorch (.pth) and safetensors, or list them.
///
/// Names, shapes and types of the model's tensors are kept, unless `--layout` or `--rename` translates them;
/// the optimizer's state is not written. Nothing in a PyTorch file is executed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to read, whose format is told by its content; of weights in parts the index, or their folder.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write; its format is told by its extension, .safetensors or .pth.
    #[arg(value_name = "OUT", required_unless_present = "list")]
    output: Option<PathBuf>,
    /// Print names, types and shapes.
    #[arg(long)]
    list: bool,
    /// The entry of the file that holds the model, as `model_ema`, `teacher` or `state_dict.encoder`, or what
    /// its names begin with; `model`, `state_dict` or `module`, or the only one, if left out.
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
    /// Translate names: of a file in this layout to those of the official repositories, of one in official
    /// names to this layout. `auto` finds the layout of the file.
    #[arg(long, value_name = "LAYOUT", value_parser = PossibleValuesParser::new(layouts()))]
    layout: Option<String>,
    /// Rename tensors, before `--layout`; may be repeated, the first that fits counts. A `*` stands for
    /// anything, the rest of a name is kept, as in `--rename layers.*.ln1=blocks.*.norm1`.
    #[arg(long = "rename", value_name = "FROM=TO", value_parser = rule)]
    renames: Vec<Rule>,
}

/// What `--layout` takes.
fn layouts() -> Vec<&'static str> {
    std::iter::once(AUTO).chain(Layout::all().iter().map(|layout| layout.name)).collect()
}

const AUTO: &str = "auto";

fn rule(text: &str) -> Result<Rule, String> {
    let (from, to) = text.split_once('=').ok_or("it is not FROM=TO")?;
    Rule::new(from, to).map_err(|error| error.to_string())
}

/// Why a conversion failed.
#[derive(Debug, Error, miette::Diagnostic)]
pub enum ConvertError {
    /// A file could not be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The names are not those that were to be translated.
    #[error("{}: its names are neither of {title} nor official ones", path.display())]
    #[diagnostic(help("`convmae convert --list` prints them; `--rename FROM=TO` renames any"))]
    Layout {
        /// The file.
        path: PathBuf,
        /// The layout.
        title: String,
    },
    /// The output's extension names no format.
    #[error("{}: the extension names no format", .0.display())]
    #[diagnostic(help("use .safetensors or .pth"))]
    Extension(PathBuf),
    /// The output is the input.
    #[error("{} is both input and output", .0.display())]
    SameFile(PathBuf),
    /// The listing could not be printed.
    #[error("cannot print the listing: {0}")]
    Print(#[from] io::Error),
}

/// Runs the subcommand.
///
/// # Errors
/// If the input is not a weights file, or the output cannot be written.
pub fn run(args: &Args) -> Result<(), ConvertError> {
    let target = args.output.as_deref().map(|path| target(&args.input, path)).transpose()?;
    let selection = Selection { entry: args.entry.as_deref(), optimizer: args.list };
    let mut file = weights::read_selection(&args.input, selection)?;
    let mut notes = file.notes();
    file.tensors = rename(args, file.tensors, &mut notes)?;
    for note in notes {
        tracing::info!("{}: {note}", args.input.display());
    }
    if args.list {
        match write!(io::stdout().lock(), "{}", Listing(&file)) {
            // As in `convmae convert --list IN | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            printed => printed?,
        }
    }
    if let Some(target) = target {
        target.write(&file.tensors, metadata(&file))?;
    }
    Ok(())
}

/// The tensors under the names that were asked for.
fn rename(args: &Args, tensors: TensorMap, notes: &mut Vec<String>) -> Result<TensorMap, ConvertError> {
    let refuse = |reason| WeightsError::Format { path: args.input.clone(), reason };
    let mut renaming = Renaming::new(&tensors);
    let (count, unused) = renaming.rename(&args.renames).map_err(refuse)?;
    if count > 0 {
        notes.push(format!("{count} renamed"));
    }
    notes.extend(
        unused.iter().map(|rule| format!("`--rename` from `{}` fits no name", visible(rule.from.text()))),
    );
    if let Some(name) = &args.layout {
        let wrappers = renaming.unwrap_modules(&HashSet::new());
        notes.extend(wrappers.iter().map(|word| format!("names taken without `{word}.`")));
        notes.push(translate(args, name, &mut renaming)?);
    }
    Ok(renaming.apply(tensors).map_err(refuse)?)
}

/// Translates names from the layout, or to it if they are official ones; returns what was done.
fn translate(args: &Args, name: &str, renaming: &mut Renaming) -> Result<String, ConvertError> {
    let path = || args.input.clone();
    let refuse = |reason| WeightsError::Format { path: path(), reason };
    for layout in Layout::all().iter().filter(|layout| name == AUTO || layout.name == name) {
        if let Some(count) = layout.to_official(renaming).map_err(refuse)? {
            return Ok(format!("{count} translated from the names of {}", layout.title));
        }
        if name != AUTO
            && let Some(count) = layout.of_official(renaming).map_err(refuse)?
        {
            return Ok(format!("{count} translated to the names of {}", layout.title));
        }
    }
    let title = Layout::find(name).map_or("any layout that is known", |layout| layout.title.as_str());
    Err(ConvertError::Layout { path: path(), title: title.to_owned() })
}

/// Where to write: not onto the input.
fn target<'a>(input: &Path, output: &'a Path) -> Result<WeightsTarget<'a>, ConvertError> {
    if let (Ok(input), Ok(existing)) = (input.canonicalize(), output.canonicalize())
        && input == existing
    {
        return Err(ConvertError::SameFile(output.to_path_buf()));
    }
    WeightsTarget::of(output).ok_or_else(|| ConvertError::Extension(output.to_path_buf()))
}

/// The file's other content as the text that safetensors metadata is.
fn metadata(file: &WeightsFile) -> BTreeMap<String, String> {
    file.metadata
        .iter()
        .filter(|(key, _)| !key.starts_with("convmae."))
        .map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect()
}

/// The content of a file as text, one tensor a line.
struct Listing<'a>(&'a WeightsFile);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0;
        tensors(f, "model", &file.tensors)?;
        if let Some(optimizer) = &file.optimizer {
            tensors(f, "optimizer", &optimizer.tensors)?;
            if let Some(groups) = optimizer.param_groups.as_array() {
                writeln!(f, "optimizer: {} parameter groups", groups.len())?;
            }
        }
        for (key, value) in &file.metadata {
            match value {
                Json::Object(entries) => {
                    for (name, value) in entries {
                        writeln!(f, "{}", visible(&format!("{key}.{name}: {value}")))?;
                    }
                }
                value => writeln!(f, "{}", visible(&format!("{key}: {value}")))?,
            }
        }
        Ok(())
    }
}

fn tensors(f: &mut fmt::Formatter<'_>, title: &str, tensors: &TensorMap) -> fmt::Result {
    let width = tensors.names().map(|name| visible(name).chars().count()).max().unwrap_or(0);
    for (name, tensor) in tensors.iter() {
        let name = visible(name);
        writeln!(f, "{name:width$}  {:4}  {:?}", tensor.dtype, tensor.shape)?;
    }
    let (count, elements, bytes) = (tensors.len(), tensors.elements(), tensors.bytes());
    writeln!(f, "{title}: {count} tensors, {elements} elements, {bytes} bytes")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn data(name: &str) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "..", "tests", "data", "checkpoints", name].iter().collect()
    }

    fn listed(name: &str) -> WeightsFile {
        weights::read_selection(&data(name), Selection { optimizer: true, ..Selection::default() }).unwrap()
    }

    fn convert(input: PathBuf, output: &Path) -> Result<(), ConvertError> {
        let output = Some(output.to_path_buf());
        run(&Args { input, output, list: false, entry: None, layout: None, renames: Vec::new() })
    }

    #[test]
    fn there_and_back_gives_the_same_tensors() {
        let directory = tempfile::tempdir().unwrap();
        let (middle, back) = (directory.path().join("w.safetensors"), directory.path().join("w.pth"));
        convert(data("pretrain_zip.pth"), &middle).unwrap();
        convert(middle.clone(), &back).unwrap();
        let original = weights::read(&data("pretrain_zip.pth")).unwrap();
        assert_eq!(weights::read(&back).unwrap().tensors, original.tensors);
        let metadata = weights::read_safetensors(&middle).unwrap().metadata;
        assert_eq!((metadata["format"].as_str(), metadata["epoch"].as_str()), ("pt", "4"));
    }

    #[test]
    fn an_unknown_extension_and_the_input_itself_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = convert(data("fp16.pth"), &directory.path().join("w.bin")).unwrap_err();
        assert!(matches!(error, ConvertError::Extension(_)), "{error}");
        let error = convert(data("fp16.pth"), &data("fp16.pth")).unwrap_err();
        assert!(matches!(error, ConvertError::SameFile(_)), "{error}");
    }

    #[test]
    fn a_refused_input_leaves_no_output() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("w.safetensors");
        let error = convert(data("malicious_in_args_zip.pth"), &output).unwrap_err();
        assert!(error.to_string().contains("posix.system"), "{error}");
        assert!(!output.exists());
    }

    #[test]
    fn the_listing_has_every_tensor_and_the_totals() {
        let file = listed("odd_views_zip.pth");
        let listing = Listing(&file).to_string();
        for (name, tensor) in file.tensors.iter() {
            let line = listing.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
            assert!(
                line.ends_with(&format!("{:?}", tensor.shape)) && line.contains(tensor.dtype.name()),
                "{line}"
            );
        }
        let totals = format!("model: {} tensors, {} elements", file.tensors.len(), file.tensors.elements());
        assert!(listing.contains(&totals), "{listing}");
        assert!(listing.ends_with("note: \"views\"\n"), "{listing}");
    }

    #[test]
    fn no_name_of_the_listing_controls_a_terminal() {
        let mut file = listed("odd_views_zip.pth");
        let tensor = file.tensors.iter().next().unwrap().1.clone();
        file.tensors.insert("\u{1b}]0;title\u{7}\u{9b}31m", tensor);
        file.metadata.insert("\u{1b}[2J".to_owned(), Json::String("\u{9b}2J".to_owned()));
        let listing = Listing(&file).to_string();
        assert!(listing.contains("\\u{1b}]0;title\\u{7}\\u{9b}31m"), "{listing}");
        assert!(listing.chars().all(|letter| letter == '\n' || !letter.is_control()), "{listing}");
    }

    #[test]
    fn the_listing_shows_optimizer_and_arguments() {
        let file = listed("pretrain_zip.pth");
        let listing = Listing(&file).to_string();
        for line in ["epoch: 4", "args.mask_ratio: 0.75", "optimizer: 2 parameter groups"] {
            assert!(listing.lines().any(|found| found == line), "{line}\n{listing}");
        }
    }
}
