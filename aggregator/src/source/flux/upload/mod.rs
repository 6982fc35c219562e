//! Uploads: tables of times and values as files, turned into points in the background.
//!
//! `desk` answers: `form` reads a POST, `keys` tells whose it is, `request` judges what it asks for, `queue` keeps it in files and works through it one after the other: `archive` unpacks,
//! `table` reads rows, `time` reads times, `series` makes points of them. What always holds: an upload that was answered with 200 survives a restart,
//! and what became of each of its files and columns is in its [`Status`].

mod archive;
mod desk;
mod form;
mod keys;
mod queue;
mod request;
mod series;
mod status;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod time;

pub(super) use desk::Desk;
pub use keys::UploadKeys;
pub(super) use queue::Work;
