//! Source `kafka`: topics read as a member of a consumer group.
//!
//! A thread of its own polls librdkafka (the [`reader`] module), so that the membership lasts whatever else is busy; what it reads becomes points in one task
//! (the [`pipeline`]), and each batch waits for its fate in a task of its own. The [`ledger`] knows up to where each partition is done.
//!
//! What always holds:
//! - An offset is committed only after every sink has written, or for good refused, the points of all messages before it, and globals have merged what was
//!   forwarded in them; messages that nobody can read, and those with nothing in them, count as written. So each message is stored at least once, whatever
//!   ends and when.
//! - What is read and has no fate is bounded. At the bound partitions are paused; the thread goes on polling, and the membership goes on.
//! - What a sink's queue had no room for is read again, after a pause, and with less at once.
//! - A fate that comes after its partition went to another member commits nothing.

mod config;
mod dead_letter;
mod event;
mod format;
mod ledger;
mod member;
mod pipeline;
mod reader;
mod topics;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rdkafka::ClientConfig;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(super) use config::KafkaConfig;

use self::dead_letter::DeadLetters;
use self::event::Events;
use self::format::Message;
use self::ledger::{Bounds, Ledger, Ticket};
use self::pipeline::Pipeline;
use self::reader::Reader;
use self::topics::{Subscribed, Topics};
use super::{Outlets, Source};
use crate::enrich::cloudfoundry::Enricher;
use crate::kafka::SaslConfig;

/// Of messages that are not turned into points yet, in bytes.
const UNREAD_BYTES: usize = 32 << 20;

/// The longest wait for fates at the end.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What the group may take to let us go, on top of that.
const LEAVING: Duration = Duration::from_secs(3);

/// A source that is not connected yet.
struct Kafka {
    events: Arc<Events>,
    topics: Arc<Topics>,
    consumer: ClientConfig,
    sasl: Option<SaslConfig>,
    dead_letters: DeadLetters,
    bounds: Bounds,
    timing: Timing,
    /// Ends what looks for names.
    enriching: CancellationToken,
}

/// The settings that are times.
#[derive(Debug, Clone, Copy)]
struct Timing {
    commit: Duration,
    processing: Duration,
    /// At the end.
    last: Duration,
}

/// A message, and what it was subscribed by.
struct Read {
    message: Message,
    by: Arc<Subscribed>,
}

/// Messages that go on together.
struct Batch {
    ticket: Ticket,
    messages: Vec<Read>,
}

/// What the thread that reads, the callbacks of the group, and the tasks that wait for fates have in common.
struct Shared {
    state: Mutex<State>,
    /// Something has its fate.
    settled: Condvar,
    /// It is over: nobody waits for anything any more.
    abandoned: CancellationToken,
}

struct State {
    ledger: Ledger,
    /// What the ledger's open batch holds.
    open: Vec<Read>,
    /// To the pipeline. What waits there has no fate yet, and is bounded with what else has none.
    onward: mpsc::UnboundedSender<Batch>,
}

impl Kafka {
    async fn new(config: KafkaConfig, name: &str) -> Result<Self, String> {
        let enriching = CancellationToken::new();
        let enricher = match &config.cloudfoundry {
            Some(cloudfoundry) => {
                let started = Enricher::start(cloudfoundry.clone(), enriching.clone()).await;
                Some(started.map_err(|problem| format!("cloudfoundry.{problem}"))?)
            }
            None => None,
        };
        let topics = Arc::new(Topics::new(&config.topics, enricher.as_ref())?);
        let processing = config.processing_timeout.get();
        Ok(Self {
            events: Arc::new(Events::new(name, Arc::clone(&topics))),
            consumer: config.consumer()?,
            dead_letters: DeadLetters::new(&config)?,
            bounds: Bounds {
                in_flight: config.max_in_flight,
                unread_bytes: UNREAD_BYTES,
            },
            timing: Timing {
                commit: config.commit_interval.get(),
                processing,
                last: processing.min(LAST_WAIT),
            },
            sasl: config.sasl,
            topics,
            enriching,
        })
    }
}

#[async_trait]
impl Source for Kafka {
    async fn run(self: Box<Self>, outlets: Outlets, stop: CancellationToken) {
        let (onward, batches) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                ledger: Ledger::new(self.bounds),
                open: Vec::new(),
                onward,
            }),
            settled: Condvar::new(),
            abandoned: CancellationToken::new(),
        });
        // Also where this is dropped in the middle.
        let _abandon = shared.abandoned.clone().drop_guard();
        let reader = Reader {
            config: self.consumer,
            sasl: self.sasl,
            topics: self.topics,
            events: Arc::clone(&self.events),
            shared: Arc::clone(&shared),
            timing: self.timing,
            stop: stop.clone(),
        };
        let mut pipeline = Pipeline {
            shared: Arc::clone(&shared),
            outlets: outlets.clone(),
            dead_letters: Arc::new(self.dead_letters),
            events: Arc::clone(&self.events),
        };
        // Not one of the runtime's threads, which the end of the program would wait for.
        let (end, mut reading) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("kafka".to_owned());
        let started = thread.spawn(move || {
            reader.run();
            drop(end);
        });
        if let Err(error) = started {
            tracing::error!(source = &*self.events.source, %error, "no thread for Kafka");
            return;
        }
        let piping = pipeline.run(batches);
        let ended = async {
            tokio::pin!(piping);
            tokio::select! {
                () = stop.cancelled() => self.enriching.cancel(),
                _ = &mut reading => return,
                () = &mut piping => return,
            }
            // What was read must not wait for more of it.
            outlets.points.hurry();
            let bound = self.timing.last + LEAVING;
            let left = async {
                tokio::select! {
                    _ = &mut reading => {}
                    () = &mut piping => {}
                }
            };
            if tokio::time::timeout(bound, left).await.is_err() {
                self.events
                    .trouble("leave", &"the group has not let us go in time");
            }
        };
        ended.await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// Hands on what was read.
    fn close_batch(&mut self) {
        let messages = std::mem::take(&mut self.open);
        if let Some(ticket) = self.ledger.close_batch() {
            // The pipeline ends only after whoever reads.
            let _ = self.onward.send(Batch { ticket, messages });
        }
    }
}
