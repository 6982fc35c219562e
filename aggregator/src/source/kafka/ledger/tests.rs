use proptest::prelude::*;

use super::*;

fn place(partition: i32) -> Place {
    ("t".into(), partition)
}

fn ledger(in_flight: usize) -> Ledger {
    let mut ledger = Ledger::new(Bounds {
        in_flight,
        unread_bytes: 1 << 20,
    });
    ledger.assign([place(0), place(1)]);
    ledger
}

/// Reads offsets of a partition as one batch.
fn batch(ledger: &mut Ledger, partition: i32, offsets: std::ops::Range<i64>) -> Ticket {
    for offset in offsets {
        assert!(ledger.take(&place(partition), offset, 10));
    }
    let mut ticket = ledger.close_batch().unwrap();
    let points = ticket.messages;
    ledger.read(&mut ticket, points);
    ticket
}

fn committed(ledger: &mut Ledger) -> Vec<(i32, i64)> {
    let mut found: Vec<_> = ledger
        .committable()
        .into_iter()
        .map(|((_, partition), offset)| (partition, offset))
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn an_offset_is_committable_when_all_before_it_are_done() {
    let (mut ledger, now) = (ledger(100), Instant::now());
    let first = batch(&mut ledger, 0, 5..8);
    let second = batch(&mut ledger, 0, 8..10);
    let other = batch(&mut ledger, 1, 0..1);
    ledger.settle(second, true, now);
    assert_eq!(committed(&mut ledger), []);
    ledger.settle(other, true, now);
    assert_eq!(committed(&mut ledger), [(1, 1)]);
    assert!(ledger.waits_for(&[place(0)]) && !ledger.waits_for(&[place(1)]));
    ledger.settle(first, true, now);
    assert_eq!(committed(&mut ledger), [(0, 10)]);
    assert_eq!(committed(&mut ledger), [], "asked for once");
    ledger.not_committed("t", 0);
    assert_eq!(committed(&mut ledger), [(0, 10)]);
    assert_eq!(ledger.out(), Out::default());
}

#[test]
fn what_is_done_behind_one_that_waits_takes_no_room() {
    let (mut ledger, now) = (ledger(100), Instant::now());
    let mut waits = batch(&mut ledger, 0, 0..50);
    ledger.partly(&mut waits, 49, 50);
    let left = Out {
        messages: 1,
        ..Out::default()
    };
    assert_eq!(ledger.out(), left);
    let tickets: Vec<_> = (50..80).map(|i| batch(&mut ledger, 0, i..i + 1)).collect();
    for ticket in tickets {
        ledger.settle(ticket, true, now);
    }
    assert_eq!((ledger.out(), ledger.runs), (left, 2));
    assert_eq!(committed(&mut ledger), []);
    ledger.settle(waits, true, now);
    assert_eq!(committed(&mut ledger), [(0, 80)]);
    assert_eq!((ledger.out(), ledger.runs), (Out::default(), 0));
}

#[test]
fn what_is_lost_is_read_again_with_all_behind_it() {
    let (mut ledger, now) = (ledger(100), Instant::now());
    let first = batch(&mut ledger, 0, 0..2);
    let second = batch(&mut ledger, 0, 2..4);
    let third = batch(&mut ledger, 0, 4..6);
    // Read, and not handed on yet.
    assert!(ledger.take(&place(0), 6, 10));
    assert_eq!(ledger.settle(second, false, now), 2);
    assert!(
        !ledger.take(&place(0), 7, 10),
        "from 2 on, and not before its time"
    );
    ledger.settle(third, true, now);
    assert_eq!(committed(&mut ledger), []);
    ledger.settle(first, true, now);
    assert_eq!(committed(&mut ledger), [(0, 2)]);
    assert_eq!(ledger.due(now), []);
    let later = now + FIRST_PAUSE;
    assert_eq!(ledger.due(later), [(place(0), 2)]);
    ledger.postpone(&place(0), later);
    assert_eq!(ledger.due(later), []);
    ledger.resumed(&place(0));
    for offset in 2..8 {
        assert!(ledger.take(&place(0), offset, 10));
    }
    // With what was read before the loss in the same batch.
    let again = ledger.close_batch().unwrap();
    ledger.settle(again, true, now);
    assert_eq!(committed(&mut ledger), [(0, 8)]);
    assert_eq!(ledger.out(), Out::default());
}

#[test]
fn a_fate_that_comes_too_late_changes_nothing() {
    let (mut ledger, now) = (ledger(100), Instant::now());
    let late = batch(&mut ledger, 0, 0..5);
    ledger.revoke(&[place(0)]);
    assert!(!ledger.take(&place(0), 5, 10));
    assert_eq!(ledger.assigned(), 1);
    ledger.assign([place(0)]);
    let fresh = batch(&mut ledger, 0, 2..3);
    ledger.settle(late, true, now);
    assert_eq!(committed(&mut ledger), []);
    assert_eq!(ledger.out().messages, 1, "and is out no longer");
    ledger.settle(fresh, true, now);
    assert_eq!(committed(&mut ledger), [(0, 3)]);
}

#[test]
fn it_is_full_at_the_bound_and_smaller_after_a_loss() {
    let (mut ledger, now) = (ledger(40), Instant::now());
    let first = batch(&mut ledger, 0, 0..39);
    assert!(!ledger.is_full());
    let second = batch(&mut ledger, 1, 0..1);
    assert!(ledger.is_full() && !ledger.has_room());
    ledger.settle(first, true, now);
    assert!(ledger.has_room());
    ledger.settle(second, false, now);
    assert_eq!(ledger.window(), 20);
    for _ in 0..10 {
        let lost = batch(&mut ledger, 0, 39..40);
        ledger.settle(lost, false, now);
        ledger.resumed(&place(0));
    }
    assert_eq!(ledger.window(), 1, "one at a time, at worst");
    for offset in 39..90 {
        let good = batch(&mut ledger, 0, offset..offset + 1);
        ledger.settle(good, true, now);
    }
    assert_eq!(ledger.window(), 40);
}

#[test]
fn more_points_than_messages_count_and_so_do_bytes_until_they_are_points() {
    let mut ledger = ledger(1000);
    assert!(ledger.take(&place(0), 0, 1 << 20));
    assert!(ledger.is_full());
    let mut ticket = ledger.close_batch().unwrap();
    ledger.read(&mut ticket, 5);
    assert!(!ledger.is_full());
    ledger.read(&mut ticket, 995);
    assert!(ledger.is_full());
    ledger.settle(ticket, true, Instant::now());
    assert!(ledger.has_room());
    assert_eq!(ledger.out(), Out::default());
}

/// A partition of a broker, read through a ledger by a reader that may be anything.
#[derive(Debug, Clone)]
enum Step {
    Read(u8),
    Close,
    Done(usize),
    Lost(usize),
    Rebalance,
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..5_u8).prop_map(Step::Read),
        3 => Just(Step::Close),
        4 => (0..8_usize).prop_map(Step::Done),
        1 => (0..8_usize).prop_map(Step::Lost),
        1 => Just(Step::Rebalance),
        2 => Just(Step::Commit),
    ]
}

proptest! {
    /// Whatever happens in whatever order: nothing is committed that was not stored, and in the end all is.
    #[test]
    fn nothing_is_committed_before_it_is_stored(steps in prop::collection::vec(step(), 1..80)) {
        let mut ledger = Ledger::new(Bounds { in_flight: 1 << 20, unread_bytes: 1 << 30 });
        let now = Instant::now();
        let (mut position, mut kept) = (0_i64, 0_i64);
        let mut stored = std::collections::BTreeSet::new();
        let mut out: Vec<(Ticket, Vec<i64>)> = Vec::new();
        let mut open = Vec::new();
        ledger.assign([place(0)]);
        let last = [Step::Read(1), Step::Close];
        for step in steps.into_iter().chain(last) {
            match step {
                Step::Read(count) => {
                    for (place, offset) in ledger.due(now + LONGEST_PAUSE) {
                        position = offset;
                        ledger.resumed(&place);
                    }
                    for _ in 0..count {
                        if ledger.take(&place(0), position, 1) {
                            open.push(position);
                        }
                        position += 1;
                    }
                }
                Step::Close => {
                    if let Some(ticket) = ledger.close_batch() {
                        out.push((ticket, std::mem::take(&mut open)));
                    }
                }
                Step::Done(which) | Step::Lost(which) if out.is_empty() => { let _ = which; }
                Step::Done(which) => {
                    let (ticket, offsets) = out.remove(which % out.len());
                    stored.extend(offsets);
                    ledger.settle(ticket, true, now);
                }
                Step::Lost(which) => {
                    let (ticket, _) = out.remove(which % out.len());
                    ledger.settle(ticket, false, now);
                }
                Step::Rebalance => {
                    ledger.revoke(&[place(0)]);
                    ledger.assign([place(0)]);
                    position = kept;
                }
                Step::Commit => {
                    for (_, offset) in ledger.committable() {
                        kept = offset;
                        let all = (0..offset).all(|offset| stored.contains(&offset));
                        prop_assert!(all, "{offset} is committed, stored are {stored:?}");
                    }
                }
            }
        }
        for (ticket, offsets) in out {
            stored.extend(offsets);
            ledger.settle(ticket, true, now);
        }
        prop_assert_eq!(ledger.out(), Out::default());
        prop_assert_eq!(ledger.runs, 0);
        for (place, offset) in ledger.due(now + LONGEST_PAUSE) {
            position = offset;
            ledger.resumed(&place);
        }
        prop_assert!(ledger.take(&place(0), position, 1));
        let ticket = ledger.close_batch().unwrap();
        stored.insert(position);
        ledger.settle(ticket, true, now);
        let end: Vec<_> = ledger.committable().into_iter().map(|(_, offset)| offset).collect();
        prop_assert_eq!(end, [position + 1]);
        prop_assert!((0..=position).all(|offset| stored.contains(&offset)));
    }
}
