//! What goes wrong between and inside real processes, on purpose, and the exact account of what came through.

mod delay;
mod line;
mod load;
mod netns;
mod relay;
mod verdict;

pub use delay::longest_delay;
pub use line::{Line, Wire};
pub use load::{Sent, SteadyLoad};
pub use relay::{Relay, Weather};
pub use verdict::{Verdict, judge};
