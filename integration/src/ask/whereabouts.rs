//! `tributary where`: which global owns a series, and what is known of it there.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{ago, ask, count, list, plain, text};

/// Which series, and who is asked.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The metric's name, as it is sent: without the suffix of a percentile.
    pub name: String,
    /// `counter`, `gauge`, `histogram`, `timer` or `set`. Without it, all of them.
    #[arg(long = "type", value_parser = ["counter", "gauge", "histogram", "timer", "set"])]
    pub kind: Option<String>,
    /// A tag, as `key:value`. All tags of the series have to be given: they are part of its key. Tags that name a scope are none.
    #[arg(long = "tag")]
    pub tags: Vec<String>,
    /// `http_address` of a proxy.
    #[arg(long)]
    pub proxy: String,
    /// `http_address`es of the globals, separated by commas. Each says which gRPC address it has, and so which of the proxy's destinations it
    /// is. Those that are none of the owners are not asked for the series, unless no owner is among them.
    #[arg(long, value_delimiter = ',')]
    pub globals: Vec<String>,
    /// Wait until the series has come in once, for three intervals at most: a global knows it only from the first question on.
    #[arg(long)]
    pub wait: bool,
    /// Print the answers as JSON, as docs/api.md describes them.
    #[arg(long)]
    pub json: bool,
}

/// A global, as it describes itself.
#[derive(Debug)]
struct Global {
    /// Its admin server.
    http: String,
    status: Value,
}

/// Asks, prints, and gives 0 if a global has seen the series since it watches it, or if only the owner was asked for.
pub async fn run(options: Options) -> ExitCode {
    match find(&options).await {
        Ok(found) => {
            if options.json {
                println!("{found:#}");
            } else {
                print!("{}", report(&options, &found));
            }
            let globals = list(&found["globals"]);
            let seen = globals
                .iter()
                .any(|global| !list(&global["series"]).is_empty());
            match seen || options.globals.is_empty() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("tributary: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The proxy's answer as `ring`, and those of the globals as `globals`.
///
/// # Errors
/// If the proxy or a global that owns the series does not answer.
pub async fn find(options: &Options) -> io::Result<Value> {
    let query = query(options);
    let ring = ask(&options.proxy, &format!("/api/owner?{query}")).await?;
    let owners: Vec<&str> = list(&ring["owners"])
        .iter()
        .filter_map(|owner| owner["owner"].as_str())
        .collect();
    let mut globals = Vec::new();
    let mut unreachable = Vec::new();
    for address in &options.globals {
        match ask(address, "/api/status").await {
            Ok(status) => globals.push(Global {
                http: address.clone(),
                status,
            }),
            // The owner may be another.
            Err(error) => unreachable.push(error.to_string()),
        }
    }
    let any_owner = globals
        .iter()
        .any(|global| owners.iter().any(|owner| global.is_at(owner)));
    globals.retain(|global| !any_owner || owners.iter().any(|owner| global.is_at(owner)));
    let mut answers = Vec::new();
    for global in &globals {
        answers.push(json!({"address": global.http, "is_owner": any_owner, "interval": global.status["interval"]}));
    }
    let longest = globals
        .iter()
        .filter_map(|global| global.status["interval"].as_f64())
        .fold(1.0, f64::max);
    let deadline =
        Instant::now() + Duration::from_secs_f64((longest * 3.0).clamp(1.0, 3600.0) + 5.0);
    let path = format!("/api/series?{query}");
    loop {
        let mut seen = false;
        for answer in &mut answers {
            let address = answer["address"].as_str().unwrap_or_default();
            let told = ask(address, &path).await?;
            seen |= !list(&told["series"]).is_empty();
            if let (Value::Object(answer), Value::Object(told)) = (answer, told) {
                answer.extend(told);
            }
        }
        if seen || !options.wait || answers.is_empty() || Instant::now() > deadline {
            break;
        }
        sleep(Duration::from_millis(500)).await;
    }
    Ok(json!({"ring": ring, "globals": answers, "unreachable": unreachable}))
}

impl Global {
    /// Whether it takes gRPC at this address. One that listens on all of its host's addresses has the host of its admin server.
    fn is_at(&self, address: &str) -> bool {
        let Some(grpc) = self.status["grpc_address"].as_str() else {
            return false;
        };
        let address = address.rsplit('/').next().unwrap_or(address);
        let parts = |address: &str| {
            let (host, port) = address.rsplit_once(':')?;
            Some((host.to_owned(), port.to_owned()))
        };
        let (Some(own), Some(asked)) = (parts(grpc), parts(address)) else {
            return false;
        };
        let host = match own.0.as_str() {
            "" | "0.0.0.0" | "[::]" => parts(&self.http).map(|(host, _)| host).unwrap_or_default(),
            host => host.to_owned(),
        };
        host == asked.0 && own.1 == asked.1
    }
}

fn query(options: &Options) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("name", &options.name);
    if let Some(kind) = &options.kind {
        query.append_pair("type", kind);
    }
    for tag in &options.tags {
        query.append_pair("tag", tag);
    }
    query.finish()
}

fn report(options: &Options, found: &Value) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", text.trim_end());
    };
    let ring = &found["ring"];
    line(format!(
        "{} {}",
        plain(&options.name),
        plain(&options.tags.join(","))
    ));
    line(format!(
        "ring generation {} ({}), as {} has it",
        count(&ring["generation"]),
        text(&ring["algorithm"]),
        options.proxy
    ));
    for owner in list(&ring["owners"]) {
        let state = match &owner["destination"] {
            Value::Null => String::new(),
            destination => match destination["unavailable"].as_str() {
                Some(cause) => format!(", unavailable: {cause}"),
                None if destination["connected"] == true => format!(
                    ", connected, {} metrics queued",
                    count(&destination["queued_metrics"])
                ),
                None => ", not connected".to_owned(),
            },
        };
        let next = match owner["next"].as_str() {
            Some(next) if owner["owner"] != next => format!("; next: {}", plain(next)),
            _ => String::new(),
        };
        let address = owner["owner"].as_str().map_or("nobody".to_owned(), plain);
        line(format!(
            "  {:<10} {address}{state}{next}",
            text(&owner["type"])
        ));
    }
    for error in list(&found["unreachable"]) {
        line(format!("not reached: {}", text(error)));
    }
    let globals = list(&found["globals"]);
    if globals.is_empty() {
        line("give --globals host:port,… to ask the owner itself".to_owned());
    }
    for global in globals {
        line(String::new());
        let which = match global["is_owner"] == true {
            true => "owner",
            false => "none of the owners (its grpc_address is another)",
        };
        line(format!(
            "{} at {}, {which}",
            text(&global["hostname"]),
            text(&global["address"])
        ));
        let series = list(&global["series"]);
        if series.is_empty() {
            line(match count(&global["flushes"]) {
                0 => "  watched from now on: ask again after the next flush, or with --wait"
                    .to_owned(),
                flushes => {
                    format!("  has not come in: not in the last {flushes} flushes, with these tags")
                }
            });
        }
        for one in series {
            told_of(one, &mut line);
        }
        if !series.is_empty() {
            line("  sinks".to_owned());
            for sink in list(&global["sinks"]) {
                line(format!("    {}", sink_state(sink, series)));
            }
        }
    }
    out
}

/// One series at one global.
fn told_of(series: &Value, line: &mut impl FnMut(String)) {
    let now = now();
    line(format!(
        "  {} ({} scope)",
        text(&series["type"]),
        text(&series["scope"])
    ));
    let arrived = match series["last_import"].as_u64() {
        Some(at) => ago(at, now),
        None => format!(
            "in the interval of {}",
            ago(count(&series["timestamp"]) * 1000, now)
        ),
    };
    let unstamped = match count(&series["unstamped"]) {
        0 => String::new(),
        some => format!(", {some} metrics without a sender"),
    };
    line(format!(
        "    last in   {arrived}: {} merged in one interval, from {} agents{unstamped}",
        count(&series["merged"]),
        count(&series["origins"])
    ));
    line(format!(
        "    emitted   {}",
        ago(count(&series["timestamp"]) * 1000, now)
    ));
    for point in list(&series["points"]) {
        line(format!(
            "      {:<44} {:<8} {}",
            text(&point["name"]),
            text(&point["type"]),
            point["value"]
        ));
    }
}

fn sink_state(sink: &Value, series: &[Value]) -> String {
    let now = now();
    let (mut given, mut withheld) = (0, Vec::new());
    for verdict in series.iter().flat_map(|one| list(&one["sinks"])) {
        if verdict["sink"] == sink["name"] {
            given += count(&verdict["given"]);
            let held = verdict["withheld"].as_object().into_iter().flatten();
            withheld.extend(held.map(|(why, points)| format!("{why} {points}")));
        }
    }
    let mut state = format!("{}: gets {given} points", text(&sink["name"]));
    if !withheld.is_empty() {
        state += &format!(", not {}", withheld.join(", "));
    }
    state += &match sink["last_success"].as_u64() {
        Some(at) => format!("; last written {}", ago(at, now)),
        None => "; has written nothing yet".to_owned(),
    };
    state += &format!("; {} queued", count(&sink["queued"]));
    if let Some(at) = sink["last_error"]["at"].as_u64() {
        state += &format!(
            "; last error {}: {}",
            ago(at, now),
            text(&sink["last_error"]["message"])
        );
    }
    state
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_global_that_listens_everywhere_is_where_its_admin_server_is() {
        let global = |grpc: &str| Global {
            http: "10.0.0.11:8127".to_owned(),
            status: json!({"grpc_address": grpc}),
        };
        for (grpc, owner, is) in [
            ("0.0.0.0:8128", "10.0.0.11:8128", true),
            (":8128", "10.0.0.11:8128", true),
            ("0.0.0.0:8128", "10.0.0.12:8128", false),
            ("0.0.0.0:8128", "10.0.0.11:8129", false),
            ("10.0.0.11:8128", "10.0.0.11:8128", true),
            ("10.1.0.11:8128", "10.0.0.11:8128", false),
            ("", "10.0.0.11:8128", false),
        ] {
            assert_eq!(global(grpc).is_at(owner), is, "{grpc} {owner}");
        }
    }
}
