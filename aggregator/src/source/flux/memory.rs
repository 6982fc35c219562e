//! What outlives a restart, in one file: marks, the names that count toward quotas, and points that no sink has yet.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::item::Item;
use super::marks::Moved;
use super::outbox::Changes;

/// By metric: Unix time in seconds, and the value.
const MARKS: TableDefinition<'_, &str, (i64, f64)> = TableDefinition::new("marks");
/// By namespace and metric.
const NAMES: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("names");
/// By request and position: metric, Unix time in seconds, value, and whether it fills a gap.
const QUEUE: TableDefinition<'_, (u64, u32), (&str, i64, f64, bool)> =
    TableDefinition::new("queue");

/// The open file.
#[derive(Debug, Clone)]
pub(super) struct Memory(Arc<Database>);

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    pub(super) marks: Vec<Moved>,
    /// Namespace and metric.
    pub(super) names: Vec<(String, String)>,
    /// The items of each request.
    pub(super) queue: Vec<(u64, Vec<Item>)>,
}

/// A source's name as one of a file.
pub(super) fn plain(source: &str) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() || "-_".contains(c) {
        true => c,
        false => '_',
    };
    source.chars().map(plain).collect()
}

impl Memory {
    /// Opens a source's file, or makes it, and reads all of it. Takes its time at one go.
    pub(super) fn open(directory: &Path, source: &str) -> Result<(Self, Remembered), String> {
        let path = directory.join(plain(source) + ".redb");
        let failed = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
        std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        let database = Database::create(&path).map_err(|error| failed(&error))?;
        let memory = Self(Arc::new(database));
        let remembered = memory.read().map_err(|error| failed(&error))?;
        Ok((memory, remembered))
    }

    fn read(&self) -> Result<Remembered, redb::Error> {
        // So that there is something to read.
        let begin = self.0.begin_write()?;
        begin.open_table(MARKS)?;
        begin.open_table(NAMES)?;
        begin.open_table(QUEUE)?;
        begin.commit()?;
        let mut remembered = Remembered::default();
        let read = self.0.begin_read()?;
        for entry in read.open_table(MARKS)?.iter()? {
            let (name, mark) = entry?;
            let (seconds, value) = mark.value();
            remembered.marks.push((name.value().into(), seconds, value));
        }
        for entry in read.open_table(NAMES)?.iter()? {
            let (key, ()) = entry.map(|(key, _)| (key, ()))?;
            let (namespace, name) = key.value();
            remembered
                .names
                .push((namespace.to_owned(), name.to_owned()));
        }
        for entry in read.open_table(QUEUE)?.iter()? {
            let (key, point) = entry?;
            let (request, _) = key.value();
            let (name, seconds, value, fill) = point.value();
            let item = Item {
                posted: name.to_owned(),
                name: name.to_owned(),
                seconds,
                value,
                fill,
            };
            match remembered.queue.last_mut() {
                Some((last, items)) if *last == request => items.push(item),
                _ => remembered.queue.push((request, vec![item])),
            }
        }
        Ok(remembered)
    }

    /// Writes all of it or nothing, and returns when it is on the disk.
    pub(super) fn write(&self, changes: &Changes) -> Result<(), redb::Error> {
        let write = self.0.begin_write()?;
        {
            let mut marks = write.open_table(MARKS)?;
            for name in &changes.forgotten {
                marks.remove(name.as_ref())?;
            }
            for (name, mark) in &changes.marks {
                marks.insert(name.as_ref(), *mark)?;
            }
            let mut names = write.open_table(NAMES)?;
            for (namespace, name) in &changes.names {
                names.insert((namespace.as_ref(), name.as_str()), ())?;
            }
            let mut queue = write.open_table(QUEUE)?;
            for (request, items) in &changes.queued {
                for (position, item) in (0..).zip(items.iter()) {
                    let point = (item.name.as_str(), item.seconds, item.value, item.fill);
                    queue.insert((*request, position), point)?;
                }
            }
            for request in &changes.done {
                queue.retain_in((*request, 0)..=(*request, u32::MAX), |_, _| false)?;
            }
        }
        write.commit()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str) -> Item {
        Item {
            posted: name.to_owned(),
            name: name.to_owned(),
            seconds: 5,
            value: 1.5,
            fill: true,
        }
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("made/for/it");
        let (memory, empty) = Memory::open(&inner, "flux/one").unwrap();
        assert!(empty.marks.is_empty() && empty.names.is_empty() && empty.queue.is_empty());
        let mut changes = Changes::default();
        changes.move_marks(vec![("a".into(), 10, 1.0), ("b".into(), 11, 2.0)]);
        changes.names.push(("ns".into(), "ns.a".to_owned()));
        changes.queued.insert(7, vec![item("x"), item("y")].into());
        changes.queued.insert(8, vec![item("z")].into());
        memory.write(&changes).unwrap();
        let busy = Memory::open(&inner, "flux/one").unwrap_err();
        assert!(busy.contains("flux_one.redb"), "{busy}");
        let mut changes = Changes::default();
        changes.forgotten.insert("b".into());
        changes.done.push(7);
        memory.write(&changes).unwrap();
        drop(memory);
        let (_, remembered) = Memory::open(&inner, "flux/one").unwrap();
        assert_eq!(remembered.marks, [("a".into(), 10, 1.0)]);
        assert_eq!(remembered.names, [("ns".to_owned(), "ns.a".to_owned())]);
        assert_eq!(remembered.queue, [(8, vec![item("z")])]);
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("flux.redb"), vec![b'x'; 10_000]).unwrap();
        let problem = Memory::open(directory.path(), "flux").unwrap_err();
        assert!(problem.contains("flux.redb"), "{problem}");
    }
}
