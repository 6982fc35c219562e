use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use super::*;

fn addresses(count: usize) -> Vec<String> {
    (1..=count)
        .map(|i| format!("10.0.{}.{}:8128", i / 250, i % 250))
        .collect()
}

fn ring(algorithm: Algorithm, addresses: &[String]) -> Ring {
    let members = addresses
        .iter()
        .map(|address| Member::new(address.as_str()));
    Ring::build(algorithm, members).unwrap()
}

fn keys(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|i| {
        let kind = ["counter", "gauge", "histogram", "set", "timer"][i % 5];
        format!("svc.{}.latency_{}{kind}env:prod,id:{i}", i % 97, i % 13)
    })
}

fn owner<'a>(ring: &'a Ring, key: &str) -> &'a str {
    &ring.owner_of(key.as_bytes()).unwrap().address
}

/// Everything that the real Veneur placed: `tests/fixtures/veneur/ring.json`.
#[derive(Deserialize)]
struct Golden {
    keys: Vec<String>,
    rings: Vec<GoldenRing>,
    examples_5_nodes: GoldenExamples,
    collisions: Vec<GoldenCollision>,
}

#[derive(Deserialize)]
struct GoldenRing {
    name: String,
    members: Vec<String>,
    placement: Vec<usize>,
    removed_index: usize,
    placement_after_remove: Vec<usize>,
}

#[derive(Deserialize)]
struct GoldenExamples {
    members: Vec<String>,
    examples: Vec<GoldenExample>,
}

#[derive(Deserialize)]
struct GoldenExample {
    key: String,
    destination: String,
}

#[derive(Deserialize)]
struct GoldenCollision {
    key: String,
    members: Vec<String>,
    owner_add_order_0_1: String,
    owner_add_order_1_0: String,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/fixtures/veneur/ring.json")).unwrap()
}

#[test]
fn veneur_rings_place_every_recorded_key_as_the_original_did() {
    let golden = golden();
    assert!(golden.rings.len() >= 5 && golden.keys.len() == 1000);
    for case in &golden.rings {
        let whole = ring(Algorithm::Veneur, &case.members);
        let mut left = case.members.clone();
        left.remove(case.removed_index);
        let reduced = ring(Algorithm::Veneur, &left);
        for (index, key) in golden.keys.iter().enumerate() {
            let before = &case.members[case.placement[index]];
            let after = &case.members[case.placement_after_remove[index]];
            assert_eq!(owner(&whole, key), before, "{} {key}", case.name);
            assert_eq!(owner(&reduced, key), after, "{} {key}, one less", case.name);
        }
    }
    let five = ring(Algorithm::Veneur, &golden.examples_5_nodes.members);
    for example in &golden.examples_5_nodes.examples {
        assert_eq!(owner(&five, &example.key), example.destination);
    }
}

#[test]
fn a_point_that_two_veneur_members_share_belongs_to_the_one_added_last() {
    let collisions = golden().collisions;
    assert_eq!(collisions.len(), 2);
    for case in collisions {
        let forward = ring(Algorithm::Veneur, &case.members);
        assert_eq!(owner(&forward, &case.key), case.owner_add_order_0_1);
        let backward: Vec<String> = case.members.iter().rev().cloned().collect();
        let backward = ring(Algorithm::Veneur, &backward);
        assert_eq!(owner(&backward, &case.key), case.owner_add_order_1_0);
    }
}

/// If this fails, a fleet that mixes versions would split its series between globals.
#[test]
fn the_owners_of_100_000_keys_never_change() {
    let fingerprint = |ring: &Ring| {
        let mut owners = String::new();
        for key in keys(100_000) {
            owners.push_str(owner(ring, &key));
            owners.push('\n');
        }
        format!("{:016x}", xxh3_64(owners.as_bytes()))
    };
    let plain = |algorithm| fingerprint(&ring(algorithm, &addresses(10)));
    assert_eq!(plain(Algorithm::Hashring), "9dc98fb8bb0f22a8");
    assert_eq!(plain(Algorithm::Veneur), "1ed4e49aeec96d08");
    let weighted = Ring::build(Algorithm::Hashring, weighted(10)).unwrap();
    assert_eq!(fingerprint(&weighted), "59d3bb5c1bccb85e");
}

/// The fullest destination's keys against the mean.
fn peak(ring: &Ring, keys: &[String]) -> f64 {
    let mut load = vec![0_u32; ring.members().len()];
    for key in keys {
        load[ring.owner(key.as_bytes()).unwrap()] += 1;
    }
    let mean = keys.len() as f64 / load.len() as f64;
    f64::from(load.into_iter().max().unwrap()) / mean
}

#[test]
fn no_destination_gets_more_than_a_tenth_above_its_share() {
    let keys: Vec<String> = keys(200_000).collect();
    for count in [3, 4, 5, 10, 30, 64, 99, 100] {
        let peak = peak(&ring(Algorithm::Hashring, &addresses(count)), &keys);
        assert!(peak <= 1.10, "{count}: peak/mean {peak}");
    }
}

#[test]
#[ignore = "takes minutes in a debug build, and the sizes of the tests beside it stand for the others"]
fn every_ring_from_3_to_100_is_even_and_grows_by_moving_a_fair_share() {
    let keys: Vec<String> = keys(200_000).collect();
    let (mut fullest, mut farthest) = (0.0_f64, 0.0_f64);
    let mut before: Option<Ring> = None;
    for count in 3..=100 {
        let ring = ring(Algorithm::Hashring, &addresses(count));
        let peak = peak(&ring, &keys);
        assert!(peak <= 1.10, "{count}: peak/mean {peak}");
        fullest = fullest.max(peak);
        if let Some(before) = before {
            let moves = |key: &&String| owner(&before, key) != owner(&ring, key);
            let moved = keys.iter().filter(moves).count();
            let share = moved as f64 / keys.len() as f64 * count as f64;
            assert!(share <= 1.15, "{count}: {share} of a fair share moved");
            farthest = farthest.max(share);
        }
        before = Some(ring);
    }
    #[allow(
        clippy::print_stdout,
        reason = "whoever runs it by hand wants the figures"
    )]
    {
        println!("peak/mean at most {fullest:.3}, moved at most {farthest:.3}/N");
    }
}

#[test]
fn a_destination_that_comes_or_goes_moves_its_own_keys_and_no_others() {
    let keys: Vec<String> = keys(200_000).collect();
    for algorithm in [Algorithm::Hashring, Algorithm::Veneur] {
        for count in [3, 10, 50, 99] {
            let with = addresses(count + 1);
            let without: Vec<String> = with[..count].to_vec();
            let (large, small) = (ring(algorithm, &with), ring(algorithm, &without));
            let newcomer = with[count].as_str();
            let mut moved = 0;
            for key in &keys {
                let (before, after) = (owner(&small, key), owner(&large, key));
                if before != after {
                    assert_eq!(after, newcomer, "{key} moved between old destinations");
                    moved += 1;
                }
            }
            let share = f64::from(moved) / keys.len() as f64;
            if algorithm == Algorithm::Hashring {
                let fair = 1.0 / (count + 1) as f64;
                assert!(share <= 1.15 * fair, "{count}+1: {share} moved");
                assert!(share >= 0.85 * fair, "{count}+1: only {share} moved");
            }
        }
    }
}

#[test]
fn the_order_and_the_repetition_of_hashring_members_mean_nothing() {
    let ordered = addresses(20);
    let mut shuffled: Vec<String> = ordered.iter().rev().cloned().collect();
    shuffled.push(ordered[7].clone());
    let (a, b) = (
        ring(Algorithm::Hashring, &ordered),
        ring(Algorithm::Hashring, &shuffled),
    );
    assert_eq!(a.members(), b.members());
    for key in keys(20_000) {
        assert_eq!(owner(&a, &key), owner(&b, &key));
    }
}

#[test]
fn weight_scales_the_share() {
    let members = [("a:1", 1), ("b:1", 2), ("c:1", 0)].map(|(address, weight)| Member {
        weight,
        ..Member::new(address)
    });
    let ring = Ring::build(Algorithm::Hashring, members).unwrap();
    let mut load = [0_u32; 3];
    for key in keys(60_000) {
        load[ring.owner(key.as_bytes()).unwrap()] += 1;
    }
    assert!((19_000..21_000).contains(&load[0]), "{load:?}");
    assert!((39_000..41_000).contains(&load[1]), "{load:?}");
    assert_eq!(load[2], 0);
}

/// Weights 1, 2, 3, 1, 2, 3…
fn weighted(count: usize) -> Vec<Member> {
    let weighed = addresses(count)
        .into_iter()
        .zip([1, 2, 3].into_iter().cycle());
    weighed
        .map(|(address, weight)| Member {
            weight,
            ..Member::new(address)
        })
        .collect()
}

#[test]
fn no_destination_gets_more_than_a_tenth_above_what_its_weight_gives_it() {
    let keys: Vec<String> = keys(200_000).collect();
    for count in [3, 10, 30] {
        let members = weighted(count);
        let total: u32 = members.iter().map(|member| u32::from(member.weight)).sum();
        let ring = Ring::build(Algorithm::Hashring, members).unwrap();
        let mut load = vec![0_u32; count];
        for key in &keys {
            load[ring.owner(key.as_bytes()).unwrap()] += 1;
        }
        for (member, load) in ring.members().iter().zip(load) {
            let fair = keys.len() as f64 * f64::from(member.weight) / f64::from(total);
            let share = f64::from(load) / fair;
            assert!((0.90..=1.10).contains(&share), "{count}: {member} {share}");
        }
    }
}

#[test]
fn a_weight_that_changes_moves_the_difference_and_nothing_else() {
    let before = weighted(10);
    let mut after = before.clone();
    after[4].weight += 1;
    let grown = after[4].address.clone();
    let before = Ring::build(Algorithm::Hashring, before).unwrap();
    let after = Ring::build(Algorithm::Hashring, after).unwrap();
    let mut moved = 0;
    for key in keys(200_000) {
        let (from, to) = (owner(&before, &key), owner(&after, &key));
        if from != to {
            assert_eq!(to, &*grown, "{key} moved between others");
            moved += 1;
        }
    }
    // From 2 of 19 to 3 of 20.
    let fair = 3.0 / 20.0 - 2.0 / 19.0;
    let share = f64::from(moved) / 200_000.0;
    assert!((0.85 * fair..=1.15 * fair).contains(&share), "{share}");
}

#[test]
fn a_ring_is_of_the_members_that_would_make_it_with_their_weights() {
    let members = weighted(4);
    let ring = Ring::build(Algorithm::Hashring, members.clone()).unwrap();
    let mut other: Vec<Member> = members.iter().rev().cloned().collect();
    assert!(ring.is_of(&other));
    other[0].weight += 1;
    assert!(!ring.is_of(&other));
}

#[test]
fn a_ring_without_members_owns_nothing() {
    for algorithm in [Algorithm::Hashring, Algorithm::Veneur] {
        let ring = Ring::build(algorithm, []).unwrap();
        assert_eq!(ring.owner(b"key"), None);
        assert!(ring.owner_of(b"key").is_none());
    }
}

#[test]
fn a_list_beyond_the_limits_is_refused() {
    let heavy = Member {
        weight: u16::MAX,
        ..Member::new("a:1")
    };
    let error = Ring::build(Algorithm::Hashring, [heavy]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the destinations' weights add up to 65535, more than 16384"
    );
    let many = (0..70_000).map(|i| Member::new(format!("h{i}:1")));
    assert_eq!(
        Ring::build(Algorithm::Hashring, many).unwrap_err(),
        RingError::TooManyMembers(70_000)
    );
}

#[test]
fn shares_are_the_parts_of_keys_that_members_own() {
    let addresses = addresses(5);
    let members = |weight| {
        let last = addresses.len() - 1;
        addresses
            .iter()
            .enumerate()
            .map(move |(place, address)| Member {
                address: address.as_str().into(),
                weight: if place == last { weight } else { 1 },
            })
    };
    for algorithm in [Algorithm::Hashring, Algorithm::Veneur] {
        let ring = Ring::build(algorithm, members(3)).unwrap();
        let shares = ring.shares();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let mut owned = vec![0.0; shares.len()];
        keys(100_000).for_each(|key| owned[ring.owner(key.as_bytes()).unwrap()] += 1e-5);
        for (share, owned) in shares.iter().zip(owned) {
            assert!(
                (share - owned).abs() < 0.01,
                "{algorithm:?}: {share} {owned}"
            );
        }
        let nobody = Ring::build(algorithm, []).unwrap();
        assert_eq!(nobody.shares(), Vec::<f64>::new());
    }
}
