//! The command line that both programs share.

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::chassis::Program;
use crate::config::{self, Environment, Loaded, Problems};
use crate::health::Question;
use crate::telemetry::LogFormat;

/// The arguments of a program.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// The settings, as YAML or JSON; without it the defaults and the environment are all there is.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Say what is wrong with the settings, or ok, and leave.
    #[arg(long)]
    pub check: bool,
    /// Ask the process on this host that runs with these settings, at http_address, whether it is alive or ready; the exit code is 0 if it is.
    #[arg(
        long,
        value_enum,
        value_name = "QUESTION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "alive",
        conflicts_with = "check"
    )]
    pub healthcheck: Option<Question>,
    /// Read the settings again whenever the file's content changes, as SIGHUP asks for.
    #[arg(long, requires = "file")]
    pub watch: bool,
    /// How log lines look, whatever the settings say.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Settings that the program itself gives, in place of a file.
    #[arg(skip)]
    pub given: Option<Given>,
}

/// Settings that a program makes of something else than a file.
#[derive(Clone)]
pub struct Given {
    /// What problems call them.
    pub source: String,
    /// As a file would have them. There may be secrets in it.
    pub text: String,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Given").field(&self.source).finish()
    }
}

impl Args {
    /// Reads the settings, with the environment laid over them.
    pub(crate) fn load<P: Program>(&self) -> Result<Loaded<P>, Problems> {
        let environment = Environment::of_process(P::PREFIXES);
        match &self.given {
            Some(Given { source, text }) => config::parse(source, text, &environment),
            None => config::load(self.file.as_deref(), &environment),
        }
    }
}

/// Reads the command line, program name first.
///
/// # Errors
/// The exit code after help, version (0) or a complaint (2) was written.
pub fn parse<P: Program>(arguments: impl IntoIterator<Item = OsString>) -> Result<Args, ExitCode> {
    // The arguments' own doc comment would stand in place of the program's words.
    let command = <Args as clap::Args>::augment_args(clap::Command::new(P::NAME))
        .version(P::VERSION)
        .about(P::ABOUT)
        .after_help(P::AFTER_HELP);
    let command = command.long_about(None);
    command
        .try_get_matches_from(arguments)
        .and_then(|found| Args::from_arg_matches(&found))
        .map_err(|error| exit(&error))
}

/// Writes what clap says where it belongs; the exit code to leave with.
pub fn exit(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when even that fails.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Writes a line to standard output.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Writes a line to standard error, for what is told before there is a log.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
