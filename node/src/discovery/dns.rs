//! Endpoints from DNS: the addresses of a name, or its SRV records.
//!
//! What always holds:
//! - records are looked up again when the shortest of their times to live is over, at least a second after they were, and at the latest
//!   after the refresh interval;
//! - a look-up that fails or finds nothing changes nothing; where one of the two kinds of addresses, or the host of one SRV record, cannot
//!   be looked up, what was known of it stays;
//! - an SRV record's host is looked up here, so that its name need not mean anything to the system's own resolver.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::background::{self, Answers, Background};
use super::{Endpoint, Settings};
use crate::BoxError;

mod weights;

/// The shortest time between two look-ups, and the first pause after a failure.
const SHORTEST: Duration = Duration::from_secs(1);
/// All look-ups of one round together.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many hosts of SRV records are looked up at once.
const AT_ONCE: usize = 16;
const DNS_PORT: u16 = 53;

/// What is looked up.
#[derive(Debug, Clone)]
enum Question {
    Addresses { host: Name, port: u16 },
    Services(Name),
}

pub(super) fn check(settings: &Settings, wrong: &mut dyn FnMut(&str, &dyn fmt::Display)) {
    if let Err(error) = question(settings) {
        wrong("name", &error);
    }
    if let Err(error) = server(&settings.resolver) {
        wrong("resolver", &error);
    }
    if settings.refresh_interval.get() < SHORTEST {
        wrong("refresh_interval", &"must be at least 1s");
    }
}

fn question(settings: &Settings) -> Result<Question, String> {
    let given = settings.name.as_str();
    let name = |text: &str| match Name::from_utf8(text) {
        Ok(name) if !name.is_root() && !text.contains([' ', ':', '/']) => Ok(name),
        _ => Err(format!("{text:?} is no name that can be looked up")),
    };
    if settings.srv {
        return match given.contains(':') {
            true => Err(format!(
                "{given:?} has a port, an SRV record names its port itself"
            )),
            false => Ok(Question::Services(name(given)?)),
        };
    }
    let split = given.rsplit_once(':');
    let split = split.map(|(host, port)| (host, port.parse::<u16>().unwrap_or_default()));
    match split {
        Some((host, port @ 1..)) if host.parse::<IpAddr>().is_err() => Ok(Question::Addresses {
            host: name(host)?,
            port,
        }),
        Some((_, 1..)) => Err(format!(
            "{given:?} is an address, there is nothing to look up"
        )),
        _ => Err(format!(
            "{given:?} has no port, write it like globals.example.org:8128"
        )),
    }
}

/// The server to ask; none: those of the system.
fn server(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse::<SocketAddr>();
    let address = address.or_else(|_| text.parse().map(|ip: IpAddr| (ip, DNS_PORT).into()));
    match address {
        Ok(address) if address.port() != 0 => Ok(Some(address)),
        _ => Err(format!(
            "{text:?} is no DNS server's address, write it like 10.0.0.53 or 127.0.0.1:5353"
        )),
    }
}

fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, BoxError> {
    let mut builder = match server {
        None => TokioResolver::builder_tokio()?,
        Some(address) => {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            let provider = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config, provider);
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        }
    };
    // When to look again is decided here.
    builder.options_mut().cache_size = 0;
    Ok(builder.build()?)
}

/// Starts to look up.
///
/// # Errors
/// When the system's configuration of resolvers cannot be read.
pub(super) fn start(settings: &Settings) -> Result<Background, BoxError> {
    let question = question(settings)?;
    let server = server(&settings.resolver)?;
    let dns = Dns {
        question,
        server,
        resolver: resolver(server)?,
        known: Known::default(),
    };
    let refresh = settings.refresh_interval.get();
    Ok(background::start(&settings.name, |answers| {
        follow(dns, refresh, answers)
    }))
}

async fn follow(mut dns: Dns, refresh: Duration, mut answers: Answers) {
    let mut failures = 0;
    loop {
        let since = Instant::now();
        let found = tokio::time::timeout(PATIENCE, dns.look_up()).await;
        let pause = match found.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))) {
            Ok(found) => {
                failures = 0;
                for failure in found.failures {
                    answers.fail(failure).await;
                }
                answers.tell(found.endpoints, since).await;
                found.valid.clamp(SHORTEST, refresh)
            }
            Err(error) => {
                answers.fail(error).await;
                // The system may have gone over to other servers.
                if let Ok(resolver) = resolver(dns.server) {
                    dns.resolver = resolver;
                }
                let pause = SHORTEST * (1 << failures.min(5));
                failures += 1;
                pause.min(refresh)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// One family's addresses each: what the last look-up that had an answer said.
type Addresses = [Vec<IpAddr>; 2];

/// What was found of each host before.
type Known = HashMap<Name, Addresses>;

struct Dns {
    question: Question,
    server: Option<SocketAddr>,
    resolver: TokioResolver,
    known: Known,
}

/// What a round of look-ups found.
struct Found {
    endpoints: Vec<Endpoint>,
    /// Until the first of the records is out of date.
    valid: Duration,
    /// What could not be looked up, and is as it was.
    failures: Vec<String>,
}

impl Dns {
    async fn look_up(&mut self) -> Result<Found, String> {
        match self.question.clone() {
            Question::Addresses { host, port } => self.addresses(host, port).await,
            Question::Services(name) => self.services(name).await,
        }
    }

    async fn addresses(&mut self, host: Name, port: u16) -> Result<Found, String> {
        let told = look_up_host(&self.resolver, &host, self.known.get(&host)).await?;
        let addresses = told.addresses.iter().flatten();
        let endpoints = addresses.map(|ip| Endpoint::new(SocketAddr::new(*ip, port).to_string()));
        let found = Found {
            endpoints: endpoints.collect(),
            valid: told.valid,
            failures: told.failures,
        };
        self.known.insert(host, told.addresses);
        Ok(found)
    }

    async fn services(&mut self, name: Name) -> Result<Found, String> {
        let lookup = self.resolver.lookup(name.clone(), RecordType::SRV).await;
        let lookup = lookup.map_err(|error| told(&name, RecordType::SRV, &error))?;
        let mut valid = time_to_live(&lookup);
        let services: Vec<&SRV> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                // A root as host means that there is decidedly no such service (RFC 2782).
                RData::SRV(service) if !service.target.is_root() && service.port != 0 => {
                    Some(service)
                }
                _ => None,
            })
            .collect();
        let first = services.iter().map(|service| service.priority).min();
        let services: Vec<&SRV> = services
            .into_iter()
            .filter(|service| Some(service.priority) == first)
            .collect();
        let weights = weights::scaled(&services.iter().map(|s| s.weight).collect::<Vec<_>>());

        let mut hosts: Vec<Name> = services.iter().map(|s| s.target.clone()).collect();
        hosts.sort();
        hosts.dedup();
        let (resolver, before) = (&self.resolver, &self.known);
        let told: Vec<(Name, Result<Host, String>)> = stream::iter(hosts)
            .map(|host| async {
                let told = look_up_host(resolver, &host, before.get(&host)).await;
                (host, told)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut known = Known::default();
        let mut failures = Vec::new();
        for (host, told) in told {
            match told {
                Ok(told) => {
                    valid = valid.min(told.valid);
                    failures.extend(told.failures);
                    known.insert(host, told.addresses);
                }
                Err(error) => {
                    failures.push(error);
                    if let Some(before) = self.known.remove(&host) {
                        known.insert(host, before);
                    }
                }
            }
        }
        let mut endpoints = Vec::new();
        for (service, weight) in services.into_iter().zip(weights) {
            let [v4, v6] = known
                .get(&service.target)
                .map_or([&[][..]; 2], |addresses| {
                    addresses.each_ref().map(Vec::as_slice)
                });
            // The same instance by its other kind of address would be a second one.
            let addresses = if v4.is_empty() { v6 } else { v4 };
            endpoints.extend(addresses.iter().map(|ip| Endpoint {
                address: SocketAddr::new(*ip, service.port).to_string(),
                weight,
            }));
        }
        self.known = known;
        Ok(Found {
            endpoints,
            valid,
            failures,
        })
    }
}

/// What was found of one host; at least one address.
struct Host {
    addresses: Addresses,
    valid: Duration,
    failures: Vec<String>,
}

async fn look_up_host(
    resolver: &TokioResolver,
    host: &Name,
    before: Option<&Addresses>,
) -> Result<Host, String> {
    let kinds = [RecordType::A, RecordType::AAAA];
    let [v4, v6] = kinds.map(|kind| resolver.lookup(host.clone(), kind));
    let (v4, v6) = tokio::join!(v4, v6);
    let mut found = Host {
        addresses: Addresses::default(),
        valid: Duration::MAX,
        failures: Vec::new(),
    };
    let mut fresh = false;
    let mut none = None;
    for (index, (lookup, kind)) in [v4, v6].into_iter().zip(kinds).enumerate() {
        let Some(addresses) = found.addresses.get_mut(index) else {
            continue;
        };
        match lookup {
            Ok(lookup) => {
                found.valid = found.valid.min(time_to_live(&lookup));
                addresses.extend(
                    lookup
                        .answers()
                        .iter()
                        .filter_map(|record| record.data.ip_addr()),
                );
                fresh |= !addresses.is_empty();
            }
            Err(error) if says_none(&error) => none = Some(told(host, kind, &error)),
            Err(error) => {
                let before = before.and_then(|before| before.get(index));
                addresses.extend(before.into_iter().flatten());
                found.failures.push(told(host, kind, &error));
            }
        }
    }
    if fresh {
        return Ok(found);
    }
    // A server that fails says more than one that knows of nothing.
    let why = found.failures.into_iter().next().or(none);
    Err(why.unwrap_or_else(|| format!("{host} has no address")))
}

/// The shortest time to live of an answer's records.
fn time_to_live(lookup: &Lookup) -> Duration {
    let shortest = lookup.answers().iter().map(|record| record.ttl).min();
    Duration::from_secs(shortest.unwrap_or_default().into())
}

/// Whether the server knows that there is no such record, rather than failing to tell.
fn says_none(error: &NetError) -> bool {
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(none))
        if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError))
}

fn told(name: &Name, kind: RecordType, error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NoError => format!("{name} has no {kind} records"),
            code => format!("{name} {kind}: {code}"),
        },
        error => format!("{name} {kind}: {error}"),
    }
}

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
