//! Compiles the kernels of the feature `cuda` with nvcc: `src/cuda/kernels/NAME.cu` to `NAME.fatbin` in `OUT_DIR`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const KERNELS: &str = "src/cuda/kernels";

/// Compute capabilities with code of their own: A100 and H100. Later cards compile the intermediate code of the last one.
const CAPABILITIES: [&str; 2] = ["80", "90"];

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    println!("cargo:rerun-if-changed={KERNELS}");
    println!("cargo:rerun-if-env-changed=CUDA_PATH");
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(KERNELS)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cu") {
            sources.push(path);
        }
    }
    sources.sort();
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let targets = targets()?;
    let jobs = std::env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    for sources in sources.chunks(jobs) {
        let started: Vec<_> = sources.iter().map(|source| start(source, &out_dir, &targets)).collect();
        for (source, compiler) in sources.iter().zip(started) {
            let output = compiler?.wait_with_output()?;
            if !output.status.success() {
                let (out, err) =
                    (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                return Err(format!("nvcc fails on {}:\n{out}{err}", source.display()).into());
            }
        }
    }
    Ok(())
}

/// The options that name what to compile for, of [`CAPABILITIES`] those that this nvcc knows.
fn targets() -> Result<Vec<String>> {
    let output = Command::new("nvcc").arg("--list-gpu-code").output().map_err(|error| missing(&error))?;
    let known = String::from_utf8_lossy(&output.stdout);
    let mut targets: Vec<String> = CAPABILITIES
        .iter()
        .filter(|capability| known.lines().any(|line| line.trim() == format!("sm_{capability}")))
        .map(|capability| format!("--generate-code=arch=compute_{capability},code=sm_{capability}"))
        .collect();
    let last = targets.last_mut().ok_or("nvcc knows none of the compute capabilities 8.0 and 9.0")?;
    let capability = last.rsplit('_').next().unwrap_or_default();
    *last = format!("--generate-code=arch=compute_{capability},code=[sm_{capability},compute_{capability}]");
    Ok(targets)
}

fn start(source: &Path, out_dir: &Path, targets: &[String]) -> Result<Child> {
    let mut nvcc = Command::new("nvcc");
    nvcc.args(["--fatbin", "--std=c++17"]).args(targets).arg("--output-directory").arg(out_dir).arg(source);
    Ok(nvcc.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| missing(&error))?)
}

fn missing(error: &std::io::Error) -> String {
    format!(
        "nvcc does not start ({error}): the feature `cuda` needs the CUDA toolkit, with its `bin` on PATH"
    )
}
