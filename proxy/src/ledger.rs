//! The proxy's books: what came in, and what became of it.
//!
//! What always holds, whenever nothing is being moved from one column to the next:
//! - what was received is skipped, refused, or taken;
//! - what was taken for a destination is delivered, returned, lost, routed again, or queued.
//!
//! *Returned* is what the sender still has, because it was told that it is not known to be merged: it is neither delivered nor lost here.
//! All numbers count metrics, and count from the start of the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// Metrics by cause.
pub type Causes = BTreeMap<&'static str, u64>;

/// Intervals that are kept.
const INTERVALS: usize = 60;

/// Accounts that are kept, of destinations that are there and that were: so much memory takes the coming and going of years.
const MOST_ACCOUNTS: usize = 1000;

/// In place of an address: the sum of those destinations that left longest ago.
const GONE: &str = "gone";

/// The books of a proxy; see the module.
#[derive(Debug, Default)]
pub struct Ledger {
    intake: Mutex<Intake>,
    accounts: Mutex<BTreeMap<Arc<str>, Arc<Account>>>,
    /// Accounts ever opened.
    opened: AtomicUsize,
    intervals: Mutex<Intervals>,
}

/// What came in, and what senders were told.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Intake {
    /// In requests and streams that could be read.
    pub received: u64,
    /// Not routable, by cause.
    pub skipped: Causes,
    /// In requests of which nothing was taken, by cause. The sender was told.
    pub refused: Causes,
    /// Known to be merged when the sender was answered.
    pub acknowledged: u64,
    /// Not known to be merged when the sender was answered.
    pub unacknowledged: u64,
    /// In requests that are not answered yet.
    pub waiting: u64,
    /// Lost because there was no destination to route them to.
    pub lost: Causes,
}

/// What became of one destination's metrics. It outlives the destination: one that comes back goes on with it, unless so many others came
/// meanwhile that it is part of the account `gone`.
#[derive(Debug, Default)]
pub struct Account {
    /// Which account of the process it is.
    number: usize,
    fates: Mutex<Fates>,
    queued: AtomicU64,
    pace: Mutex<Pace>,
}

/// What happened to one destination's metrics in the last whole interval.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pace {
    /// Routed there.
    pub received: u64,
    /// Taken by it.
    pub delivered: u64,
    #[serde(skip)]
    before: (u64, u64),
}

/// See [`Account`].
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Fates {
    /// Routed here.
    pub received: u64,
    /// Taken by the destination. Some of them it may have known already.
    pub delivered: u64,
    /// Left to their sender, by cause.
    pub returned: Causes,
    /// Never sent, and routed to another destination.
    pub rerouted: u64,
    /// Lost, by cause.
    pub lost: Causes,
    /// Queued or under way at present.
    pub queued: u64,
}

/// The whole ledger at one moment.
#[derive(Debug, Serialize)]
pub struct Statement {
    role: &'static str,
    totals: Totals,
    destinations: Vec<Line>,
    /// What changed in each of the last intervals, the oldest first.
    intervals: Vec<Interval>,
}

#[derive(Debug, Serialize)]
struct Line {
    address: Arc<str>,
    #[serde(flatten)]
    fates: Fates,
}

/// All that a proxy counts, in total.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// See [`Intake::received`].
    pub received: u64,
    /// See [`Intake::skipped`].
    pub skipped: Causes,
    /// See [`Intake::refused`].
    pub refused: Causes,
    /// Queued or under way at present.
    pub queued: u64,
    /// See [`Fates::delivered`].
    pub delivered: u64,
    /// See [`Fates::returned`].
    pub returned: Causes,
    /// Of all destinations, and of none.
    pub lost: Causes,
    /// See [`Intake::acknowledged`].
    pub acknowledged: u64,
    /// See [`Intake::unacknowledged`].
    pub unacknowledged: u64,
    /// See [`Intake::waiting`].
    pub waiting: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Interval {
    /// Its end, in seconds since the Unix epoch.
    pub(crate) end: u64,
    #[serde(flatten)]
    pub(crate) totals: Totals,
}

#[derive(Debug, Default)]
struct Intervals {
    kept: VecDeque<Interval>,
    before: Totals,
}

// === impl Ledger ===

impl Ledger {
    /// The account of a destination.
    pub fn account(&self, address: &Arc<str>) -> Arc<Account> {
        let mut accounts = self.accounts.lock();
        if let Some(known) = accounts.get(address) {
            return known.clone();
        }
        while accounts.len() >= MOST_ACCOUNTS && fold_oldest(&mut accounts) {}
        let account = Arc::new(Account {
            number: self.opened.fetch_add(1, Ordering::Relaxed),
            ..Account::default()
        });
        accounts.insert(address.clone(), account.clone());
        account
    }

    /// Changes what has to do with senders.
    pub fn intake(&self, change: impl FnOnce(&mut Intake)) {
        change(&mut self.intake.lock());
    }

    /// The sums.
    pub fn totals(&self) -> Totals {
        let intake = self.intake.lock().clone();
        let mut totals = Totals {
            received: intake.received,
            skipped: intake.skipped,
            refused: intake.refused,
            lost: intake.lost,
            acknowledged: intake.acknowledged,
            unacknowledged: intake.unacknowledged,
            waiting: intake.waiting,
            ..Totals::default()
        };
        for account in self.accounts.lock().values() {
            let fates = account.fates();
            totals.queued += fates.queued;
            totals.delivered += fates.delivered;
            add_all(&mut totals.returned, &fates.returned);
            add_all(&mut totals.lost, &fates.lost);
        }
        totals
    }

    /// Closes an interval that ends at this second since the Unix epoch.
    pub fn close_interval(&self, end: u64) {
        let now = self.totals();
        for account in self.accounts.lock().values() {
            account.keep_pace();
        }
        let mut intervals = self.intervals.lock();
        let totals = now.since(&intervals.before);
        intervals.before = now;
        if intervals.kept.len() == INTERVALS {
            intervals.kept.pop_front();
        }
        intervals.kept.push_back(Interval { end, totals });
    }

    /// What changed in each of the last intervals, the oldest first.
    pub(crate) fn intervals(&self) -> Vec<Interval> {
        self.intervals.lock().kept.iter().cloned().collect()
    }

    /// Everything.
    pub fn statement(&self) -> Statement {
        let accounts = self.accounts.lock().clone();
        Statement {
            role: "proxy",
            totals: self.totals(),
            destinations: accounts
                .into_iter()
                .map(|(address, account)| Line {
                    address,
                    fates: account.fates(),
                })
                .collect(),
            intervals: self.intervals(),
        }
    }
}

/// Adds the oldest account whose destination is gone to that of all those. False if there is none.
fn fold_oldest(accounts: &mut BTreeMap<Arc<str>, Arc<Account>>) -> bool {
    // Nobody can come to use one meanwhile: the caller holds the lock.
    let unused = accounts
        .iter()
        .filter(|(address, account)| ***address != *GONE && Arc::strong_count(account) == 1);
    let Some(oldest) = unused
        .min_by_key(|(_, account)| account.number)
        .map(|(address, _)| address.clone())
    else {
        return false;
    };
    if let Some(account) = accounts.remove(&oldest) {
        let gone = accounts.entry(GONE.into()).or_default();
        gone.fates.lock().add(&account.fates());
        return true;
    }
    false
}

// === impl Account ===

impl Account {
    /// What became of its metrics so far.
    pub fn fates(&self) -> Fates {
        let fates = self.fates.lock();
        Fates {
            queued: self.queued.load(Ordering::Relaxed),
            ..fates.clone()
        }
    }

    /// What happened in the last whole interval.
    pub fn pace(&self) -> Pace {
        *self.pace.lock()
    }

    fn keep_pace(&self) {
        let (received, delivered) = {
            let fates = self.fates.lock();
            (fates.received, fates.delivered)
        };
        let mut pace = self.pace.lock();
        *pace = Pace {
            received: received.saturating_sub(pace.before.0),
            delivered: delivered.saturating_sub(pace.before.1),
            before: (received, delivered),
        };
    }

    pub(crate) fn receive(&self, metrics: u64) {
        self.fates.lock().received += metrics;
    }

    pub(crate) fn deliver(&self, metrics: u64) {
        self.fates.lock().delivered += metrics;
    }

    pub(crate) fn reroute(&self, metrics: u64) {
        self.fates.lock().rerouted += metrics;
    }

    pub(crate) fn give_back(&self, cause: &'static str, metrics: u64) {
        add(&mut self.fates.lock().returned, cause, metrics);
    }

    pub(crate) fn lose(&self, cause: &'static str, metrics: u64) {
        add(&mut self.fates.lock().lost, cause, metrics);
    }

    pub(crate) fn enter(&self, metrics: u64) {
        self.queued.fetch_add(metrics, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self, metrics: u64) {
        self.queued.fetch_sub(metrics, Ordering::Relaxed);
    }
}

// === impl Fates ===

impl Fates {
    /// Adds those of a destination that is gone, and has nothing queued.
    fn add(&mut self, more: &Self) {
        self.received += more.received;
        self.delivered += more.delivered;
        add_all(&mut self.returned, &more.returned);
        self.rerouted += more.rerouted;
        add_all(&mut self.lost, &more.lost);
    }
}

// === impl Totals ===

impl Totals {
    /// What is not accounted for: 0 when nothing is on its way from one column to the next.
    pub fn residue(&self) -> i128 {
        let sum = |causes: &Causes| i128::from(causes.values().sum::<u64>());
        i128::from(self.received)
            - sum(&self.skipped)
            - sum(&self.refused)
            - i128::from(self.delivered)
            - sum(&self.returned)
            - sum(&self.lost)
            - i128::from(self.queued)
    }

    /// What was added after `before`; what is queued and waiting stays as it is.
    fn since(&self, before: &Self) -> Self {
        Self {
            received: self.received.saturating_sub(before.received),
            skipped: less(&self.skipped, &before.skipped),
            refused: less(&self.refused, &before.refused),
            queued: self.queued,
            delivered: self.delivered.saturating_sub(before.delivered),
            returned: less(&self.returned, &before.returned),
            lost: less(&self.lost, &before.lost),
            acknowledged: self.acknowledged.saturating_sub(before.acknowledged),
            unacknowledged: self.unacknowledged.saturating_sub(before.unacknowledged),
            waiting: self.waiting,
        }
    }
}

/// Adds metrics of a cause.
pub(crate) fn add(causes: &mut Causes, cause: &'static str, metrics: u64) {
    if metrics > 0 {
        *causes.entry(cause).or_default() += metrics;
    }
}

fn add_all(causes: &mut Causes, more: &Causes) {
    for (cause, metrics) in more {
        add(causes, cause, *metrics);
    }
}

fn less(causes: &Causes, before: &Causes) -> Causes {
    causes
        .iter()
        .map(|(cause, metrics)| (*cause, metrics - before.get(cause).unwrap_or(&0)))
        .filter(|(_, metrics)| *metrics > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_booked_adds_up_and_an_interval_shows_what_is_new() {
        let ledger = Ledger::default();
        let account = ledger.account(&"a:1".into());
        ledger.intake(|intake| intake.received += 10);
        assert_eq!(ledger.totals().residue(), 10);
        ledger.intake(|intake| add(&mut intake.skipped, "name", 1));
        account.receive(9);
        account.enter(9);
        assert_eq!(ledger.totals().residue(), 0);
        account.leave(8);
        account.deliver(5);
        account.give_back("late", 2);
        account.lose("timeout", 1);
        let totals = ledger.totals();
        assert_eq!((totals.residue(), totals.queued), (0, 1));
        ledger.close_interval(10);
        account.leave(1);
        // The same account after the destination came back.
        ledger.account(&"a:1".into()).deliver(1);
        ledger.close_interval(20);
        let pace = account.pace();
        assert_eq!((pace.received, pace.delivered), (0, 1));
        let statement = serde_json::to_value(ledger.statement()).unwrap();
        assert_eq!(statement["role"], "proxy");
        assert_eq!(statement["totals"]["delivered"], 6);
        assert_eq!(statement["destinations"][0]["address"], "a:1");
        assert_eq!(statement["destinations"][0]["lost"]["timeout"], 1);
        assert_eq!(statement["intervals"][0]["delivered"], 5);
        assert_eq!(statement["intervals"][1]["delivered"], 1);
        assert_eq!(statement["intervals"][1]["lost"], serde_json::json!({}));
        for end in 3..100 {
            ledger.close_interval(end);
        }
        assert_eq!(ledger.statement().intervals.len(), INTERVALS);
    }

    #[test]
    fn of_too_many_accounts_those_that_are_gone_longest_become_one() {
        let ledger = Ledger::default();
        let staying = ledger.account(&"staying:1".into());
        for number in 0..5000_u64 {
            let account = ledger.account(&format!("a{number}:1").into());
            account.receive(2);
            account.deliver(1);
            account.lose("timeout", 1);
            staying.receive(1);
        }
        let accounts = ledger.accounts.lock().clone();
        assert!(accounts.len() <= MOST_ACCOUNTS + 1);
        let gone = accounts[GONE].fates();
        assert!(gone.delivered > 3900 && gone.received == 2 * gone.delivered);
        assert_eq!(accounts["staying:1"].fates().received, 5000);
        assert!(accounts.contains_key("a4999:1") && !accounts.contains_key("a0:1"));
        let totals = ledger.totals();
        assert_eq!((totals.delivered, totals.lost["timeout"]), (5000, 5000));
    }
}
