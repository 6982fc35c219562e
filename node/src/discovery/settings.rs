//! Which source names those to forward to: the settings that both programs share under the key `forward_discovery`.
//!
//! One struct for all kinds, since environment variables and the manual know keys by their path; a key that another kind has is refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Discovery;
use super::{dns, file, kubernetes};
use crate::BoxError;
use crate::config::{Duration, Problems};

/// Where those to forward to are found, instead of naming them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// What names them.
    pub kind: Kind,
    /// For `dns`: `host:port`, each of whose A and AAAA records is one to forward to; with `srv`, the name of SRV records, for instance
    /// `_grpc._tcp.globals.example.org`. A name with a dot is looked up as it is before the system's search domains are tried; end it
    /// with a dot to leave them out.
    pub name: String,
    /// For `dns`: look up SRV records, which have a port and a weight each. Only those of the lowest priority count.
    pub srv: bool,
    /// For `dns`: the DNS server to ask, an IP address with or without a port. Empty: those of `/etc/resolv.conf`.
    pub resolver: String,
    /// For `dns`: the longest time between two look-ups. A record's own time to live counts where it is shorter, down to 1s.
    pub refresh_interval: Duration,
    /// For `file`: a YAML or JSON file with a list of `host:port`, or of `{address: host:port, weight: 2}`. It is looked at every second.
    pub path: String,
    /// For `kubernetes`: the namespace of the service. Empty: the pod's own, or that of the kubeconfig's context.
    pub namespace: String,
    /// For `kubernetes`: the service whose ready endpoints are the ones to forward to.
    pub service: String,
    /// For `kubernetes`: the name of the service's port. May be empty where the port has no name.
    pub port: String,
    /// For `kubernetes`: a kubeconfig file that says how to reach the cluster. Empty: the pod's own account, if it runs in one.
    pub kubeconfig: String,
    /// For `kubernetes`: the API server's address, for instance `http://127.0.0.1:8001` behind `kubectl proxy`. Nothing but this address is
    /// used then, no account and no certificate.
    pub api: String,
}

/// What names those to forward to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Other keys do.
    #[default]
    None,
    /// Records in DNS.
    Dns,
    /// A file that is watched.
    File,
    /// The EndpointSlices of a service in Kubernetes.
    Kubernetes,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kind: Kind::None,
            name: String::new(),
            srv: false,
            resolver: String::new(),
            refresh_interval: Duration::seconds(30),
            path: String::new(),
            namespace: String::new(),
            service: String::new(),
            port: String::new(),
            kubeconfig: String::new(),
            api: String::new(),
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Dns => "dns",
            Self::File => "file",
            Self::Kubernetes => "kubernetes",
        }
    }
}

impl Settings {
    /// Whether they name a source.
    pub fn is_given(&self) -> bool {
        self.kind != Kind::None
    }

    /// Adds what is wrong with them; `key` is where they stand in the configuration.
    pub fn check(&self, key: &str, problems: &mut Problems) {
        for (name, kind) in self.given() {
            if kind != self.kind {
                let what = format!(
                    "is for kind {}, and the kind is {}",
                    kind.name(),
                    self.kind.name()
                );
                problems.add(format!("{key}.{name}"), what);
            }
        }
        let mut wrong =
            |name: &str, what: &dyn std::fmt::Display| problems.add(format!("{key}.{name}"), what);
        match self.kind {
            Kind::None => {}
            Kind::Dns => dns::check(self, &mut wrong),
            Kind::File => file::check(self, &mut wrong),
            Kind::Kubernetes => kubernetes::check(self, &mut wrong),
        }
    }

    /// Starts to look, until what it returns is dropped.
    ///
    /// # Errors
    /// When there is no source, or it cannot even begin: [`Settings::check`] would tell, or the system's own configuration is broken.
    pub fn build(&self) -> Result<Box<dyn Discovery>, BoxError> {
        let mut problems = Problems::new("settings");
        self.check("forward_discovery", &mut problems);
        if !problems.is_empty() {
            return Err(problems.into());
        }
        let discovery = match self.kind {
            Kind::None => return Err("forward_discovery.kind is none".into()),
            Kind::Dns => dns::start(self)?,
            Kind::File => file::start(self),
            Kind::Kubernetes => kubernetes::start(self)?,
        };
        Ok(Box::new(discovery))
    }

    /// The keys that have another value than by default, and which kind each is for.
    fn given(&self) -> impl Iterator<Item = (&'static str, Kind)> {
        let usual = Self::default();
        let keys = [
            ("name", Kind::Dns, self.name != usual.name),
            ("srv", Kind::Dns, self.srv != usual.srv),
            ("resolver", Kind::Dns, self.resolver != usual.resolver),
            (
                "refresh_interval",
                Kind::Dns,
                self.refresh_interval != usual.refresh_interval,
            ),
            ("path", Kind::File, self.path != usual.path),
            (
                "namespace",
                Kind::Kubernetes,
                self.namespace != usual.namespace,
            ),
            ("service", Kind::Kubernetes, self.service != usual.service),
            ("port", Kind::Kubernetes, self.port != usual.port),
            (
                "kubeconfig",
                Kind::Kubernetes,
                self.kubeconfig != usual.kubeconfig,
            ),
            ("api", Kind::Kubernetes, self.api != usual.api),
        ];
        let given = keys.into_iter().filter(|(_, _, given)| *given);
        given.map(|(name, kind, _)| (name, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(yaml: &str) -> String {
        let settings: Settings = serde_saphyr::from_str(yaml).unwrap();
        let mut problems = Problems::new("f");
        settings.check("forward_discovery", &mut problems);
        problems.to_string()
    }

    #[test]
    fn each_kind_has_a_right_form() {
        for right in [
            "{}",
            "{kind: dns, name: 'globals.example.org:8128'}",
            "{kind: dns, name: 'globals:8128', resolver: 127.0.0.1, refresh_interval: 5s}",
            "{kind: dns, name: _grpc._tcp.globals.example.org, srv: true, resolver: '[::1]:5353'}",
            "{kind: file, path: /etc/tributary/globals.yaml}",
        ] {
            assert_eq!(problems(right), "", "{right}");
        }
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn kubernetes_has_a_right_form() {
        for right in [
            "{kind: kubernetes, service: veneur-global, port: grpc}",
            "{kind: kubernetes, namespace: metrics, service: g, api: 'http://127.0.0.1:8001'}",
        ] {
            assert_eq!(problems(right), "", "{right}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_key() {
        for (wrong, told) in [
            ("{kind: dns}", "forward_discovery.name: "),
            ("{kind: dns, name: globals}", "has no port"),
            ("{kind: dns, name: 'globals:0'}", "has no port"),
            ("{kind: dns, name: 'a b:80'}", "is no name"),
            ("{kind: dns, name: 'g:80', srv: true}", "names its port"),
            (
                "{kind: dns, name: 'g:80', resolver: ns1}",
                "forward_discovery.resolver: ",
            ),
            (
                "{kind: dns, name: 'g:80', refresh_interval: 0s}",
                "at least 1s",
            ),
            ("{kind: file}", "forward_discovery.path: "),
            (
                "{kind: file, path: /x, service: y}",
                "service: is for kind kubernetes, and the kind is file",
            ),
            ("{path: /x}", "path: is for kind file, and the kind is none"),
        ] {
            let problems = problems(wrong);
            assert!(problems.contains(told), "{wrong}: {problems}");
        }
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn what_is_wrong_with_kubernetes_is_told_by_key() {
        for (wrong, told) in [
            ("{kind: kubernetes}", "forward_discovery.service: "),
            ("{kind: kubernetes, service: 'a,b=c'}", "is no name"),
            (
                "{kind: kubernetes, service: g, namespace: '../x'}",
                "forward_discovery.namespace: ",
            ),
            (
                "{kind: kubernetes, service: g, api: '127.0.0.1:1'}",
                "forward_discovery.api: ",
            ),
            (
                "{kind: kubernetes, service: g, api: 'http://a:1', kubeconfig: /k}",
                "forward_discovery.kubeconfig: ",
            ),
        ] {
            let problems = problems(wrong);
            assert!(problems.contains(told), "{wrong}: {problems}");
        }
    }

    #[cfg(not(feature = "kubernetes"))]
    #[test]
    fn a_program_without_kubernetes_says_so() {
        let told = problems("{kind: kubernetes, service: g}");
        assert!(told.contains("built without"), "{told}");
    }
}
