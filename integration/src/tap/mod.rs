//! `tributary tap`: shows live metrics that pass a running program.

mod show;

use std::io::{self, Write};
use std::process::ExitCode;

use bytes::{Buf, Bytes, BytesMut};
use clap::Args;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tributary_node::tap::{Filter, Rate};

/// Where to listen, and what for.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// `host:port` of the program's `http_address`: a proxy's shows where each metric is sent, an aggregator's the samples and imports that
    /// come in.
    pub address: String,
    /// Which metrics: words that must all hold. `name:exact`, `name~regex`, `type:counter`, `tag:value`, `tag~regex`, and `-word` for those for
    /// which it does not hold (write `--` in front of all words if the first one begins so). Without any: all.
    #[arg(value_name = "WORD")]
    pub filter: Vec<String>,
    /// How many metrics are shown at most, in a second (`50/s`) or a minute (`10/m`). What is left out is counted.
    #[arg(long, default_value = "50/s")]
    pub rate: String,
    /// End after so many metrics.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Show each line as it comes, a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Shows metrics until the program ends, the limit is reached or nobody reads. 1 where there is nothing to be shown.
pub async fn run(options: Options) -> ExitCode {
    match follow(&options, io::stdout()).await {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has seen enough: `tributary tap … | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn follow(options: &Options, mut output: impl Write) -> io::Result<()> {
    let filter = options.filter.join(" ");
    // What is wrong is told the same way whoever looks first.
    let wrong = |error: String| io::Error::new(io::ErrorKind::InvalidInput, error);
    filter
        .parse::<Filter>()
        .map_err(|error| wrong(error.to_string()))?;
    options
        .rate
        .parse::<Rate>()
        .map_err(|error| wrong(error.to_string()))?;
    let path = format!(
        "/api/tap?filter={}&rate={}",
        encoded(&filter),
        encoded(&options.rate)
    );
    let mut body = open(&options.address, &path).await?;
    let mut left = options.limit.unwrap_or(u64::MAX);
    let mut buffer = BytesMut::new();
    while left > 0 {
        let Some(frame) = body.frame().await else {
            complain(&format!("{} has ended the tap", options.address));
            break;
        };
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            buffer.extend_from_slice(&data);
        }
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(end);
            buffer.advance(1);
            let shown: Value = serde_json::from_slice(&line)
                .map_err(|error| io::Error::other(format!("not a line of a tap: {error}")))?;
            if options.json {
                output.write_all(&line)?;
                output.write_all(b"\n")?;
            }
            match shown.get("tap") {
                Some(status) if !options.json => {
                    show::left_out(status).as_deref().map_or((), complain)
                }
                Some(_) => {}
                None => {
                    if !options.json {
                        writeln!(output, "{}", show::metric(&shown))?;
                    }
                    left -= 1;
                    if left == 0 {
                        break;
                    }
                }
            }
        }
        output.flush()?;
    }
    Ok(())
}

async fn open(address: &str, path: &str) -> io::Result<Incoming> {
    let address = address.strip_prefix("http://").unwrap_or(address);
    let address = address.trim_end_matches('/');
    let told = |error: &dyn std::fmt::Display| io::Error::other(format!("{address}: {error}"));
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| told(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| told(&error))?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(http::header::HOST, address)
        .body(Empty::<Bytes>::new())
        .map_err(|error| told(&error))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| told(&error))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer.into_body());
    }
    let body = answer
        .into_body()
        .collect()
        .await
        .map_err(|error| told(&error))?;
    let reason = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Err(told(&format!("{status} {}", reason.trim_end())))
}

/// For a query: everything but letters and digits.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn complain(text: &str) {
    // Nobody is left to tell when even that fails.
    let _ = writeln!(io::stderr(), "tributary tap: {text}");
}
