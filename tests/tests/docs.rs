//! Every command in README.md and the book is run, page by page and in order, in a folder of the page's own
//! that has `recipes/`.
//!
//! Blocks of ```` ```sh ```` are scripts; in ```` ```console ```` blocks `$ ` begins a command, and the lines
//! below it have to be among those that it prints (`...` stands for any others, at the end of a line for its
//! rest). A comment before a block says what is done otherwise:
//!
//! | `<!-- test: .. -->` | |
//! | --- | --- |
//! | `skip, REASON` | nothing of the block is run |
//! | `check` | recipes are checked where the block runs them |
//! | `set KEY=VALUE` | overrides recipes, to shorten runs: by the environment, so that the block's own `--set` is above it |
//! | `read NAME as TEXT` | `NAME` stands for `TEXT` |
//! | `given FILE from PATH` | `FILE` is there, a copy of `PATH` in the repository |
//! | `file NAME` | the block, of any language, is a file of this name |
//! | `before COMMAND` | a command that comes first |
//! | `exits with CODE` | the last command is refused |
//! | `other output` | the output is that of the whole command, and the test shortens it |
//! | `interrupt at TEXT` | Ctrl-C, once it has printed that; a line `^C` shows where |
//!
//! Clauses are separated by `;`. In a console `$ cd FOLDER` holds for the rest of the page. Programs other than `convmae`, `cargo run --` and a few that read files are
//! not there.

#![allow(clippy::format_collect, clippy::format_push_string)]

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::{file, program};

/// What a mark says.
enum Clause {
    Skip,
    Check,
    Set(String, String),
    Read(String, String),
    Given(String, String),
    File(String),
    Before(String),
    Exits(i32),
    OtherOutput,
    Interrupt(String),
}

fn clause(text: &str) -> Option<Clause> {
    let pair = |text: &str, between| {
        let (left, right): (&str, &str) = text.split_once(between)?;
        Some((left.to_owned(), right.to_owned()))
    };
    let (word, rest) = text.split_once([' ', ',']).unwrap_or((text, ""));
    Some(match (word, rest.trim()) {
        ("skip", reason) if !reason.is_empty() => Clause::Skip,
        ("check", "") => Clause::Check,
        ("set", rest) => pair(rest, "=").map(|(key, value)| Clause::Set(key, value))?,
        ("read", rest) => pair(rest, " as ").map(|(name, text)| Clause::Read(name, text))?,
        ("given", rest) => pair(rest, " from ").map(|(file, path)| Clause::Given(file, path))?,
        ("file", name) if !name.is_empty() => Clause::File(name.to_owned()),
        ("before", command) if !command.is_empty() => Clause::Before(command.to_owned()),
        ("exits", rest) => Clause::Exits(rest.strip_prefix("with ")?.parse().ok()?),
        ("other", "output") => Clause::OtherOutput,
        ("interrupt", rest) => Clause::Interrupt(rest.strip_prefix("at ")?.to_owned()),
        _ => return None,
    })
}

/// A fenced block and the marks before it.
struct Block {
    line: usize,
    language: String,
    text: String,
    clauses: Vec<Clause>,
}

fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut marks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let mark = line.strip_prefix("<!-- test:").and_then(|rest| rest.strip_suffix("-->"));
        if let Some(mark) = mark {
            let known = |text: &str| {
                clause(text.trim()).unwrap_or_else(|| panic!("{page}:{}: no mark of a test: {text}", at + 1))
            };
            marks.extend(mark.split(';').map(known));
        } else if let Some(language) = line.strip_prefix("```") {
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            let text = inside.map(|line| format!("{line}\n")).collect();
            let clauses = std::mem::take(&mut marks);
            blocks.push(Block { line: at + 1, language: language.to_owned(), text, clauses });
        } else if !line.is_empty() {
            assert!(marks.is_empty(), "{page}:{}: a mark stands right before its block", at + 1);
        }
    }
    blocks
}

/// A command, and what it is shown to print.
fn commands(block: &Block) -> Vec<(String, Vec<String>)> {
    if block.language == "sh" {
        return vec![(block.text.clone(), Vec::new())];
    }
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.text.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), Vec::new())),
            (None, Some((command, _))) if command.ends_with('\\') => *command += &format!("\n{line}"),
            (None, Some((_, output))) => output.push(line.to_owned()),
            (None, None) => panic!("a console begins with `$ `: {line}"),
        }
    }
    commands
}

/// The first line shown that is not printed, behind those above it.
fn missing<'a>(shown: &'a [String], printed: &str) -> Option<&'a String> {
    let mut printed = printed.lines().map(str::trim_end);
    let is_shown = |shown: &str, line: &str| match shown.strip_suffix("...") {
        Some(start) => line.starts_with(start),
        None => line == shown,
    };
    let shown =
        shown.iter().filter(|line| !line.trim().is_empty() && !["...", "^C"].contains(&line.as_str()));
    shown.into_iter().find(|shown| !printed.by_ref().any(|line| is_shown(shown.trim_end(), line)))
}

/// Where the pages' programs are: `whole/` has `convmae` as it is, `check/` one that checks recipes in place
/// of running them.
struct Programs(tempfile::TempDir);

impl Programs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = program();
        for name in ["whole", "check"] {
            let folder = folder.path().join(name);
            fs::create_dir(&folder).unwrap();
            let cargo =
                "[ \"$1\" = run ] || { echo \"mark the block: <!-- test: skip, REASON -->\" >&2; exit 97; }
while [ \"$1\" != -- ]; do shift; done
shift
exec convmae \"$@\"";
            script(&folder.join("cargo"), cargo);
            for tool in ["cat", "cp", "head", "ls", "mkdir", "rm", "sed"] {
                let path = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(tool));
                symlink(path.iter().find(|path| path.exists()).unwrap(), folder.join(tool)).unwrap();
            }
        }
        symlink(&program, folder.path().join("whole/convmae")).unwrap();
        let check = "case $1 in run) ;; *) exec PROGRAM \"$@\" ;; esac
shift
words=$# drop=
while [ $words -gt 0 ]; do
  words=$((words - 1)) word=$1
  shift
  case $drop$word in
    --resume) ;;
    --out) drop=yes ;;
    yes*) drop= ;;
    *) set -- \"$@\" \"$word\" ;;
  esac
done
exec PROGRAM check \"$@\"";
        script(
            &folder.path().join("check/convmae"),
            &check.replace("PROGRAM", &program.display().to_string()),
        );
        Self(folder)
    }
}

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a command in a folder as a block asks for; what it printed, and how it ended.
fn run(command: &str, folder: &Path, programs: &Programs, clauses: &[Clause]) -> (String, Option<i32>) {
    let checks = clauses.iter().any(|clause| matches!(clause, Clause::Check));
    let mut shell = Command::new("/bin/sh");
    // A command that is interrupted is the process itself.
    let interrupt = clauses.iter().find_map(|clause| match clause {
        Clause::Interrupt(at) => Some(at),
        _ => None,
    });
    let exec = if interrupt.is_some() { "exec " } else { "" };
    shell.args(["-euc", &format!("exec 2>&1\n{exec}{command}")]).current_dir(folder).env_clear();
    shell.env("PATH", programs.0.path().join(if checks { "check" } else { "whole" }));
    shell.env("RAYON_NUM_THREADS", "1");
    for clause in clauses {
        if let Clause::Set(key, value) = clause {
            shell.env(format!("CONVMAE_{}", key.to_uppercase().replace('.', "__")), value);
        }
    }
    let output = match interrupt {
        Some(at) => interrupted(&mut shell, at),
        None => shell.output().unwrap(),
    };
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

/// What a command does when it is interrupted once it has printed a text.
fn interrupted(command: &mut Command, at: &str) -> Output {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = Vec::new();
    while !String::from_utf8_lossy(&printed).contains(at) {
        let mut byte = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        printed.extend(byte);
    }
    // SIGINT is ignored where the tests run in the background; SIGTERM does the same.
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    Output { stdout: [printed, output.stdout].concat(), ..output }
}

/// A text of a block as the test takes it.
fn read(text: &str, clauses: &[Clause]) -> String {
    clauses.iter().fold(text.to_owned(), |text, clause| match clause {
        Clause::Read(name, meant) => text.replace(name, meant),
        _ => text,
    })
}

fn test_block(at: &str, block: &Block, folder: &mut PathBuf, programs: &Programs) {
    let Block { clauses, text, .. } = block;
    let is_skipped = clauses.iter().any(|clause| matches!(clause, Clause::Skip));
    let is_script = ["sh", "console"].contains(&block.language.as_str()) && !is_skipped;
    let mut commands = if is_script { commands(block) } else { Vec::new() };
    let mut expected = 0;
    for clause in clauses {
        match clause {
            Clause::Given(name, path) => drop(fs::copy(file(path), folder.join(name)).unwrap()),
            Clause::File(name) => fs::write(folder.join(name), read(text, clauses)).unwrap(),
            Clause::Before(command) => commands.insert(0, (command.clone(), Vec::new())),
            Clause::Exits(code) => expected = *code,
            _ => {}
        }
    }
    let last = commands.len().saturating_sub(1);
    for (position, (command, output)) in commands.iter().enumerate() {
        let command = read(command, clauses);
        if let (Some(below), "console") = (command.strip_prefix("cd "), &*block.language) {
            folder.push(below);
            assert!(folder.is_dir(), "{at}: there is no {below}");
            continue;
        }
        let (printed, code) = run(&command, folder, programs, clauses);
        let expected = if position == last { expected } else { 0 };
        assert_eq!(code, Some(expected), "{at}: `{}`\n{printed}", command.trim_end());
        if !clauses.iter().any(|clause| matches!(clause, Clause::OtherOutput)) {
            let missing = missing(output, &printed);
            assert!(
                missing.is_none(),
                "{at}: `{command}` does not print\n{}\nbut\n{printed}",
                missing.unwrap()
            );
        }
    }
}

fn test_page(page: &str) {
    let text = fs::read_to_string(file(page)).unwrap();
    let (folder, programs) = (tempfile::tempdir().unwrap(), Programs::new());
    symlink(fs::canonicalize(file("recipes")).unwrap(), folder.path().join("recipes")).unwrap();
    let mut at = folder.path().to_owned();
    for block in blocks(page, &text) {
        test_block(&format!("{page}:{}", block.line), &block, &mut at, &programs);
    }
}

macro_rules! pages {
    ($($name:ident: $page:literal;)*) => {
        const PAGES: &[&str] = &[$($page),*];
        $(#[test] fn $name() { test_page($page); })*
    };
}

pages! {
    readme: "README.md";
    ablations: "docs/src/ablations.md";
    benchmarks: "docs/benchmarks.md";
    cifar10: "docs/src/cifar10.md";
    data: "docs/src/data.md";
    detection: "docs/src/detection.md";
    distributed: "docs/src/distributed.md";
    extending: "docs/src/extending.md";
    finetuning: "docs/src/finetuning.md";
    the_program: "docs/src/program.md";
    reports: "docs/src/reports.md";
    representations: "docs/src/representations.md";
    runs: "docs/src/runs.md";
    segmentation: "docs/src/segmentation.md";
    story: "docs/src/story.md";
    sweeps: "docs/src/sweeps.md";
    tables: "docs/src/tables.md";
    tutorial_1: "docs/src/tutorial/first_run.md";
    tutorial_2: "docs/src/tutorial/write_a_recipe.md";
    tutorial_3: "docs/src/tutorial/add_a_head.md";
    tutorial_4: "docs/src/tutorial/ablation_to_table.md";
    weights: "docs/src/weights.md";
}

fn markdown(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            markdown(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

#[test]
fn every_page_with_commands_is_tested() {
    let mut found = vec![file("README.md")];
    markdown(&file("docs"), &mut found);
    for path in found {
        let page = path.strip_prefix(file("")).unwrap().to_str().unwrap();
        let blocks = blocks(page, &fs::read_to_string(&path).unwrap());
        let has_commands = blocks.iter().any(|block| ["sh", "console"].contains(&block.language.as_str()));
        assert!(
            !has_commands || PAGES.contains(&page),
            "{page} has commands: add it to `pages!` in tests/tests/docs.rs"
        );
    }
}

/// What the tests of the pages rely on.
#[test]
fn marks_do_what_they_say() {
    let text = "<!-- test: file a.txt -->\n```text\none\n```\n<!-- test: read X as a.txt; exits with 1 -->\n```console\n$ cat X\n...\non...\n$ mkdir below\n$ cd below\n$ cat ../X\none\n$ cat b.txt\n```\n\
                <!-- test: skip, there is no such program -->\n```sh\npython3 x.py\n```\n<!-- test: check; set seed=5 -->\n```console\n\
                $ convmae run recipes/quickstart.yaml --out x --resume --set 'name=a b'\n```\n";
    let (folder, programs) = (tempfile::tempdir().unwrap(), Programs::new());
    symlink(fs::canonicalize(file("recipes")).unwrap(), folder.path().join("recipes")).unwrap();
    let mut blocks = blocks("page", text);
    assert_eq!(blocks.len(), 4);
    let name = blocks.pop().unwrap();
    let mut at = folder.path().to_owned();
    blocks.iter().for_each(|block| test_block("page", block, &mut at, &programs));
    assert_eq!(at, folder.path().join("below"));
    let (printed, code) = run(&commands(&name)[0].0, folder.path(), &programs, &name.clauses);
    assert_eq!(code, Some(2), "a name has no spaces");
    assert!(printed.contains("name: expected a value"), "{printed}");
    assert!(!folder.path().join("x").exists(), "nothing was run");
    assert!(missing(&["a".to_owned()], "b\na b").is_some());
    assert_eq!(run("python3 -c 1", folder.path(), &programs, &[]).1, Some(127));
    assert_eq!(run("cargo test", folder.path(), &programs, &[]).1, Some(97));
}
