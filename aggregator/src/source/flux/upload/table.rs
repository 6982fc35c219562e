//! Rows of cells, out of each format.

use std::io::Cursor;

use calamine::{Data, DataRef, ExcelDateTime, Reader, Xls, Xlsx};
use jiff::civil::{Date, DateTime};

use super::request::Format;

/// What stands in one place of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Empty,
    Text(String),
    Number(f64),
    /// A date of a spreadsheet, which has no time zone.
    Time(DateTime),
}

/// Rows from the top; they need not be of one length.
pub(super) type Rows = Vec<Vec<Cell>>;

/// Cells of one table. A spreadsheet may have one cell far away from all others, and would have to be laid out up to there.
pub(super) const MAX_CELLS: usize = 4_000_000;

/// What an xlsx file may unpack to.
const MAX_UNPACKED: u64 = 256 << 20;

/// Reads the table of a file, of a workbook its first sheet. The error is for people.
pub(super) fn read(format: Format, bytes: &[u8]) -> Result<Rows, String> {
    match format {
        Format::Csv => csv(bytes),
        Format::Xlsx => xlsx(bytes),
        Format::Xls => xls(bytes),
    }
}

fn too_big() -> String {
    format!("more than {MAX_CELLS} cells")
}

fn csv(bytes: &[u8]) -> Result<Rows, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // Lines are counted by their ends.
    let end: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter(bytes))
        .from_reader(std::io::Read::chain(bytes, end));
    let (mut rows, mut cells) = (Rows::new(), 0);
    let mut record = csv::ByteRecord::new();
    let wrong = |error| format!("not csv: {error}");
    loop {
        let before = reader.position().line();
        if !reader.read_byte_record(&mut record).map_err(wrong)? {
            return Ok(rows);
        }
        // Blank lines are rows, too, where rows are counted.
        let lines = reader.position().line() - before;
        let within = record
            .iter()
            .map(|field| memchr::memchr_iter(b'\n', field).count());
        let blank = (lines as usize).saturating_sub(1 + within.sum::<usize>());
        cells += blank + record.len().max(1);
        if cells > MAX_CELLS {
            return Err(too_big());
        }
        rows.resize(rows.len() + blank, Vec::new());
        rows.push(record.iter().map(text_cell).collect());
    }
}

/// The one of comma, semicolon and tab that the file has most of in its beginning.
fn delimiter(bytes: &[u8]) -> u8 {
    let beginning = bytes.get(..4096).unwrap_or(bytes);
    let count = |delimiter: &u8| memchr::memchr_iter(*delimiter, beginning).count();
    // Of several with as many, the last: the comma.
    let delimiters = [b'\t', b';', b','];
    delimiters.into_iter().max_by_key(count).unwrap_or(b',')
}

fn text_cell(bytes: &[u8]) -> Cell {
    match String::from_utf8_lossy(bytes).trim() {
        "" => Cell::Empty,
        text => Cell::Text(text.to_owned()),
    }
}

fn xlsx(bytes: &[u8]) -> Result<Rows, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("not xlsx: {error}");
    check_unpacked(bytes)?;
    let mut workbook = Xlsx::new(Cursor::new(bytes)).map_err(|error| wrong(&error))?;
    let sheet = workbook.sheet_names().into_iter().next();
    let sheet = sheet.ok_or("the workbook has no sheet")?;
    let mut reader = workbook
        .worksheet_cells_reader(&sheet)
        .map_err(|error| wrong(&error))?;
    let (mut rows, mut cells) = (Rows::new(), 0);
    while let Some(cell) = reader.next_cell().map_err(|error| wrong(&error))? {
        let (row, column) = cell.get_position();
        let (row, column) = (row as usize, column as usize);
        let value = match cell.get_value() {
            DataRef::Empty | DataRef::Error(_) => continue,
            DataRef::Int(number) => Cell::Number(*number as f64),
            DataRef::Float(number) => Cell::Number(*number),
            DataRef::Bool(value) => Cell::Text(value.to_string()),
            DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
                text_cell(text.as_bytes())
            }
            DataRef::SharedString(text) => text_cell(text.as_bytes()),
            DataRef::DateTime(time) => time_cell(time),
        };
        put(&mut rows, &mut cells, row, column, value)?;
    }
    Ok(rows)
}

/// Refuses a file that takes too much memory once it is unpacked, whatever it says of itself.
fn check_unpacked(bytes: &[u8]) -> Result<(), String> {
    let wrong = |error: &dyn std::fmt::Display| format!("not xlsx: {error}");
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| wrong(&error))?;
    let mut left = MAX_UNPACKED;
    for index in 0..zip.len() {
        let file = zip.by_index(index).map_err(|error| wrong(&error))?;
        let mut file = std::io::Read::take(file, left + 1);
        let unpacked =
            std::io::copy(&mut file, &mut std::io::sink()).map_err(|error| wrong(&error))?;
        left = left
            .checked_sub(unpacked)
            .ok_or_else(|| format!("more than {MAX_UNPACKED} bytes when unpacked"))?;
    }
    Ok(())
}

fn xls(bytes: &[u8]) -> Result<Rows, String> {
    let mut workbook = Xls::new(Cursor::new(bytes)).map_err(|error| format!("not xls: {error}"))?;
    let sheet = workbook.worksheet_range_at(0);
    let sheet = sheet
        .ok_or("the workbook has no sheet")?
        .map_err(|error| format!("not xls: {error}"))?;
    let (mut rows, mut cells) = (Rows::new(), 0);
    let (top, left) = sheet.start().unwrap_or_default();
    for (row, column, value) in sheet.used_cells() {
        let value = match value {
            Data::Empty | Data::Error(_) => continue,
            Data::Int(number) => Cell::Number(*number as f64),
            Data::Float(number) => Cell::Number(*number),
            Data::Bool(value) => Cell::Text(value.to_string()),
            Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => {
                text_cell(text.as_bytes())
            }
            Data::DateTime(time) => time_cell(time),
            // Formatted text is a text for whoever reads it.
            #[allow(unreachable_patterns, reason = "more kinds may come")]
            other => text_cell(other.to_string().as_bytes()),
        };
        let (row, column) = (row + top as usize, column + left as usize);
        put(&mut rows, &mut cells, row, column, value)?;
    }
    Ok(rows)
}

fn put(
    rows: &mut Rows,
    cells: &mut usize,
    row: usize,
    column: usize,
    value: Cell,
) -> Result<(), String> {
    let added_rows = (row + 1).saturating_sub(rows.len());
    let length = rows.get(row).map_or(0, Vec::len);
    let added = (column + 1).saturating_sub(length);
    *cells += added_rows + added;
    if *cells > MAX_CELLS {
        return Err(too_big());
    }
    if added_rows > 0 {
        rows.resize(row + 1, Vec::new());
    }
    if let Some(row) = rows.get_mut(row) {
        if added > 0 {
            row.resize(column + 1, Cell::Empty);
        }
        if let Some(cell) = row.get_mut(column) {
            *cell = value;
        }
    }
    Ok(())
}

/// To the nearest second: a spreadsheet's days are doubles.
fn time_cell(time: &ExcelDateTime) -> Cell {
    if time.is_duration() {
        return Cell::Number(time.as_f64());
    }
    let (year, month, day, hour, minute, second, milli) = time.to_ymd_hms_milli();
    let narrow = |number: u8| i8::try_from(number).ok();
    let date = || {
        let date = Date::new(year.try_into().ok()?, narrow(month)?, narrow(day)?).ok()?;
        let time = date.at(narrow(hour)?, narrow(minute)?, narrow(second)?, 0);
        let up = jiff::Span::new().seconds(i64::from(milli >= 500));
        time.checked_add(up).ok()
    };
    date().map_or(Cell::Empty, Cell::Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    #[test]
    fn csv_of_each_delimiter_with_blank_lines_kept() {
        for (delimiter, table) in [
            (',', "a,b\n\n\"1,5\",2\n"),
            (';', "\u{feff}a;b\r\n\r\n1,5;2\r\n"),
            ('\t', "a\tb\n\n1,5\t2"),
        ] {
            let rows = read(Format::Csv, table.as_bytes()).unwrap();
            let expected = vec![
                vec![text("a"), text("b")],
                vec![],
                vec![text("1,5"), text("2")],
            ];
            assert_eq!(rows, expected, "{delimiter}");
        }
        assert_eq!(read(Format::Csv, b"").unwrap(), Rows::new());
        assert_eq!(read(Format::Csv, b"\xff,1").unwrap()[0][1], text("1"));
    }

    #[test]
    fn what_is_no_workbook_is_refused() {
        for bytes in [&b""[..], b"plain", b"PK\x03\x04"] {
            read(Format::Xlsx, bytes).unwrap_err();
            read(Format::Xls, bytes).unwrap_err();
        }
    }

    #[test]
    fn a_cell_far_away_costs_no_memory() {
        let (mut rows, mut cells) = (Rows::new(), 0);
        put(&mut rows, &mut cells, 0, 0, text("a")).unwrap();
        put(&mut rows, &mut cells, 5_000_000, 3, text("b")).unwrap_err();
        assert_eq!(rows.len(), 1);
    }
}
