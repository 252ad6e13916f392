//! The command line, one file per subcommand.
//!
//! Exit codes: 0 done, 1 failed run, 2 bad usage or bad recipe, 3 another process is at work on the run.

mod bench;
mod browse;
mod check;
mod complete;
mod completions;
pub mod convert;
mod describe;
mod diff;
mod embed;
mod eval;
mod export;
mod file_kind;
mod init;
mod limits;
mod list;
mod man;
mod new;
mod output;
mod predict;
mod recipe_args;
mod report;
mod run;
mod runs;
mod schema;
mod slurm_job;
mod sweep;
mod table;
mod table_file;
mod together_args;
mod trace;
mod trained_args;
mod version;
mod weights_target;

use std::process::ExitCode;
use std::rc::Rc;

use clap::{ArgAction, Parser, Subcommand};

use crate::distributed::launch::Launch;
use crate::distributed::{self, CommunicationError, Communicator, SingleProcess};
use crate::engine::EngineError;
use crate::report::logging;
pub use output::CliError;
use output::complain;
use together_args::TogetherArgs;

/// Masked image modelling from YAML recipes: `ConvMAE` (Gao et al., NeurIPS 2022) and its ablations.
#[derive(Debug, Parser)]
#[command(name = "convmae", version, long_version = version::LONG.as_str(), arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log more (-v: details, -vv: everything).
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
    /// Log less (-q: warnings only, -qq: errors only).
    #[arg(short, long, action = ArgAction::Count, global = true, conflicts_with = "verbose")]
    quiet: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Browse(browse::Args),
    Eval(eval::Args),
    Predict(predict::Args),
    Embed(embed::Args),
    Export(export::Args),
    Bench(bench::Args),
    Report(report::Args),
    Trace(trace::Args),
    Init(init::Args),
    Convert(convert::Args),
    List(list::Args),
    Describe(describe::Args),
    Schema(schema::Args),
    Runs(runs::Args),
    Diff(diff::Args),
    Table(table::Args),
    Sweep(sweep::Args),
    New(new::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// How several processes share its work, if they do.
    fn together(&self) -> Option<TogetherArgs> {
        match self {
            Self::Run(args) => Some(args.together),
            Self::Eval(args) => Some(args.together),
            Self::Bench(args) => Some(args.together),
            _ => None,
        }
    }
}

/// The `main` of the program, and of any program that brings components of its own: link them with
/// `use my_crate as _;`, then `fn main() -> ExitCode { convmae_framework::cli::main() }`.
pub fn main() -> ExitCode {
    complete::answer::<Cli>();
    let cli = Cli::parse();
    // Fails nowhere that these signals exist; without it a full limit ends the program, as before.
    let _ = limits::outlive_file_limit();
    if let Err(error) = limits::check_threads() {
        let code = error.code();
        complain(error);
        return code;
    }
    let joined = Launch::of_environment().and_then(|launch| {
        let communicator: Rc<dyn Communicator> = match cli.command.together() {
            Some(together) => distributed::join(launch, together.timeout(), give_up)?,
            None => Rc::new(SingleProcess),
        };
        Ok((launch, communicator))
    });
    // It is left behind what is said: processes end together, and the launcher ends those that are late.
    let (launch, communicator) = match joined {
        Ok(joined) => joined,
        Err(error) => {
            complain(EngineError::from(error).into());
            return ExitCode::FAILURE;
        }
    };
    // The main thread works in the pool instead of waiting for it. Fails where a program has set up the pool
    // itself.
    let _ = limits::threads(launch).use_current_thread().build_global();
    // The first process speaks for all.
    let speaks = launch.is_none_or(|launch| launch.rank == 0);
    let verbosity = i8::try_from(cli.verbose).unwrap_or(i8::MAX) - i8::try_from(cli.quiet).unwrap_or(i8::MAX);
    let log = logging::init(if speaks { verbosity } else { i8::MIN });
    let result = match cli.command {
        command if launch.is_some() && command.together().is_none() => Err(CliError::Usage {
            message: "only `run`, `eval` and `bench` work with several processes".to_owned(),
            help: Some("start other commands without `mpirun` and `srun`".to_owned()),
        }),
        Command::Run(args) => run::run(args, log, Rc::clone(&communicator)),
        Command::Check(args) => check::run(&args),
        Command::Browse(args) => browse::run(args),
        Command::Eval(args) => eval::run(&args, communicator.as_ref()),
        Command::Predict(args) => predict::run(&args),
        Command::Embed(args) => embed::run(args),
        Command::Export(args) => export::run(&args),
        Command::Bench(args) => bench::run(&args, Rc::clone(&communicator)),
        Command::Report(args) => report::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Init(args) => init::run(&args),
        Command::Convert(args) => convert::run(&args).map_err(CliError::from),
        Command::List(args) => list::run(&args),
        Command::Describe(args) => describe::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Table(args) => table::run(&args),
        Command::Sweep(args) => sweep::run(&args),
        Command::New(args) => new::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run::<Cli>(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::Print(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.code();
            if speaks {
                complain(error);
            }
            code
        }
    }
}

/// Ends this process, whose main thread waits for others in vain; the launcher ends these.
fn give_up(error: CommunicationError) {
    complain(EngineError::from(error).into());
    // Without what a library does at the end of a process, as it would wait, too.
    signal_hook::low_level::exit(1);
}
