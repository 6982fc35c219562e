//! The forwarding service over a real connection: what the server sees is, byte for byte, what the client sent.

#![allow(clippy::expect_used, reason = "a test without its server must fail")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};
use tributary_proto::metricpb::Metric;
use tributary_proto::raw::forward_client::ForwardClient;
use tributary_proto::raw::forward_server::{Forward, ForwardServer};
use tributary_proto::scan::frame_into;

/// Keeps every message; answers with what a test asks for.
#[derive(Clone, Default)]
struct Recorder {
    seen: Arc<Mutex<Vec<Bytes>>>,
    answer: Bytes,
}

impl Recorder {
    fn record(&self, message: Bytes) {
        self.seen.lock().expect("no panic elsewhere").push(message);
    }

    fn seen(&self) -> Vec<Bytes> {
        self.seen.lock().expect("no panic elsewhere").clone()
    }
}

#[tonic::async_trait]
impl Forward for Recorder {
    async fn send_metrics(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        self.record(request.into_inner());
        Ok(Response::new(self.answer.clone()))
    }

    async fn send_metrics_v2(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            self.record(message);
        }
        Ok(Response::new(self.answer.clone()))
    }
}

/// A recorder behind a server on a free port, until the sender is dropped.
async fn serve(recorder: Recorder) -> (ForwardClient<Channel>, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel();
    let server = Server::builder()
        .add_service(ForwardServer::new(recorder))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            stopped.await.ok();
        });
    tokio::spawn(server);
    let client = ForwardClient::connect(format!("http://{address}"));
    (client.await.expect("a connection"), stop)
}

/// Messages of all lengths, protobuf or not: the codec does not look inside.
fn messages() -> Vec<Bytes> {
    let mut list = Vec::new();
    for index in 0..1000 {
        let metric = Metric {
            name: "n".repeat(index % 100 + 1),
            index: index as u32,
            ..Metric::default()
        };
        let mut bytes = metric.encode_to_vec();
        // An unknown field.
        bytes.extend_from_slice(&[0xa2, 0x7d, 0x01, 0xff]);
        frame_into(&mut list, &bytes);
    }
    vec![
        Bytes::from(list),
        Bytes::new(),
        Bytes::from_static(b"\xff\x00not protobuf"),
        Bytes::from(vec![0x55; 3 << 20]),
    ]
}

#[tokio::test]
async fn a_unary_request_arrives_as_it_was_sent() {
    let recorder = Recorder::default();
    let (mut client, _stop) = serve(recorder.clone()).await;
    for message in messages() {
        let answer = client.send_metrics(message).await.expect("an answer");
        assert_eq!(answer.into_inner(), Bytes::new());
    }
    assert_eq!(recorder.seen(), messages());
}

#[tokio::test]
async fn each_message_of_a_stream_arrives_as_it_was_sent() {
    let recorder = Recorder::default();
    let (mut client, _stop) = serve(recorder.clone()).await;
    let sent = tokio_stream::iter(messages());
    let answer = client.send_metrics_v2(sent).await.expect("an answer");
    assert_eq!(answer.into_inner(), Bytes::new());
    assert_eq!(recorder.seen(), messages());
}

#[tokio::test]
async fn an_answer_comes_back_as_it_was_given() {
    let answer = Bytes::from_static(b"\x0a\x03any");
    let recorder = Recorder {
        answer: answer.clone(),
        ..Recorder::default()
    };
    let (mut client, _stop) = serve(recorder).await;
    let unary = client.send_metrics(Bytes::new()).await.expect("an answer");
    assert_eq!(unary.into_inner(), answer);
    let stream = client.send_metrics_v2(tokio_stream::empty());
    assert_eq!(stream.await.expect("an answer").into_inner(), answer);
}
