//! From batches of messages to points and forwarded metrics, and what becomes of those.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::coop::consume_budget;

use super::dead_letter::{DeadLetters, Letter};
use super::event::Events;
use super::format::{Format, Message, Poison, Reading, Readings};
use super::{Batch, Read, Shared};
use crate::preset::stats;
use crate::receipt::{Pending, Receipt};
use crate::source::{Forwarded, Outlets};

pub(super) struct Pipeline {
    pub(super) shared: Arc<Shared>,
    pub(super) outlets: Outlets,
    pub(super) dead_letters: Arc<DeadLetters>,
    pub(super) events: Arc<Events>,
}

impl Pipeline {
    /// Takes batches until nobody is left to send any.
    pub(super) async fn run(&mut self, mut batches: mpsc::UnboundedReceiver<Batch>) {
        while let Some(batch) = batches.recv().await {
            self.take(batch).await;
            consume_budget().await;
        }
    }

    async fn take(&self, batch: Batch) {
        let Batch {
            mut ticket,
            messages,
        } = batch;
        let mut at_once = messages.len();
        let mut points = Vec::new();
        let mut forwarded = Vec::new();
        let mut letters = Vec::new();
        let mut laters = Vec::new();
        let mut stored = 0;
        for part in by_format(messages) {
            let Part {
                format,
                keys,
                messages,
            } = part;
            stats::note_consumed(messages.len() as u64);
            let Readings {
                each,
                later,
                waiting,
            } = format.read(&messages).await;
            laters.extend(later);
            at_once -= waiting;
            debug_assert_eq!(each.len(), messages.len(), "one for each message");
            for ((key, message), reading) in keys.iter().zip(&messages).zip(each) {
                let Reading {
                    points: more,
                    forwarded: list,
                    poison,
                } = reading;
                stored += u64::from(!more.is_empty() || list.is_some());
                points.extend(more);
                forwarded.extend(list);
                for poison in poison {
                    self.poison(key, message, &poison, &mut letters);
                }
            }
        }
        let metrics = forwarded.iter().map(|list| list.metrics as usize);
        let count = points.len() + metrics.sum::<usize>();
        self.shared.state().ledger.read(&mut ticket, count);
        let (receipt, pending) = Receipt::new();
        if count > 0 {
            stats::note_handed(stored);
        }
        if !points.is_empty() {
            self.outlets.points.pass(points, receipt.clone());
        }
        self.forward(forwarded, &receipt);
        drop(receipt);
        let (shared, events) = (Arc::clone(&self.shared), Arc::clone(&self.events));
        let dead_letters = Arc::clone(&self.dead_letters);
        let outlets = Arc::clone(&self.outlets.points);
        let abandoned = shared.abandoned.clone();
        let settle = async move {
            let ticket = Mutex::new(ticket);
            let first = async {
                dead_letters.send(letters, &events).await;
                let fate = written(pending, count, stored, &events).await;
                // The room of those that are done is not held by those that wait.
                shared
                    .state()
                    .ledger
                    .partly(&mut ticket.lock(), at_once, count);
                shared.settled.notify_all();
                fate
            };
            let then = async {
                let (mut unread, mut stored, mut points) = (false, 0, Vec::new());
                for later in join_all(laters).await {
                    unread |= later.again;
                    stored += later.messages;
                    points.extend(later.points);
                }
                let count = points.len();
                if count == 0 {
                    return !unread;
                }
                shared.state().ledger.read(&mut ticket.lock(), count);
                let (receipt, pending) = Receipt::new();
                stats::note_handed(stored);
                outlets.pass(points, receipt);
                written(pending, count, stored, &events).await && !unread
            };
            let (first, then) = tokio::join!(first, then);
            let done = first && then;
            let again = {
                let mut state = shared.state();
                state
                    .ledger
                    .settle(ticket.into_inner(), done, Instant::now())
            };
            if !done {
                events.lost(again);
            }
            shared.settled.notify_all();
        };
        tokio::spawn(async move { abandoned.run_until_cancelled(settle).await });
    }

    fn forward(&self, lists: Vec<Forwarded>, receipt: &Receipt) {
        for list in lists {
            match &self.outlets.forward {
                Some(forward) => forward.relay(list, receipt.clone()),
                // The settings are checked: what is read is forwarded somewhere.
                None => receipt.lose(list.metrics as usize),
            }
        }
    }

    fn poison(
        &self,
        key: &Arc<str>,
        message: &Message,
        poison: &Poison,
        letters: &mut Vec<Letter>,
    ) {
        self.events.poison(key, message, poison);
        if self.dead_letters.wanted() {
            letters.push(Letter::new(message, poison));
        }
    }
}

/// Waits until so many points have their fate, which are so many messages. Whether none of them is lost.
async fn written(pending: Pending, points: usize, messages: u64, events: &Events) -> bool {
    let fate = pending.fate().await;
    if fate.refused > 0 {
        // Of several batches that were written together each is told all that was refused.
        events.refused(fate.refused.min(points as u64));
    }
    let is_lost = fate.lost > fate.refused;
    if !is_lost {
        stats::note_written(messages);
    }
    !is_lost
}

/// Messages of one format.
struct Part {
    format: Arc<dyn Format>,
    /// What each was subscribed by.
    keys: Vec<Arc<str>>,
    messages: Vec<Message>,
}

/// Messages by their formats. Those of one topic have one, and stay in order.
fn by_format(messages: Vec<Read>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for Read { message, by } in messages {
        let same = |part: &Part| Arc::ptr_eq(&part.format, &by.format);
        if !parts.iter().any(same) {
            parts.push(Part {
                format: Arc::clone(&by.format),
                keys: Vec::new(),
                messages: Vec::new(),
            });
        }
        if let Some(part) = parts.iter_mut().find(|part| same(part)) {
            part.keys.push(Arc::clone(&by.key));
            part.messages.push(message);
        }
    }
    parts
}
