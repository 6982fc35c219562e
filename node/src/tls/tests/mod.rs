mod authority;
mod handshakes;
mod https;
mod reload;
mod settings;

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Acceptor, Alpn, ClientTls, Connector, ServerTls, Stream};
use crate::telemetry::Recorder;
use authority::Authority;

const HOST: &str = "localhost";

/// A server's settings with a certificate for [`HOST`].
fn server(authority: &Authority) -> ServerTls {
    let leaf = authority.issue(&[HOST]);
    ServerTls {
        cert_file: leaf.certificate,
        key_file: leaf.key,
        ..ServerTls::default()
    }
}

/// Settings of a client without a certificate, which trusts this authority.
fn client(authority: &Authority) -> ClientTls {
    ClientTls {
        ca_file: authority.certificate(),
        ..ClientTls::default()
    }
}

/// What each side thinks of a meeting in which the client sends a word and the server says it back.
struct Meeting {
    server: io::Result<()>,
    client: io::Result<()>,
}

async fn meet(server: &ServerTls, client: &ClientTls) -> Meeting {
    let acceptor = Acceptor::new(server, "server", Alpn::None)
        .unwrap()
        .unwrap();
    let connector = Connector::new(client, "client", Alpn::None).unwrap();
    let (ours, theirs) = sockets().await;
    let (server, client) = tokio::join!(serve(&acceptor, theirs), async {
        speak(connector.connect(&format!("{HOST}:80"), ours).await?).await
    });
    Meeting { server, client }
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    (ours.unwrap(), theirs.unwrap().0)
}

async fn serve(acceptor: &Acceptor, socket: TcpStream) -> io::Result<()> {
    let mut stream = acceptor.accept(socket).await?;
    let mut word = [0; 4];
    stream.read_exact(&mut word).await?;
    stream.write_all(&word).await?;
    stream.shutdown().await
}

async fn speak(mut stream: Stream) -> io::Result<()> {
    stream.write_all(b"word").await?;
    stream.flush().await?;
    let mut word = [0; 4];
    stream.read_exact(&mut word).await?;
    assert_eq!(&word, b"word");
    Ok(())
}

/// Self-metrics of this thread's tasks from here on.
fn counting() -> (Recorder, impl Drop) {
    let recorder: &'static Recorder = Box::leak(Box::new(Recorder::new("")));
    (
        recorder.clone(),
        metrics::set_default_local_recorder(recorder),
    )
}

/// How often this was counted.
fn counted(recorder: &Recorder, line: &str) -> u64 {
    let text = recorder.render();
    let found = text.lines().find_map(|found| found.strip_prefix(line));
    found.map_or(0, |count| count.trim().parse().unwrap())
}
