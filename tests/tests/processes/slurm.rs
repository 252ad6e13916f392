//! Jobs of Slurm: what `srun` and `sbatch` tell by variables, and `scontrol` as a script that keeps what it is asked for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::{LONG, Left, mpirun, signal, started, succeeds};
use crate::support::{Folder, program};

/// A folder with an `scontrol` that ends with this code.
fn cluster(code: u8) -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("bin")).unwrap();
    let scontrol = format!("#!/bin/sh\necho \"$@\" >> calls\necho 'Access denied' >&2\nexit {code}\n");
    fs::write(folder.path("bin/scontrol"), scontrol).unwrap();
    fs::set_permissions(folder.path("bin/scontrol"), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// What a script of the job 7 starts: `srun convmae run .. --requeue`.
fn job(folder: &Folder, processes: usize) -> Command {
    let mut command = mpirun(folder, processes);
    let path = format!("{}:{}", folder.path("bin").display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).env("SLURM_JOB_ID", "7");
    command.arg(program()).arg("run").args(LONG).arg("--requeue");
    command
}

fn calls(folder: &Folder) -> String {
    fs::read_to_string(folder.path("calls")).unwrap_or_default()
}

#[test]
fn a_warned_job_goes_back_into_the_queue_and_on_from_there() {
    let unbroken = Folder::new();
    succeeds(&unbroken, 1, &LONG);
    let folder = cluster(0);
    let mut child = started(job(&folder, 2), &folder.path("run"));
    signal("USR1", child.id());
    assert!(child.wait().unwrap().success());
    assert_eq!(calls(&folder), "requeue 7\n", "one process asks for it, once");
    // Begun again, on other nodes.
    let output = job(&folder, 4).env("SLURM_RESTART_COUNT", "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(calls(&folder), "requeue 7\n", "what is finished stays");
    assert!(Left::of(&folder.path("run")) == Left::of(&unbroken.path("run")));
}

#[test]
fn a_job_that_somebody_ends_stays_away() {
    let folder = cluster(0);
    let mut child = started(job(&folder, 1), &folder.path("run"));
    signal("TERM", super::children(child.id())[0]);
    child.wait().unwrap();
    assert!(fs::read_to_string(folder.path("run/summary.json")).unwrap().contains("interrupted"));
    assert_eq!(calls(&folder), "");
}

#[test]
fn what_slurm_refuses_is_told_with_the_state_saved() {
    let folder = cluster(1);
    let mut command = job(&folder, 2);
    let said = fs::File::create(folder.path("said")).unwrap();
    command.stderr(said);
    let mut child = super::behind_checkpoint(command.spawn().unwrap(), &folder.path("run"));
    signal("USR1", child.id());
    assert!(!child.wait().unwrap().success());
    let said = fs::read_to_string(folder.path("said")).unwrap();
    let expected = "the job 7 could not be put back into the queue: Access denied";
    assert_eq!(said.matches(expected).count(), 1, "{said}");
    assert!(fs::read_to_string(folder.path("run/summary.json")).unwrap().contains("interrupted"));
}

#[test]
fn outside_of_a_job_there_is_no_queue() {
    let folder = Folder::new();
    let mut args = vec!["run"];
    args.extend(LONG);
    folder.fails(args.into_iter().chain(["--requeue"]), 2, &["`SLURM_JOB_ID` is not set"]);
    assert!(!folder.path("run").exists());
}
