use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use proptest::prelude::*;
use serde_json::json;

use super::parse::{Format, Line, Malformed, Type, line};
use super::*;
use crate::point::{Point, PointKind};
use crate::source::registry::find;

fn reader(rules: Rules) -> Reader {
    Reader {
        rules: Arc::new(rules),
        counters: Counters::default(),
        taker: Taker::Points(Vec::new()),
        max_body: 10_000,
        max_series: 100,
    }
}

fn plain() -> Rules {
    rules_of(json!({}))
}

fn rules_of(config: serde_json::Value) -> Rules {
    let config = serde_json::from_value(config).unwrap();
    let uri = Uri::from_static("http://h:9100/metrics");
    rules(&config, "", &uri).unwrap()
}

const AT: Timestamp = Timestamp::from_seconds(1_700_000_000);

fn headers(kind: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])
}

const TEXT: &str = "text/plain; version=0.0.4";
const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a page gives, by name and tags.
fn take(
    reader: &mut Reader,
    kind: &'static str,
    page: &str,
) -> (Yield, BTreeMap<String, (PointKind, f64)>) {
    let out = reader
        .read(&headers(kind), Bytes::copy_from_slice(page.as_bytes()), AT)
        .unwrap();
    (
        out,
        points(reader)
            .iter()
            .map(|p| (key(p), (p.kind, p.value)))
            .collect(),
    )
}

fn points(reader: &mut Reader) -> Vec<Point> {
    match &mut reader.taker {
        Taker::Points(points) => std::mem::take(points),
        Taker::Samples(_) => Vec::new(),
    }
}

fn key(point: &Point) -> String {
    format!("{}|{}", point.name(), point.tags)
}

fn sample(text: &str, format: Format) -> parse::Sample<'_> {
    match line(text, format) {
        Ok(Line::Sample(sample)) => sample,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn lines_of_all_sorts_are_read() {
    let pairs = |s: &parse::Sample<'_>| {
        let labels = s.labels.iter().map(|(k, v)| format!("{k}={v}"));
        labels.collect::<Vec<_>>().join("|")
    };
    for (text, name, labels, value, millis) in [
        ("up 1", "up", "", 1.0, None),
        (
            "  a:b_1\t\t2.5e3   1395066363000 ",
            "a:b_1",
            "",
            2500.0,
            Some(1_395_066_363_000),
        ),
        ("m{} -3.25", "m", "", -3.25, None),
        ("m {a=\"b\",} +4 -5\r", "m", "a=b", 4.0, Some(-5)),
        ("m{ a = \"x\" , b=\"\" } 1", "m", "a=x|b=", 1.0, None),
        (
            r#"m{path="C:\\DIR\\F.TXT",e="\"q\"\n\x"} 1"#,
            "m",
            "path=C:\\DIR\\F.TXT|e=\"q\"\n\\x",
            1.0,
            None,
        ),
        (
            "m{a=\"}{,=#\"} 1 # {trace=\"x\"} 2",
            "m",
            "a=}{,=#",
            1.0,
            None,
        ),
        (
            "{\"my.metric\",\"a.b\"=\"c\",d=\"e\"} 7",
            "my.metric",
            "a.b=c|d=e",
            7.0,
            None,
        ),
        ("{\"größe\"} 7", "größe", "", 7.0, None),
        ("m +Inf", "m", "", f64::INFINITY, None),
        ("m -Inf", "m", "", f64::NEG_INFINITY, None),
    ] {
        let read = sample(text, Format::Text);
        let at = read.timestamp.map(Timestamp::millis);
        assert_eq!(
            (&*read.name, read.value, at),
            (name, value, millis),
            "{text}"
        );
        assert_eq!(pairs(&read), labels, "{text}");
    }
    assert!(sample("m NaN", Format::Text).value.is_nan());
    let open = sample(
        "m_bucket{le=\"0.1\"} 8 1520879607.789 # {id=\"a\"} 0.05 1520879607.1",
        Format::OpenMetrics,
    );
    assert_eq!(open.timestamp.unwrap().millis(), 1_520_879_607_789);
    for (text, expected) in [
        ("# TYPE a counter", Line::Type("a".into(), Type::Counter)),
        (
            "#\tTYPE \"b.c\" \tgaugehistogram ",
            Line::Type("b.c".into(), Type::GaugeHistogram),
        ),
        ("# TYPE a untyped", Line::Type("a".into(), Type::Other)),
        ("# HELP a anything \\ at all", Line::Nothing),
        ("# TYPEWRITER", Line::Nothing),
        ("#EOF or so", Line::Nothing),
        ("", Line::Nothing),
    ] {
        assert_eq!(line(text, Format::Text), Ok(expected), "{text}");
    }
    assert_eq!(line("# EOF", Format::OpenMetrics), Ok(Line::End));
    assert_eq!(line("# EOF", Format::Text), Ok(Line::Nothing));
}

#[test]
fn lines_that_are_wrong_are_refused() {
    for text in [
        "m",
        "m ",
        "1m 1",
        "m x",
        "m 1 x",
        "m 1 1 1",
        "m{ 1",
        "m{a} 1",
        "m{a=b} 1",
        "m{a=\"b} 1",
        "m{a=\"b\"c=\"d\"} 1",
        "m{a=\"b\\",
        "m{1=\"b\"} 1",
        "{} 1",
        "{\"a\",\"b\"} 1",
        "m{\"n\"} 1",
        "m-n 1",
        "m 1 1.5",
        "# TYPE a nonsense",
        "# TYPE 1a counter",
        "<html>",
    ] {
        assert!(line(text, Format::Text).is_err(), "{text}");
    }
    assert!(line("m 1 x", Format::OpenMetrics).is_err());
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_written_is_read_back(
        text in "\\PC{0,60}", odd in "[a-z{}\"\\\\,= #0-9.\n]{0,60}", value in any::<f64>(), label in "\\PC{0,20}",
    ) {
        for format in [Format::Text, Format::OpenMetrics] {
            let _ = line(&text, format);
            let _ = line(&odd, format);
        }
        let escaped = label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let written = format!("m{{l=\"{escaped}\"}} {value}");
        let read = sample(&written, Format::Text);
        prop_assert_eq!(&*read.labels[0].1, label.as_str());
        prop_assert!(read.value.to_bits() == value.to_bits() || value.is_nan());
    }
}

const PAGE: &str = "\
# HELP http_requests_total Requests.\n\
# TYPE http_requests_total counter\n\
http_requests_total{code=\"200\"} 1027\n\
http_requests_total{code=\"400\"} 3\n\
# TYPE temp gauge\n\
temp 21.5\n\
plain{x=\"a,b\"} 3\n\
nan NaN\n\
# TYPE lat histogram\n\
lat_bucket{le=\"0.05\"} 10\n\
lat_bucket{le=\"+Inf\"} 20\n\
lat_sum 5.5\n\
lat_count 20\n\
# TYPE rpc summary\n\
rpc{quantile=\"0.5\"} 48\n\
rpc_sum 100\n\
rpc_count 7\n";

#[test]
fn gauges_are_taken_at_once_and_counters_by_what_they_grew() {
    let mut reader = reader(plain());
    let (out, first) = take(&mut reader, TEXT, PAGE);
    assert_eq!(
        (out.taken, out.dropped),
        (11, HashMap::from([("not_finite", 1)]))
    );
    let gauge = |value| (PointKind::Gauge, value);
    let gauges = BTreeMap::from([
        ("temp|".to_owned(), gauge(21.5)),
        ("plain|x:a_b".to_owned(), gauge(3.0)),
        ("rpc|quantile:0.5".to_owned(), gauge(48.0)),
    ]);
    assert_eq!(first, gauges);
    let grown = PAGE
        .replace("\"200\"} 1027", "\"200\"} 1030")
        .replace("\"+Inf\"} 20", "\"+Inf\"} 24")
        .replace("lat_sum 5.5", "lat_sum 7")
        .replace("lat_count 20", "lat_count 24")
        .replace("rpc_count 7", "rpc_count 2")
        .replace(
            "# TYPE temp",
            "http_requests_total{code=\"500\"} 2\n# TYPE temp",
        );
    let (out, second) = take(&mut reader, TEXT, &grown);
    assert_eq!(out.resets, 1);
    let counter = |value| (PointKind::Counter, value);
    let mut expected = gauges;
    expected.extend([
        ("http_requests_total|code:200".to_owned(), counter(3.0)),
        ("http_requests_total|code:500".to_owned(), counter(2.0)),
        ("lat.bucket|le:+Inf".to_owned(), counter(4.0)),
        ("lat.sum|".to_owned(), counter(1.5)),
        ("lat.count|".to_owned(), counter(4.0)),
        ("rpc.count|".to_owned(), counter(2.0)),
    ]);
    assert_eq!(second, expected);
}

#[test]
fn openmetrics_is_read_with_its_own_types() {
    let page = "# TYPE foo counter\nfoo_total 17.0 1520879607.789 # {a=\"b\"} 1\nfoo_created 1520430000.123\n\
        # TYPE size gaugehistogram\nsize_bucket{le=\"1\"} 2\nsize_gcount 3\nsize_gsum 4\n\
        # TYPE build info\nbuild_info{v=\"1\"} 1\n# TYPE s stateset\ns{s=\"a\"} 0\n# EOF\n";
    let mut reader = reader(plain());
    take(&mut reader, OPEN, page);
    let bytes = Bytes::from(page.replace("17.0", "18.0"));
    reader.read(&headers(OPEN), bytes, AT).unwrap();
    let points = points(&mut reader);
    let names: Vec<_> = points
        .iter()
        .map(|point| (key(point), point.value))
        .collect();
    let expected = [
        ("foo_total|", 1.0),
        ("size.bucket|le:1", 2.0),
        ("size.count|", 3.0),
        ("size.sum|", 4.0),
        ("build_info|v:1", 1.0),
        ("s|s:a", 0.0),
    ];
    assert_eq!(
        names,
        expected.map(|(name, value)| (name.to_owned(), value))
    );
    assert_eq!(points[0].timestamp.millis(), 1_520_879_607_789);
    assert_eq!(points[1].timestamp, AT);
    let cut = reader.read(&headers(OPEN), Bytes::from("foo_total 1\n"), AT);
    assert_eq!(cut, Err(BadPage::Truncated));
}

#[test]
fn rules_choose_and_rename() {
    let rules = rules_of(json!({
        "prefix": "my.", "allowlist": "^(lat|temp)$", "histogram_bucket_tag": "upper", "add_tags": {"team": "a", "le": "x"},
        "rename_labels": {"room": "place"}, "ignored_labels": "^secret",
    }));
    let page = "# TYPE lat histogram\nlat_bucket{le=\"1\",room=\"k\"} 1\nother 5\n# TYPE temp gauge\ntemp{room=\"k\",secret_a=\"1\",team=\"b\"} 2\n";
    let mut reader = reader(rules);
    take(&mut reader, TEXT, page);
    let (_, second) = take(&mut reader, TEXT, &page.replace("} 1\n", "} 3\n"));
    let names: Vec<_> = second.keys().cloned().collect();
    let expected = [
        "my.lat.bucket|le:x,place:k,team:a,upper:1",
        "my.temp|le:x,place:k,team:b",
    ];
    assert_eq!(names, expected);
    let mut reader = self::reader(rules_of(json!({"denylist": "^te|other"})));
    let (_, taken) = take(&mut reader, TEXT, "temp 1\nother 2\ngood 3\n");
    assert_eq!(taken.into_keys().collect::<Vec<_>>(), ["good|"]);
}

#[test]
fn a_page_is_bounded_and_what_is_wrong_with_it_is_told() {
    let mut reader = reader(plain());
    let mut read = |kind, body: Vec<u8>| reader.read(&headers(kind), body.into(), AT);
    assert_eq!(read(TEXT, vec![b'a'; 10_001]), Err(BadPage::TooLarge));
    assert_eq!(
        read("text/html", b"<html>".to_vec()),
        Err(BadPage::NotText("text/html".to_owned()))
    );
    assert!(matches!(
        read(TEXT, b"m{a=\"\xff\"} 1".to_vec()),
        Err(BadPage::NotText(_))
    ));
    assert!(matches!(
        read(TEXT, b"<html>\n".to_vec()),
        Err(BadPage::Invalid(_))
    ));
    let some = read(TEXT, b"good 1\nbad\n".to_vec()).unwrap();
    assert_eq!(some.dropped, HashMap::from([("malformed", 1)]));
    assert_eq!(
        some.example,
        Some(("bad".to_owned(), Malformed("the value is missing")))
    );
    let many: String = (0..103).map(|n| format!("m{n} 1\n")).collect();
    let out = read(TEXT, many.into_bytes()).unwrap();
    assert_eq!(
        (out.taken, out.dropped),
        (100, HashMap::from([("max_series", 3)]))
    );
    // A small body may be a long page.
    let packed = |text: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let mut coded = headers(TEXT);
    coded.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let mut read = |body: Vec<u8>| reader.read(&coded, body.into(), AT);
    assert_eq!(read(packed(b"good 1\n")).unwrap().taken, 1);
    assert_eq!(read(packed(&[b'\n'; 1_000_000])), Err(BadPage::TooLarge));
    assert_eq!(read(b"good 1\n".to_vec()), Err(BadPage::Encoding));
    coded.insert(CONTENT_ENCODING, HeaderValue::from_static("br"));
    assert_eq!(
        reader.read(&coded, Bytes::from("good 1"), AT),
        Err(BadPage::Encoding)
    );
}

#[test]
fn a_series_that_was_away_for_long_is_new_and_one_that_blinked_is_not() {
    let mut reader = reader(plain());
    let page = "# TYPE c counter\nc 5\n";
    take(&mut reader, TEXT, page);
    take(&mut reader, TEXT, "x 1\n");
    let (_, back) = take(&mut reader, TEXT, &page.replace('5', "7"));
    assert_eq!(back["c|"].1, 2.0);
    for _ in 0..6 {
        take(&mut reader, TEXT, "x 1\n");
    }
    let (_, back) = take(&mut reader, TEXT, &page.replace('5', "9"));
    assert_eq!(back["c|"].1, 9.0);
}

#[test]
fn every_problem_is_told_with_its_key() {
    let check = |config| find("openmetrics").unwrap().check(&config);
    assert_eq!(check(json!({})), [""; 0]);
    assert_eq!(
        check(json!({"scrape_target": ["http://a/m", "http://b/m"]})),
        [""; 0]
    );
    let found = check(json!({
        "scrape_target": ["ftp://a", "https://u:sesame@a/"], "scrape_interval": "1s", "scrape_timeout": "2s", "allowlist": "(", "denylist": "a",
        "ignored_labels": "[", "socket": "/run/x", "histogram_bucket_tag": "", "max_series": 0, "max_body": 0,
    }));
    let keys: Vec<_> = found
        .iter()
        .filter_map(|problem| problem.split(": ").next())
        .collect();
    let expected = [
        "scrape_target",
        "scrape_target",
        "socket",
        "scrape_timeout",
        "allowlist",
        "ignored_labels",
        "denylist",
        "histogram_bucket_tag",
        "max_series",
        "max_body",
    ];
    assert_eq!(keys, expected, "{found:?}");
    assert!(!found.concat().contains("sesame"), "{found:?}");
}
