//! `tributary audit`: adds up the ledgers of a fleet and prints what is unaccounted for.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the audit's results are its standard output"
)]

use std::io;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::tier::{Aggregator, Proxy, get};

/// Whose ledgers are read: the programs' `http_address`es, separated by commas.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// `host:port` of the agents.
    #[arg(long, value_delimiter = ',', required = true)]
    pub agents: Vec<String>,
    /// `host:port` of the proxies.
    #[arg(long, value_delimiter = ',')]
    pub proxies: Vec<String>,
    /// `host:port` of the globals.
    #[arg(long, value_delimiter = ',', required = true)]
    pub globals: Vec<String>,
}

impl Options {
    /// A fleet that was started here.
    pub fn of<'a>(
        agents: &[Aggregator],
        proxies: &[Proxy],
        globals: impl IntoIterator<Item = &'a Aggregator>,
    ) -> Self {
        Self {
            agents: agents.iter().map(|agent| agent.http.clone()).collect(),
            proxies: proxies.iter().map(|proxy| proxy.http.clone()).collect(),
            globals: globals
                .into_iter()
                .map(|global| global.http.clone())
                .collect(),
        }
    }
}

/// The sum over a fleet, in metrics, each process counting from its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Handed to forwarding by the agents.
    pub handed: u64,
    /// Given up by the agents, with a cause.
    pub lost_at_agents: u64,
    /// Kept by the agents for another attempt, or on its way.
    pub waiting: u64,
    /// Skipped by the proxies because it could not be routed.
    pub skipped_at_proxies: u64,
    /// Merged by the globals.
    pub merged: u64,
    /// Refused by the globals as malformed.
    pub refused_at_globals: u64,
}

impl Account {
    /// What is unaccounted for; negative: counted twice. While metrics are on their way they may count as waiting and as merged.
    pub fn residue(&self) -> i128 {
        i128::from(self.handed)
            - i128::from(self.lost_at_agents)
            - i128::from(self.waiting)
            - i128::from(self.skipped_at_proxies)
            - i128::from(self.merged)
            - i128::from(self.refused_at_globals)
    }
}

/// Reads the ledgers and adds them up.
///
/// # Errors
/// If one does not answer, or with something else than a ledger.
pub async fn add_up(options: &Options) -> io::Result<Account> {
    let mut account = Account::default();
    for address in &options.agents {
        let ledger = read(address).await?;
        let forward = &ledger["forward"];
        account.handed += number(address, &forward["handed"])?;
        account.waiting += number(address, &forward["waiting"])?;
        account.lost_at_agents += sum(&forward["lost"]);
    }
    for address in &options.proxies {
        account.skipped_at_proxies += sum(&read(address).await?["totals"]["skipped"]);
    }
    for address in &options.globals {
        let ledger = read(address).await?;
        account.merged += number(address, &ledger["totals"]["imported"])?;
        account.refused_at_globals += number(address, &ledger["totals"]["imports_refused"])?;
    }
    Ok(account)
}

async fn read(address: &str) -> io::Result<Value> {
    let answer = get(address, "/api/ledger").await?;
    if !answer.status.is_success() {
        return Err(io::Error::other(format!(
            "{address} answers {}",
            answer.status
        )));
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| io::Error::other(format!("{address}: not a ledger: {error}")))
}

fn number(address: &str, value: &Value) -> io::Result<u64> {
    value
        .as_u64()
        .ok_or_else(|| io::Error::other(format!("{address}: its ledger lacks a number")))
}

/// Over all causes.
fn sum(causes: &Value) -> u64 {
    match causes {
        Value::Object(causes) => causes.values().filter_map(Value::as_u64).sum(),
        other => other.as_u64().unwrap_or_default(),
    }
}

/// Prints the account. Exit code 0 only if nothing is unaccounted for.
pub async fn run(options: Options) -> ExitCode {
    let account = match add_up(&options).await {
        Ok(account) => account,
        Err(error) => {
            eprintln!("tributary: {error}");
            return ExitCode::FAILURE;
        }
    };
    let rows = [
        ("handed to forwarding by the agents", account.handed),
        ("  lost at the agents, by cause", account.lost_at_agents),
        ("  waiting at the agents", account.waiting),
        ("  skipped by the proxies", account.skipped_at_proxies),
        ("  merged by the globals", account.merged),
        ("  refused by the globals", account.refused_at_globals),
    ];
    for (what, count) in rows {
        println!("{what:<40} {count:>14}");
    }
    println!("{:<40} {:>14}", "residue", account.residue());
    if account.residue() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_that_is_nowhere_is_the_residue() {
        let account = Account {
            handed: 10,
            lost_at_agents: 1,
            waiting: 2,
            merged: 6,
            ..Account::default()
        };
        assert_eq!(account.residue(), 1);
    }
}
