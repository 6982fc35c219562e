//! From a table to the points of its columns.

use std::collections::{BTreeMap, HashMap};

use jiff::tz::TimeZone;

use super::request::{DATE, Format, Orientation, Request, Resample};
use super::table::{Cell, MAX_CELLS, Rows};
use super::time;

/// The points of one column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// As `columns_to_metrics` calls it.
    pub(super) column: String,
    /// The metric's whole name.
    pub(super) metric: String,
    /// Unix seconds and values, by time, one for each time.
    pub(super) points: Vec<(i64, f64)>,
}

/// What a table holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Columns {
    pub(super) series: Vec<Series>,
    /// Rows whose time cannot be read.
    pub(super) bad_dates: usize,
}

const MINUTE: i64 = 60;

/// Reads the columns of a table as a request says. The error is for people.
pub(super) fn columns(rows: Rows, request: &Request) -> Result<Columns, String> {
    let zone = TimeZone::get(&request.timezone).map_err(|error| error.to_string())?;
    let rows = match request.orientation {
        Orientation::Rows => rows,
        Orientation::Columns => transposed(rows)?,
    };
    let mut rows = rows
        .into_iter()
        .skip(request.skip_rows.saturating_add(request.header_row));
    let header = header(&mut rows, request)?;
    let rows: Vec<_> = rows.collect();
    let date = request.columns.iter().position(|column| column == DATE);
    let date = date.ok_or("there is no column called date")?;
    let times = times(&rows, date, &zone);
    let bad_dates = rows
        .iter()
        .zip(&times)
        .filter(|(row, time)| time.is_none() && row.iter().any(|cell| *cell != Cell::Empty))
        .count();
    let mut series = Vec::new();
    for (index, column) in request.columns.iter().enumerate() {
        let title = header.get(index).map_or("", String::as_str);
        if index == date || !wanted(request, column, title) {
            continue;
        }
        let values = rows.iter().zip(&times);
        let points: BTreeMap<i64, f64> = values
            .filter_map(|(row, time)| Some(((*time)?, value(row.get(index)?)?)))
            .collect();
        let points = resampled(points.into_iter().collect(), request.resample);
        series.push(Series {
            column: column.clone(),
            metric: format!("{}.{column}", request.parent),
            points,
        });
    }
    Ok(Columns { series, bad_dates })
}

/// The titles of the columns. Flux counts the rows to skip of a workbook from 0, and those of csv from 1: where the row that is meant has not as
/// many cells as there are columns, and the next one has, it is that.
fn header(
    rows: &mut impl Iterator<Item = Vec<Cell>>,
    request: &Request,
) -> Result<Vec<String>, String> {
    let columns = request.columns.len();
    let length = |row: &[Cell]| {
        let last = row.iter().rposition(|cell| *cell != Cell::Empty);
        last.map_or(0, |last| last + 1)
    };
    let mut row = rows.next().ok_or("there is no header row")?;
    if length(&row) != columns && request.format != Format::Csv {
        row = rows.next().ok_or("there is no header row")?;
    }
    let found = length(&row);
    if found != columns {
        return Err(format!(
            "the header row has {found} columns, and columns_to_metrics names {columns}"
        ));
    }
    let title = |cell: &Cell| match cell {
        Cell::Text(text) => text.clone(),
        Cell::Number(number) => number.to_string(),
        Cell::Time(_) | Cell::Empty => String::new(),
    };
    Ok(row.iter().map(title).collect())
}

fn wanted(request: &Request, column: &str, title: &str) -> bool {
    let named = |names: &[String]| names.iter().any(|name| name == column || name == title);
    let chosen = request.process.is_empty() || named(&request.process);
    chosen && !named(&request.ignore)
}

/// The gaps of short rows become cells here: a long row and many short ones must not make more of them than a table may have.
fn transposed(rows: Rows) -> Result<Rows, String> {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    if width.saturating_mul(rows.len()) > MAX_CELLS {
        return Err(format!("more than {MAX_CELLS} cells"));
    }
    let mut columns = vec![Vec::with_capacity(rows.len()); width];
    for row in rows {
        let mut cells = row.into_iter();
        for column in &mut columns {
            column.push(cells.next().unwrap_or(Cell::Empty));
        }
    }
    Ok(columns)
}

/// The time of each row, where it can be read.
fn times(rows: &[Vec<Cell>], date: usize, zone: &TimeZone) -> Vec<Option<i64>> {
    let texts = rows.iter().filter_map(|row| match row.get(date) {
        Some(Cell::Text(text)) => Some(text.as_str()),
        _ => None,
    });
    let order = time::order(texts);
    let time = |row: &Vec<Cell>| match row.get(date)? {
        Cell::Text(text) => time::parse(text, order, zone),
        Cell::Number(number) => time::parse(&number.to_string(), order, zone),
        Cell::Time(time) => time::local(*time, zone),
        Cell::Empty => None,
    };
    rows.iter().map(time).collect()
}

fn value(cell: &Cell) -> Option<f64> {
    let value = match cell {
        Cell::Number(number) => *number,
        Cell::Text(text) => text.parse().ok()?,
        Cell::Time(_) | Cell::Empty => return None,
    };
    value.is_finite().then_some(value)
}

/// One point a minute, at its start, where most points are closer than that.
pub(in super::super) fn resampled(points: Vec<(i64, f64)>, by: Resample) -> Vec<(i64, f64)> {
    if commonest_step(&points).is_none_or(|step| step >= MINUTE) {
        return points;
    }
    let mut minutes: BTreeMap<i64, (f64, u32)> = BTreeMap::new();
    for (time, value) in points {
        let (sum, count) = minutes.entry(time.div_euclid(MINUTE) * MINUTE).or_default();
        *sum += value;
        *count += 1;
    }
    let value = |(sum, count): (f64, u32)| match by {
        Resample::Sum => sum,
        Resample::Mean => sum / f64::from(count),
    };
    minutes
        .into_iter()
        .map(|(minute, values)| (minute, value(values)))
        .collect()
}

/// The time that lies between most points that follow each other; of several, the shortest.
pub(in super::super) fn commonest_step(points: &[(i64, f64)]) -> Option<i64> {
    let mut steps: HashMap<i64, usize> = HashMap::new();
    for pair in points.windows(2) {
        if let [(before, _), (after, _)] = pair {
            *steps.entry(after - before).or_default() += 1;
        }
    }
    let most = |(step, count): &(i64, usize)| (*count, -*step);
    steps.into_iter().max_by_key(most).map(|(step, _)| step)
}

#[cfg(test)]
mod tests {
    use super::super::request::Variables;
    use super::super::table;
    use super::*;

    /// The example of Skyline's documentation.
    const EXAMPLE: &str = "Device ID,012383\nSerial Number,1234579853\nLocation,Warehouse 2\nFrom,16/05/2020\nTo,16/05/2020\n\
        Date,Roof Temperature,Floor Temperature\n16-05-2020 11:00,45.72,22.78\n16-05-2020 11:15,45.94,22.92\n16-05-2020 11:30,46.13,22.98\n\
        16-05-2020 11:45,46.34,23.06\n";

    fn request(more: &[(&str, &str)]) -> Request {
        let mut variables: Variables = [
            ("parent_metric_namespace", "temp.warehouse.2.012383"),
            ("timezone", "GMT"),
            ("format", "csv"),
            ("archive", "none"),
            ("date_orientation", "rows"),
            ("header_row", "0"),
            ("skip_rows", "5"),
            ("columns_to_metrics", "date,roof,floor"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        for (name, value) in more {
            variables.insert((*name).to_owned(), (*value).to_owned());
        }
        Request::new(&variables).unwrap()
    }

    fn read(text: &str, request: &Request) -> Columns {
        columns(table::read(Format::Csv, text.as_bytes()).unwrap(), request).unwrap()
    }

    #[test]
    fn the_documented_example() {
        let found = read(EXAMPLE, &request(&[]));
        let [roof, floor] = &*found.series else {
            panic!("{found:?}")
        };
        assert_eq!(roof.metric, "temp.warehouse.2.012383.roof");
        let times = [1_589_626_800, 1_589_627_700, 1_589_628_600, 1_589_629_500];
        let expect = |values: [f64; 4]| times.into_iter().zip(values).collect::<Vec<_>>();
        assert_eq!(roof.points, expect([45.72, 45.94, 46.13, 46.34]));
        assert_eq!(floor.points, expect([22.78, 22.92, 22.98, 23.06]));
        assert_eq!(found.bad_dates, 0);
    }

    #[test]
    fn workbooks_hold_the_same_whichever_way_their_rows_are_counted() {
        for (format, bytes) in [
            (
                "xlsx",
                &include_bytes!("../../../../tests/fixtures/upload/warehouse.xlsx")[..],
            ),
            (
                "xls",
                &include_bytes!("../../../../tests/fixtures/upload/warehouse.xls")[..],
            ),
        ] {
            for skip_rows in ["4", "5"] {
                let more = [
                    ("format", format),
                    ("skip_rows", skip_rows),
                    ("timezone", "Europe/London"),
                ];
                let request = request(&more);
                let rows = table::read(request.format, bytes).unwrap();
                let found = columns(rows, &request).unwrap();
                let eleven = 1_589_626_800 - 3_600;
                let floor = [
                    (eleven, 22.78),
                    (eleven + 900, 22.92),
                    (eleven + 1_800, 22.98),
                ];
                assert_eq!(found.series[0].points.len(), 4, "{format}");
                assert_eq!(*found.series[1].points, floor, "{format}");
            }
        }
    }

    #[test]
    fn columns_can_be_left_out_and_must_be_named() {
        let found = read(EXAMPLE, &request(&[("columns_to_ignore", "roof")]));
        assert_eq!(found.series.len(), 1);
        let chosen = request(&[("columns_to_process", "Floor Temperature")]);
        assert_eq!(read(EXAMPLE, &chosen).series[0].column, "floor");
        let few = request(&[("columns_to_metrics", "date,roof")]);
        let rows = table::read(Format::Csv, EXAMPLE.as_bytes()).unwrap();
        assert_eq!(
            columns(rows, &few).unwrap_err(),
            "the header row has 3 columns, and columns_to_metrics names 2"
        );
    }

    #[test]
    fn a_table_may_lie_on_its_side() {
        let request = request(&[
            ("date_orientation", "columns"),
            ("skip_rows", "none"),
            ("columns_to_metrics", "roof,date"),
        ]);
        let found = read(
            "Roof,1,2\nDate,16-05-2020 11:00,16-05-2020 12:00\n",
            &request,
        );
        let points = &found.series[0].points;
        assert_eq!(**points, [(1_589_626_800, 1.0), (1_589_630_400, 2.0)]);
    }

    #[test]
    fn no_number_of_rows_and_no_shape_of_a_table_breaks_its_reader() {
        let most = usize::MAX.to_string();
        let request_most = request(&[("skip_rows", &most), ("header_row", &most)]);
        let rows = table::read(Format::Csv, EXAMPLE.as_bytes()).unwrap();
        let error = columns(rows, &request_most).unwrap_err();
        assert_eq!(error, "there is no header row");
        let lying = request(&[("date_orientation", "columns"), ("skip_rows", "0")]);
        let mut rows = vec![vec![Cell::Empty]; 100_000];
        rows.push(vec![Cell::Empty; 100_000]);
        let error = columns(rows, &lying).unwrap_err();
        assert_eq!(error, format!("more than {MAX_CELLS} cells"));
    }

    #[test]
    fn gaps_and_bad_dates_cost_only_themselves() {
        let request = request(&[("skip_rows", "0")]);
        let found = read(
            "d,a,b\n1589626800,1,\nnever,2,2\n1589626920,x,3\n\n1589627040,nan,4\n",
            &request,
        );
        assert_eq!(found.bad_dates, 1);
        assert_eq!(*found.series[0].points, [(1_589_626_800, 1.0)]);
        assert_eq!(found.series[1].points.len(), 2);
    }

    #[test]
    fn seconds_become_minutes_and_minutes_stay() {
        let seconds: Vec<_> = (0..120).map(|n| (600 + n, 1.0)).collect();
        let sums = resampled(seconds.clone(), Resample::Sum);
        assert_eq!(sums, [(600, 60.0), (660, 60.0)]);
        assert_eq!(resampled(seconds, Resample::Mean), [(600, 1.0), (660, 1.0)]);
        let sparse = vec![(0, 1.0), (900, 2.0), (1_800, 3.0), (1_801, 4.0)];
        assert_eq!(resampled(sparse.clone(), Resample::Sum), sparse);
        assert_eq!(commonest_step(&sparse), Some(900));
    }
}
