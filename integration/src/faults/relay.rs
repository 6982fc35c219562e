//! A TCP relay whose weather can be changed while it runs: delay, silence, resets.
//!
//! `netem` is not in every kernel, and a half-open connection cannot be had from a process on the same host in another way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// How the relay treats bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Bytes pass at once.
    Clear,
    /// Bytes pass after this time, in both directions, as if the way were long.
    Slow(Duration),
    /// Connections stay, also new ones, and no byte passes: a peer that is gone without a word.
    Silent,
    /// Answers do not come back, while requests arrive: the sender cannot know their fate.
    Deaf,
    /// Connections are reset, also new ones.
    Storm,
}

/// A running relay. Dropped, it resets its connections.
#[derive(Debug)]
pub struct Relay {
    address: String,
    weather: watch::Sender<Weather>,
    _accepting: AbortOnDropHandle<()>,
}

impl Relay {
    /// Starts a relay on a free loopback port to `target` (`host:port`), in clear weather.
    pub async fn start(target: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let weather = watch::Sender::new(Weather::Clear);
        let target: Arc<str> = target.into();
        let accepting = tokio::spawn(accept(listener, target, weather.subscribe()));
        Ok(Self {
            address,
            weather,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// Where to connect to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Changes the weather, for open connections too.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn accept(listener: TcpListener, target: Arc<str>, weather: watch::Receiver<Weather>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, from)) = accepted {
                connections.spawn(connection(client, from, Arc::clone(&target), weather.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    mut client: TcpStream,
    from: SocketAddr,
    target: Arc<str>,
    mut weather: watch::Receiver<Weather>,
) {
    let relayed = async {
        let mut server = TcpStream::connect(&*target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        reset_on_drop(&client)?;
        reset_on_drop(&server)?;
        let (client_in, client_out) = client.split();
        let (server_in, server_out) = server.split();
        tokio::select! {
            ended = pump(client_in, server_out, weather.clone(), Way::There) => ended,
            ended = pump(server_in, client_out, weather.clone(), Way::Back) => ended,
            _ = weather.wait_for(|weather| *weather == Weather::Storm) => Ok(()),
        }
    };
    let relayed: io::Result<()> = relayed.await;
    if let Err(error) = relayed {
        tracing::debug!(%from, %error, "relayed connection ended");
    }
}

/// A closed connection is seen as broken, not as ended in order.
fn reset_on_drop(stream: &TcpStream) -> io::Result<()> {
    stream.set_zero_linger()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
    way: Way,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let arrived = Instant::now();
        let stopped = |weather: &Weather| match weather {
            Weather::Silent => true,
            Weather::Deaf => way == Way::Back,
            Weather::Clear | Weather::Slow(_) | Weather::Storm => false,
        };
        // Bytes that met a silence are delivered when it is over, as a network that comes back delivers what TCP repeats.
        let now = *weather
            .wait_for(|weather| !stopped(weather))
            .await
            .map_err(io::Error::other)?;
        if let Weather::Slow(delay) = now {
            sleep_until(arrived + delay).await;
        }
        to.write_all(buffer.get(..read).unwrap_or_default()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn exchange(stream: &mut TcpStream) -> io::Result<[u8; 4]> {
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn silence_holds_bytes_back_and_a_storm_resets() {
        let relay = Relay::start(&echo().await).await.unwrap();
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(&exchange(&mut stream).await.unwrap(), b"ping");

        relay.set(Weather::Silent);
        let held = tokio::time::timeout(Duration::from_millis(200), exchange(&mut stream)).await;
        assert!(held.is_err());
        relay.set(Weather::Clear);
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();

        relay.set(Weather::Storm);
        let error = exchange(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
