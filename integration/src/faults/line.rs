//! Two networks with a wire between them that can be cut, lose packets and reset connections.
//!
//! The thread of the test is moved to the near network, so that what it starts as usual is there, while [`Wire::far`] is where the rest of
//! the tier goes. Files and Unix sockets are the same on both sides.

use std::io;
use std::net::Ipv4Addr;

use super::netns::{Inside, Namespace};
use crate::tier::Place;

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 199, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 199, 0, 2);
/// The name of the wire's end on either side.
const END: &str = "wire";

/// The state of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Everything passes.
    Whole,
    /// Nothing passes, and nobody is told.
    Cut,
    /// Of the packets that arrive on either side, one in three is lost, at random.
    Lossy,
    /// The far side answers each TCP segment, also of new connections, with a reset; what it has open itself it does not hear of.
    Resetting,
}

/// The wire and both networks. Dropped, all of it is removed, and the thread is back where it came from.
#[derive(Debug)]
pub struct Wire {
    // First: the thread leaves before the namespaces are removed.
    _inside: Inside,
    near: Namespace,
    far: Namespace,
    nft: String,
}

impl Wire {
    /// Lays a whole wire, and takes this thread to its near side. `nft` is the program of nftables.
    ///
    /// # Errors
    /// If namespaces cannot be made, for want of root or of `ip`, or if packet filters cannot be set inside of them.
    pub fn lay(nft: &str) -> io::Result<Self> {
        let (near, far) = (Namespace::new()?, Namespace::new()?);
        near.ip(&[
            "link",
            "add",
            END,
            "type",
            "veth",
            "peer",
            "name",
            END,
            "netns",
            far.name(),
        ])?;
        for (side, address) in [(&near, NEAR), (&far, FAR)] {
            side.ip(&["address", "add", &format!("{address}/30"), "dev", END])?;
            side.ip(&["link", "set", END, "up"])?;
        }
        let wire = Self {
            _inside: near.enter()?,
            near,
            far,
            nft: nft.to_owned(),
        };
        wire.set(Line::Whole)?;
        Ok(wire)
    }

    /// The far side.
    pub fn far(&self) -> Place {
        Place {
            host: FAR,
            prefix: self.far.prefix().map(str::to_owned).to_vec(),
        }
    }

    /// Changes the state of the wire.
    ///
    /// # Errors
    /// If `ip` or `nft` fails.
    pub fn set(&self, line: Line) -> io::Result<()> {
        self.near.ip(&[
            "link",
            "set",
            END,
            if line == Line::Cut { "down" } else { "up" },
        ])?;
        let (near, far) = match line {
            Line::Whole | Line::Cut => ("", ""),
            Line::Lossy => {
                let lose = "numgen random mod 3 == 0 counter drop";
                (lose, lose)
            }
            Line::Resetting => ("", "meta l4proto tcp counter reject with tcp reset"),
        };
        filter(&self.near, &self.nft, near)?;
        filter(&self.far, &self.nft, far)
    }

    /// How many packets the wire has dropped or answered with a reset, on both sides, since its state last changed.
    ///
    /// # Errors
    /// If `nft` fails.
    pub fn hits(&self) -> io::Result<u64> {
        let mut hits = 0;
        for side in [&self.near, &self.far] {
            let rules = side.run(&[&self.nft, "list", "ruleset"], "")?;
            let counts = rules.split("packets ").skip(1);
            hits += counts
                .filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok())
                .sum::<u64>();
        }
        Ok(hits)
    }
}

/// Makes this the only rule for what arrives at that side by the wire; empty: no rule.
fn filter(side: &Namespace, nft: &str, rule: &str) -> io::Result<()> {
    let rule = if rule.is_empty() {
        String::new()
    } else {
        format!("iifname {END} {rule}")
    };
    // Declared first so that deleting cannot fail; one input is one transaction.
    let rules = format!(
        "table inet tributary {{}}\ndelete table inet tributary\n\
         table inet tributary {{\n chain arriving {{\n type filter hook input priority 0;\n {rule}\n }}\n}}\n"
    );
    side.run(&[nft, "-f", "-"], &rules).map(drop)
}
