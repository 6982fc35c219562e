//! Blueflood and Keystone behind TLS.

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tributary_node::tls::{Acceptor, Alpn, Pem, ServerTls};

use super::mock::{Blueflood, Keystone, start};
use super::{batch, points, sink_at, write};

/// A gateway that speaks TLS, in front of an address; its URL and its CA.
async fn gateway(behind: std::net::SocketAddr) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let settings = ServerTls {
        cert_file: Pem::new(made.cert.pem()),
        key_file: Pem::new(made.signing_key.serialize_pem()),
        ..ServerTls::default()
    };
    let acceptor = Acceptor::new(&settings, "test", Alpn::Http1)
        .unwrap()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut behind = TcpStream::connect(behind).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut behind).await
            });
        }
    });
    (url, made.cert.pem())
}

#[tokio::test]
async fn both_are_spoken_to_by_tls_and_only_if_they_are_who_they_should_be() {
    let (blueflood, keystone) = (start::<Blueflood>().await, start::<Keystone>().await);
    blueflood.state().tokens = Some(vec!["tok1".to_owned()]);
    keystone.state().secret = "key2".to_owned();
    keystone.state().lifetime = 86_400;
    let (blueflood_url, blueflood_ca) = gateway(blueflood.address).await;
    let (keystone_url, keystone_ca) = gateway(keystone.address).await;
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    std::fs::write(&key, "key2").unwrap();
    let settings = |blueflood_ca: &str, keystone_ca: &str| {
        json!({
            "tls": {"ca_file": blueflood_ca},
            "keystone": {
                "url": format!("{keystone_url}/v2.0/tokens"), "user": "u", "key_file": key,
                "tls": {"ca_file": keystone_ca},
            },
        })
    };
    let batch = batch(points(3));
    // The CA of the other one.
    for settings in [
        settings(&blueflood_ca, &blueflood_ca),
        settings(&keystone_ca, &keystone_ca),
    ] {
        let mut sink = sink_at(&blueflood_url, settings);
        let error = sink.write(&batch).await.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    }
    assert_eq!(blueflood.state().seen.len(), 0);
    let logins = keystone.state().made;
    assert_eq!(logins, 1, "by the one that trusts it");
    blueflood.state().tokens = Some(vec!["tok2".to_owned()]);
    let mut sink = sink_at(&blueflood_url, settings(&blueflood_ca, &keystone_ca));
    assert_eq!(write(&mut sink, &batch).await, (vec![], Ok(3)));
    assert_eq!(blueflood.state().counts(), (3, 0));
}
