//! A whole program on the chassis, as a process: its exit codes, its streams and its signals.
//!
//! Called with `child`, this test is that program; otherwise it starts itself so and looks on.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test, which clippy cannot see without the harness"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::config::{self, Prefixes, Problems, Secret, Settings};
use tributary_node::{BoxError, Chassis, Node, Program, Reload, cli, run};

const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    /// Where the admin server listens.
    http_address: String,
    /// Where errors go.
    sentry_dsn: Secret,
    /// Where self-metrics go.
    stats_address: String,
    /// How it ends.
    ends: Ends,
    /// Logs details.
    debug: bool,
    /// Which lines are logged.
    log_level: String,
    /// How long leaving may take.
    shutdown_timeout: config::Duration,
    /// Can be reloaded. `impossible` cannot be had.
    word: String,
    /// Cannot be reloaded, and not be longer than the word.
    length: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Ends {
    #[default]
    Orderly,
    /// As `Orderly`, and follows SIGHUP.
    Reloading,
    Never,
    Fails,
    /// Logs an error and panics in a task.
    Panics,
    /// Logs the same error a thousand times, and another one.
    Storms,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http_address: "127.0.0.1:0".to_owned(),
            sentry_dsn: Secret::default(),
            stats_address: String::new(),
            ends: Ends::Orderly,
            debug: false,
            log_level: String::new(),
            shutdown_timeout: config::Duration::seconds(30),
            word: "first".to_owned(),
            length: 3,
        }
    }
}

impl Settings for Config {
    fn check(&self, problems: &mut Problems) {
        self.chassis().check(problems);
        if self.length > self.word.len() {
            problems.add("word", "is shorter than length");
        }
    }
}

impl Reload for Config {
    fn take_over(&mut self, new: &Self) {
        self.debug = new.debug;
        self.log_level.clone_from(&new.log_level);
        self.shutdown_timeout = new.shutdown_timeout;
        self.word.clone_from(&new.word);
    }
}

impl Program for Config {
    const NAME: &'static str = "example";
    const VERSION: &'static str = "1.2.3";
    const ABOUT: &'static str = "A program that only stands there";
    const PREFIXES: Prefixes = Prefixes {
        ours: "EXAMPLE_",
        veneur: &[],
    };

    fn chassis(&self) -> Chassis {
        Chassis {
            http_address: self.http_address.clone(),
            sentry_dsn: self.sentry_dsn.clone(),
            stats_address: self.stats_address.clone(),
            stats_prefix: "example.".to_owned(),
            debug: self.debug,
            log_level: self.log_level.clone(),
            shutdown_timeout: self.shutdown_timeout,
            ..Chassis::default()
        }
    }
}

async fn work(config: Config, node: Node) -> Result<(), BoxError> {
    let address = node.serve_admin(axum::Router::new()).await?;
    metrics::counter!("starts_total").increment(1);
    if let Some(address) = address {
        writeln!(std::io::stdout(), "{address}")?;
    }
    match config.ends {
        Ends::Orderly => node.stop.cancelled().await,
        Ends::Reloading => {
            let mut reloads = node.reloads(config);
            while let Some(change) = node.stop.run_until_cancelled(reloads.next()).await {
                tracing::debug!("details");
                if change.new.word == "impossible" {
                    reloads.refused(&"there is no such word");
                } else {
                    reloads.applied(change);
                }
            }
        }
        Ends::Never => std::future::pending::<()>().await,
        Ends::Fails => return Err(std::io::Error::other("the disk is on fire").into()),
        Ends::Panics => {
            tracing::info!("all is well");
            tracing::error!(destination = "global-1:8128", "cannot deliver");
            let _ = tokio::spawn(async { panic!("a task panicked") }).await;
        }
        Ends::Storms => {
            for attempt in 0..1000 {
                tracing::error!(attempt, "the storm");
            }
            tracing::error!("the rare one");
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == "child") {
        arguments.remove(1);
        return match cli::parse::<Config>(arguments) {
            Ok(args) => run(&args, work),
            Err(code) => code,
        };
    }
    let tests: [(&str, fn()); 16] = [
        (
            "a_check_says_ok_or_all_problems",
            a_check_says_ok_or_all_problems,
        ),
        (
            "usage_errors_exit_with_2_and_help_with_0",
            usage_errors_exit_with_2_and_help_with_0,
        ),
        (
            "it_stops_in_order_on_each_signal",
            it_stops_in_order_on_each_signal,
        ),
        ("sighup_does_not_end_it", sighup_does_not_end_it),
        (
            "it_reads_its_settings_again_and_takes_over_what_it_can",
            it_reads_its_settings_again_and_takes_over_what_it_can,
        ),
        (
            "settings_that_are_wrong_change_nothing",
            settings_that_are_wrong_change_nothing,
        ),
        (
            "it_is_gone_in_time_whatever_the_program_does",
            it_is_gone_in_time_whatever_the_program_does,
        ),
        (
            "it_says_that_it_drains_and_a_second_signal_ends_it_at_once",
            it_says_that_it_drains_and_a_second_signal_ends_it_at_once,
        ),
        (
            "a_failure_is_logged_and_exits_with_1",
            a_failure_is_logged_and_exits_with_1,
        ),
        (
            "a_taken_port_is_a_failure_that_names_it",
            a_taken_port_is_a_failure_that_names_it,
        ),
        ("logs_can_be_json", logs_can_be_json),
        (
            "the_last_self_metrics_are_sent",
            the_last_self_metrics_are_sent,
        ),
        (
            "panics_and_errors_reach_sentry",
            panics_and_errors_reach_sentry,
        ),
        (
            "a_storm_of_errors_sends_few_and_their_number",
            a_storm_of_errors_sends_few_and_their_number,
        ),
        (
            "what_is_logged_can_be_changed_while_it_runs",
            what_is_logged_can_be_changed_while_it_runs,
        ),
        (
            "a_wrong_log_level_is_told_by_the_check",
            a_wrong_log_level_is_told_by_the_check,
        ),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

// === The program as a process ===

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command
        .arg("child")
        .args(arguments)
        .env_remove("RUST_LOG")
        .env_remove("SENTRY_DSN");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn ended(arguments: &[&str]) -> (Option<i32>, String, String) {
    told(program(arguments).output().expect("it runs"))
}

fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Started, and the address of its admin server.
fn started(mut command: Command) -> (Child, String) {
    let mut child = command.spawn().expect("it starts");
    let mut address = String::new();
    let stdout = child.stdout.as_mut().expect("piped");
    BufReader::new(stdout)
        .read_line(&mut address)
        .expect("its address");
    (child, address.trim().to_owned())
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn ends_within_patience(mut child: Child) -> (Option<i32>, String, String) {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("its state").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("killed");
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    told(child.wait_with_output().expect("its output"))
}

fn settings(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("a plain path")
}

// === What it does ===

fn a_check_says_ok_or_all_problems() {
    assert_eq!(
        ended(&["--check"]),
        (Some(0), "ok\n".to_owned(), String::new())
    );
    let wrong =
        settings("http_adress: x\nstats_address: nowhere\nsentry_dsn: hunter2\nends: maybe\n");
    let (code, stdout, stderr) = ended(&["--check", "-f", path(&wrong)]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    for part in [
        "http_adress: unknown key, did you mean http_address?",
        "stats_address: \"nowhere\" is not an address",
        "sentry_dsn: is no Sentry DSN",
        "ends: unknown variant `maybe`",
    ] {
        assert!(
            stderr.contains(&format!("{}: {part}", path(&wrong))),
            "{part}\n  is not in\n{stderr}"
        );
    }
    assert!(!stderr.contains("hunter2"), "{stderr}");
    assert_eq!(stderr.lines().count(), 4, "{stderr}");
    assert_eq!(
        ended(&["-f", path(&wrong)]).0,
        Some(1),
        "and it does not start"
    );
}

fn usage_errors_exit_with_2_and_help_with_0() {
    let (code, _, stderr) = ended(&["--no-such-flag"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--no-such-flag"), "{stderr}");
    let (code, stdout, _) = ended(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("A program that only stands there") && stdout.contains("--check"),
        "{stdout}"
    );
    assert_eq!(
        ended(&["--version"]),
        (Some(0), "example 1.2.3\n".to_owned(), String::new())
    );
}

fn it_stops_in_order_on_each_signal() {
    for name in ["TERM", "INT"] {
        let (child, address) = started(program(&[]));
        assert!(get(&address, "/healthcheck").ends_with("\r\n\r\nok\n"));
        assert!(get(&address, "/metrics").contains("\nexample_starts_total 1\n"));
        signal(&child, name);
        let (code, _, stderr) = ends_within_patience(child);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains(&format!("SIG{name}")), "{stderr}");
    }
}

fn sighup_does_not_end_it() {
    let (child, address) = started(program(&[]));
    signal(&child, "HUP");
    assert!(get(&address, "/ready").starts_with("HTTP/1.1 200"));
    signal(&child, "TERM");
    let (code, _, stderr) = ends_within_patience(child);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("SIGHUP ignored"), "{stderr}");
}

/// A program that follows SIGHUP, its file, and what it logs.
struct Reloading {
    child: Child,
    address: String,
    file: tempfile::NamedTempFile,
    log: BufReader<std::process::ChildStderr>,
}

impl Reloading {
    fn start() -> Self {
        let file = settings("ends: reloading\n");
        let (mut child, address) = started(program(&["-f", path(&file)]));
        let log = BufReader::new(child.stderr.take().expect("piped"));
        Self {
            child,
            address,
            file,
            log,
        }
    }

    /// Writes the file, sends SIGHUP, and reads what is logged up to the line with `last`.
    fn reload(&mut self, text: &str, last: &str) -> String {
        std::fs::write(self.file.path(), format!("ends: reloading\n{text}")).expect("written");
        signal(&self.child, "HUP");
        let mut lines = String::new();
        loop {
            let before = lines.len();
            let read = self.log.read_line(&mut lines).expect("a line");
            assert!(read > 0, "it ended:\n{lines}");
            if lines.split_at(before).1.contains(last) {
                return lines;
            }
        }
    }

    fn reloads(&self, outcome: &str, times: u32) -> bool {
        let line = format!("\nexample_config_reloads_total{{outcome=\"{outcome}\"}} {times}\n");
        get(&self.address, "/metrics").contains(&line)
    }

    fn config(&self) -> String {
        let answer = get(&self.address, "/config");
        let (_, shown) = answer.split_once("\r\n\r\n").expect("a body");
        shown.to_owned()
    }

    fn end(mut self) {
        signal(&self.child, "TERM");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("the rest");
        assert_eq!(ends_within_patience(self.child).0, Some(0), "{rest}");
    }
}

fn it_reads_its_settings_again_and_takes_over_what_it_can() {
    let mut program = Reloading::start();
    let log = program.reload("word: second\ndebug: true\nlength: 5\n", "applied");
    assert!(
        log.contains("needs a restart") && log.contains("key=\"length\""),
        "{log}"
    );
    assert!(log.contains(r#"keys=["debug", "word"]"#), "{log}");
    assert!(!log.contains("details"), "not before it is applied: {log}");
    let shown = program.config();
    for part in ["\"word\": \"second\"", "\"debug\": true", "\"length\": 3"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let log = program.reload("word: third\ndebug: true\n", "applied");
    assert!(log.contains("details"), "{log}");
    let log = program.reload("word: third\ndebug: true\n", "nothing to change");
    assert!(!log.contains("restart"), "{log}");
    assert!(program.reloads("applied", 2) && program.reloads("unchanged", 1));
    program.end();
}

fn settings_that_are_wrong_change_nothing() {
    let mut program = Reloading::start();
    let before = program.config();
    let log = program.reload("wird: x\nlength: many\n", "refused");
    for part in ["wird: unknown key, did you mean word?", "length: "] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    // Right in itself, and wrong with what a running program keeps.
    let log = program.reload("word: me\nlength: 2\n", "refused");
    assert!(log.contains("word: is shorter than length"), "{log}");
    program.reload("word: impossible\n", "cannot be applied");
    assert_eq!(program.config(), before);
    assert!(program.reloads("refused", 2) && program.reloads("failed", 1));
    program.end();
}

fn it_is_gone_in_time_whatever_the_program_does() {
    let mut command = program(&[]);
    command
        .env("EXAMPLE_ENDS", "never")
        .env("EXAMPLE_SHUTDOWN_TIMEOUT", "500ms");
    let (child, _) = started(command);
    let asked = Instant::now();
    signal(&child, "TERM");
    let (code, _, stderr) = ends_within_patience(child);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("left undone"), "{stderr}");
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
}

fn it_says_that_it_drains_and_a_second_signal_ends_it_at_once() {
    let mut command = program(&[]);
    let (mut child, address) = started({
        command.env("EXAMPLE_ENDS", "never");
        command
    });
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    signal(&child, "TERM");
    let mut line = String::new();
    while !line.contains("stopping") {
        line.clear();
        assert!(
            log.read_line(&mut line).expect("a line") > 0,
            "it ended before it said that it stops"
        );
    }
    let deadline = Instant::now() + PATIENCE;
    while !get(&address, "/ready").ends_with("\r\n\r\ndraining\n") {
        assert!(Instant::now() < deadline, "it does not say that it drains");
    }
    signal(&child, "TERM");
    assert_eq!(ends_within_patience(child).0, Some(1));
}

fn a_failure_is_logged_and_exits_with_1() {
    let (code, stdout, stderr) = told(
        program(&[])
            .env("EXAMPLE_ENDS", "fails")
            .output()
            .expect("it runs"),
    );
    assert_eq!(code, Some(1));
    assert!(stderr.contains("the disk is on fire"), "{stderr}");
    assert!(!stdout.contains("fire"), "logs go to standard error only");
}

fn a_taken_port_is_a_failure_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let (code, _, stderr) = told(
        program(&[])
            .env("EXAMPLE_HTTP_ADDRESS", &address)
            .output()
            .expect("it runs"),
    );
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains(&format!("cannot listen on {address}")),
        "{stderr}"
    );
}

fn logs_can_be_json() {
    let mut command = program(&["--log-format", "json"]);
    let (code, _, stderr) = told(
        command
            .env("EXAMPLE_ENDS", "fails")
            .output()
            .expect("it runs"),
    );
    assert_eq!(code, Some(1));
    for line in stderr.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("every line is JSON");
        assert!(
            line.get("level").is_some() && line.get("message").is_some(),
            "{line}"
        );
    }
    assert!(stderr.lines().count() >= 3, "{stderr}");
}

fn the_last_self_metrics_are_sent() {
    let receiver = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    receiver.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut command = program(&[]);
    command.env(
        "EXAMPLE_STATS_ADDRESS",
        receiver.local_addr().expect("bound").to_string(),
    );
    let (child, _) = started(command);
    signal(&child, "TERM");
    let mut packet = [0u8; 2048];
    let length = receiver.recv(&mut packet).expect("a packet");
    let text = String::from_utf8_lossy(packet.get(..length).unwrap_or_default()).into_owned();
    assert!(
        text.lines().any(|line| line == "example.starts_total:1|c"),
        "{text}"
    );
    assert_eq!(ends_within_patience(child).0, Some(0));
}

/// What a hosted Sentry would have got.
struct Envelope {
    /// The items' headers and contents.
    items: Vec<(serde_json::Value, serde_json::Value)>,
}

/// Runs a program that ends so, with a Sentry of its own, and gives the events that arrived there. `SENTRY_DSN` names another place, which must
/// not be used: the DSN is given through the settings on purpose.
fn reported(ends: &str) -> Vec<serde_json::Value> {
    let service = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = service.local_addr().expect("bound");
    let collecting = std::thread::spawn(move || {
        let mut envelopes = Vec::new();
        // A connection is kept until its client closes it, and the client has one at a time; one that begins with nothing is the end.
        for stream in service.incoming() {
            let received = Envelope::receive(stream.expect("a connection"));
            if received.is_empty() {
                break;
            }
            envelopes.extend(received);
        }
        envelopes
    });
    let output = program(&[])
        .env("EXAMPLE_SENTRY_DSN", format!("http://key@{address}/42"))
        .env("EXAMPLE_ENDS", ends)
        .env("SENTRY_DSN", "http://key@127.0.0.1:9/1")
        .output();
    drop(TcpStream::connect(address).expect("the end"));
    let (code, _, stderr) = told(output.expect("it runs"));
    assert_eq!(code, Some(0), "{stderr}");
    let envelopes = collecting.join().expect("envelopes");
    let items = envelopes.into_iter().flat_map(|envelope| envelope.items);
    items
        .filter(|(header, _)| header.get("type").is_some_and(|kind| kind == "event"))
        .map(|(_, event)| event)
        .collect()
}

fn text<'e>(event: &'e serde_json::Value, pointer: &str) -> Option<&'e str> {
    event.pointer(pointer).and_then(serde_json::Value::as_str)
}

fn panics_and_errors_reach_sentry() {
    let events = reported("panics");
    let [error, panic] = events.as_slice() else {
        panic!("{events:#?}");
    };
    assert_eq!(text(error, "/message"), Some("cannot deliver"));
    assert_eq!(text(error, "/tags/destination"), Some("global-1:8128"));
    assert_eq!(
        text(panic, "/exception/values/0/value"),
        Some("a task panicked")
    );
    assert_eq!(text(panic, "/level"), Some("fatal"));
    for event in &events {
        let tags = ["/tags/role", "/tags/version"].map(|tag| text(event, tag));
        assert_eq!(tags, [Some("example"), Some("1.2.3")], "{event}");
        assert_eq!(text(event, "/release"), Some("example@1.2.3"));
        let crumbs = event.get("breadcrumbs").map(ToString::to_string);
        assert!(
            crumbs.unwrap_or_default().contains("all is well"),
            "{event}"
        );
    }
}

fn a_storm_of_errors_sends_few_and_their_number() {
    let events = reported("storms");
    let count = |message: &str| {
        let is = |event: &&serde_json::Value| text(event, "/message") == Some(message);
        events.iter().filter(is).count()
    };
    // A minute may end in between on a machine that stands still.
    let storm = count("the storm");
    assert!((5..=10).contains(&storm), "{storm} of the storm");
    assert_eq!(count("the rare one"), 1);
    let told: usize = events
        .iter()
        .filter_map(|event| {
            text(event, "/message")?.strip_suffix(" more errors were logged and not sent")
        })
        .map(|number| number.parse::<usize>().expect("a number"))
        .sum();
    assert_eq!(storm + told, 1000);
}

impl Envelope {
    /// The envelopes of one connection, each answered, until the client closes it.
    fn receive(stream: TcpStream) -> Vec<Self> {
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut answers = stream.try_clone().expect("cloned");
        let mut reader = BufReader::new(stream);
        let mut envelopes = Vec::new();
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return envelopes;
                }
                if line == "\r\n" {
                    break;
                }
                head.push(line.trim_end().to_ascii_lowercase());
            }
            let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name));
            assert_eq!(
                head.first().map(String::as_str),
                Some("post /api/42/envelope/ http/1.1")
            );
            assert!(
                header("x-sentry-auth: ").is_some_and(|auth| auth.contains("sentry_key=key")),
                "{head:?}"
            );
            // Would have to be unpacked here if a later version of the client packed it.
            assert_eq!(header("content-encoding: "), None);
            let length = header("content-length: ").expect("a length");
            let mut body = vec![0; length.parse().expect("a number")];
            reader.read_exact(&mut body).expect("a body");
            envelopes.push(Self::parse(&body));
            answers
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                .expect("answered");
        }
    }

    /// A header line, then for each item a header line and as many bytes as that says.
    fn parse(body: &[u8]) -> Self {
        let json = |bytes: &[u8]| -> serde_json::Value {
            serde_json::from_slice(bytes).expect("a line of JSON")
        };
        let mut lines = body.splitn(2, |byte| *byte == b'\n');
        let header = json(lines.next().expect("a header"));
        assert!(header.get("event_id").is_some(), "{header}");
        let mut rest = lines.next().unwrap_or_default();
        let mut items = Vec::new();
        while !rest.is_empty() {
            let (header, after) =
                rest.split_at(rest.iter().position(|b| *b == b'\n').expect("a line"));
            let header = json(header);
            let length = header.get("length").and_then(serde_json::Value::as_u64);
            let (content, after) = after
                .get(1..)
                .unwrap_or_default()
                .split_at(length.expect("a length") as usize);
            items.push((header, json(content)));
            rest = after.strip_prefix(b"\n").unwrap_or(after);
        }
        Self { items }
    }
}

fn put(address: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let length = body.len();
    write!(
        stream,
        "PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn what_is_logged_can_be_changed_while_it_runs() {
    let mut program = Reloading::start();
    let address = program.address.clone();
    let log = program.reload("word: second\n", "applied");
    assert!(!log.contains("details"), "{log}");
    let answer = put(&address, "/api/log?for=1h", "debug");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for part in [
        "\"level\":\"debug\"",
        "\"usual\":\"info\"",
        "\"overridden\":true",
    ] {
        assert!(answer.contains(part), "{part} is not in {answer}");
    }
    let log = program.reload("word: third\n", "applied");
    assert!(
        log.contains("changed on request") && log.contains("details"),
        "{log}"
    );
    for (path, body) in [
        ("/api/log", "debgu"),
        ("/api/log", ""),
        ("/api/log?for=x", "debug"),
        ("/api/log?for=0s", "debug"),
        ("/api/log?for=25h", "debug"),
    ] {
        let answer = put(&address, path, body);
        assert!(
            answer.starts_with("HTTP/1.1 400"),
            "{path} {body}: {answer}"
        );
    }
    let answer = put(&address, "/api/log", "default");
    assert!(
        answer.contains("\"overridden\":false,\"until\":null"),
        "{answer}"
    );
    let log = program.reload("word: fourth\n", "applied");
    assert!(log.contains("again") && !log.contains("details"), "{log}");
    // And by the settings.
    program.reload("word: fifth\nlog_level: info,program=debug\n", "applied");
    let log = program.reload("word: sixth\nlog_level: info,program=debug\n", "applied");
    assert!(log.contains("details"), "{log}");
    assert!(get(&address, "/api/log").contains("\"usual\":\"info,program=debug\""));
    program.end();
}

fn a_wrong_log_level_is_told_by_the_check() {
    let file = settings("log_level: debgu\n");
    let (code, _, stderr) = ended(&["--check", "-f", path(&file)]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("log_level: \"debgu\" is no level"),
        "{stderr}"
    );
}
