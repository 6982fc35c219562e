use std::convert::Infallible;

use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::*;

/// A body of these frames, which stays open or ends.
fn body(frames: &[&[u8]], ends: bool) -> Body {
    let frames: Vec<_> = frames
        .iter()
        .map(|frame| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(frame))))
        .collect();
    let end = match ends {
        true => stream::empty().boxed(),
        false => stream::pending().boxed(),
    };
    Body::new(StreamBody::new(stream::iter(frames).chain(end)))
}

/// A message with its prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed
}

fn read(arrived: &mut Arrived, body: &mut Body, most: usize) -> Option<Result<bool, Status>> {
    std::future::poll_fn(|context| arrived.poll_read(body, most, context)).now_or_never()
}

fn messages(arrived: &mut Arrived) -> Vec<Vec<u8>> {
    let messages = arrived.messages().map(<[u8]>::to_vec).collect();
    arrived.clear();
    messages
}

#[tokio::test]
async fn a_list_is_the_same_however_it_is_cut() {
    let message: Vec<u8> = (0..20_000).map(|i| i as u8).collect();
    let mut whole = framed(&message);
    // What follows the message is of no interest.
    whole.extend(b"and more");
    for size in [1, 3, 5, 6, 100, 4096, 5000, 20_005, 30_000] {
        let frames: Vec<&[u8]> = whole.chunks(size).collect();
        let pieces = list(body(&frames, true), 20_000).await.unwrap();
        assert_eq!(pieces.concat(), message, "{size}");
        // Small ones are put together.
        assert!(pieces.len() <= message.len() / SMALL + 2, "{size}");
    }
    let nothing = list(body(&[&framed(b"")], true), 10).await.unwrap();
    assert!(nothing.concat().is_empty());
}

#[tokio::test]
async fn what_is_no_list_is_refused() {
    let long = framed(&[7; 11]);
    let cases: [(&[&[u8]], Code); 7] = [
        (&[], Code::Internal),
        (&[&[0, 0]], Code::Internal),
        (&[&[0, 0, 0, 0, 2, 1]], Code::Internal),
        (&[&[1, 0, 0, 0, 1, 1]], Code::Internal),
        (&[&[2, 0, 0, 0, 1, 1]], Code::Internal),
        (&[&long], Code::ResourceExhausted),
        (&[&[0, 255], &[255, 255, 255]], Code::ResourceExhausted),
    ];
    for (frames, code) in cases {
        let refused = list(body(frames, true), 10).await.unwrap_err();
        assert_eq!(refused.code(), code, "{frames:?}");
    }
}

#[tokio::test]
async fn a_streams_messages_are_the_same_however_they_are_cut() {
    let sent: Vec<Vec<u8>> = (0..50_usize).map(|i| vec![i as u8; i * i % 300]).collect();
    let whole: Vec<u8> = sent.iter().flat_map(|message| framed(message)).collect();
    for size in [1, 2, 4, 5, 6, 7, 64, 301, 1000, whole.len()] {
        let frames: Vec<&[u8]> = whole.chunks(size).collect();
        let mut body = body(&frames, true);
        let (mut arrived, mut got) = (Arrived::new(300), Vec::new());
        loop {
            let ended = read(&mut arrived, &mut body, 7).unwrap().unwrap();
            got.extend(messages(&mut arrived));
            if ended {
                break;
            }
        }
        assert_eq!(got, sent, "{size}");
    }
}

#[tokio::test]
async fn what_has_arrived_is_given_before_more_is_waited_for() {
    let [one, two] = [framed(b"one"), framed(b"two")];
    let (begin, rest) = two.split_at(6);
    let mut open = body(&[&one, begin], false);
    let mut arrived = Arrived::new(300);
    assert!(!read(&mut arrived, &mut open, 7).unwrap().unwrap());
    assert_eq!(messages(&mut arrived), [b"one"]);
    assert!(read(&mut arrived, &mut open, 7).is_none());
    let mut goes_on = body(&[rest, &one], true);
    assert!(!read(&mut arrived, &mut goes_on, 1).unwrap().unwrap());
    assert_eq!(messages(&mut arrived), [b"two"]);
    assert!(read(&mut arrived, &mut goes_on, 7).unwrap().unwrap());
    assert_eq!(messages(&mut arrived), [b"one"]);
}

#[tokio::test]
async fn what_is_wrong_is_told_and_what_came_before_it_is_there() {
    let one = framed(b"one");
    let cut_off: &[&[u8]] = &[&one, &[0, 0, 0, 0, 2, 1]];
    let compressed = [&one[..], &[1, 0, 0, 0, 0]].concat();
    let long = [&one[..], &framed(&[7; 11])].concat();
    let long_in_parts: &[&[u8]] = &[&one, &[0, 0, 0], &[0, 11]];
    let cases = [
        (cut_off, Code::Internal),
        (&[&*compressed], Code::Internal),
        (&[&*long], Code::ResourceExhausted),
        (long_in_parts, Code::ResourceExhausted),
    ];
    for (frames, code) in cases {
        let mut arrived = Arrived::new(10);
        let refused = read(&mut arrived, &mut body(frames, true), 7).unwrap();
        assert_eq!(refused.unwrap_err().code(), code, "{frames:?}");
        assert_eq!(messages(&mut arrived), [b"one"]);
    }
}

#[test]
fn only_compression_is_refused() {
    let mut headers = HeaderMap::new();
    assert!(uncompressed(&headers).is_ok());
    headers.insert("grpc-encoding", http::HeaderValue::from_static("identity"));
    assert!(uncompressed(&headers).is_ok());
    headers.insert("grpc-encoding", http::HeaderValue::from_static("gzip"));
    let refused = uncompressed(&headers).unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.metadata().contains_key("grpc-accept-encoding"));
}
