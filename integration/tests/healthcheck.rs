//! `--healthcheck`: what a container runs to learn how its program is.

use std::process::{Command, Output};

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tributary_integration::tier::{Binaries, Tier, free_address};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn tier() -> std::io::Result<Tier> {
    Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))
}

/// Asks the program that runs with this `http_address`, as another process of it would.
fn ask(program: &str, question: &str, settings: &Value) -> std::io::Result<Output> {
    let directory = TempDir::new()?;
    let file = directory.path().join("settings.yaml");
    std::fs::write(&file, settings.to_string())?;
    Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args([program, question, "-f"])
        .arg(&file)
        .output()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn a_program_is_alive_before_it_is_ready_and_nobody_is_neither() -> Outcome {
    let tier = tier()?;
    let mut proxy = tier
        .proxy("p")
        .with("consul_address", json!(free_address()?))
        .with("consul_forward_service_name", json!("nobody"))
        .start_unready()
        .await?;
    let settings = json!({"http_address": proxy.http, "forward_addresses": ["127.0.0.1:1"]});
    let alive = ask("proxy", "--healthcheck", &settings)?;
    assert!(alive.status.success(), "{}", said(&alive));
    assert_eq!(said(&alive), "ok\n");
    let ready = ask("proxy", "--healthcheck=ready", &settings)?;
    assert_eq!(ready.status.code(), Some(1));
    assert!(
        said(&ready).contains("no destination is known"),
        "{}",
        said(&ready)
    );

    proxy.program.stop().await?;
    let gone = ask("proxy", "--healthcheck", &settings)?;
    assert_eq!(gone.status.code(), Some(1));
    assert!(said(&gone).contains("refused"), "{}", said(&gone));
    let nowhere = ask("aggregator", "--healthcheck", &json!({"http_address": ""}))?;
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(
        said(&nowhere).contains("http_address"),
        "{}",
        said(&nowhere)
    );
    Ok(())
}

#[tokio::test]
async fn a_program_is_asked_by_tls_and_known_by_its_certificate() -> Outcome {
    let directory = TempDir::new()?;
    let write = |name: &str, text: String| -> std::io::Result<String> {
        let path = directory.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    };
    // A name that the health check does not connect to.
    let certified = |name: &str| -> Result<(String, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![name.to_owned()])?.self_signed(&key)?;
        Ok((certificate.pem(), key.serialize_pem()))
    };
    let (own, key) = certified("metrics.example")?;
    let (other, other_key) = certified("other.example")?;
    let tls = json!({"cert_file": write("own.crt", own)?, "key_file": write("own.key", key)?});
    let others = json!({"cert_file": write("other.crt", other)?, "key_file": write("other.key", other_key)?});
    let mutual = {
        let mut tls = tls.clone();
        tls["client_ca_file"] = others["cert_file"].clone();
        tls
    };
    for (name, served, asked, well) in [
        ("plain", &tls, &tls, true),
        // It wants a certificate of another CA than its own is of: it says so, and so it lives.
        ("mutual", &mutual, &mutual, true),
        ("other", &tls, &others, false),
        ("none", &tls, &json!({}), false),
    ] {
        let tier = tier()?;
        let global = tier.global(name).with("http_tls", served.clone());
        let global = global.start().await?;
        let settings = json!({"http_address": global.http, "http_tls": asked});
        let answer = ask("aggregator", "--healthcheck", &settings)?;
        assert_eq!(answer.status.success(), well, "{name}: {}", said(&answer));
        let ready = ask("aggregator", "--healthcheck=ready", &settings)?;
        let knows = name == "plain";
        assert_eq!(ready.status.success(), knows, "{name}: {}", said(&ready));
    }
    Ok(())
}
