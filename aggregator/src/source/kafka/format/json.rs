//! Finished points as the sink `kafka` writes them.

use async_trait::async_trait;

use super::{Format, Message, Readings, read_lines};
use crate::kafka::json;

pub(super) struct TributaryJson;

#[async_trait]
impl Format for TributaryJson {
    async fn read(&self, messages: &[Message]) -> Readings {
        let read = |message: &Message| {
            read_lines(&message.payload, |line| {
                if line.trim_ascii().is_empty() {
                    return Ok(None);
                }
                json::read(line)
                    .map(Some)
                    .map_err(|error| (error.cause(), error))
            })
        };
        messages.iter().map(read).collect::<Vec<_>>().into()
    }
}
