//! A DNS server for tests: it knows what it is told, by UDP and TCP, and what it does not know does not exist.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// What fits into one datagram.
const DATAGRAM: usize = 1232;

/// A running server; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug, Default)]
struct Zone {
    records: BTreeMap<Name, Vec<RData>>,
    /// Questions that get no records but this.
    failing: HashMap<RecordType, ResponseCode>,
    time_to_live: u32,
    asked: usize,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let datagrams = tokio::spawn(answer_datagrams(udp, zone.clone()));
        let streams = tokio::spawn(answer_streams(tcp, zone.clone()));
        Self {
            address,
            zone,
            tasks: [datagrams, streams],
        }
    }

    /// The name has these addresses and no others, of either kind.
    pub(crate) fn set_addresses(&self, name: &str, addresses: &[&str]) {
        let records = addresses.iter().map(|text| match text.parse().unwrap() {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        });
        let mut zone = self.zone.lock().unwrap();
        zone.records.insert(fqdn(name), records.collect());
    }

    /// The name has these SRV records: priority, weight, port and host.
    pub(crate) fn set_services(&self, name: &str, services: &[(u16, u16, u16, &str)]) {
        let records = services.iter().map(|(priority, weight, port, host)| {
            RData::SRV(SRV::new(*priority, *weight, *port, fqdn(host)))
        });
        let mut zone = self.zone.lock().unwrap();
        zone.records.insert(fqdn(name), records.collect());
    }

    pub(crate) fn remove(&self, name: &str) {
        self.zone.lock().unwrap().records.remove(&fqdn(name));
    }

    /// Questions for this kind of record fail from now on; none: they are answered.
    pub(crate) fn fail(&self, kind: RecordType, code: Option<ResponseCode>) {
        let failing = &mut self.zone.lock().unwrap().failing;
        match code {
            Some(code) => failing.insert(kind, code),
            None => failing.remove(&kind),
        };
    }

    /// Of all records, in seconds; 0 at first.
    pub(crate) fn set_time_to_live(&self, seconds: u32) {
        self.zone.lock().unwrap().time_to_live = seconds;
    }

    /// How many questions there were.
    pub(crate) fn asked(&self) -> usize {
        self.zone.lock().unwrap().asked
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The same free port for both protocols.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

fn fqdn(name: &str) -> Name {
    let mut name = Name::from_utf8(name).unwrap();
    name.set_fqdn(true);
    name
}

fn answer(question: &[u8], zone: &Mutex<Zone>) -> Message {
    let question = Message::from_vec(question).unwrap();
    let query = &question.queries[0];
    let (name, kind) = (query.name(), query.query_type());
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.add_query(query.clone());
    let mut zone = zone.lock().unwrap();
    zone.asked += 1;
    answer.metadata.response_code = match (zone.failing.get(&kind), zone.records.get(name)) {
        (Some(code), _) => *code,
        (None, None) => ResponseCode::NXDomain,
        (None, Some(records)) => {
            for data in records.iter().filter(|data| data.record_type() == kind) {
                let record = Record::from_rdata(name.clone(), zone.time_to_live, data.clone());
                answer.add_answer(record);
            }
            ResponseCode::NoError
        }
    };
    answer
}

async fn answer_datagrams(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = vec![0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let answer = answer(&buffer[..length], &zone);
        let mut bytes = answer.to_vec().unwrap();
        if bytes.len() > DATAGRAM {
            bytes = answer.truncate().to_vec().unwrap();
        }
        let _ = socket.send_to(&bytes, from).await;
    }
}

async fn answer_streams(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer_stream(stream, zone.clone()));
    }
}

async fn answer_stream(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; length.into()];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        let bytes = answer(&question, &zone).to_vec().unwrap();
        let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
        framed.extend(bytes);
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}
