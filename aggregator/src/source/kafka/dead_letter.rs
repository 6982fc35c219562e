//! Where unreadable messages go.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::try_join_all;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde::Serialize;

use super::config::KafkaConfig;
use super::event::Events;
use super::format::{Message, Poison};
use crate::backoff::Backoff;

/// One that could not be read.
pub(super) struct Letter {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    cause: &'static str,
    detail: String,
    payload: Vec<u8>,
}

/// Takes letters.
pub(super) enum DeadLetters {
    None,
    File(PathBuf),
    Topic {
        topic: String,
        producer: FutureProducer,
    },
}

/// The pause before letters are tried again for the first time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a letter may wait for room in the producer's queue.
const QUEUED: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<i64>,
    cause: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl Letter {
    /// Of what of a message is bad.
    pub(super) fn new(message: &Message, poison: &Poison) -> Self {
        let payload = match &poison.part {
            Some(part) => message.payload.get(part.clone()).unwrap_or_default(),
            None => &message.payload,
        };
        Self {
            topic: Arc::clone(&message.topic),
            partition: message.partition,
            offset: message.offset,
            timestamp: message.timestamp,
            key: message.key.clone(),
            cause: poison.cause,
            detail: poison.detail.clone(),
            payload: payload.to_vec(),
        }
    }

    fn line(&self) -> io::Result<Vec<u8>> {
        let text = std::str::from_utf8(&self.payload).ok();
        let line = Line {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            time: self.timestamp,
            cause: self.cause,
            detail: &self.detail,
            payload: text,
            payload_base64: text.is_none().then(|| STANDARD.encode(&self.payload)),
        };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        Ok(line)
    }
}

impl DeadLetters {
    pub(super) fn new(config: &KafkaConfig) -> Result<Self, String> {
        let Some(dead) = &config.dead_letter else {
            return Ok(Self::None);
        };
        match (&dead.topic, &dead.file) {
            (Some(topic), _) => Ok(Self::Topic {
                topic: topic.clone(),
                producer: config
                    .producer()?
                    .create()
                    .map_err(|error| format!("dead_letter.topic: {error}"))?,
            }),
            (None, Some(file)) => Ok(Self::File(file.clone())),
            (None, None) => Ok(Self::None),
        }
    }

    /// Whether letters are of any use here.
    pub(super) fn wanted(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Returns when all letters are where they belong, however long that takes: what is out is bounded, and so the source waits with them. After a failure
    /// some may be there twice.
    pub(super) async fn send(self: &Arc<Self>, letters: Vec<Letter>, events: &Events) {
        if letters.is_empty() {
            return;
        }
        let letters = Arc::new(letters);
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let result = match &**self {
                Self::None => Ok(()),
                Self::File(file) => append(file.clone(), Arc::clone(&letters)).await,
                Self::Topic { topic, producer } => produce(topic, producer, &letters).await,
            };
            events.dead_letters(letters.len(), result.as_ref().err().map(String::as_str));
            if result.is_ok() {
                return;
            }
            tokio::time::sleep(backoff.next(None)).await;
        }
    }
}

async fn append(file: PathBuf, letters: Arc<Vec<Letter>>) -> Result<(), String> {
    let shown = file.display().to_string();
    let writing = tokio::task::spawn_blocking(move || -> io::Result<()> {
        let mut lines = Vec::new();
        for letter in &*letters {
            lines.extend(letter.line()?);
        }
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(file)?;
        file.write_all(&lines)?;
        file.sync_data()
    });
    let written = writing.await.map_err(|error| error.to_string())?;
    written.map_err(|error| format!("{shown}: {error}"))
}

async fn produce(topic: &str, producer: &FutureProducer, letters: &[Letter]) -> Result<(), String> {
    let sent = letters.iter().map(|letter| async move {
        let (partition, offset) = (letter.partition.to_string(), letter.offset.to_string());
        let mut record = FutureRecord::to(topic)
            .payload(&letter.payload)
            .headers(headers(letter, &partition, &offset));
        if let Some(key) = &letter.key {
            record = record.key(key);
        }
        if let Some(timestamp) = letter.timestamp {
            record = record.timestamp(timestamp);
        }
        producer.send(record, QUEUED).await
    });
    match try_join_all(sent).await {
        Ok(_) => Ok(()),
        Err((error, _)) => Err(format!("topic {topic}: {error}")),
    }
}

fn headers(letter: &Letter, partition: &str, offset: &str) -> OwnedHeaders {
    let headers = [
        ("tributary-topic", &*letter.topic),
        ("tributary-partition", partition),
        ("tributary-offset", offset),
        ("tributary-cause", letter.cause),
        ("tributary-detail", &letter.detail),
    ];
    let add = |all: OwnedHeaders, (key, value): (&str, &str)| {
        all.insert(Header {
            key,
            value: Some(value),
        })
    };
    headers.into_iter().fold(OwnedHeaders::new(), add)
}
