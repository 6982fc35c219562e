//! An application, as the tags of its events name it.

use crate::dropsonde::Guid;
use crate::key::{SEPARATOR, Tags};

/// An application with its space and organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    guid: Guid,
    /// The tags that sort before an event's own, joined.
    first: Box<str>,
    /// Those of the space and the organization, joined.
    place: Box<str>,
}

/// A space or an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its GUID, as Cloud Foundry writes it.
    pub guid: String,
    /// What people call it.
    pub name: String,
}

/// Tags of one event, written in order.
pub(crate) struct TagWriter<'a> {
    joined: String,
    app: &'a App,
}

/// Room for an event's own tags.
const OWN: usize = 64;

impl App {
    /// Of these names.
    pub fn new(guid: Guid, name: &str, space: &Named, org: &Named) -> Self {
        let joined = |tags: &[(&str, &str)]| {
            let mut joined = String::new();
            for (key, value) in tags {
                push(&mut joined, key, value);
            }
            joined.into_boxed_str()
        };
        Self {
            guid,
            first: joined(&[("app", name), ("app_guid", &guid.to_string())]),
            place: joined(&[
                ("org", &org.name),
                ("org_guid", &org.guid),
                ("space", &space.name),
                ("space_guid", &space.guid),
            ]),
        }
    }

    /// Its GUID.
    pub fn guid(&self) -> Guid {
        self.guid
    }

    /// Begins the tags of an event.
    pub(crate) fn tags(&self) -> TagWriter<'_> {
        let mut joined = String::with_capacity(self.first.len() + self.place.len() + OWN);
        joined.push_str(&self.first);
        TagWriter { joined, app: self }
    }
}

impl TagWriter<'_> {
    /// Adds a tag, unless its value is empty.
    pub(crate) fn push(&mut self, key: &str, value: &str) {
        push(&mut self.joined, key, value);
    }

    /// Adds the tags of the organization and the space.
    pub(crate) fn place(&mut self) {
        let none_before = self.joined.is_empty();
        if !self.app.place.is_empty() {
            Tags::join(&mut self.joined, &self.app.place, none_before);
        }
    }

    /// All of them.
    pub(crate) fn finish(self) -> Tags {
        Tags::from_joined(&self.joined)
    }
}

/// Appends a tag, unless its value is empty. The character that separates tags becomes a space in it.
fn push(joined: &mut String, key: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    if !joined.is_empty() {
        joined.push(SEPARATOR);
    }
    joined.push_str(key);
    joined.push(':');
    if value.contains(SEPARATOR) {
        joined.extend(value.chars().map(|c| if c == SEPARATOR { ' ' } else { c }));
    } else {
        joined.push_str(value);
    }
}
