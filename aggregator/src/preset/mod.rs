//! Presets: the environment of another program becomes a configuration of ours, so that this one can be started in its place.

mod cf_metrics_refinery;

use std::ffi::OsString;
use std::process::ExitCode;

pub use cf_metrics_refinery::stats;

use crate::options::nearest;

/// The names that `--preset` takes.
pub const NAMES: [&str; 1] = [cf_metrics_refinery::NAME];

/// Runs the preset that the arguments (program name first) ask for; `None` if they ask for none.
pub(crate) fn main(arguments: &[OsString]) -> Option<ExitCode> {
    let name = asked_for(arguments)?;
    Some(match name.as_str() {
        cf_metrics_refinery::NAME => cf_metrics_refinery::main(arguments),
        unknown => {
            let near = nearest(unknown, NAMES).unwrap_or_default();
            let hint = if near.is_empty() {
                String::new()
            } else {
                format!(", did you mean `{near}`?")
            };
            tributary_node::cli::complain(&format!(
                "--preset: there is no `{unknown}`{hint} (known: {})",
                NAMES.join(", ")
            ));
            ExitCode::from(2)
        }
    })
}

/// What stands behind `--preset`, if that is among the arguments.
fn asked_for(arguments: &[OsString]) -> Option<String> {
    let mut arguments = arguments
        .iter()
        .skip(1)
        .map(|argument| argument.to_string_lossy());
    while let Some(argument) = arguments.next() {
        if argument == "--preset" {
            return Some(arguments.next().unwrap_or_default().into_owned());
        }
        if let Some(name) = argument.strip_prefix("--preset=") {
            return Some(name.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_asked_for_in_either_form() {
        let asked = |text: &str| {
            let arguments: Vec<OsString> = text.split(' ').map(OsString::from).collect();
            asked_for(&arguments)
        };
        assert_eq!(asked("p --check --preset x").as_deref(), Some("x"));
        assert_eq!(asked("p --preset=y -h").as_deref(), Some("y"));
        assert_eq!(asked("p --preset").as_deref(), Some(""));
        assert_eq!(asked("--preset x"), None, "the program's own name");
        assert_eq!(asked("p -f x"), None);
    }
}
