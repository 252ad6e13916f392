//! Two hosts, which a network connects.

use std::path::Path;
use std::process::{Command, Output};

use super::{Left, mpirun, succeeds};
use crate::support::{Folder, data, program};

/// What `tests/two-hosts` ends with where it may not make hosts.
const REFUSED: i32 = 77;

/// A run of two processes on two hosts; where there can be none, of two that speak over TCP as those do.
fn run_on_two(folder: &Folder, args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("two-hosts");
    let with = |mut command: Command| {
        let command = command.arg(program()).arg("run").args(args).env("RAYON_NUM_THREADS", "1");
        command.current_dir(folder.root()).output().unwrap()
    };
    let output = with(Command::new(script));
    if output.status.code() != Some(REFUSED) {
        return output;
    }
    let mut command = mpirun(folder, 2);
    command.args(["--mca", "btl", "tcp,self"]);
    with(command)
}

#[test]
fn two_hosts_leave_the_bytes_of_one_process() {
    let (folder, path) = (Folder::new(), data("tiny.yaml"));
    let args =
        |out: &'static str| [path.to_str().unwrap(), "--out", out, "--set", "train.accumulate=4"].to_vec();
    succeeds(&folder, 1, &args("alone"));
    let output = run_on_two(&folder, &args("two"));
    assert!(output.status.success(), "{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(Left::of(&folder.path("two")) == Left::of(&folder.path("alone")));
}
