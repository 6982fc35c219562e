//! `tributary ready`: wait until programs say that they are ready.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep};

use super::plain;
use crate::tier::get;

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Who is asked, and for how long.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// `http_address`es. A name with several addresses stands for all of them.
    #[arg(required = true, value_name = "ADDRESS")]
    pub addresses: Vec<String>,
    /// How long to wait for all to be ready: `30s`, `2m`. `0s`: they are asked once.
    #[arg(long, default_value = "0s")]
    pub within: tributary_node::config::Duration,
}

/// What one program says.
struct Said {
    /// As it was given, and where that is.
    who: String,
    answer: io::Result<String>,
}

/// Asks until all are ready or the time is over, and prints what each said last. The exit code is 0 if all are.
pub async fn run(options: Options) -> ExitCode {
    let until = Instant::now() + options.within.get();
    loop {
        let said = ask_all(&options.addresses).await;
        let ready = said.iter().all(|said| said.answer.is_ok());
        if ready || Instant::now() + PAUSE > until {
            said.iter().for_each(Said::print);
            return match ready {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            };
        }
        sleep(PAUSE).await;
    }
}

async fn ask_all(addresses: &[String]) -> Vec<Said> {
    let mut said = Vec::new();
    for address in addresses {
        match resolve(address).await {
            Ok(found) => {
                for at in found {
                    let who = match address.parse::<SocketAddr>() {
                        Ok(_) => address.clone(),
                        Err(_) => format!("{address} ({at})"),
                    };
                    let answer = ask_one(&at.to_string()).await;
                    said.push(Said { who, answer });
                }
            }
            Err(error) => said.push(Said {
                who: address.clone(),
                answer: Err(error),
            }),
        }
    }
    said
}

/// All addresses of `host:port`, each once; at least one.
async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    let mut found: Vec<SocketAddr> = lookup_host(address).await?.collect();
    found.sort_unstable();
    found.dedup();
    match found.is_empty() {
        true => Err(io::Error::other("the name has no address")),
        false => Ok(found),
    }
}

async fn ask_one(address: &str) -> io::Result<String> {
    let answer = get(address, "/ready").await?;
    let text = plain(answer.text().trim());
    match answer.status.is_success() {
        true => Ok(text),
        false => Err(io::Error::other(format!("{}: {text}", answer.status))),
    }
}

impl Said {
    fn print(&self) {
        match &self.answer {
            Ok(text) => println!("{}: {text}", plain(&self.who)),
            Err(error) => eprintln!("{}: {error}", plain(&self.who)),
        }
    }
}
