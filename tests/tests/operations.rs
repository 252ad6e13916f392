//! `docs/src/operations.md` names the operations and layers that a component may use, as they are documented in the code.

use std::fs;

use convmae_framework::recipe::first_sentence;

use crate::support::file;

const PAGE: &str = "docs/src/operations.md";

/// An item that a module of `framework/nn/src` exports.
struct Item {
    name: String,
    /// What stands behind the name of a function.
    signature: String,
    about: String,
}

/// The exports of `mod.rs`, in its order, each with what the code says of it.
fn items(module: &str) -> Vec<Item> {
    let folder = file("framework/nn/src").join(module);
    let exports = fs::read_to_string(folder.join("mod.rs")).unwrap();
    let exports = exports.split(";\n").filter_map(|line| line.rsplit_once("pub use ").map(|(_, path)| path));
    exports
        .filter(|path| !path.starts_with("crate::"))
        .flat_map(|path| {
            let (module, names) = path.split_once("::").unwrap();
            // Some are re-exported from the backend's module of the same name.
            let files =
                [&folder, &file("framework/nn/src/cpu")].map(|folder| folder.join(format!("{module}.rs")));
            let text: String = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
            let names =
                names.trim_matches(['{', '}']).split(',').map(str::trim).filter(|name| !name.is_empty());
            names.map(|name| item(name, &text)).collect::<Vec<_>>()
        })
        .collect()
}

/// Its declaration, with the documentation above it.
fn item(name: &str, text: &str) -> Item {
    let is_declared = |line: &str| {
        let words = line.strip_prefix("pub ").and_then(|line| line.split_once(' '));
        words.is_some_and(|(_, rest)| {
            rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next() == Some(name)
        })
    };
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| is_declared(line)).unwrap_or_else(|| panic!("there is no {name}"));
    let mut above: Vec<_> = lines[..at].iter().rev().skip_while(|line| line.starts_with("#[")).collect();
    above.truncate(above.iter().position(|line| !line.starts_with("///")).unwrap_or(above.len()));
    let documentation: Vec<_> =
        above.iter().rev().map(|line| line.trim_start_matches("///").trim()).collect();
    let about = first_sentence(&documentation.join("\n"));
    assert!(!about.is_empty(), "{name} has no documentation");
    let declaration: Vec<_> =
        lines[at..].iter().map(|line| line.trim()).take_while(|line| *line != "{").collect();
    let declaration = declaration.join(" ");
    let signature = declaration
        .strip_prefix("pub fn ")
        .map(|rest| rest.split(" {").next().unwrap()[name.len()..].to_owned());
    let signature = signature.unwrap_or_default().replace("( ", "(").replace(", )", ")");
    Item { name: name.to_owned(), signature, about: plain(&about) }
}

/// Without links to items, which are for rustdoc.
fn plain(text: &str) -> String {
    text.replace("[`", "`").replace("`]", "`")
}

fn list(items: &[Item], is_function: bool) -> String {
    let items = items.iter().filter(|item| item.signature.is_empty() != is_function);
    let line = |Item { name, signature, about }: &Item| format!("- `{name}{signature}`: {about}\n");
    items.map(line).collect::<Vec<_>>().concat()
}

/// Written anew where `BLESS` is set.
#[test]
fn the_page_says_what_the_code_says() {
    let path = file(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    let (ops, layers) = (items("ops"), items("layers"));
    let lists = [
        ("Operations", list(&ops, true)),
        ("Parts of operations", list(&ops, false)),
        ("Layers", list(&layers, false)),
    ];
    let mut right = page.clone();
    for (heading, list) in &lists {
        let section =
            right.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("{PAGE} has no {heading}"));
        let start = section + right[section..].find("\n- ").unwrap() + 1;
        let end = right[start..].find("\n\n").map_or(right.len(), |end| start + end + 1);
        right.replace_range(start..end, list);
    }
    assert!(lists.iter().all(|(_, list)| list.lines().count() > 10), "what is exported is found");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &right).unwrap();
    }
    assert!(
        right == page,
        "{PAGE} is out of date: run `BLESS=1 cargo test -p convmae-tests --test e2e operations`"
    );
}
