//! The consistent hash from key to destination.
//!
//! A [`Ring`] is immutable: it is built whole from a list of members and swapped for another one. Two algorithms stand behind one type,
//! [`Algorithm::Hashring`] (in `slots`) and [`Algorithm::Veneur`] (in `veneur`).
//!
//! What always holds, for both:
//! - the owner of a key depends on the list of members alone, never on what the list was before;
//! - a member that is taken away moves only the keys that it owned, one that is added takes keys only for itself;
//! - every program that is given the same list sends a key to the same place. The bytes that are hashed, the hash and its seed are
//!   part of the wire contract between proxies of one fleet: a test holds the owners of 100,000 keys for each algorithm.
//!
//! For `hashring` the order of the list means nothing; for `veneur` it decides in one rare case, which `veneur` tells of.

mod slots;
mod veneur;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::discovery::Endpoint;

pub use slots::{POINTS_PER_WEIGHT, SEED};

/// How keys are placed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Even and fast: the default. xxh3 and many points for each destination.
    #[default]
    Hashring,
    /// The placement of Stripe Veneur's proxies, bit for bit: for fleets where both route to the same globals. CRC-32 and 20 points for
    /// each destination leave loads that differ by a factor of two.
    Veneur,
}

impl Algorithm {
    /// Whether members' weights mean anything to it.
    pub const fn knows_weights(self) -> bool {
        match self {
            Self::Hashring => true,
            Self::Veneur => false,
        }
    }

    /// These endpoints as members: each of weight 1 where weights mean nothing.
    pub fn members(self, endpoints: Vec<Endpoint>) -> Vec<Member> {
        endpoints
            .into_iter()
            .map(|Endpoint { address, weight }| Member {
                address: address.into(),
                weight: if self.knows_weights() { weight } else { 1 },
            })
            .collect()
    }

    /// The name in configuration and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hashring => "hashring",
            Self::Veneur => "veneur",
        }
    }
}

/// One destination on a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The address as it was configured or discovered; its bytes place it.
    pub address: Arc<str>,
    /// The share of keys against other members'; 1 is a plain member, 0 owns nothing.
    pub weight: u16,
}

impl fmt::Display for Member {
    /// The address, and the weight unless that is 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weight {
            1 => f.write_str(&self.address),
            weight => write!(f, "{} (weight {weight})", self.address),
        }
    }
}

impl Member {
    /// A member of weight 1.
    pub fn new(address: impl Into<Arc<str>>) -> Self {
        Self {
            address: address.into(),
            weight: 1,
        }
    }
}

/// A list of members that no ring can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Owners are numbered with 16 bits.
    #[error("a ring holds at most {max} destinations, got {0}", max = u16::MAX)]
    TooManyMembers(usize),
    /// The points of all members together would not fit into memory.
    #[error("the destinations' weights add up to {0}, more than {max}", max = slots::MAX_WEIGHT)]
    TooMuchWeight(u64),
}

/// Which member owns which key.
#[derive(Debug)]
pub struct Ring {
    algorithm: Algorithm,
    members: Vec<Member>,
    placement: Placement,
}

#[derive(Debug)]
enum Placement {
    Slots(slots::Slots),
    Veneur(veneur::Points),
}

impl Ring {
    /// Builds the ring of these members. An address that is listed twice counts once, with the weight of its first mention.
    pub fn build(
        algorithm: Algorithm,
        members: impl IntoIterator<Item = Member>,
    ) -> Result<Self, RingError> {
        let mut known = std::collections::HashSet::new();
        let mut members: Vec<Member> = members
            .into_iter()
            .filter(|member| known.insert(member.address.clone()))
            .collect();
        if members.len() > usize::from(u16::MAX) {
            return Err(RingError::TooManyMembers(members.len()));
        }
        let weight = members.iter().map(|member| u64::from(member.weight)).sum();
        if weight > slots::MAX_WEIGHT {
            return Err(RingError::TooMuchWeight(weight));
        }
        let placement = match algorithm {
            Algorithm::Hashring => {
                members.sort_by(|a, b| a.address.cmp(&b.address));
                Placement::Slots(slots::Slots::fill(&members))
            }
            Algorithm::Veneur => Placement::Veneur(veneur::Points::place(&members)),
        };
        Ok(Self {
            algorithm,
            members,
            placement,
        })
    }

    /// The index in [`Self::members`] of the member that owns this key; `None` only if no member has any weight.
    #[inline]
    pub fn owner(&self, key: &[u8]) -> Option<usize> {
        self.owner_at(self.spot(key))
    }

    /// Where this key falls on the circle, to be asked for with [`Self::owner_at`]. It means something to rings of the same algorithm only.
    #[inline]
    pub fn spot(&self, key: &[u8]) -> u64 {
        match &self.placement {
            Placement::Slots(_) => slots::Slots::spot(key),
            Placement::Veneur(_) => veneur::Points::spot(key).into(),
        }
    }

    /// The index in [`Self::members`] of the member that owns what falls there; see [`Self::owner`].
    #[inline]
    pub fn owner_at(&self, spot: u64) -> Option<usize> {
        match &self.placement {
            Placement::Slots(slots) => slots.owner_at(spot),
            // As many bits as its hash has.
            Placement::Veneur(points) => points.owner_at(spot as u32),
        }
    }

    /// The member that owns this key.
    pub fn owner_of(&self, key: &[u8]) -> Option<&Member> {
        self.members.get(self.owner(key)?)
    }

    /// The members: sorted by address for `hashring`, in the order given for `veneur`.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether a ring of these members would be this one.
    pub fn is_of(&self, members: &[Member]) -> bool {
        let mut known = std::collections::HashSet::new();
        let mut members: Vec<&Member> = members
            .iter()
            .filter(|member| known.insert(&member.address))
            .collect();
        if self.algorithm == Algorithm::Hashring {
            members.sort_unstable_by(|a, b| a.address.cmp(&b.address));
        }
        self.members.iter().eq(members)
    }

    /// Each member's part of all places on the circle, in the order of [`Self::members`]; they add up to 1 if anybody has weight. It takes a
    /// millisecond: for pages, not for requests.
    pub fn shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.members.len()];
        let mut give = |owner: u16, part: f64| {
            if let Some(share) = shares.get_mut(usize::from(owner)) {
                *share += part;
            }
        };
        match &self.placement {
            Placement::Slots(slots) => slots.parts(&mut give),
            Placement::Veneur(points) => points.parts(&mut give),
        }
        shares
    }

    /// The algorithm that placed them.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
