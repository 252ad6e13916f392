//! `tracing` set-up: messages on the console, and all of them as JSON lines in `log.jsonl`.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use super::ReportError;
use super::console::Console;

/// The variable that selects console messages in place of `-v` and `-q`, as in
/// `CONVMAE_LOG=info,convmae_framework::data=trace`.
pub const FILTER_VARIABLE: &str = crate::recipe::OWN_VARIABLE;

/// The target of messages for `log.jsonl` alone, which the program prints by itself.
pub const LOG_ONLY: &str = "convmae::log_only";

/// How much is said before the run directory is known; more than this is not kept for `log.jsonl`.
const PENDING_LIMIT: usize = 1 << 20;

/// Starts logging for the whole process. `verbosity` is the number of `-v` less the number of `-q`: 0 shows
/// information and above, 1 debug messages, 2 everything, -1 warnings, -2 errors, and less nothing.
///
/// The returned handle takes the log file once the run directory is known; what was said until then goes
/// there as well. Later calls change nothing but give a handle of their own, so a process that already logs
/// is left alone.
pub fn init(verbosity: i8) -> LogFile {
    let log = LogFile::default();
    let level = level_of(verbosity);
    let filter = EnvFilter::builder().with_default_directive(level.into());
    let (filter, wrong) = match std::env::var(FILTER_VARIABLE) {
        Err(_) => (filter.parse_lossy(""), None),
        Ok(directives) => match filter.parse(&directives) {
            Ok(chosen) => (chosen, None),
            Err(error) => (EnvFilter::new(level.to_string()), Some((directives, error))),
        },
    };
    let details = level >= LevelFilter::DEBUG;
    let console = tracing_subscriber::fmt::layer()
        .with_writer(Console)
        .with_ansi(
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        )
        .with_target(details)
        .without_time()
        .compact()
        .with_filter(filter.and(filter_fn(|message| message.target() != LOG_ONLY)));
    let subscriber = Registry::default().with(console).with(json_layer(&log, level.max(LevelFilter::INFO)));
    // Fails where a subscriber is set already.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let Some((directives, error)) = wrong {
        tracing::warn!("{FILTER_VARIABLE}=`{directives}` is ignored: {error}");
    }
    log
}

fn level_of(verbosity: i8) -> LevelFilter {
    match verbosity {
        ..-2 => LevelFilter::OFF,
        -2 => LevelFilter::ERROR,
        -1 => LevelFilter::WARN,
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        2.. => LevelFilter::TRACE,
    }
}

fn json_layer<S>(log: &LogFile, level: LevelFilter) -> impl tracing_subscriber::Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    // What is wrong with the disk is told by the files that matter.
    let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).log_internal_errors(false);
    layer.with_writer(log.clone()).with_filter(level)
}

/// The `log.jsonl` of a run; remembers messages until it is told where that is.
#[derive(Debug, Clone, Default)]
pub struct LogFile(Arc<Mutex<Target>>);

#[derive(Debug)]
enum Target {
    Pending(Vec<u8>),
    File(File),
}

impl Default for Target {
    fn default() -> Self {
        Self::Pending(Vec::new())
    }
}

impl LogFile {
    /// Appends to the file at `path` from now on, beginning with what was said so far.
    pub fn attach(&self, path: &Path) -> Result<(), ReportError> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(ReportError::io("open", path))?;
        end_torn_line(&mut file).map_err(ReportError::io("append to", path))?;
        let mut target = self.lock();
        if let Target::Pending(pending) = &*target {
            file.write_all(pending).map_err(ReportError::io("append to", path))?;
        }
        *target = Target::File(file);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Target> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process that was killed may have left half a line; the next one starts on its own.
fn end_torn_line(file: &mut File) -> io::Result<()> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.lock() {
            Target::File(file) => file.write(bytes),
            Target::Pending(pending) => {
                if pending.len() + bytes.len() <= PENDING_LIMIT {
                    pending.extend_from_slice(bytes);
                }
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut *self.lock() {
            Target::File(file) => file.flush(),
            Target::Pending(_) => Ok(()),
        }
    }
}

impl MakeWriter<'_> for LogFile {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn messages(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| match serde_json::from_str::<serde_json::Value>(line) {
                Ok(event) => event["message"].as_str().unwrap().to_owned(),
                Err(_) => "torn".to_owned(),
            })
            .collect()
    }

    #[test]
    fn what_was_said_before_the_directory_is_known_is_in_the_file_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        let log = LogFile::default();
        let subscriber = Registry::default().with(json_layer(&log, LevelFilter::INFO));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("early");
            tracing::debug!("unheard");
            log.attach(&path).unwrap();
            tracing::info!(step = 3, "late");
        });
        assert_eq!(messages(&path), ["early", "late"]);
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"step\":3"));
    }

    #[test]
    fn a_resumed_run_appends_and_leaves_a_torn_line_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        std::fs::write(&path, "{\"message\":\"first\"}\n{\"mess").unwrap();
        let log = LogFile::default();
        log.attach(&path).unwrap();
        log.clone().write_all(b"{\"message\":\"second\"}\n").unwrap();
        assert_eq!(messages(&path), ["first", "torn", "second"]);
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_named() {
        let path = Path::new("/proc/no/log.jsonl");
        let message = LogFile::default().attach(path).unwrap_err().to_string();
        assert!(message.starts_with("cannot open /proc/no/log.jsonl"), "{message}");
    }

    #[test]
    fn each_v_says_more_and_each_q_less() {
        let levels: Vec<_> = (-3..=3).map(level_of).collect();
        assert!(levels.is_sorted());
        assert_eq!(level_of(0), LevelFilter::INFO);
    }
}
