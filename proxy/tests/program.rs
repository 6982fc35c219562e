//! The program as people run it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tributary-proxy");

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Runs the program to its end.
fn run(arguments: &[&str], settings: &str, input: &str) -> Output {
    let file = file(settings);
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .arg("-f")
        .arg(file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn owner_prints_one_destination_a_line_in_the_order_of_the_input() {
    let settings = "{ring: {algorithm: veneur}, forward_addresses: ['10.0.0.1:8128', '10.0.0.2:8128', \
                    '10.0.0.3:8128', '10.0.0.4:8128', '10.0.0.5:8128']}";
    let input = "api.requests|counter|service:api,env:prod\napi.latency|ms|env:prod,service:api\nusers.unique|set|\n";
    let output = run(&["owner"], settings, input);
    assert_eq!(
        text(&output.stdout),
        "10.0.0.5:8128\n10.0.0.3:8128\n10.0.0.2:8128\n"
    );
    assert!(output.status.success());

    let output = run(&["owner"], settings, "bad line\nfoo|g|\n");
    assert_eq!(text(&output.stdout), "\n10.0.0.3:8128\n");
    assert!(text(&output.stderr).contains("line 1 "));
    assert_eq!(output.status.code(), Some(1));

    let output = run(&["owner"], "{}", "foo|g|\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no destination is known"));
}

#[test]
fn check_tells_every_problem_and_starts_nothing() {
    let output = run(&["--check"], "{forward_adress: a, grpc_address: x}", "");
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.contains("forward_address") && told.contains("grpc_address"),
        "{told}"
    );
    let output = run(&["--check"], "{forward_address: '127.0.0.1:1'}", "");
    assert!(output.status.success());
}

#[test]
fn it_starts_without_destinations_and_ends_well_when_told_to() {
    let file = file("{grpc_address: '127.0.0.1:0', http_address: '127.0.0.1:0'}");
    let mut child = Command::new(PROGRAM)
        .arg("-f")
        .arg(file.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    // The reading ends with the process, should these lines never come.
    assert!(lines.any(|line| line.contains("names no destination")));
    let told = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(told.success());
    for _ in lines {}
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A proxy that runs until it is told to end.
struct Program {
    child: Child,
    file: tempfile::NamedTempFile,
    log: Arc<Mutex<String>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(settings: &str) -> Self {
        Self::start_with(&[], settings)
    }

    fn start_with(arguments: &[&str], settings: &str) -> Self {
        let file = file(settings);
        let mut child = Command::new(PROGRAM)
            .args(arguments)
            .arg("-f")
            .arg(file.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<String>>::default();
        let (written, lines) = (log.clone(), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                written.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        Self { child, file, log }
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn until<T>(&self, mut found: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, name: &str) {
        let told = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status();
        assert!(told.unwrap().success());
    }

    /// Writes the settings anew, sends SIGHUP, and waits until the log says `outcome` once more.
    fn reload(&self, settings: &str, outcome: &str) {
        let before = self.log().matches(outcome).count();
        std::fs::write(self.file.path(), settings).unwrap();
        self.signal("-HUP");
        self.until(|| (self.log().matches(outcome).count() > before).then_some(()));
    }

    /// The body of an admin page.
    fn get(&self, path: &str) -> serde_json::Value {
        let address = self.until(|| {
            let log = self.log();
            let line = log
                .lines()
                .find(|line| line.contains("admin server listens"))?;
            let at = line.find("127.0.0.1:")?;
            let end = |c: char| !(c.is_ascii_digit() || c == '.' || c == ':');
            line[at..].split(end).next().map(str::to_owned)
        });
        let mut socket = TcpStream::connect(address).unwrap();
        write!(socket, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_default()
    }

    fn members(&self) -> Vec<String> {
        serde_json::from_value(self.get("/api/ring")["members"].clone()).unwrap()
    }

    fn until_members(&self, expected: &[&str]) {
        self.until(|| (self.members() == expected).then_some(()));
    }
}

/// Settings for free ports, with these destinations and more.
fn settings(destinations: &str, more: &str) -> String {
    format!(
        "{{grpc_address: '127.0.0.1:0', http_address: '127.0.0.1:0', interval: 100ms, \
         forward_addresses: [{destinations}], {more}}}"
    )
}

#[test]
fn destinations_come_and_go_when_the_settings_are_read_again() {
    let program = Program::start(&settings("'127.0.0.1:1'", "debug: false"));
    program.until_members(&["127.0.0.1:1"]);

    program.reload(
        &settings("'127.0.0.1:1', '127.0.0.1:2'", "debug: false"),
        "settings read again and applied",
    );
    // It joins at the next boundary of intervals.
    program.until_members(&["127.0.0.1:1", "127.0.0.1:2"]);

    program.reload(
        &settings(
            "'127.0.0.1:2'",
            "shutdown_timeout: 5s, queue: {per_destination: 1MiB}",
        ),
        "settings read again and applied",
    );
    program.until_members(&["127.0.0.1:2"]);

    program.signal("-TERM");
    let mut program = program;
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_weight_changes_the_ring_when_the_settings_are_read_again() {
    let program = Program::start(&settings(
        "'127.0.0.1:1', {address: '127.0.0.1:2', weight: 3}",
        "debug: false",
    ));
    program.until_members(&["127.0.0.1:1", "127.0.0.1:2"]);
    let ring = program.get("/api/ring");
    assert_eq!(ring["weights"], serde_json::json!([1, 3]));
    let generation = ring["generation"].as_u64().unwrap();

    program.reload(
        &settings(
            "'127.0.0.1:1', {address: '127.0.0.1:2', weight: 0}",
            "debug: false",
        ),
        "settings read again and applied",
    );
    // It counts from the next boundary of intervals on.
    let ring = program.until(|| {
        let ring = program.get("/api/ring");
        (ring["weights"] == serde_json::json!([1, 0])).then_some(ring)
    });
    assert_eq!(ring["generation"].as_u64(), Some(generation + 1));
    assert!(program.log().contains("127.0.0.1:2 (weight 0)"));

    program.reload(
        &settings("{address: '127.0.0.1:2', weight: 0}", "debug: false"),
        "settings refused, going on as before",
    );
    assert!(
        program
            .log()
            .contains("at least one global must have a weight above 0")
    );
    let mut program = program;
    program.signal("-TERM");
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
}

#[test]
fn settings_that_are_wrong_or_name_nobody_change_nothing() {
    let right = settings("'127.0.0.1:1', '127.0.0.1:2'", "debug: false");
    let program = Program::start(&right);
    let both = ["127.0.0.1:1", "127.0.0.1:2"];
    program.until_members(&both);
    let (ring, config) = (program.get("/api/ring"), program.get("/config"));

    program.reload(
        &settings("'127.0.0.1:3', nowhere", "ack_timeout: 1s"),
        "settings refused, going on as before",
    );
    assert!(program.log().contains("\"nowhere\" is no address"));
    program.reload("{", "settings refused, going on as before");
    program.reload(
        &settings("", "ack_timeout: 1s"),
        "settings cannot be applied, going on as before",
    );
    program.reload(&right, "settings read again, nothing to change");
    assert_eq!(program.members(), both);
    assert_eq!(program.get("/api/ring")["generation"], ring["generation"]);
    assert_eq!(program.get("/config"), config);
}

#[test]
fn what_needs_a_restart_is_said_and_the_rest_is_taken_over() {
    let program = Program::start(&settings("'127.0.0.1:1'", "debug: false"));
    program.until_members(&["127.0.0.1:1"]);
    let generation = program.get("/api/ring")["generation"].as_u64().unwrap();
    program.reload(
        &settings(
            "'127.0.0.1:1'",
            "ring: {algorithm: veneur}, ignore_tags: [{kind: prefix, value: 'host:'}]",
        ),
        "settings read again and applied",
    );
    let log = program.log();
    let restart = log.lines().filter(|line| line.contains("needs a restart"));
    let restart: Vec<&str> = restart.collect();
    assert!(restart.len() == 1 && restart[0].contains("ring"), "{log}");
    // Other keys belong to the destinations from now on.
    let ring = program.get("/api/ring");
    assert_eq!(ring["generation"], generation + 1);
    assert_eq!(ring["algorithm"], "hashring");
}

#[test]
fn a_file_that_changes_is_read_again_with_watch_and_not_without() {
    let settings = |global: &str| {
        format!("{{http_address: '127.0.0.1:0', interval: 1s, forward_addresses: ['{global}']}}")
    };
    let (one, two) = ("127.0.0.1:1", "127.0.0.1:2");
    let watching = Program::start_with(&["--watch"], &settings(one));
    let plain = Program::start(&settings(one));
    for program in [&watching, &plain] {
        program.until_members(&[one]);
    }
    std::fs::write(watching.file.path(), "forward_addresses: [").unwrap();
    watching.until(|| watching.log().contains("settings refused").then_some(()));
    for program in [&watching, &plain] {
        std::fs::write(program.file.path(), settings(two)).unwrap();
    }
    watching.until_members(&[two]);
    assert_eq!(plain.members(), [one]);
    let without_a_file = Command::new(PROGRAM).arg("--watch").output().unwrap();
    assert_eq!(without_a_file.status.code(), Some(2));
}
