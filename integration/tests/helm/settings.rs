//! The settings of every tier, given to the programs themselves.

use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use super::chart::{Outcome, Rendering, SETTINGS, called, list};

/// Where pods have their files.
const MOUNTED: &str = "/etc/tributary/";

/// Runs the container's own command with `--check`, with its environment, and with files where it expects them.
pub(crate) fn check(rendering: &Rendering, workload: &Value) -> Outcome {
    let who = format!("{}: {}", rendering.name, called(workload));
    let directory = TempDir::new()?;
    let spec = &workload["spec"]["template"]["spec"];
    mount(rendering, spec, directory.path()).map_err(|error| format!("{who}: {error}"))?;

    let container = &spec["containers"][0];
    let here = format!("{}/", directory.path().display());
    let mut command = Vec::new();
    for part in list(&container["command"]) {
        command.push(part.as_str().ok_or("a text")?.replace(MOUNTED, &here));
    }
    let (program, arguments) = command.split_first().ok_or("a command")?;
    let program = program.strip_prefix("tributary-").ok_or("our program")?;
    let output = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .arg(program)
        .args(arguments)
        .arg("--check")
        .env_clear()
        .envs(environment(container)?)
        .stdin(Stdio::null())
        .output()?;
    let told = super::chart::said(&output);
    // A warning is a setting without effect, or a variable that names no key.
    match output.status.success() && told.trim() == "ok" {
        true => Ok(()),
        false => Err(format!("{who}: {told}").into()),
    }
}

/// The variables as a kubelet gives them.
fn environment(container: &Value) -> Result<Vec<(String, String)>, Box<dyn std::error::Error>> {
    let mut known: Vec<(String, String)> = Vec::new();
    for variable in list(&container["env"]) {
        let name = variable["name"].as_str().unwrap_or_default();
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("status.podIP" | "status.hostIP") => "10.1.2.3".to_owned(),
            Some("spec.nodeName") => "node-1".to_owned(),
            Some(other) => format!("unknown field {other}"),
            None => {
                let text = variable["value"].as_str().unwrap_or_default().to_owned();
                let expand = |text: String, (name, value): &(String, String)| {
                    text.replace(&format!("$({name})"), value)
                };
                known.iter().fold(text, expand)
            }
        };
        if value.contains("$(") {
            return Err(
                format!("{name}: {value} names a variable that is not known before it").into(),
            );
        }
        known.push((name.to_owned(), value));
    }
    Ok(known)
}

/// Puts what the pod's volumes hold below `directory`: the ConfigMaps' own files, and secrets with what such secrets hold.
fn mount(rendering: &Rendering, spec: &Value, directory: &Path) -> Outcome {
    for mount in list(&spec["containers"][0]["volumeMounts"]) {
        let path = mount["mountPath"].as_str().ok_or("a path")?;
        let Some(below) = path.strip_prefix(MOUNTED) else {
            continue;
        };
        let volumes = list(&spec["volumes"]).iter();
        let mut volumes = volumes.filter(|volume| volume["name"] == mount["name"]);
        let volume = volumes.next().ok_or(format!("no volume for {path}"))?;
        let place = directory.join(below);
        std::fs::create_dir_all(&place)?;
        if let Some(name) = volume["configMap"]["name"].as_str() {
            let map = rendering.get("ConfigMap", name);
            let map = map.ok_or(format!("no ConfigMap {name}"))?;
            let text = map["data"][SETTINGS].as_str().ok_or("no settings")?;
            let here = format!("{}/", directory.display());
            std::fs::write(place.join(SETTINGS), text.replace(MOUNTED, &here))?;
        } else {
            secrets(&place)?;
        }
    }
    Ok(())
}

/// Everything that any of the secrets has: certificates, tokens, passwords.
fn secrets(place: &Path) -> Outcome {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate()?;
    std::fs::write(place.join("ca.crt"), params.self_signed(&ca_key)?.pem())?;
    let key = KeyPair::generate()?;
    let issued = CertificateParams::new(vec!["any.example.org".to_owned()])?;
    let issued = issued.signed_by(&key, &Issuer::new(params, ca_key))?;
    std::fs::write(place.join("tls.crt"), issued.pem())?;
    std::fs::write(place.join("tls.key"), key.serialize_pem())?;
    for name in ["token", "password"] {
        std::fs::write(place.join(name), "secret")?;
    }
    Ok(())
}
