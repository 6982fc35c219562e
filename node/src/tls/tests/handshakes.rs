use std::time::Duration;

use futures_util::StreamExt;

use super::authority::Leaf;
use super::*;
use crate::tls::Incoming;

/// A server that lets in whom this authority signed.
fn mutual(authority: &Authority) -> ServerTls {
    ServerTls {
        client_ca_file: authority.certificate(),
        ..server(authority)
    }
}

fn with(client: ClientTls, leaf: Leaf) -> ClientTls {
    ClientTls {
        cert_file: leaf.certificate,
        key_file: leaf.key,
        ..client
    }
}

/// Both sides must have failed, with these words, and each must have counted it once by this cause.
async fn refused(server: ServerTls, client: ClientTls, cause: &str, words: [&str; 2]) {
    let (recorder, _counting) = counting();
    let met = meet(&server, &client).await;
    let told = [met.server, met.client].map(|side| side.unwrap_err().to_string());
    for (told, words) in told.iter().zip(words) {
        assert!(
            told.starts_with("TLS: ") && told.contains(words),
            "{told:?} without {words:?}"
        );
    }
    for hop in ["server", "client"] {
        let line = format!("tls_handshake_errors_total{{hop=\"{hop}\",cause=\"{cause}\"}}");
        assert_eq!(
            counted(&recorder, &line),
            1,
            "{line} in\n{}",
            recorder.render()
        );
    }
}

#[tokio::test]
async fn a_server_that_the_ca_signed_is_believed() {
    let ca = Authority::new("Fleet CA");
    let met = meet(&server(&ca), &client(&ca)).await;
    assert!(met.server.is_ok() && met.client.is_ok(), "{:?}", met.client);
}

#[tokio::test]
async fn a_client_comes_in_by_any_of_its_names() {
    let ca = Authority::new("Fleet CA");
    let leaf = ca.issue(&["agent-7", "agent-7.example", "spiffe://fleet/agent"]);
    for name in ["agent-7", "agent-7.example", "spiffe://fleet/agent"] {
        let server = ServerTls {
            allowed_names: vec!["somebody-else".to_owned(), name.to_owned()],
            ..mutual(&ca)
        };
        let met = meet(&server, &with(client(&ca), leaf.clone())).await;
        assert!(
            met.server.is_ok() && met.client.is_ok(),
            "{name}: {:?}",
            met.server
        );
    }
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused() {
    let (ours, theirs) = (Authority::new("Our CA"), Authority::new("Their CA"));
    let words = [
        "refused our certificate: it is signed by no CA",
        "signed by no CA of ca_file",
    ];
    refused(server(&theirs), client(&ours), "unknown_ca", words).await;
}

#[tokio::test]
async fn a_ca_with_the_same_name_and_another_key_is_another_ca() {
    let (ours, theirs) = (Authority::new("Fleet CA"), Authority::new("Fleet CA"));
    let words = ["signed by no CA", "signed by no CA of ca_file"];
    refused(server(&theirs), client(&ours), "unknown_ca", words).await;
}

#[tokio::test]
async fn an_expired_server_is_refused() {
    let ca = Authority::new("Fleet CA");
    let leaf = ca.issue_for_years(&[HOST], 2001, 2002);
    let server = ServerTls {
        cert_file: leaf.certificate,
        key_file: leaf.key,
        ..ServerTls::default()
    };
    let words = [
        "refused our certificate: it has expired",
        "expired on Jan  1 00:00:00 2002",
    ];
    refused(server, client(&ca), "expired", words).await;
}

#[tokio::test]
async fn a_server_with_another_name_is_refused_unless_that_name_is_expected() {
    let ca = Authority::new("Fleet CA");
    let leaf = ca.issue(&["proxy.example"]);
    let server = ServerTls {
        cert_file: leaf.certificate,
        key_file: leaf.key,
        ..ServerTls::default()
    };
    let words = ["refused our certificate", "is for another name"];
    refused(server.clone(), client(&ca), "wrong_name", words).await;
    let client = ClientTls {
        server_name: "proxy.example".to_owned(),
        ..client(&ca)
    };
    assert!(meet(&server, &client).await.client.is_ok());
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_wanted() {
    let ca = Authority::new("Fleet CA");
    let words = ["showed no certificate", "wants a certificate of ours"];
    refused(mutual(&ca), client(&ca), "no_client_certificate", words).await;
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused() {
    let (ours, theirs) = (Authority::new("Our CA"), Authority::new("Their CA"));
    let client = with(client(&ours), theirs.issue(&["agent-7"]));
    let words = [
        "agent-7 (issued by Their CA, valid until Jan  1 00:00:00 4096 +00:00) is signed by no CA of client_ca_file",
        "refused our certificate: it is signed by no CA",
    ];
    refused(mutual(&ours), client, "unknown_ca", words).await;
}

#[tokio::test]
async fn an_expired_client_is_refused() {
    let ca = Authority::new("Fleet CA");
    let client = with(client(&ca), ca.issue_for_years(&["agent-7"], 2001, 2002));
    let words = ["agent-7", "refused our certificate: it has expired"];
    refused(mutual(&ca), client, "expired", words).await;
}

#[tokio::test]
async fn a_client_whose_names_are_not_allowed_is_refused() {
    let ca = Authority::new("Fleet CA");
    let server = ServerTls {
        allowed_names: vec!["proxy-1".to_owned()],
        ..mutual(&ca)
    };
    let client = with(client(&ca), ca.issue(&["agent-7"]));
    let words = [
        "agent-7 (issued by Fleet CA",
        "names are not among those allowed",
    ];
    refused(server, client, "name_not_allowed", words).await;
}

#[tokio::test]
async fn plaintext_to_a_port_with_tls_is_told_on_both_sides() {
    let (recorder, _counting) = counting();
    let ca = Authority::new("Fleet CA");
    let acceptor = Acceptor::new(&server(&ca), "server", Alpn::None)
        .unwrap()
        .unwrap();
    let (ours, theirs) = sockets().await;
    let (server, client) = tokio::join!(
        serve(&acceptor, theirs),
        speak(Stream::plain_to("client", "localhost:80", ours))
    );
    let told = [server, client].map(|side| side.unwrap_err().to_string());
    assert_eq!(
        told[0],
        "TLS: the client does not speak TLS, and this side does"
    );
    assert_eq!(
        told[1],
        "TLS: the server speaks TLS, and this side does not"
    );
    for hop in ["server", "client"] {
        let line = format!("tls_handshake_errors_total{{hop=\"{hop}\",cause=\"not_tls\"}}");
        assert_eq!(counted(&recorder, &line), 1);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_with() {
    let ca = Authority::new("Fleet CA");
    let connector = Connector::new(&client(&ca), "client", Alpn::None).unwrap();
    let (ours, mut theirs) = sockets().await;
    let plain = async {
        let _ = theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    };
    let (connected, ()) = tokio::join!(connector.connect(HOST, ours), plain);
    let told = connected.unwrap_err().to_string();
    assert_eq!(
        told,
        "TLS: the server does not speak TLS, and this side does"
    );
}

#[tokio::test]
async fn a_client_that_says_nothing_is_given_up() {
    let (recorder, _counting) = counting();
    let ca = Authority::new("Fleet CA");
    let acceptor = Acceptor::new(&server(&ca), "server", Alpn::None)
        .unwrap()
        .unwrap();
    let acceptor = acceptor.within(Duration::from_millis(20));
    let (_silent, theirs) = sockets().await;
    let error = acceptor.accept(theirs).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    let line = "tls_handshake_errors_total{hop=\"server\",cause=\"timeout\"}";
    assert_eq!(counted(&recorder, line), 1);
}

#[tokio::test]
async fn slow_and_bad_handshakes_hold_up_nobody() {
    let ca = Authority::new("Fleet CA");
    let acceptor = Acceptor::new(&server(&ca), "server", Alpn::Http2).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming = Incoming::new(listener, acceptor);
    let mut others = Vec::new();
    for number in 0..20 {
        let mut other = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            other.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
        }
        others.push(other);
    }
    let connector = Connector::new(&client(&ca), "client", Alpn::Http2).unwrap();
    let socket = TcpStream::connect(address).await.unwrap();
    let ours = socket.local_addr().unwrap();
    let (came, connected) = tokio::join!(incoming.next(), connector.connect(HOST, socket));
    let came = tonic::transport::server::Connected::connect_info(&came.unwrap().unwrap());
    assert_eq!(came.remote_addr(), Some(ours));
    connected.unwrap();
}
