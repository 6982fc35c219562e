//! Request bodies: whole, in time and not too long, also after they are unpacked.

use std::io::Read as _;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body;

use super::answer::Answer;
use super::post::header;

/// How much of a body that is too long is read and thrown away, so that its sender gets to see the answer, and for how long.
const THROWN_AWAY: usize = 16 * 1024 * 1024;
const THROWN_AWAY_FOR: Duration = Duration::from_secs(5);

/// What bounds a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// In bytes, as it is sent.
    pub(super) sent: usize,
    /// In bytes, unpacked.
    pub(super) inflated: usize,
    pub(super) time: Duration,
}

impl Limits {
    /// Reads a whole body.
    pub(super) async fn read<B>(&self, headers: &HeaderMap, body: B) -> Result<Bytes, Answer>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        match tokio::time::timeout(self.time, self.read_all(headers, body)).await {
            Ok(read) => read,
            Err(_) => Err(Answer::refused(
                StatusCode::REQUEST_TIMEOUT,
                "slow",
                "the body took too long",
            )),
        }
    }

    async fn read_all<B>(&self, headers: &HeaderMap, mut body: B) -> Result<Bytes, Answer>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        if body.size_hint().lower() > self.sent as u64 {
            // Who asks before sending is answered at once; who sends is listened to.
            if !headers.contains_key(http::header::EXPECT) {
                throw_away(body).await;
            }
            return Err(too_long("the body", self.sent));
        }
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Answer::bad("cut_off", &format!("the body did not come whole: {error}"))
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if read.len() + data.len() > self.sent {
                drop(read);
                throw_away(body).await;
                return Err(too_long("the body", self.sent));
            }
            read.extend_from_slice(&data);
        }
        Ok(read.freeze())
    }

    /// Unpacks a body, if its header says that it is packed. Takes its time at one go.
    pub(super) fn inflate(&self, headers: &HeaderMap, body: Bytes) -> Result<Bytes, Answer> {
        match header(headers, "content-encoding").map(str::trim) {
            None | Some("" | "identity") => return Ok(body),
            Some(gzip)
                if gzip.eq_ignore_ascii_case("gzip") || gzip.eq_ignore_ascii_case("x-gzip") => {}
            Some(_) => {
                return Err(Answer::refused(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "unknown_content_encoding",
                    "of content encodings only gzip is taken",
                ));
            }
        }
        let mut inflated = Vec::new();
        let mut decoder = MultiGzDecoder::new(body.reader()).take(self.inflated as u64 + 1);
        match decoder.read_to_end(&mut inflated) {
            Err(_) => Err(Answer::bad("invalid_json", "invalid json data")),
            Ok(_) if inflated.len() > self.inflated => {
                Err(too_long("the unpacked body", self.inflated))
            }
            Ok(_) => Ok(inflated.into()),
        }
    }
}

fn too_long(what: &str, limit: usize) -> Answer {
    Answer::refused(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        &format!("{what} is longer than {limit} bytes"),
    )
}

/// Reads what a refused request brings for a while, so that its sender gets to see the answer.
pub(super) async fn throw_away<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let mut thrown = 0;
    let throwing = async {
        while let Some(Ok(frame)) = body.frame().await {
            thrown += frame.into_data().map_or(0, |data| data.len());
            if thrown > THROWN_AWAY {
                break;
            }
        }
    };
    // A sender that does not come to an end is cut off.
    let _ = tokio::time::timeout(THROWN_AWAY_FOR, throwing).await;
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const LIMITS: Limits = Limits {
        sent: 1000,
        inflated: 2000,
        time: Duration::from_secs(10),
    };

    fn packed(text: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap().into()
    }

    fn gzip() -> HeaderMap {
        HeaderMap::from_iter([(
            http::header::CONTENT_ENCODING,
            http::HeaderValue::from_static("gzip"),
        )])
    }

    #[test]
    fn gzip_is_unpacked_up_to_the_limit() {
        let text = vec![b'x'; 2000];
        let inflated = LIMITS.inflate(&gzip(), packed(&text)).unwrap();
        assert_eq!(inflated, text);
        let bomb = packed(&vec![b'x'; 100_000_000]);
        let refused = LIMITS.inflate(&gzip(), bomb).unwrap_err();
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
        let broken = LIMITS.inflate(&gzip(), Bytes::from_static(b"notgzip"));
        assert_eq!(broken.unwrap_err().status, StatusCode::BAD_REQUEST);
        let cut = packed(&text);
        let cut = LIMITS.inflate(&gzip(), cut.slice(..cut.len() - 4));
        assert_eq!(cut.unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_the_limit() {
        let headers = HeaderMap::new();
        let body = |length| http_body_util::Full::new(Bytes::from(vec![b'x'; length]));
        let read = LIMITS.read(&headers, body(1000)).await.unwrap();
        assert_eq!(read.len(), 1000);
        let refused = LIMITS.read(&headers, body(1001)).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
