//! A simulation as text for people.

use std::fmt::Write as _;

use super::simulate::{Change, Load, Simulation};

/// The whole answer.
pub(super) fn text(simulation: &Simulation) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write_all(&mut out, simulation);
    out
}

fn write_all(out: &mut String, simulation: &Simulation) -> std::fmt::Result {
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    writeln!(
        out,
        "{} keys on a {} ring",
        simulation.keys,
        simulation.algorithm.name()
    )?;
    writeln!(
        out,
        "moved      {} ({}; ideal {})",
        simulation.moved,
        percent(simulation.moved_share),
        percent(simulation.ideal_share)
    )?;
    writeln!(
        out,
        "peak/mean  {:.3} before, {:.3} after\n",
        simulation.peak_to_mean_before, simulation.peak_to_mean_after
    )?;
    let addresses = simulation.destinations.iter();
    let width = addresses
        .map(|change| change.address.chars().count())
        .fold("destination".len(), usize::max);
    writeln!(
        out,
        "{:width$}  {:>24}  {:>24}  {:>10}  {:>10}",
        "destination", "before", "after", "gained", "lost"
    )?;
    for change in &simulation.destinations {
        let Change {
            address,
            before,
            after,
            gained,
            lost,
        } = change;
        let (before, after) = (load(*before), load(*after));
        writeln!(
            out,
            "{address:width$}  {before:>24}  {after:>24}  {gained:>10}  {lost:>10}"
        )?;
    }
    Ok(())
}

/// Keys, share, and how that stands to the fair one.
fn load(load: Option<Load>) -> String {
    let Some(load) = load else {
        return "–".to_owned();
    };
    let ratio = match load.fair_share > 0.0 {
        true => format!(" ×{:.2}", load.share / load.fair_share),
        false => String::new(),
    };
    format!("{} {:.2} %{ratio}", load.keys, load.share * 100.0)
}
