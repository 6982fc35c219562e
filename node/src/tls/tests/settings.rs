use super::*;
use crate::config::{Problems, redacted};
use crate::tls::Pem;

fn of_server(settings: &ServerTls) -> String {
    let mut problems = Problems::new("f");
    settings.check("grpc_tls", &mut problems);
    problems.to_string()
}

fn of_client(settings: &ClientTls) -> String {
    let mut problems = Problems::new("f");
    settings.check("forward_tls", &mut problems);
    problems.to_string()
}

#[test]
fn nothing_set_is_no_tls_and_no_problem() {
    assert!(!ServerTls::default().is_on() && !ClientTls::default().is_on());
    assert_eq!(of_server(&ServerTls::default()), "");
    assert_eq!(of_client(&ClientTls::default()), "");
}

#[test]
fn what_is_right_is_no_problem() {
    let ca = Authority::new("Fleet CA");
    let settings = ServerTls {
        client_ca_file: ca.certificate(),
        allowed_names: vec!["agent".to_owned()],
        ..server(&ca)
    };
    assert_eq!(of_server(&settings), "");
    assert_eq!(of_client(&client(&ca)), "");
}

#[test]
fn every_problem_names_its_key_and_the_file() {
    let ca = Authority::new("Fleet CA");
    let other = ca.issue(&["other"]);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        Pem::new(path.to_string_lossy())
    };
    let right = server(&ca);
    let cert = file("cert.pem", right.cert_file.text());
    let cases = [
        (
            ServerTls {
                cert_file: Pem::new("/nowhere/cert.pem"),
                ..right.clone()
            },
            "f: grpc_tls.cert_file: /nowhere/cert.pem cannot be read: No such file or directory"
                .to_owned(),
        ),
        (
            ServerTls {
                cert_file: file("empty.pem", ""),
                ..right.clone()
            },
            format!(
                "f: grpc_tls.cert_file: {}/empty.pem holds no certificate",
                directory.path().display()
            ),
        ),
        (
            ServerTls {
                cert_file: file("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB"),
                ..right.clone()
            },
            format!(
                "f: grpc_tls.cert_file: {}/cut.pem is not PEM",
                directory.path().display()
            ),
        ),
        (
            ServerTls {
                cert_file: file(
                    "garbage.pem",
                    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                ),
                ..right.clone()
            },
            format!(
                "f: grpc_tls.cert_file: {}/garbage.pem begins with a broken certificate",
                directory.path().display()
            ),
        ),
        (
            ServerTls {
                cert_file: cert.clone(),
                key_file: file("other.pem", other.key.text()),
                ..right.clone()
            },
            format!(
                "f: grpc_tls.key_file: {}/other.pem is not the key of the first certificate in {cert}",
                directory.path().display()
            ),
        ),
        (
            ServerTls {
                key_file: cert.clone(),
                ..right.clone()
            },
            format!("f: grpc_tls.key_file: {cert} holds no private key"),
        ),
        (
            ServerTls {
                key_file: Pem::default(),
                ..right.clone()
            },
            "f: grpc_tls.key_file: is missing".to_owned(),
        ),
        (
            ServerTls {
                client_ca_file: file("none.pem", "nothing"),
                ..right.clone()
            },
            format!(
                "f: grpc_tls.client_ca_file: {}/none.pem holds no certificate",
                directory.path().display()
            ),
        ),
        (
            ServerTls {
                allowed_names: vec!["agent".to_owned()],
                ..right.clone()
            },
            "f: grpc_tls.allowed_names: does nothing without client_ca_file".to_owned(),
        ),
        (
            ServerTls {
                cert_file: Pem::default(),
                ..right.clone()
            },
            "f: grpc_tls.key_file: does nothing without cert_file".to_owned(),
        ),
    ];
    for (settings, expected) in cases {
        let told = of_server(&settings);
        assert!(told.starts_with(&expected), "{told:?} and not {expected:?}");
    }
    let settings = ClientTls {
        cert_file: cert,
        ..client(&ca)
    };
    assert_eq!(of_client(&settings), "f: forward_tls.key_file: is missing");
    let settings = ClientTls {
        server_name: "a b".to_owned(),
        ..client(&ca)
    };
    assert!(of_client(&settings).starts_with("f: forward_tls.server_name: \"a b\" is neither"));
}

#[test]
fn pem_text_in_the_settings_is_shown_nowhere() {
    let settings = server(&Authority::new("Fleet CA"));
    let shown = format!("{settings:?} {} {}", redacted(&settings), settings.key_file);
    assert!(
        !shown.contains("BEGIN") && shown.contains("REDACTED"),
        "{shown}"
    );
}
