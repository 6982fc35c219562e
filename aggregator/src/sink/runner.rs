//! All configured sinks, each in its own task behind its own queue.
//!
//! A queue belongs to the sink's name: where its settings change while the program runs, the sink behind it is replaced, and what waits is
//! written by the new one. That is how points that piled up behind wrong credentials get out once those are right.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::filter::Filter;
use super::happened::{
    BatchWritten, DropReason, Label, PointsDropped, PointsSelected, QueueFound, WriteFailed,
};
use super::queue::{Next, Queue};
use super::routing::Routing;
use super::select::{self, Asked};
use super::{
    Amount, Problems, RoutingRule, Sink, SinkConfig, SinkError, SinkVerdict, SinkView, registry,
};
use crate::point::Batch;

/// The running sinks. Dropping it ends them at once; [`close`](Self::close) lets them write what waits.
#[derive(Debug, Default)]
pub struct Sinks {
    routing: Option<Routing>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    config: SinkConfig,
    label: Label,
    filter: Filter,
    wants_distributions: bool,
    queue: Arc<Queue>,
    /// Ends the task once the write under way has ended.
    replaced: CancellationToken,
    task: AbortOnDropHandle<()>,
}

/// How long a sink that is replaced may go on with the write under way.
const LAST_WRITE: Duration = Duration::from_secs(30);

/// What a sink had not written when it was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwritten {
    /// The sink's name.
    pub sink: Arc<str>,
    /// How much; it is counted as dropped.
    pub amount: Amount,
}

/// All problems of `metric_sinks` and `metric_sink_routing`, each starting with its key. Opens and connects nothing.
pub fn check(sinks: &[SinkConfig], rules: &[RoutingRule]) -> Vec<String> {
    plan(sinks, rules).err().unwrap_or_default()
}

/// What of the configuration can be made without opening anything.
fn plan(
    sinks: &[SinkConfig],
    rules: &[RoutingRule],
) -> Result<(Option<Routing>, Vec<Filter>), Vec<String>> {
    let mut problems = Vec::new();
    let mut filters = Vec::with_capacity(sinks.len());
    let mut names = BTreeSet::new();
    for (index, sink) in sinks.iter().enumerate() {
        let key = format!("metric_sinks[{index}]");
        if sink.name().is_empty() {
            problems.push(format!("{key}.name: is empty"));
        } else if !names.insert(sink.name()) {
            problems.push(format!(
                "{key}.name: `{}` is the name of another sink",
                sink.name()
            ));
        }
        match registry::find(&sink.kind) {
            Ok(kind) => problems.extend(
                kind.check(&sink.config)
                    .into_iter()
                    .map(|problem| Problems::under(&key, &problem)),
            ),
            Err(problem) => problems.push(format!("{key}.kind: {problem}")),
        }
        filters.push(Filter::compile(sink, &key, &mut problems));
    }
    let names: Vec<_> = sinks.iter().map(SinkConfig::name).collect();
    let routing = (!rules.is_empty()).then(|| Routing::compile(rules, &names, &mut problems));
    if problems.is_empty() {
        Ok((routing, filters))
    } else {
        Err(problems)
    }
}

impl Sinks {
    /// Makes the sinks and starts their tasks, on the runtime it is called from. All problems are told at once; nothing is opened while there are any.
    pub fn start(sinks: &[SinkConfig], rules: &[RoutingRule]) -> Result<Self, Problems> {
        let mut started = Self::default();
        started.replace(sinks, rules)?;
        Ok(started)
    }

    /// Goes over to other settings. A sink whose own are the same goes on as it is; one whose settings differ is replaced behind its queue;
    /// those whose names are no longer there are returned, and write what waits until they are [`close`](Self::close)d. On problems nothing changes.
    pub fn replace(
        &mut self,
        sinks: &[SinkConfig],
        rules: &[RoutingRule],
    ) -> Result<Self, Problems> {
        let (routing, filters) = plan(sinks, rules).map_err(Problems)?;
        let mut problems = Vec::new();
        let mut built = Vec::with_capacity(sinks.len());
        for (index, (config, filter)) in sinks.iter().zip(filters).enumerate() {
            if self.members.iter().any(|member| member.config == *config) {
                built.push((config, filter, None));
                continue;
            }
            match registry::build(&config.kind, config.name(), &config.config) {
                Ok(sink) => built.push((config, filter, Some(sink))),
                Err(Problems(found)) => {
                    let keyed = found.into_iter().map(|problem| {
                        Problems::under(&format!("metric_sinks[{index}]"), &problem)
                    });
                    problems.extend(keyed);
                }
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let mut old = std::mem::take(&mut self.members);
        self.members = built
            .into_iter()
            .filter_map(|(config, filter, sink)| {
                let same_name = |member: &Member| *member.label.name == *config.name();
                let before = old.iter().position(same_name);
                let before = before.map(|place| old.swap_remove(place));
                match sink {
                    Some(sink) => Some(Member::start(config, filter, sink, before)),
                    None => before,
                }
            })
            .collect();
        self.routing = routing;
        old.iter().for_each(|member| member.queue.close());
        Ok(Self {
            routing: None,
            members: old,
        })
    }

    /// Whether one of them writes distributions.
    pub(crate) fn want_distributions(&self) -> bool {
        self.members.iter().any(|member| member.wants_distributions)
    }

    /// Whether every sink has ended; none does before it is closed, or left out of a [`replace`](Self::replace).
    pub fn have_ended(&self) -> bool {
        self.members.iter().all(|member| member.task.is_finished())
    }

    /// Hands over a flush. Never waits, whatever the sinks do; selecting points takes time in proportion to their number, so with routing and
    /// millions of points call it where the flush is computed and not on a task that serves a network.
    pub fn send(&self, batch: Arc<Batch>) {
        let selected = select::select(&batch, self.routing.as_ref(), &self.asked());
        for (member, selected) in self.members.iter().zip(selected) {
            let sink = &member.label;
            let tally = selected.tally;
            PointsSelected { sink, tally }.emit();
            let (queued, bound) = member.queue.fill();
            let found = QueueFound {
                sink,
                queued,
                bound,
            };
            found.emit();
            let lost = member.queue.push(selected.batch);
            let reason = DropReason::QueueFull;
            member.queue.health.lost(lost, reason);
            PointsDropped { sink, lost, reason }.emit();
        }
    }

    /// Lets no sink wait any longer until there is more to write at once.
    pub fn hurry(&self) {
        for member in &self.members {
            member.queue.hurry();
        }
    }

    /// What each sink wants.
    fn asked(&self) -> Vec<Asked<'_>> {
        let members = self.members.iter();
        let asked = members.map(|member| Asked {
            filter: &member.filter,
            distributions: member.wants_distributions,
        });
        asked.collect()
    }

    /// What of a batch each sink would get; nothing is sent or counted.
    pub(crate) fn verdicts(&self, batch: &Arc<Batch>) -> Vec<SinkVerdict> {
        let selected = select::select(batch, self.routing.as_ref(), &self.asked());
        let members = self.members.iter().zip(selected);
        members
            .map(|(member, selected)| SinkVerdict::of(&member.label, selected.tally))
            .collect()
    }

    /// How to see the sinks' state from elsewhere. Valid until the next [`replace`](Self::replace).
    pub(crate) fn views(&self) -> Vec<SinkView> {
        let members = self.members.iter();
        members
            .map(|member| SinkView {
                label: member.label.clone(),
                queue: Arc::clone(&member.queue),
            })
            .collect()
    }

    /// Lets each sink write what waits, up to a time, and says what each could not. A batch that fails is tried again only if the sink asks for it.
    pub async fn close(self, deadline: tokio::time::Instant) -> Vec<Unwritten> {
        for member in &self.members {
            member.queue.close();
        }
        let mut unwritten = Vec::new();
        for member in self.members {
            // Late ones are aborted as the handle is dropped; they all run meanwhile, so the waits do not add up.
            let _ = tokio::time::timeout_at(deadline, member.task).await;
            let lost = member.queue.drain();
            let sink = &member.label;
            let reason = DropReason::Shutdown;
            PointsDropped { sink, lost, reason }.emit();
            if lost.total() > 0 {
                unwritten.push(Unwritten {
                    sink: Arc::clone(&member.label.name),
                    amount: lost,
                });
            }
        }
        unwritten
    }
}

impl Member {
    /// Starts a sink, in the place of another if there is one `before`.
    fn start(
        config: &SinkConfig,
        filter: Filter,
        sink: Box<dyn Sink>,
        before: Option<Self>,
    ) -> Self {
        let label = Label {
            name: config.name().into(),
            kind: config.kind.as_str().into(),
        };
        let (queue, predecessor) = match before {
            Some(Self {
                queue,
                replaced,
                task,
                ..
            }) => {
                replaced.cancel();
                queue.set_bound(config.queue_points);
                (queue, Some(task))
            }
            None => (Arc::new(Queue::new(config.queue_points)), None),
        };
        let replaced = CancellationToken::new();
        let wants_distributions = sink.wants_distributions();
        let mut task = Task {
            label: label.clone(),
            queue: Arc::clone(&queue),
            sink,
            replaced: replaced.clone(),
        };
        let task = tokio::spawn(async move {
            if let Some(predecessor) = predecessor {
                task.wait_for(predecessor).await;
            }
            task.run().await;
            task.sink.close().await;
        });
        Self {
            config: config.clone(),
            label,
            filter,
            wants_distributions,
            queue,
            replaced,
            task: AbortOnDropHandle::new(task),
        }
    }
}

/// One sink at work.
struct Task {
    label: Label,
    queue: Arc<Queue>,
    sink: Box<dyn Sink>,
    /// Another takes over the queue.
    replaced: CancellationToken,
}

/// Why writing stopped.
enum Pause {
    /// Nothing waits.
    Empty,
    /// More may come before this time, and is written together with what waits.
    Gathering(tokio::time::Instant),
    /// The first batch is to be tried again: with the next flush, or after this time.
    Retry(Option<Duration>),
}

/// A retry that waits for the next flush waits for so long at least: what passes through may come all the time. At the end no retry waits longer.
const BREATH: Duration = Duration::from_secs(1);

impl Task {
    /// Lets the sink that wrote here until now end its last write, for some time.
    async fn wait_for(&mut self, predecessor: AbortOnDropHandle<()>) {
        if tokio::time::timeout(LAST_WRITE, predecessor).await.is_err() {
            self.dropped(self.queue.forsake(), DropReason::WriteError);
        }
    }

    async fn run(&mut self) {
        loop {
            let pause = self.write_all().await;
            if self.replaced.is_cancelled() {
                return;
            }
            match pause {
                Pause::Empty if self.queue.is_closing() && self.queue.is_empty() => return,
                Pause::Retry(None) if self.queue.is_closing() => return,
                Pause::Empty => arrival(&self.queue, &self.replaced).await,
                Pause::Gathering(until) => {
                    // Each is a reason to look again.
                    let _ =
                        tokio::time::timeout_at(until, arrival(&self.queue, &self.replaced)).await;
                }
                Pause::Retry(None) => {
                    rest(&self.queue, &self.replaced, BREATH).await;
                    arrival(&self.queue, &self.replaced).await;
                }
                Pause::Retry(Some(after)) => rest(&self.queue, &self.replaced, after).await,
            }
        }
    }

    async fn write_all(&mut self) -> Pause {
        while !self.replaced.is_cancelled() {
            let batch = match self.queue.pop(self.sink.gather()) {
                Next::Batch(batch) => batch,
                Next::Gathering(until) => return Pause::Gathering(until),
                Next::Empty => return Pause::Empty,
            };
            match self.write(&batch).await {
                Ok(()) => self.queue.done(),
                Err(after) => {
                    let lost = self.queue.put_back(batch);
                    self.dropped(lost, DropReason::QueueFull);
                    return Pause::Retry(after);
                }
            }
        }
        Pause::Empty
    }

    /// The error is when to try again.
    async fn write(&mut self, batch: &Batch) -> Result<(), Option<Duration>> {
        let given = Amount::of(batch);
        let started = Instant::now();
        // A panic in a sink, or in a library it uses, costs the batch and not the sink.
        let result = AssertUnwindSafe(self.sink.write(batch))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                Err(SinkError::Fatal {
                    reason: "the sink panicked".to_owned(),
                    lost: given,
                })
            });
        let took = started.elapsed();
        let health = &self.queue.health;
        health.ended(result.as_ref().map(|_| ()), took);
        let sink = &self.label;
        if let Err(error) = &result {
            WriteFailed { sink, error }.emit();
        }
        let (given, written) = match result {
            Ok(written) => (given, written),
            Err(SinkError::Retriable { after, .. }) => return Err(after),
            Err(SinkError::Fatal { lost, .. }) => {
                batch.refuse(lost.points);
                self.dropped(lost, DropReason::WriteError);
                (given - lost, given - lost)
            }
        };
        self.queue.health.wrote(given, written);
        BatchWritten {
            sink,
            given,
            written,
            took,
        }
        .emit();
        Ok(())
    }

    fn dropped(&self, lost: Amount, reason: DropReason) {
        self.queue.health.lost(lost, reason);
        let sink = &self.label;
        PointsDropped { sink, lost, reason }.emit();
    }
}

/// Waits until something was handed over, or nothing more will be, or another takes over the queue.
async fn arrival(queue: &Queue, replaced: &CancellationToken) {
    replaced.run_until_cancelled(queue.arrival()).await;
}

/// Does nothing for some time, unless another takes over the queue. Once the end has begun there is little time left: the rest is over, and the next ones
/// are short, whatever the sink asks for.
async fn rest(queue: &Queue, replaced: &CancellationToken, time: Duration) {
    let rest = async {
        if queue.is_closing() {
            tokio::time::sleep(time.min(BREATH)).await;
        } else {
            let _ = tokio::time::timeout(time, queue.closed()).await;
        }
    };
    replaced.run_until_cancelled(rest).await;
}

#[cfg(test)]
mod tests;
