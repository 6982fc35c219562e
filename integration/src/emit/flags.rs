//! Go's flags: one dash does as well as two, and flags end at the first word that is none.

use std::ffi::OsString;

use clap::{Args as _, Command};

use super::Options;

/// Gives `tributary emit`'s known flags their second dash, up to the first word that is no flag; other calls stay as they are.
pub fn with_two_dashes(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let mut out: Vec<OsString> = arguments.by_ref().take(2).collect();
    if out.get(1).is_none_or(|command| command != "emit") {
        out.extend(arguments);
        return out;
    }
    let command = Options::augment_args(Command::new("emit"));
    while let Some(argument) = arguments.next() {
        let Some((flag, value)) = argument.to_str().and_then(known(&command)) else {
            out.push(argument);
            break;
        };
        out.push(flag.into());
        // The next word is its value, whatever it looks like.
        if value {
            out.extend(arguments.next());
        }
    }
    out.extend(arguments);
    out
}

/// The flag with two dashes, and whether its value is the next word.
fn known(command: &Command) -> impl Fn(&str) -> Option<(String, bool)> {
    move |argument| {
        let flag = argument.strip_prefix('-')?;
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        if name == "h" || name == "help" {
            return Some(("--help".to_owned(), false));
        }
        let known = command.get_arguments().find(|known| {
            known.get_long() == Some(name)
                || known
                    .get_all_aliases()
                    .is_some_and(|aliases| aliases.contains(&name))
        })?;
        let takes_value = known.get_action().takes_values();
        match (takes_value, value) {
            // As Go has it: `-debug=true`.
            (false, Some("true")) => Some((format!("--{name}"), false)),
            (_, Some(_)) => Some((format!("--{flag}"), false)),
            (_, None) => Some((format!("--{flag}"), takes_value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dashed(line: &str) -> String {
        let words = line.split(' ').map(OsString::from);
        let out: Vec<String> = with_two_dashes(words)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        out.join(" ")
    }

    #[test]
    fn known_flags_get_their_second_dash_and_the_command_keeps_its_own() {
        assert_eq!(
            dashed("tributary emit -hostport h:1 -gauge -5 --name x -e_time=3 -command ls -name x"),
            "tributary emit --hostport h:1 --gauge -5 --name x --e_time=3 --command ls -name x"
        );
        assert_eq!(dashed("t emit -debug=true -h"), "t emit --debug --help");
    }

    #[test]
    fn unknown_flags_and_other_commands_are_left_to_be_told() {
        assert_eq!(dashed("t emit -grpc -name x"), "t emit -grpc -name x");
        assert_eq!(dashed("t audit -name x"), "t audit -name x");
        assert_eq!(dashed("t"), "t");
    }
}
