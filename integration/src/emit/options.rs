//! The options of `tributary emit`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use tributary_node::config::Duration;

/// What to send, and where to.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Where the listener is: `host:port` (UDP), `udp://host:port`, `tcp://host:port`, `unixgram:///path` or `unix:///path`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8126")]
    pub hostport: String,
    /// What is sent; without it, what the other options are for.
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Write to standard error what is sent.
    #[arg(long)]
    pub debug: bool,
    /// Tags, `key:value` or bare, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "TAG,…")]
    pub tag: Vec<String>,

    /// The metric's name.
    #[arg(long, help_heading = "Metrics")]
    pub name: Option<String>,
    /// Add this much to a counter.
    #[arg(long, allow_negative_numbers = true, help_heading = "Metrics")]
    pub count: Option<i64>,
    /// Set a gauge to this value.
    #[arg(long, allow_negative_numbers = true, help_heading = "Metrics")]
    pub gauge: Option<f64>,
    /// A timer's value, as in 30ms or 1m2s.
    #[arg(long, value_name = "DURATION", help_heading = "Metrics")]
    pub timing: Option<Duration>,
    /// A histogram's value.
    #[arg(long, allow_negative_numbers = true, help_heading = "Metrics")]
    pub histogram: Option<f64>,
    /// A distribution's value.
    #[arg(long, allow_negative_numbers = true, help_heading = "Metrics")]
    pub distribution: Option<f64>,
    /// A member of a set.
    #[arg(long, allow_hyphen_values = true, help_heading = "Metrics")]
    pub set: Option<String>,
    /// The sample rate: each value stands for 1 / RATE of its kind. Above 0, at most 1.
    #[arg(long, help_heading = "Metrics")]
    pub rate: Option<f64>,
    /// Run the rest of the line as a command, send the time that it took as a timer, and exit as it does.
    #[arg(long, requires = "line", help_heading = "Metrics")]
    pub command: bool,

    /// The event's title.
    #[arg(long = "e_title", alias = "e-title", help_heading = "Events")]
    pub e_title: Option<String>,
    /// Its text.
    #[arg(long = "e_text", alias = "e-text", help_heading = "Events")]
    pub e_text: Option<String>,
    /// When it happened, Unix time in seconds; without it, now.
    #[arg(
        long = "e_time",
        alias = "e-time",
        value_name = "SECONDS",
        help_heading = "Events"
    )]
    pub e_time: Option<i64>,
    /// The host that it speaks of.
    #[arg(long = "e_hostname", alias = "e-hostname", help_heading = "Events")]
    pub e_hostname: Option<String>,
    /// Events of one key are shown together.
    #[arg(
        long = "e_aggr_key",
        alias = "e-aggr-key",
        value_name = "KEY",
        help_heading = "Events"
    )]
    pub e_aggr_key: Option<String>,
    /// How much it matters.
    #[arg(
        long = "e_priority",
        alias = "e-priority",
        value_enum,
        help_heading = "Events"
    )]
    pub e_priority: Option<Priority>,
    /// Where it comes from.
    #[arg(
        long = "e_source_type",
        alias = "e-source-type",
        value_name = "TYPE",
        help_heading = "Events"
    )]
    pub e_source_type: Option<String>,
    /// How it is shown.
    #[arg(
        long = "e_alert_type",
        alias = "e-alert-type",
        value_enum,
        help_heading = "Events"
    )]
    pub e_alert_type: Option<AlertType>,
    /// More tags for the event.
    #[arg(
        long = "e_event_tags",
        alias = "e-event-tags",
        value_delimiter = ',',
        value_name = "TAG,…",
        help_heading = "Events"
    )]
    pub e_event_tags: Vec<String>,

    /// The service check's name.
    #[arg(long = "sc_name", alias = "sc-name", help_heading = "Service checks")]
    pub sc_name: Option<String>,
    /// Its result, as a word or a number from 0 to 3.
    #[arg(
        long = "sc_status",
        alias = "sc-status",
        value_enum,
        help_heading = "Service checks"
    )]
    pub sc_status: Option<Status>,
    /// When it ran, Unix time in seconds.
    #[arg(
        long = "sc_time",
        alias = "sc-time",
        value_name = "SECONDS",
        help_heading = "Service checks"
    )]
    pub sc_time: Option<i64>,
    /// The host that it ran on.
    #[arg(
        long = "sc_hostname",
        alias = "sc-hostname",
        help_heading = "Service checks"
    )]
    pub sc_hostname: Option<String>,
    /// More tags for the check.
    #[arg(
        long = "sc_tags",
        alias = "sc-tags",
        value_delimiter = ',',
        value_name = "TAG,…",
        help_heading = "Service checks"
    )]
    pub sc_tags: Vec<String>,
    /// What it says about its result.
    #[arg(long = "sc_msg", alias = "sc-msg", help_heading = "Service checks")]
    pub sc_msg: Option<String>,

    /// The command to time, with its arguments.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        requires = "command",
        value_name = "COMMAND"
    )]
    pub line: Vec<OsString>,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// One value or several of one metric.
    Metric,
    /// An event.
    Event,
    /// A service check.
    Sc,
}

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    /// As usual.
    Normal,
    /// Less.
    Low,
}

/// How an event is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AlertType {
    /// Something broke.
    Error,
    /// Something may break.
    Warning,
    /// Something is so.
    Info,
    /// Something went well.
    Success,
}

/// The result of a service check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Status {
    /// 0
    #[value(alias = "0")]
    Ok = 0,
    /// 1
    #[value(alias = "1")]
    Warning = 1,
    /// 2
    #[value(alias = "2")]
    Critical = 2,
    /// 3
    #[value(alias = "3")]
    Unknown = 3,
}

// === impl Options ===

impl Options {
    /// What is to be sent.
    ///
    /// # Errors
    /// When options of different modes are given together, or nothing is.
    pub(super) fn mode(&self) -> Result<Mode, String> {
        let metric = self.name.is_some() || self.has_value();
        let event = self.e_title.is_some()
            || self.e_text.is_some()
            || self.e_time.is_some()
            || self.e_hostname.is_some()
            || self.e_aggr_key.is_some()
            || self.e_priority.is_some()
            || self.e_source_type.is_some()
            || self.e_alert_type.is_some()
            || !self.e_event_tags.is_empty();
        let check = self.sc_name.is_some()
            || self.sc_status.is_some()
            || self.sc_time.is_some()
            || self.sc_hostname.is_some()
            || self.sc_msg.is_some()
            || !self.sc_tags.is_empty();
        let mentioned: Vec<Mode> = [
            (metric, Mode::Metric),
            (event, Mode::Event),
            (check, Mode::Sc),
        ]
        .into_iter()
        .filter_map(|(mentioned, mode)| mentioned.then_some(mode))
        .collect();
        match (self.mode, mentioned.as_slice()) {
            (Some(mode), []) => Ok(mode),
            (Some(mode), [only]) if mode == *only => Ok(mode),
            (None, [only]) => Ok(*only),
            (None, []) => Err(
                "nothing to send: give --name with a value, --e_title or --sc_name".to_owned(),
            ),
            _ => Err(
                "one metric, event or service check at a time: the options given are for different ones"
                    .to_owned(),
            ),
        }
    }

    /// Whether a metric has any value.
    pub(super) fn has_value(&self) -> bool {
        self.count.is_some()
            || self.gauge.is_some()
            || self.timing.is_some()
            || self.histogram.is_some()
            || self.distribution.is_some()
            || self.set.is_some()
            || self.command
    }
}
