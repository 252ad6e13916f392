//! Processes that stop answering.

use std::fs;
use std::time::{Duration, Instant};

use super::{LONG, Left, behind_checkpoint, children, mpirun, signal, succeeds};
use crate::support::{Folder, program};

/// That the others end when the process of this rank stands still, with one message, and the run goes on from its last checkpoint.
fn assert_given_up(rank: usize, speaks: usize) {
    let unbroken = Folder::new();
    succeeds(&unbroken, 1, &LONG);
    let folder = Folder::new();
    let mut command = mpirun(&folder, 2);
    command.arg(program()).arg("run").args(LONG).args(["--timeout", "3"]);
    command.stderr(fs::File::create(folder.path("said")).unwrap());
    let mut child = behind_checkpoint(command.spawn().unwrap(), &folder.path("run"));
    let begun = Instant::now();
    signal("STOP", children(child.id())[rank]);
    assert!(!child.wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let said = fs::read_to_string(folder.path("said")).unwrap();
    assert_eq!(said.matches("s for the others: one of them hangs").count(), 1, "{said}");
    assert!(said.contains(&format!("process {speaks} has waited")), "{said}");
    succeeds(&folder, 2, &LONG);
    assert!(Left::of(&folder.path("run")) == Left::of(&unbroken.path("run")));
}

#[test]
fn one_that_stands_still_ends_all_and_the_first_tells() {
    assert_given_up(1, 0);
}

#[test]
fn where_the_first_stands_still_the_next_one_tells() {
    assert_given_up(0, 1);
}

#[test]
fn a_timeout_is_a_number_of_seconds() {
    let folder = Folder::new();
    for timeout in ["0", "-1", "soon"] {
        folder.fails(["run", "tiny.yaml", &format!("--timeout={timeout}")], 2, &["--timeout <SECONDS>"]);
    }
}
