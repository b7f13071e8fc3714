//! Logs, to standard error: for people on a terminal, compact in a pipe, JSON where asked for.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// What is logged, and how.
#[derive(clap::Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Logging")]
pub(crate) struct Args {
    /// A level, or directives such as "info,bivouac_proxy=debug" (RUST_LOG works too)
    #[arg(long, global = true, env = "BIVOUAC_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// auto (for people on a terminal, else compact), compact or json
    #[arg(
        long,
        global = true,
        env = "BIVOUAC_LOG_FORMAT",
        value_enum,
        default_value_t,
        hide_env_values = true
    )]
    log_format: Format,
}

#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Format {
    // For people on a terminal, compact elsewhere.
    #[default]
    Auto,
    Compact,
    Json,
}

/// Installs the subscriber for the whole process.
pub(crate) fn install(args: &Args) {
    let directives = args.log.clone().or_else(|| std::env::var("RUST_LOG").ok()).unwrap_or_default();
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse_lossy(directives);
    let colour = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let layer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour);
    // A second subscriber can only be a test's own.
    match args.log_format {
        Format::Json => layer.json().flatten_event(true).try_init().ok(),
        Format::Auto if io::stderr().is_terminal() => {
            layer.with_target(false).with_timer(Clock).try_init().ok()
        }
        Format::Auto | Format::Compact => layer.compact().try_init().ok(),
    };
}

/// The time of day, to a millisecond: a person is looking on.
struct Clock;

impl tracing_subscriber::fmt::time::FormatTime for Clock {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", jiff::Zoned::now().strftime("%H:%M:%S%.3f"))
    }
}
