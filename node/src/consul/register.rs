//! What a program is registered as: its settings, and what Consul is told of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Duration, Problems};

/// A program's entry in Consul.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Register {
    /// The service that this program registers itself as at Consul's agent once it is ready, such as `veneur-global`. It takes itself out first
    /// thing when it leaves. Empty: it does not register.
    pub service: String,
    /// Where others reach it, `host:port`. Empty: `grpc_address`, which must name one address then, not all of the host's.
    pub address: String,
    /// The entry's name at the agent, which no other may have. Empty: service, host name and port, such as `veneur-global-web1-8128`.
    pub id: String,
    /// Tags of the entry.
    pub tags: Vec<String>,
    /// Its share against the others': an instance of weight 2 gets twice as many keys. At least 1.
    pub weight: u16,
    /// Metadata of the entry.
    pub meta: BTreeMap<String, String>,
    /// How often it tells the agent that it is well. If it has not for three times as long, it is critical, and others leave it out. The agent
    /// need not reach it.
    pub check_interval: Duration,
    /// After so long as critical, Consul forgets it. At least `1m`. `0s`: never.
    pub deregister_after: Duration,
}

/// Why a program cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// There is neither an address to register nor one that is listened on.
    #[error("nothing listens for gRPC that could be registered, write where others reach it")]
    Nowhere,
    /// All of the host's addresses, which is none that others could be told.
    #[error("{0:?} is no address that others could reach, write one like 10.0.0.1:8128")]
    Unspecified(String),
    /// Not `host:port`.
    #[error("{0:?} is not an address, write it like 10.0.0.1:8128")]
    Malformed(String),
}

/// An entry as Consul is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub id: String,
    pub service: String,
    pub check: String,
    pub host: String,
    pub body: Value,
}

/// A program has missed this many beats before it is critical.
const MISSED: u32 = 3;

impl Default for Register {
    fn default() -> Self {
        Self {
            service: String::new(),
            address: String::new(),
            id: String::new(),
            tags: Vec::new(),
            weight: 1,
            meta: BTreeMap::new(),
            check_interval: Duration::seconds(5),
            deregister_after: Duration::seconds(600),
        }
    }
}

// === impl Register ===

impl Register {
    /// Whether there is something to register.
    pub fn is_wanted(&self) -> bool {
        !self.service.is_empty()
    }

    /// Adds what is wrong, below the key `consul_register`; `listens` is where the program takes gRPC, as it is configured.
    pub fn check(&self, listens: &str, problems: &mut Problems) {
        if !self.is_wanted() {
            return;
        }
        let key = |key: &str| format!("consul_register.{key}");
        if let Err(error) = self.host_and_port(listens) {
            problems.add(key("address"), error);
        }
        if self.weight == 0 {
            problems.add(key("weight"), "must be at least 1");
        }
        if self.check_interval < Duration::seconds(1) {
            problems.add(key("check_interval"), "must be at least 1s");
        }
        if !self.deregister_after.is_zero() && self.deregister_after < Duration::seconds(60) {
            problems.add(
                key("deregister_after"),
                "must be at least 1m, or 0s for never",
            );
        }
    }

    /// The host, without brackets, and the port that others are told.
    fn host_and_port(&self, listens: &str) -> Result<(String, u16), RegisterError> {
        let address = if self.address.is_empty() {
            listens
        } else {
            &self.address
        };
        if address.is_empty() {
            return Err(RegisterError::Nowhere);
        }
        let malformed = || RegisterError::Malformed(address.to_owned());
        let unspecified = || RegisterError::Unspecified(address.to_owned());
        if let Ok(address) = address.parse::<SocketAddr>() {
            return match address.ip() {
                ip if ip.is_unspecified() => Err(unspecified()),
                ip => Ok((ip.to_string(), address.port())),
            };
        }
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        if host.is_empty() {
            return Err(unspecified());
        }
        if host.contains([':', '/', '[', ' ']) {
            return Err(malformed());
        }
        Ok((host.to_owned(), port))
    }

    /// What Consul is told. `bound` is where the program takes gRPC, as the system says; `hostname` is this host's name.
    pub(super) fn entry(
        &self,
        listens: &str,
        bound: Option<SocketAddr>,
        hostname: &str,
    ) -> Result<Entry, RegisterError> {
        let (host, port) = self.host_and_port(listens)?;
        let port = match bound {
            Some(bound) if port == 0 => bound.port(),
            _ => port,
        };
        let service = self.service.clone();
        let id = match self.id.as_str() {
            "" => format!("{service}-{hostname}-{port}"),
            id => id.to_owned(),
        };
        let check = format!("service:{id}");
        let mut ttl = json!({
            "CheckID": check,
            "Name": "tells that it is ready",
            "TTL": milliseconds(self.check_interval.get() * MISSED),
            "Status": "passing",
        });
        if let (false, Some(ttl)) = (self.deregister_after.is_zero(), ttl.as_object_mut()) {
            let after = milliseconds(self.deregister_after.get());
            ttl.insert("DeregisterCriticalServiceAfter".to_owned(), after.into());
        }
        let body = json!({
            "ID": id,
            "Name": service,
            "Address": host,
            "Port": port,
            "Tags": self.tags,
            "Meta": self.meta,
            "Weights": {"Passing": self.weight, "Warning": 1},
            "Check": ttl,
        });
        Ok(Entry {
            id,
            service,
            check,
            host,
            body,
        })
    }
}

// === impl Entry ===

impl Entry {
    /// Whether nobody but this host can reach it.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

fn milliseconds(time: std::time::Duration) -> String {
    format!("{}ms", time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(address: &str) -> Register {
        Register {
            service: "globals".to_owned(),
            address: address.to_owned(),
            ..Register::default()
        }
    }

    fn problems(register: &Register, listens: &str) -> String {
        let mut problems = Problems::new("settings");
        register.check(listens, &mut problems);
        problems.to_string()
    }

    #[test]
    fn what_listens_is_registered_unless_an_address_is_given() {
        for (given, listens, host, port) in [
            ("", "10.0.0.1:8128", "10.0.0.1", 8128),
            ("", "[fd00::1]:8128", "fd00::1", 8128),
            ("", "web1:8128", "web1", 8128),
            ("", "127.0.0.1:0", "127.0.0.1", 4444),
            ("web1.example:1", "0.0.0.0:8128", "web1.example", 1),
        ] {
            let bound = Some(SocketAddr::from(([127, 0, 0, 1], 4444)));
            let entry = register(given)
                .entry(listens, bound, "me")
                .expect("an entry");
            assert_eq!(entry.body["Address"], host);
            assert_eq!(entry.body["Port"], port);
            assert_eq!(entry.id, format!("globals-me-{port}"));
            assert_eq!(entry.is_loopback(), host == "127.0.0.1");
        }
    }

    #[test]
    fn an_address_that_nobody_could_reach_is_refused() {
        for listens in ["0.0.0.0:8128", "[::]:8128", ":8128"] {
            let told = problems(&register(""), listens);
            assert!(told.contains("consul_register.address: "), "{told}");
            assert!(
                told.contains("no address that others could reach"),
                "{told}"
            );
        }
        assert!(problems(&register(""), "").contains("nothing listens for gRPC"));
        for odd in ["http://a:1", "a", "a:x", "a:70000", "[::1:1"] {
            let told = problems(&register(odd), "10.0.0.1:1");
            assert!(told.contains("is not an address"), "{odd}: {told}");
        }
    }

    #[test]
    fn what_consul_would_refuse_is_told_at_once() {
        let odd = Register {
            weight: 0,
            check_interval: Duration::ZERO,
            deregister_after: Duration::seconds(59),
            ..register("a:1")
        };
        let told = problems(&odd, "");
        for key in ["weight", "check_interval", "deregister_after"] {
            assert!(told.contains(&format!("consul_register.{key}: ")), "{told}");
        }
        let unwanted = Register {
            service: String::new(),
            ..odd
        };
        let mut none = Problems::new("settings");
        unwanted.check("", &mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn the_entry_says_all_that_is_configured() {
        let register = Register {
            id: "one".to_owned(),
            tags: vec!["blue".to_owned()],
            weight: 3,
            meta: [("rack".to_owned(), "r1".to_owned())].into(),
            ..register("a:1")
        };
        let expected = json!({"ID": "one", "Name": "globals", "Address": "a", "Port": 1, "Tags": ["blue"], "Meta": {"rack": "r1"},
            "Weights": {"Passing": 3, "Warning": 1},
            "Check": {"CheckID": "service:one", "Name": "tells that it is ready", "TTL": "15000ms", "Status": "passing",
                "DeregisterCriticalServiceAfter": "600000ms"}});
        assert_eq!(
            register.entry("", None, "me").expect("an entry").body,
            expected
        );
        let never = Register {
            deregister_after: Duration::ZERO,
            ..register
        };
        let body = never.entry("", None, "me").expect("an entry").body;
        assert!(
            body["Check"]
                .get("DeregisterCriticalServiceAfter")
                .is_none()
        );
    }
}
