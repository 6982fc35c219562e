//! What is added to events before they are points: names that the events themselves do not hold.

pub mod cloudfoundry;
