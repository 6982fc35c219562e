//! What is measured.

use std::io;
use std::time::{Duration, Instant};

use super::counting::Counting;
use super::report::Outcome;
use super::subject::Subject;
use super::{Options, meter};
use crate::load::{Load, Mix, Plan, Way, Workload};

/// The program that a row measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tested {
    Proxy,
    Agent,
    Global,
}

/// What a row's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// CPU time of the process for each metric.
    CpuMicroseconds,
    /// Memory that is taken by each series more.
    KilobytesPerSeries,
    /// The longest that a small request waited while a million series were flushed.
    StallMilliseconds,
}

/// A line of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) tested: Tested,
    pub(super) unit: Unit,
    way: Way,
    mix: Mix,
    /// Metrics in a request, lines in a datagram.
    batch: usize,
    rate: Option<u64>,
    /// What it is to be at most.
    pub(super) target: Option<f64>,
    /// What Veneur's takes, measured on a machine with two cores.
    pub(super) veneur: Option<f64>,
}

const fn row(name: &'static str, what: &'static str, tested: Tested, way: Way, mix: Mix) -> Row {
    Row {
        name,
        what,
        tested,
        unit: Unit::CpuMicroseconds,
        way,
        mix,
        batch: 1_000,
        rate: None,
        target: None,
        veneur: None,
    }
}

impl Row {
    const fn than(self, target: f64, veneur: f64) -> Self {
        Self {
            target: Some(target),
            veneur: Some(veneur),
            ..self
        }
    }

    const fn paced(self, batch: usize, rate: u64) -> Self {
        Self {
            batch,
            rate: Some(rate),
            ..self
        }
    }

    const fn measures(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }
}

/// All rows.
pub(super) const ROWS: &[Row] = &[
    row(
        "proxy-unary-counters",
        "proxy, unary in and out",
        Tested::Proxy,
        Way::Unary,
        Mix::Counters,
    )
    .than(0.20, 3.3),
    row(
        "proxy-unary-mixed",
        "proxy, unary in and out",
        Tested::Proxy,
        Way::Unary,
        Mix::Mixed,
    )
    .than(0.30, 4.6),
    row(
        "proxy-unary-digests",
        "proxy, unary in and out",
        Tested::Proxy,
        Way::Unary,
        Mix::Digests,
    )
    .than(0.45, 7.4),
    row(
        "proxy-stream-counters",
        "proxy, a small frame each in, unary out",
        Tested::Proxy,
        Way::Stream,
        Mix::Counters,
    )
    .than(0.45, 4.6),
    row(
        "proxy-stream-mixed",
        "proxy, a small frame each in, unary out",
        Tested::Proxy,
        Way::Stream,
        Mix::Mixed,
    )
    .than(0.60, 6.6),
    row(
        "proxy-stream-digests",
        "proxy, a small frame each in, unary out",
        Tested::Proxy,
        Way::Stream,
        Mix::Digests,
    )
    .than(0.90, 10.7),
    row(
        "agent-udp-packed",
        "agent, ten lines a datagram, 400,000 a second",
        Tested::Agent,
        Way::Udp,
        Mix::Mixed,
    )
    .paced(10, 400_000)
    .than(0.25, 2.6),
    row(
        "agent-udp-single",
        "agent, one line a datagram, 100,000 a second",
        Tested::Agent,
        Way::Udp,
        Mix::Mixed,
    )
    .paced(1, 100_000)
    .than(1.2, 6.6),
    row(
        "global-digests",
        "global, import of digests, flush included",
        Tested::Global,
        Way::Unary,
        Mix::Digests,
    )
    .than(1.5, 17.0),
    row(
        "global-mixed",
        "global, import of the mixed load, flush included",
        Tested::Global,
        Way::Unary,
        Mix::Mixed,
    )
    .than(0.9, 9.8),
    row(
        "agent-memory",
        "agent, 200,000 live series",
        Tested::Agent,
        Way::Udp,
        Mix::Mixed,
    )
    .paced(10, 100_000)
    .measures(Unit::KilobytesPerSeries)
    .than(0.7, 2.9),
    Row {
        target: Some(10.0),
        ..row(
            "global-flush",
            "global, flush of 1,000,000 series",
            Tested::Global,
            Way::Unary,
            Mix::Mixed,
        )
        .measures(Unit::StallMilliseconds)
    },
];

/// What a program is given to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) series: usize,
    pub(super) destinations: usize,
    pub(super) connections: usize,
    /// Metrics in a request, lines in a datagram.
    pub(super) batch: usize,
    /// Metrics a second; `None`: as many as it takes.
    pub(super) rate: Option<u64>,
    /// Of flushes.
    pub(super) interval: Duration,
    /// How long it is measured.
    pub(super) span: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub(super) outcome: Outcome,
    /// Bytes of memory while all connections stood and metrics came.
    pub(super) resident: u64,
}

/// Flushes are part of what a metric costs.
const INTERVAL: Duration = Duration::from_secs(2);
/// Nothing is flushed while memory is measured.
const NEVER: Duration = Duration::from_secs(3_600);
/// What is not there by then does not come.
const PATIENCE: Duration = Duration::from_secs(30);

impl Row {
    /// Whether the way there may lose something without anybody's fault.
    pub(super) fn may_lose(&self) -> bool {
        self.way == Way::Udp
    }

    /// The row of this name.
    pub(super) fn named(name: &str) -> io::Result<&'static Self> {
        let row = ROWS.iter().find(|row| row.name == name);
        row.ok_or_else(|| io::Error::other(format!("no row {name}")))
    }

    /// How it is measured where nothing else is asked for.
    fn setting(&self, options: &Options) -> Setting {
        Setting {
            series: options.series as usize,
            destinations: match self.tested {
                Tested::Proxy => options.destinations.into(),
                Tested::Agent => 1,
                Tested::Global => 0,
            },
            connections: options.connections.into(),
            batch: self.batch,
            rate: self.rate.map(|rate| options.scaled(rate as usize) as u64),
            interval: INTERVAL,
            span: options.span(),
        }
    }

    fn plan(&self, subject: &Subject, series: usize, options: &Options) -> Plan {
        let setting = Setting {
            series,
            ..self.setting(options)
        };
        self.plan_of(subject, &setting)
    }

    fn plan_of(&self, subject: &Subject, setting: &Setting) -> Plan {
        let udp = self.way == Way::Udp;
        Plan {
            way: self.way,
            to: if udp {
                subject.statsd.clone()
            } else {
                subject.grpc.clone()
            },
            connections: if udp { 1 } else { setting.connections },
            batch: setting.batch,
            rate: setting.rate,
            workload: Workload {
                mix: self.mix,
                series: setting.series,
                ..Workload::default()
            },
        }
    }

    /// Measures once.
    pub(super) async fn run(&self, options: &Options, peer: Option<&str>) -> io::Result<Outcome> {
        match self.unit {
            Unit::CpuMicroseconds => self.run_cpu(options, peer).await,
            Unit::KilobytesPerSeries => self.run_memory(options, peer).await,
            Unit::StallMilliseconds => self.run_flush(options, peer).await,
        }
    }

    async fn run_cpu(&self, options: &Options, peer: Option<&str>) -> io::Result<Outcome> {
        let measured = self.measure(&self.setting(options), peer).await?;
        Ok(measured.outcome)
    }

    /// Measures CPU time for each metric, and memory.
    pub(super) async fn measure(
        &self,
        setting: &Setting,
        peer: Option<&str>,
    ) -> io::Result<Measured> {
        let counting = Counting::start(setting.destinations).await?;
        let interval = setting.interval;
        let subject = Subject::start(self.tested, interval, &counting.addresses, peer).await?;
        let plan = self.plan_of(&subject, setting);
        let load = Load::start(&plan).await?;
        // Every series is known by then, and every buffer as large as it gets.
        while_sending(&load, Duration::from_secs(1)).await;
        let began = Instant::now();
        while load.sent() < setting.series as u64 && began.elapsed() < PATIENCE {
            while_sending(&load, Duration::from_millis(10)).await;
            if load.has_failed() {
                break;
            }
        }
        let (cpu, sent) = (meter::cpu(subject.pid)?, load.sent());
        while_sending(&load, setting.span).await;
        let resident = meter::resident(subject.pid)?;
        let total = load.stop().await?;
        let arrived = self.arrived(&subject, &counting, total).await?;
        let cpu = meter::cpu(subject.pid)? - cpu;
        let metrics = total - sent;
        let outcome = Outcome {
            value: cpu.as_secs_f64() * 1e6 / metrics.max(1) as f64,
            metrics,
            missing: arrived.map(|arrived| total as i64 - arrived as i64),
            peak: meter::peak(subject.pid)?,
        };
        Ok(Measured { outcome, resident })
    }

    /// How many of `total` metrics the program is known to have dealt with, once it has dealt with all or a while has passed.
    async fn arrived(
        &self,
        subject: &Subject,
        counting: &Counting,
        total: u64,
    ) -> io::Result<Option<u64>> {
        let (mut last, mut since) = (None, Instant::now());
        loop {
            let arrived = match self.tested {
                Tested::Proxy => Some(counting.taken()),
                Tested::Agent => subject.ledger("samples").await?,
                Tested::Global => subject.ledger("imported").await?,
            };
            if arrived.is_none() {
                // A peer's flush is part of the price, as ours is.
                tokio::time::sleep(INTERVAL).await;
                return Ok(None);
            }
            if arrived >= Some(total) {
                return Ok(arrived);
            }
            if arrived != last {
                (last, since) = (arrived, Instant::now());
            }
            // What UDP has lost does not come; a ledger is written at each flush.
            let patience = if self.may_lose() {
                3 * INTERVAL
            } else {
                PATIENCE
            };
            if since.elapsed() > patience {
                return Ok(arrived);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn run_memory(&self, options: &Options, peer: Option<&str>) -> io::Result<Outcome> {
        let counting = Counting::start(1).await?;
        let subject = Subject::start(self.tested, NEVER, &counting.addresses, peer).await?;
        let once = |series| {
            let plan = self.plan(&subject, series, options);
            async move {
                let load = Load::start(&plan).await?;
                while load.sent() < series as u64 && !load.has_failed() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                load.stop().await
            }
        };
        let few = 1_000;
        let series = options.scaled(200_000) + few;
        once(few).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = meter::resident(subject.pid)?;
        // Twice: what UDP loses once it does not lose again.
        once(series).await?;
        let metrics = once(series).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let grown = meter::resident(subject.pid)?.saturating_sub(before);
        Ok(Outcome {
            value: grown as f64 / 1e3 / (series - few) as f64,
            metrics,
            missing: None,
            peak: meter::peak(subject.pid)?,
        })
    }

    async fn run_flush(&self, options: &Options, peer: Option<&str>) -> io::Result<Outcome> {
        let interval = Duration::from_secs(if options.smoke { 3 } else { 20 });
        let subject = Subject::start(self.tested, interval, &[], peer).await?;
        let began = Instant::now();
        let many = self.plan(&subject, options.scaled(1_000_000), options);
        let series = many.workload.series as u64;
        let load = Load::start(&many).await?;
        while load.sent() < series && !load.has_failed() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut total = load.stop().await?;
        // Small requests, one after the other, over the flush.
        let few = Plan {
            connections: 1,
            batch: 10,
            rate: Some(10_000),
            workload: Workload {
                series: 100,
                ..many.workload
            },
            ..many
        };
        let probe = Load::start(&few).await?;
        let (mut longest, mut last, mut since) = (Duration::ZERO, 0, Instant::now());
        while began.elapsed() < interval + interval / 2 && !probe.has_failed() {
            tokio::time::sleep(Duration::from_micros(200)).await;
            let now = probe.sent();
            if now != last {
                // The pace leaves a millisecond between two.
                longest = longest.max(since.elapsed().saturating_sub(Duration::from_millis(1)));
                (last, since) = (now, Instant::now());
            }
        }
        total += probe.stop().await?;
        let none = Counting::start(0).await?;
        let arrived = self.arrived(&subject, &none, total).await?;
        Ok(Outcome {
            value: longest.as_secs_f64() * 1e3,
            metrics: total,
            missing: arrived.map(|arrived| total as i64 - arrived as i64),
            peak: meter::peak(subject.pid)?,
        })
    }
}

async fn while_sending(load: &Load, span: Duration) {
    let end = Instant::now() + span;
    while Instant::now() < end && !load.has_failed() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
