use super::*;
use crate::sink::graphite::chunk::Entry;

fn chunk(first: usize, points: usize) -> Arc<Chunk> {
    let names: Vec<_> = (first..first + points).map(|n| format!("p{n}")).collect();
    let chunk = names.iter().map(|path| Entry {
        path,
        timestamp: 1.5,
        value: 2.0,
    });
    Arc::new(chunk.collect())
}

fn open(directory: &Path) -> (Spool, Found) {
    Spool::open(directory, SMALLEST).unwrap()
}

/// Takes all that waits, in order, and the damaged bytes.
fn drain(spool: &Spool) -> (Vec<String>, u64) {
    let (mut paths, mut damaged) = (Vec::new(), 0);
    loop {
        let (oldest, bad) = spool.oldest().unwrap();
        damaged += bad;
        let Some(oldest) = oldest else {
            assert_eq!((spool.bytes(), spool.points()), (0, 0));
            return (paths, damaged);
        };
        paths.extend(oldest.chunk.iter().map(|entry| entry.path.to_owned()));
        spool.sent(&oldest);
    }
}

fn names(points: std::ops::Range<usize>) -> Vec<String> {
    points.map(|n| format!("p{n}")).collect()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn what_goes_in_comes_out_in_order_and_the_files_go() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, found) = open(directory.path());
    assert_eq!(found, Found::default());
    assert_eq!(spool.append(&[chunk(0, 3), chunk(3, 2)]).unwrap(), 0);
    assert_eq!(spool.points(), 5);
    let (oldest, _) = spool.oldest().unwrap();
    // Not sent: the same again.
    assert_eq!(oldest.unwrap().chunk, *chunk(0, 3));
    spool.append(&[chunk(5, 1)]).unwrap();
    assert_eq!(drain(&spool), (names(0..6), 0));
    assert_eq!(segments(directory.path()), Vec::<PathBuf>::new());
    spool.append(&[chunk(6, 1)]).unwrap();
    assert_eq!(drain(&spool), (names(6..7), 0));
}

#[test]
fn it_survives_a_restart_and_sends_again_only_from_the_oldest_segment() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = open(directory.path());
    spool.append(&[chunk(0, 3), chunk(3, 2)]).unwrap();
    let (oldest, _) = spool.oldest().unwrap();
    spool.sent(&oldest.unwrap());
    assert_eq!(spool.points(), 2);
    drop(spool);
    let (spool, found) = open(directory.path());
    assert_eq!(found.points, 5);
    spool.append(&[chunk(5, 1)]).unwrap();
    assert_eq!(drain(&spool), (names(0..6), 0));
}

#[test]
fn only_one_has_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = open(directory.path());
    let error = Spool::open(directory.path(), SMALLEST).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(spool);
    open(directory.path());
}

#[test]
fn a_record_cut_off_anywhere_costs_nothing_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = open(directory.path());
    spool.append(&[chunk(0, 2), chunk(2, 2)]).unwrap();
    drop(spool);
    let file = segments(directory.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    let second = (whole.len() - 8) / 2 + 8;
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        let (spool, found) = open(directory.path());
        let points = if length >= second { 2 } else { 0 };
        assert_eq!(found.points, points, "{length}");
        assert_eq!(found.damaged, 0, "{length}");
        spool.append(&[chunk(4, 1)]).unwrap();
        let mut expected = names(0..points as usize);
        expected.extend(names(4..5));
        assert_eq!(drain(&spool), (expected, 0), "{length}");
    }
}

#[test]
fn damage_costs_the_rest_of_its_segment_and_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = open(directory.path());
    spool
        .append(&[chunk(0, 2), chunk(2, 2), chunk(4, 2)])
        .unwrap();
    drop(spool);
    // Each start writes to a segment of its own.
    let (spool, _) = open(directory.path());
    spool.append(&[chunk(6, 2)]).unwrap();
    let file = segments(directory.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let record = (bytes.len() - 8) / 3;
    bytes[8 + record + 12] ^= 1;
    fs::write(&file, bytes).unwrap();
    let mut expected = names(0..2);
    expected.extend(names(6..8));
    assert_eq!(drain(&spool), (expected.clone(), 2 * record as u64));
    drop(spool);

    // The same where it is there at the start.
    let (spool, _) = open(directory.path());
    spool.append(&[chunk(0, 2)]).unwrap();
    let file = segments(directory.path()).remove(0);
    drop(spool);
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let (_, found) = open(directory.path());
    assert_eq!((found.points, found.torn), (0, 0));
    assert!(found.damaged > 0);
}

#[test]
fn a_foreign_file_is_an_error_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("00000000000000000007.seg");
    fs::write(&file, "somebody's diary").unwrap();
    let error = Spool::open(directory.path(), SMALLEST).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(file.exists());
}

#[test]
fn over_the_limit_the_oldest_go_and_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    // Small segments.
    let limit = 8 * 4096;
    let (spool, _) = Spool::open(directory.path(), limit).unwrap();
    let (mut added, mut dropped) = (0, 0);
    while added < 5_000 {
        dropped += spool.append(&[chunk(added, 50)]).unwrap();
        added += 50;
        let size: u64 = segments(directory.path())
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .sum();
        assert!(size <= limit, "{size}");
    }
    assert!(dropped > 1_000, "{dropped}");
    let (rest, _) = drain(&spool);
    assert_eq!(rest, names(dropped as usize..5_000));
}

#[test]
fn what_is_dropped_while_it_is_being_sent_is_no_confusion() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(directory.path(), 8 * 4096).unwrap();
    spool.append(&[chunk(0, 50)]).unwrap();
    let (oldest, _) = spool.oldest().unwrap();
    let mut added = 50;
    let mut dropped = 0;
    while dropped == 0 {
        dropped += spool.append(&[chunk(added, 50)]).unwrap();
        added += 50;
    }
    spool.sent(&oldest.unwrap());
    assert_eq!(spool.points(), added as u64 - dropped);
    assert_eq!(drain(&spool).0, names(dropped as usize..added));
}

#[test]
fn a_full_disk_is_an_error_and_what_was_there_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = open(directory.path());
    spool.append(&[chunk(0, 2)]).unwrap();
    // A disk that takes no more, as far as the writer can tell.
    spool.files.lock().writer = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
    assert_eq!(
        spool.append(&[chunk(2, 2)]).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    spool.append(&[chunk(4, 2)]).unwrap();
    let mut expected = names(0..2);
    expected.extend(names(4..6));
    assert_eq!(drain(&spool), (expected, 0));
}
