//! Unpacking what was uploaded, within bounds.

use std::io::{Cursor, Read};

use super::request::Archive;

/// A file of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Without directories.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// More files than this are not taken from one archive.
const MAX_FILES: usize = 100;

/// Takes the files out of an upload: at most `bound` bytes of them together, so that a small archive cannot fill the memory. The error is for people.
pub(super) fn unpack(
    archive: Archive,
    name: &str,
    bytes: Vec<u8>,
    bound: usize,
) -> Result<Vec<File>, String> {
    match archive {
        Archive::None => Ok(vec![File {
            name: base_name(name),
            bytes,
        }]),
        Archive::Gz => {
            let name = base_name(name);
            let name = name.strip_suffix(".gz").unwrap_or(&name).to_owned();
            let bytes = read(flate2::read::MultiGzDecoder::new(&*bytes), bound)?;
            Ok(vec![File { name, bytes }])
        }
        Archive::Zip => unzip(&bytes, bound),
    }
}

fn unzip(bytes: &[u8], bound: usize) -> Result<Vec<File>, String> {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes))
        .map_err(|error| format!("not a zip archive: {error}"))?;
    if zip.len() > MAX_FILES {
        return Err(format!("more than {MAX_FILES} files in the archive"));
    }
    let (mut files, mut left) = (Vec::new(), bound);
    for index in 0..zip.len() {
        let file = zip
            .by_index(index)
            .map_err(|error| format!("not a zip archive: {error}"))?;
        let name = file.name().map(|name| base_name(&name));
        let name = name.map_err(|error| format!("not a zip archive: {error}"))?;
        if !file.is_file() || name.is_empty() || name.starts_with('.') {
            continue;
        }
        let bytes = read(file, left)?;
        left -= bytes.len();
        files.push(File { name, bytes });
    }
    Ok(files)
}

/// Reads to the end, or to one byte over the bound, which is an error.
fn read(from: impl Read, bound: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let bound = bound as u64;
    from.take(bound + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be unpacked: {error}"))?;
    if bytes.len() as u64 > bound {
        return Err(format!("more than {bound} bytes when unpacked"));
    }
    Ok(bytes)
}

/// The last part of a path, with what is no plain letter replaced: it is shown, and a key of the status.
fn base_name(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.chars()
        .take(200)
        .map(|c| if plain(c) { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default())
                .unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn each_archive_gives_its_files_with_plain_names() {
        let one = unpack(Archive::None, "../etc/a b.csv", b"x".to_vec(), 10).unwrap();
        assert_eq!((&*one[0].name, &*one[0].bytes), ("a_b.csv", &b"x"[..]));
        let one = unpack(Archive::Gz, "d.csv.gz", gz(b"abc"), 10).unwrap();
        assert_eq!((&*one[0].name, &*one[0].bytes), ("d.csv", &b"abc"[..]));
        let packed = zip(&[("a.csv", b"1"), ("../../b.csv", b"2"), ("x/.hidden", b"3")]);
        let files = unpack(Archive::Zip, "d.zip", packed, 10).unwrap();
        let names: Vec<_> = files.iter().map(|file| &*file.name).collect();
        assert_eq!(names, ["a.csv", "b.csv"]);
    }

    #[test]
    fn a_bomb_is_stopped_at_the_bound() {
        let zeroes = vec![0; 10 << 20];
        let bomb = gz(&zeroes);
        assert!(bomb.len() < 20_000);
        let error = unpack(Archive::Gz, "b.csv.gz", bomb, 1 << 20).unwrap_err();
        assert_eq!(error, "more than 1048576 bytes when unpacked");
        let bomb = zip(&[("a.csv", &zeroes[..1 << 19]), ("b.csv", &zeroes)]);
        unpack(Archive::Zip, "b.zip", bomb, 1 << 20).unwrap_err();
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        unpack(Archive::Gz, "a.gz", b"plain".to_vec(), 10).unwrap_err();
        unpack(Archive::Zip, "a.zip", b"plain".to_vec(), 10).unwrap_err();
    }
}
