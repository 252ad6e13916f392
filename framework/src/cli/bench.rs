//! `convmae bench`: throughput of a recipe, in training or in evaluation.

use std::fmt::Write as _;
use std::rc::Rc;

use super::output::{CliError, print};
use super::recipe_args::RecipeArgs;
use super::together_args::TogetherArgs;
use crate::distributed::Communicator;
use crate::engine::{self, BenchItem, BenchOptions, BenchReport, DataSpeed, Exchanged, together};

/// Time training steps of a recipe on random images: images per second, the share of what a matrix product
/// reaches here, memory, and where the time goes. The loading of the recipe's own images is timed by itself.
///
/// Of several processes (`mpirun`, `srun`) each takes a batch of a step, and it is told what they take to add up their gradients.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    pub together: TogetherArgs,
    /// Steps to time.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Steps before these, which are not timed.
    #[arg(long, value_name = "N", default_value_t = 2)]
    warmup: u32,
    /// Time the forward of an evaluation instead of training steps.
    #[arg(long)]
    forward: bool,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args, communicator: Rc<dyn Communicator>) -> Result<(), CliError> {
    let options = BenchOptions {
        sources: together(communicator.as_ref(), args.recipe.sources())?.0,
        steps: args.steps as usize,
        warmup: args.warmup as usize,
        forward: args.forward,
    };
    let is_first = communicator.is_first();
    let report = engine::bench(&options, communicator)?;
    match args.json {
        _ if !is_first => Ok(()),
        // Plain data with string keys always serialises.
        true => print(&serde_json::to_string_pretty(&report).unwrap_or_default()),
        false => print(&text(&report)),
    }
}

fn text(report: &BenchReport) -> String {
    let BenchReport { seconds_per_step: seconds, .. } = report;
    let mut text = format!(
        "{}: {:.3} images/s, {} images a step, {}, {} threads\n\
         step    {:.3} s (median of {}; {:.3} the shortest)\n\
         matmul  {:.1} GFLOP/s, {:.0}% of the {:.1} that a large product reaches here\n",
        report.name,
        report.images_per_s,
        report.batch_size,
        report.device,
        report.threads,
        seconds.median,
        seconds.all.len(),
        seconds.min,
        report.gflops,
        100.0 * report.share_of_ceiling,
        report.matmul_ceiling_gflops,
    );
    // Writing to a string never fails.
    let _ = match report.peak_memory_bytes {
        Some(bytes) => writeln!(text, "memory  {:.2} GiB at most", bytes as f64 / (1 << 30) as f64),
        None => writeln!(text, "memory  unknown: the system does not tell"),
    };
    let _ = match &report.data {
        DataSpeed::ImagesPerS(speed) => writeln!(text, "data    {speed:.1} images/s are loaded"),
        DataSpeed::NotMeasured(reason) => writeln!(text, "data    not measured: {reason}"),
    };
    if let Some(exchanged) = &report.processes {
        let Exchanged {
            processes,
            gradient_bytes,
            wait_seconds,
            exchange_seconds,
            alone_seconds,
            allreduce_seconds,
        } = exchanged;
        let _ = writeln!(
            text,
            "others  {processes} processes add up {:.1} MB in {exchange_seconds:.3} s behind the backward, after {wait_seconds:.3} s of waiting; \
             {alone_seconds:.3} s with nothing to compute meanwhile, by an allreduce of MPI {allreduce_seconds:.3} s",
            *gradient_bytes as f64 / 1e6
        );
    }
    for (heading, items) in [("phase", &report.phases), ("node", &report.nodes), ("kernel", &report.kernels)]
    {
        let _ = writeln!(
            text,
            "\n{heading:<16}{:>12}{:>12}{:>12}{:>8}{:>8}{:>10}",
            "forward ms", "backward ms", "total ms", "share", "calls", "GFLOP/s"
        );
        for item in items {
            let _ = writeln!(text, "{}", row(item));
        }
    }
    text
}

fn row(item: &BenchItem) -> String {
    let name = if item.name.is_empty() { "(rest)" } else { &item.name };
    let gflops = item.gflops.map(|gflops| format!("{gflops:.1}")).unwrap_or_default();
    format!(
        "{name:<16}{:>12.1}{:>12.1}{:>12.1}{:>7.1}%{:>8.0}{gflops:>10}",
        1e3 * item.forward,
        1e3 * item.backward,
        1e3 * item.total,
        100.0 * item.share,
        item.calls,
    )
}
