//! `tributary ring simulate`: what a change of the destinations does to the keys.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tributary_proxy::ring::{Algorithm, Member, Ring};

use super::{keys, report};

/// The change, and the keys to look at.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The destinations before, `host:port`, separated by commas.
    #[arg(long, value_delimiter = ',', required = true, value_name = "ADDRESS,…")]
    pub before: Vec<String>,
    /// The destinations after.
    #[arg(long, value_delimiter = ',', required = true, value_name = "ADDRESS,…")]
    pub after: Vec<String>,
    /// Weights of destinations, before as well as after; those not named weigh 1.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS=WEIGHT,…", value_parser = weight)]
    pub weights: Vec<(String, u16)>,
    /// Weights that hold only after the change, in place of those of `--weights`.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS=WEIGHT,…", value_parser = weight)]
    pub weights_after: Vec<(String, u16)>,
    /// How keys are placed, as `ring.algorithm` of a proxy's settings.
    #[arg(long, value_enum, default_value_t = AlgorithmName::Hashring)]
    pub algorithm: AlgorithmName,
    /// How many made-up keys are placed.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub keys: u64,
    /// Place the keys of this file instead: `name|type|tag,tag` lines as for `tributary-proxy owner`; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "keys")]
    pub keys_from: Option<PathBuf>,
    /// Answer with a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// [`Algorithm`] as it is written on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AlgorithmName {
    /// Even and fast.
    Hashring,
    /// The placement of Veneur's proxies.
    Veneur,
}

impl From<AlgorithmName> for Algorithm {
    fn from(name: AlgorithmName) -> Self {
        match name {
            AlgorithmName::Hashring => Self::Hashring,
            AlgorithmName::Veneur => Self::Veneur,
        }
    }
}

/// What a change does. Shares are parts of 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Simulation {
    /// How keys are placed.
    pub algorithm: Algorithm,
    /// How many keys were placed.
    pub keys: u64,
    /// Keys that have another owner after than before.
    pub moved: u64,
    /// Their share.
    pub moved_share: f64,
    /// The least share that has to move for each destination to own the part that its weight is of all.
    pub ideal_share: f64,
    /// The most that a destination has before, against what its weight says: 1 is perfect.
    pub peak_to_mean_before: f64,
    /// The same after.
    pub peak_to_mean_after: f64,
    /// One for each destination of before or after, by address.
    pub destinations: Vec<Change>,
}

/// What happens to one destination.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// `host:port`
    pub address: String,
    /// Before; `None`: it is not on that ring.
    pub before: Option<Load>,
    /// After; `None`: it is not on that ring.
    pub after: Option<Load>,
    /// Keys that it owns only after.
    pub gained: u64,
    /// Keys that it owned only before.
    pub lost: u64,
}

/// What a destination has on one ring.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Load {
    /// Its weight.
    pub weight: u16,
    /// The keys that it owns.
    pub keys: u64,
    /// Their share.
    pub share: f64,
    /// The share that its weight is of all weights.
    pub fair_share: f64,
}

fn weight(text: &str) -> Result<(String, u16), String> {
    let (address, weight) = text
        .rsplit_once('=')
        .ok_or("write it like 10.0.0.1:8128=2")?;
    let weight = weight
        .parse()
        .map_err(|_| format!("{weight:?} is no weight, which is 0 to {}", u16::MAX))?;
    Ok((address.to_owned(), weight))
}

/// Prints the answer. 1 if there is none.
pub(super) fn run(options: &Options) -> ExitCode {
    let answered = simulate(options).and_then(|simulation| {
        let text = match options.json {
            true => serde_json::to_string_pretty(&simulation).map_err(|error| error.to_string())?,
            false => report::text(&simulation),
        };
        writeln!(std::io::stdout(), "{}", text.trim_end()).map_err(|error| error.to_string())
    });
    match answered {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when even that fails.
            let _ = writeln!(std::io::stderr(), "tributary: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Places the keys on both rings.
///
/// # Errors
/// In words: a ring that cannot be built, a weight of nobody, or keys that cannot be read.
pub fn simulate(options: &Options) -> Result<Simulation, String> {
    let known =
        |address: &String| options.before.contains(address) || options.after.contains(address);
    let named = options.weights.iter().chain(&options.weights_after);
    if let Some((address, _)) = named.into_iter().find(|(address, _)| !known(address)) {
        return Err(format!(
            "{address} has a weight, and is neither before nor after"
        ));
    }
    let algorithm = options.algorithm.into();
    let ring = |addresses: &[String], weights: &[&[(String, u16)]]| {
        let members = addresses.iter().map(|address| Member {
            address: address.as_str().into(),
            weight: weight_of(address, weights),
        });
        let ring = Ring::build(algorithm, members).map_err(|error| error.to_string())?;
        match total_weight(&ring) {
            0 => Err("no destination has any weight".to_owned()),
            _ => Ok(ring),
        }
    };
    let before = ring(&options.before, &[&options.weights])?;
    let after = ring(&options.after, &[&options.weights_after, &options.weights])?;
    let simulation = match &options.keys_from {
        None => place(&before, &after, keys::made_up(options.keys)),
        Some(path) => place(&before, &after, keys::from_file(path)?.into_iter()),
    };
    Ok(simulation)
}

fn weight_of(address: &str, weights: &[&[(String, u16)]]) -> u16 {
    let mut named = weights.iter().copied().flatten();
    named
        .find(|(named, _)| named == address)
        .map_or(1, |(_, weight)| *weight)
}

fn total_weight(ring: &Ring) -> u64 {
    ring.members()
        .iter()
        .map(|member| u64::from(member.weight))
        .sum()
}

fn place(before: &Ring, after: &Ring, keys: impl Iterator<Item = Vec<u8>>) -> Simulation {
    let mut owned_before = vec![0_u64; before.members().len()];
    let mut owned_after = vec![0_u64; after.members().len()];
    let mut gained: BTreeMap<&str, u64> = BTreeMap::new();
    let mut lost: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut total, mut moved) = (0_u64, 0_u64);
    for key in keys {
        total += 1;
        let (old, new) = (before.owner(&key), after.owner(&key));
        count(&mut owned_before, old);
        count(&mut owned_after, new);
        let old = old.and_then(|index| before.members().get(index));
        let new = new.and_then(|index| after.members().get(index));
        if let (Some(old), Some(new)) = (old, new)
            && old.address != new.address
        {
            moved += 1;
            *lost.entry(&*old.address).or_default() += 1;
            *gained.entry(&*new.address).or_default() += 1;
        }
    }
    let loads_before = loads(before, &owned_before, total);
    let loads_after = loads(after, &owned_after, total);
    let mut addresses: Vec<&str> = loads_before
        .keys()
        .chain(loads_after.keys())
        .copied()
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let destinations: Vec<Change> = addresses
        .into_iter()
        .map(|address| Change {
            address: address.to_owned(),
            before: loads_before.get(address).copied(),
            after: loads_after.get(address).copied(),
            gained: gained.get(address).copied().unwrap_or_default(),
            lost: lost.get(address).copied().unwrap_or_default(),
        })
        .collect();
    Simulation {
        algorithm: before.algorithm(),
        keys: total,
        moved,
        moved_share: part(moved, total),
        ideal_share: destinations.iter().map(gain_due).sum(),
        peak_to_mean_before: peak(loads_before.values()),
        peak_to_mean_after: peak(loads_after.values()),
        destinations,
    }
}

fn count(owned: &mut [u64], owner: Option<usize>) {
    if let Some(keys) = owner.and_then(|owner| owned.get_mut(owner)) {
        *keys += 1;
    }
}

fn loads<'r>(ring: &'r Ring, owned: &[u64], total: u64) -> BTreeMap<&'r str, Load> {
    let weights = total_weight(ring);
    let load = |(member, keys): (&'r Member, &u64)| {
        let load = Load {
            weight: member.weight,
            keys: *keys,
            share: part(*keys, total),
            fair_share: part(u64::from(member.weight), weights),
        };
        (&*member.address, load)
    };
    ring.members().iter().zip(owned).map(load).collect()
}

/// The share that a destination has to get from others, by the weights.
fn gain_due(change: &Change) -> f64 {
    let fair = |load: Option<Load>| load.map_or(0.0, |load| load.fair_share);
    (fair(change.after) - fair(change.before)).max(0.0)
}

fn peak<'l>(loads: impl Iterator<Item = &'l Load>) -> f64 {
    loads
        .filter(|load| load.weight > 0)
        .map(|load| load.share / load.fair_share)
        .fold(0.0, f64::max)
}

fn part(some: u64, all: u64) -> f64 {
    match all {
        0 => 0.0,
        all => some as f64 / all as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(before: &[&str], after: &[&str]) -> Options {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        Options {
            before: owned(before),
            after: owned(after),
            weights: Vec::new(),
            weights_after: Vec::new(),
            algorithm: AlgorithmName::Hashring,
            keys: 20_000,
            keys_from: None,
            json: false,
        }
    }

    #[test]
    fn a_destination_that_joins_takes_its_share_and_moves_nothing_else() {
        let simulation = simulate(&options(&["a", "b", "c"], &["a", "b", "c", "d"])).unwrap();
        assert_eq!(simulation.ideal_share, 0.25);
        assert!(
            (simulation.moved_share - 0.25).abs() < 0.02,
            "{simulation:?}"
        );
        let joined = simulation.destinations.last().unwrap();
        assert_eq!((joined.gained, joined.lost), (simulation.moved, 0));
        assert_eq!(joined.before, None);
        let lost: u64 = simulation
            .destinations
            .iter()
            .map(|change| change.lost)
            .sum();
        assert_eq!(lost, simulation.moved);
        for (peak, name) in [
            (simulation.peak_to_mean_before, "before"),
            (simulation.peak_to_mean_after, "after"),
        ] {
            assert!((1.0..1.1).contains(&peak), "{name}: {peak}");
        }
    }

    #[test]
    fn nothing_moves_where_nothing_changes_and_everything_where_all_do() {
        let same = simulate(&options(&["a", "b"], &["b", "a"])).unwrap();
        assert_eq!((same.moved, same.ideal_share), (0, 0.0));
        let all = simulate(&options(&["a", "b"], &["c", "d"])).unwrap();
        assert_eq!((all.moved, all.ideal_share), (20_000, 1.0));
    }

    #[test]
    fn a_changed_weight_moves_the_difference_and_peak_is_measured_against_weights() {
        let mut options = options(&["a", "b"], &["a", "b"]);
        options.weights_after = vec![("b".to_owned(), 3)];
        let simulation = simulate(&options).unwrap();
        assert_eq!(simulation.ideal_share, 0.25);
        assert!(
            (simulation.moved_share - 0.25).abs() < 0.02,
            "{simulation:?}"
        );
        assert!(simulation.peak_to_mean_after < 1.1, "{simulation:?}");
    }

    #[test]
    fn the_owners_are_those_of_the_proxy() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "foo|timer|b:2,a:1\n\nbar|c\r\n").unwrap();
        let mut options = options(&["10.0.0.1:8128", "10.0.0.2:8128"], &["10.0.0.2:8128"]);
        options.keys_from = Some(file.path().to_owned());
        let ring = Ring::build(
            Algorithm::Hashring,
            ["10.0.0.1:8128", "10.0.0.2:8128"].map(Member::new),
        )
        .unwrap();
        let keys: [&[u8]; 2] = [b"footimera:1,b:2", b"barcounter"];
        let expected = keys
            .into_iter()
            .filter(|key| ring.owner(key) == Some(0))
            .count();
        let simulation = simulate(&options).unwrap();
        assert_eq!((simulation.keys, simulation.moved), (2, expected as u64));
    }

    #[test]
    fn questions_without_an_answer_say_why() {
        let mut bad = options(&["a"], &["b"]);
        bad.weights = vec![("z".to_owned(), 2)];
        assert_eq!(
            simulate(&bad).unwrap_err(),
            "z has a weight, and is neither before nor after"
        );
        let mut none = options(&["a"], &["b"]);
        none.weights = vec![("b".to_owned(), 0)];
        assert_eq!(
            simulate(&none).unwrap_err(),
            "no destination has any weight"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "foo|c\nfoo\n").unwrap();
        let mut lines = options(&["a"], &["b"]);
        lines.keys_from = Some(file.path().to_owned());
        let error = simulate(&lines).unwrap_err();
        assert!(
            error.ends_with("line 2 is not name|type|tag,tag"),
            "{error}"
        );
        assert!(weight("a").is_err() && weight("a=x").is_err() && weight("a=65536").is_err());
        assert_eq!(weight("h:1=2"), Ok(("h:1".to_owned(), 2)));
    }
}
