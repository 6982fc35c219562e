//! Carbon's text lines.

use async_trait::async_trait;

use super::{Format, Message, Readings, read_lines};
use crate::source::carbon;

pub(super) struct Carbon;

#[async_trait]
impl Format for Carbon {
    async fn read(&self, messages: &[Message]) -> Readings {
        let read = |message: &Message| {
            read_lines(&message.payload, |line| {
                carbon::point(line).map_err(|cause| (cause, "no line of carbon's"))
            })
        };
        messages.iter().map(read).collect::<Vec<_>>().into()
    }
}
