use std::path::Path;
use std::time::Duration;

use super::authority::Leaf;
use super::*;
use crate::tls::Pem;

/// Polls until it is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain for {what}");
}

fn write(directory: &Path, leaf: &Leaf) {
    // The text of the settings, and nothing that a log would show.
    std::fs::write(directory.join("cert.pem"), leaf.certificate.text()).unwrap();
    std::fs::write(directory.join("key.pem"), leaf.key.text()).unwrap();
}

fn of(directory: &Path) -> ServerTls {
    let path = |name: &str| Pem::new(directory.join(name).to_string_lossy());
    ServerTls {
        cert_file: path("cert.pem"),
        key_file: path("key.pem"),
        ..ServerTls::default()
    }
}

async fn is_believed_by(connector: &Connector, acceptor: &Acceptor) -> bool {
    let (ours, theirs) = sockets().await;
    let (_, client) = tokio::join!(serve(acceptor, theirs), async {
        speak(connector.connect(HOST, ours).await?).await
    });
    client.is_ok()
}

#[tokio::test]
async fn new_files_serve_the_next_connection_and_leave_standing_ones_alone() {
    let (recorder, _counting) = counting();
    let (old, new) = (Authority::new("Old CA"), Authority::new("New CA"));
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &old.issue(&[HOST]));
    let acceptor = Acceptor::new(&of(directory.path()), "server", Alpn::None)
        .unwrap()
        .unwrap();
    let [old, new] = [old, new].map(|ca| {
        let connector = Connector::new(&client(&ca), "client", Alpn::None).unwrap();
        (ca, connector)
    });
    let (ours, theirs) = sockets().await;
    let (standing, served) = tokio::join!(old.1.connect(HOST, ours), acceptor.accept(theirs));
    let (standing, mut served) = (standing.unwrap(), served.unwrap());

    write(directory.path(), &new.0.issue(&[HOST]));
    until("the new certificate", async || {
        is_believed_by(&new.1, &acceptor).await
    })
    .await;
    assert!(!is_believed_by(&old.1, &acceptor).await);
    assert_eq!(counted(&recorder, "tls_reloads_total{hop=\"server\"}"), 1);

    let echo = async {
        let mut word = [0; 4];
        served.read_exact(&mut word).await?;
        served.write_all(&word).await?;
        served.flush().await
    };
    let (spoken, echoed) = tokio::join!(speak(standing), echo);
    spoken.unwrap();
    echoed.unwrap();
}

#[tokio::test]
async fn broken_files_leave_the_old_ones_in_force() {
    let (recorder, _counting) = counting();
    let ca = Authority::new("Fleet CA");
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &ca.issue(&[HOST]));
    let acceptor = Acceptor::new(&of(directory.path()), "server", Alpn::None)
        .unwrap()
        .unwrap();
    let connector = Connector::new(&client(&ca), "client", Alpn::None).unwrap();

    let errors = || counted(&recorder, "tls_reload_errors_total{hop=\"server\"}");
    let other = ca.issue(&[HOST]);
    std::fs::write(directory.path().join("cert.pem"), other.certificate.text()).unwrap();
    until("a key that does not fit to be refused", async || {
        errors() == 1
    })
    .await;
    assert!(is_believed_by(&connector, &acceptor).await);
    std::fs::remove_file(directory.path().join("cert.pem")).unwrap();
    until("a missing file to be refused", async || errors() == 2).await;
    assert!(is_believed_by(&connector, &acceptor).await);

    write(directory.path(), &other);
    let reloads = || counted(&recorder, "tls_reloads_total{hop=\"server\"}");
    until("files that are right", async || reloads() == 1).await;
    assert!(is_believed_by(&connector, &acceptor).await);
    assert_eq!(errors(), 2);
}

#[tokio::test]
async fn a_client_follows_its_ca_too() {
    let (old, new) = (Authority::new("Old CA"), Authority::new("New CA"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, old.certificate().text()).unwrap();
    let settings = ClientTls {
        ca_file: Pem::new(path.to_string_lossy()),
        ..ClientTls::default()
    };
    let connector = Connector::new(&settings, "client", Alpn::None).unwrap();
    let acceptor = Acceptor::new(&server(&new), "server", Alpn::None)
        .unwrap()
        .unwrap();
    assert!(!is_believed_by(&connector, &acceptor).await);
    let both = format!("{}{}", old.certificate().text(), new.certificate().text());
    std::fs::write(&path, both).unwrap();
    until("both CAs", async || {
        is_believed_by(&connector, &acceptor).await
    })
    .await;
}

#[tokio::test]
async fn the_time_that_a_certificate_has_left_is_a_gauge() {
    let (recorder, _counting) = counting();
    let ca = Authority::new("Fleet CA");
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &ca.issue_for_years(&[HOST], 2001, 2002));
    let settings = of(directory.path());
    let _acceptor = Acceptor::new(&settings, "server", Alpn::None).unwrap();
    let line = format!(
        "tls_certificate_expiry_seconds{{hop=\"server\",file=\"{}\"}} -",
        settings.cert_file
    );
    until("the gauge", async || recorder.render().contains(&line)).await;
}
