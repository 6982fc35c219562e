//! All configured sources, each in its own task.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Outlets, Source, SourceConfig, registry};
use crate::options::Problems;

/// Sources whose addresses are open, and which have taken nothing yet.
#[derive(Default)]
pub struct Opened(Vec<(String, Box<dyn Source>)>);

/// Sources at work. Dropping it ends them at once.
#[derive(Debug, Default)]
pub struct Running {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// All problems of `sources`, each starting with its key. Opens and connects nothing.
pub fn check(sources: &[SourceConfig]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    for (index, source) in sources.iter().enumerate() {
        let key = format!("sources[{index}]");
        if source.name().is_empty() {
            problems.push(format!("{key}.name: is empty"));
        } else if !names.insert(source.name()) {
            problems.push(format!(
                "{key}.name: `{}` is the name of another source",
                source.name()
            ));
        }
        match registry::find(&source.kind) {
            Ok(kind) => {
                let found = kind.check(&source.config);
                problems.extend(found.iter().map(|problem| Problems::under(&key, problem)));
            }
            Err(problem) => problems.push(format!("{key}.kind: {problem}")),
        }
    }
    problems
}

impl Opened {
    /// Opens what sources listen on. All problems are told at once.
    pub async fn open(sources: &[SourceConfig]) -> Result<Self, Problems> {
        let problems = check(sources);
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let mut opened = Self::default();
        let mut problems = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let name = source.name();
            match registry::open(&source.kind, name, &source.config).await {
                Ok(source) => opened.0.push((name.to_owned(), source)),
                Err(Problems(found)) => {
                    let key = format!("sources[{index}]");
                    problems.extend(found.iter().map(|problem| Problems::under(&key, problem)));
                }
            }
        }
        if problems.is_empty() {
            Ok(opened)
        } else {
            Err(Problems(problems))
        }
    }

    /// Lets them take what comes.
    pub fn run(self, outlets: &Outlets) -> Running {
        let mut running = Running::default();
        for (name, source) in self.0 {
            let (outlets, stop) = (outlets.clone(), running.stop.clone());
            running.tasks.spawn(async move {
                let run = AssertUnwindSafe(source.run(outlets, stop.clone()));
                let ended = run.catch_unwind().await;
                if ended.is_err() {
                    tracing::error!(source = name, "the source panicked, and takes nothing more");
                } else if !stop.is_cancelled() {
                    tracing::error!(source = name, "the source ended, and takes nothing more");
                }
            });
        }
        running
    }
}

impl Running {
    /// Tells the sources to take nothing more.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until each has ended, after [`stop`](Self::stop).
    pub async fn join(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
