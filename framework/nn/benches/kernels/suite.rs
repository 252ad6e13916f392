//! Benchmarks of criterion, whose estimates are compared with the roofs.

use std::error::Error;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use convmae_nn::device::{self, Precision};
use criterion::{Bencher, Criterion};
use serde_json::Value;

use crate::roofline::{Roofs, Work};

/// Runs benchmarks and remembers what each has to do.
pub struct Suite {
    criterion: Criterion,
    /// Where criterion writes its estimates.
    output: PathBuf,
    started: SystemTime,
    done: Vec<Benchmark>,
}

struct Benchmark {
    kernel: &'static str,
    shape: String,
    precision: Precision,
    work: Work,
}

impl Suite {
    pub fn new() -> Self {
        let output = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("criterion");
        let criterion = Criterion::default()
            .output_directory(&output)
            .sample_size(20)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2))
            .configure_from_args();
        Self { criterion, output, started: SystemTime::now(), done: Vec::new() }
    }

    /// A benchmark, unless the command line filters it out. Kernel and shape, with the precision of products unless that is `f32`, become
    /// names of folders.
    pub fn bench(
        &mut self,
        kernel: &'static str,
        shape: &str,
        work: Work,
        mut routine: impl FnMut(&mut Bencher<'_>),
    ) {
        let mut runs = false;
        let precision = device::precision();
        let shape = match precision {
            Precision::F32 => shape.to_owned(),
            _ => format!("{shape}, {precision}"),
        };
        let mut group = self.criterion.benchmark_group(kernel);
        group.bench_function(&shape, |bencher| {
            runs = true;
            routine(bencher);
        });
        group.finish();
        if runs {
            self.done.push(Benchmark { kernel, shape, precision, work });
        }
    }

    /// Prints what the benchmarks took next to what the roofs allow.
    pub fn print(&self, roofs: &Roofs) -> Result<(), Box<dyn Error>> {
        self.criterion.final_summary();
        roofs.print();
        println!(
            "\n{:<28} {:<28} {:>10} {:>8} {:>7} {:>10} {:<12} {:>5}",
            "kernel", "shape", "time", "GFLOP/s", "GB/s", "roof time", "roof", "share"
        );
        for benchmark in &self.done {
            let Benchmark { kernel, shape, precision, work } = benchmark;
            let Some(seconds) = self.seconds(benchmark)? else { continue };
            let roof = roofs.of(work, *precision);
            println!(
                "{kernel:<28} {shape:<28} {:>7.3} ms {:>8.1} {:>7.1} {:>7.3} ms {:<12} {:>3.0} %",
                seconds * 1e3,
                work.flops / seconds / 1e9,
                work.bytes / seconds / 1e9,
                roof.seconds * 1e3,
                roof.name,
                roof.seconds / seconds * 100.0,
            );
        }
        Ok(())
    }

    /// Criterion's estimate of the median time, if this run made one: tests of the benchmarks make none.
    fn seconds(&self, benchmark: &Benchmark) -> Result<Option<f64>, Box<dyn Error>> {
        let path = self.output.join(benchmark.kernel).join(&benchmark.shape).join("new/estimates.json");
        if !fs::metadata(&path).and_then(|file| file.modified()).is_ok_and(|time| time >= self.started) {
            return Ok(None);
        }
        let estimates: Value = serde_json::from_reader(BufReader::new(File::open(&path)?))?;
        let nanoseconds = estimates["median"]["point_estimate"].as_f64();
        Ok(Some(nanoseconds.ok_or_else(|| format!("{}: no median", path.display()))? * 1e-9))
    }
}
