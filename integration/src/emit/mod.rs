//! `tributary emit`: sends one metric, event or service check to a DogStatsD listener, or times a command.
//!
//! The flags are those of veneur-emit, with two dashes or with one. What is sent is first read back by the agent's own parser: a line that
//! an agent would refuse, or understand as something else, is not sent.

mod command;
mod flags;
mod line;
mod options;
mod socket;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

pub use flags::with_two_dashes;
pub use options::{AlertType, Mode, Options, Priority, Status};

/// How long connecting and sending may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends what the options say. The exit code is that of the timed command, or 0 if everything was sent, 1 if not, and 2 if the options make no
/// sense together.
pub async fn run(options: Options) -> ExitCode {
    // What can be known to be wrong is told before a command runs.
    let address = match socket::address(&options.hostport) {
        Ok(address) => address,
        Err(error) => return refuse(&error, 2),
    };
    if let Err(error) = line::lines(&options, Some(Duration::ZERO)) {
        return refuse(&error, 2);
    }
    let ended = match options.line.split_first() {
        None => None,
        Some((program, arguments)) => match command::time(program, arguments).await {
            Ok(ended) => Some(ended),
            Err((code, error)) => return refuse(&error, code),
        },
    };
    let sent = line::lines(&options, ended.map(|ended| ended.took)).and_then(|lines| {
        for line in lines.iter().filter(|_| options.debug) {
            complain(line);
        }
        socket::send(&address, &lines, PATIENCE)
            .map_err(|error| format!("{}: {error}", options.hostport))
    });
    if let Err(error) = &sent {
        complain(error);
    }
    match (ended, sent) {
        // Whether it could be told must not change what a wrapped command means to its caller.
        (Some(ended), _) => ExitCode::from(ended.code),
        (None, Ok(())) => ExitCode::SUCCESS,
        (None, Err(_)) => ExitCode::FAILURE,
    }
}

fn refuse(error: &str, code: u8) -> ExitCode {
    complain(error);
    ExitCode::from(code)
}

fn complain(text: &str) {
    // Nobody is left to tell when even that fails.
    let _ = writeln!(std::io::stderr(), "tributary emit: {text}");
}
