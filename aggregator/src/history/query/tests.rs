//! What an expression may cost, and what is made of steps that differ.

use super::super::series::Layout;
use super::super::store::Store;
use super::*;

const NOW: i64 = 1_795_176_400;

fn store() -> Store {
    let store = Store::new(
        Layout {
            retention: 7200,
            usual_step: 10,
        },
        1 << 24,
    );
    for number in 0..200 {
        for step in 0..30 {
            let value = f64::from(number);
            store
                .put(
                    &format!("a.{number}"),
                    NOW - 10 * step,
                    value,
                    Some(10),
                    NOW,
                )
                .unwrap();
        }
    }
    for step in 0..5 {
        store
            .put("slow", NOW - 40 - 60 * step, 60.0, Some(60), NOW)
            .unwrap();
    }
    store
}

fn ask(store: &Store, target: &str, budget: &mut Budget) -> Result<Vec<Line>, QueryError> {
    let mut context = Context {
        store,
        from: NOW - 220,
        until: NOW - 41,
        now: NOW,
        budget,
    };
    evaluate(target, &mut context)
}

#[test]
fn a_question_that_costs_too_much_is_refused_before_it_is_paid_for() {
    let store = store();
    let error = |target: &str, mut budget: Budget| {
        ask(&store, target, &mut budget)
            .map(|lines| lines.len())
            .unwrap_err()
            .to_string()
    };
    assert!(error("a.*", Budget::of(100, 1_000_000)).contains("series"));
    assert!(error("a.*", Budget::of(1000, 1000)).contains("values"));
    assert!(error("sumSeries(a.*,a.*,a.*)", Budget::of(500, 1_000_000)).contains("series"));
    assert!(error("constantLine(1)", Budget::of(10, 2)).contains("values"));
    // Names that grow with each call cost, too.
    let deep = format!(
        "{}a.1{}",
        "nonNegativeDerivative(".repeat(30),
        ")".repeat(30)
    );
    assert!(error(&deep, Budget::of(10, 500)).contains("series"));
    assert!(error("summarize(a.1,'0s')", Budget::new()).contains("no time at all"));
    assert!(error("summarize(a.1,'1parsec')", Budget::new()).contains("span of time"));
    let mut budget = Budget::of(1000, 1_000_000);
    assert_eq!(ask(&store, "a.*", &mut budget).unwrap().len(), 200);
}

#[test]
fn what_is_wrong_with_a_target_is_told() {
    let store = store();
    for (target, problem) in [
        ("'text'", "a path or a call is expected"),
        ("frobnicate(a.1)", "unknown function: frobnicate"),
        ("scale(a.1)", "Missing required parameter \"factor\""),
        ("scale(a.1,2,3)", "Too many parameters"),
        ("scale(a.1,'x')", "Invalid \"float\" value"),
        ("scale(1,2)", "Invalid \"seriesList\" value"),
        ("alias(a.1,newName=3)", "Invalid \"string\" value"),
        (
            "alias(a.1,other='x')",
            "Missing required parameter \"newName\"",
        ),
        (
            "scale(a.1,2,other=3)",
            "Unexpected key word arguments: other",
        ),
        (
            "summarize(a.1,'1min','most')",
            "Unsupported aggregation function: most",
        ),
        (
            "consolidateBy(a.1,'most')",
            "Invalid consolidation function",
        ),
        ("a.{1,2", "cannot read the target"),
    ] {
        let error = ask(&store, target, &mut Budget::new())
            .map(|lines| lines.len())
            .unwrap_err()
            .to_string();
        assert!(error.contains(problem), "{target}: {error}");
    }
}

#[test]
fn series_of_different_steps_meet_on_the_coarser_grid_at_their_own_times() {
    let store = store();
    let lines = ask(&store, "sumSeries(a.7,slow)", &mut Budget::new()).unwrap();
    let [line] = lines.as_slice() else {
        panic!("one series is wanted");
    };
    assert_eq!(
        (line.step, line.start.rem_euclid(60)),
        (60, 0),
        "the true step is told"
    );
    assert_eq!(
        line.end,
        line.start + 60 * i64::try_from(line.values.len()).unwrap()
    );
    let whole: Vec<_> = line.values.iter().skip(1).collect();
    assert!(
        whole.len() >= 2 && whole.iter().all(|value| **value == 67.0),
        "{line:?}"
    );
    let finer = ask(&store, "summarize(slow,'10s','sum')", &mut Budget::new()).unwrap();
    let known = finer[0]
        .values
        .iter()
        .filter(|value| !value.is_nan())
        .count();
    assert_eq!(
        (finer[0].step, known),
        (10, 2),
        "nothing is made up between the values"
    );
}

proptest::proptest! {
    /// Whatever a peer writes is answered or refused.
    #[test]
    fn no_text_is_too_odd(
        text in r#"([a-c.*?{}\[\]!()|,='"\\0-9 é-]|sumSeries\(|summarize\(|scale\(|alias\(|aliasByNode\(|keepLastValue\(|'1min'){0,24}"#,
        any in ".{0,40}",
    ) {
        let store = store_of_two();
        for target in [&text, &any, &format!("sum({text})"), &format!("aliasByNode(alias(a.b,'{any}'),0)")] {
            let lines = ask(&store, target, &mut Budget::of(100, 100_000)).unwrap_or_default();
            for line in lines {
                proptest::prop_assert!(line.step > 0 && line.values.len() <= 100_000, "{target}: {line:?}");
            }
        }
        let _ = (parse_time(&text, NOW), parse_time(&any, NOW));
    }
}

fn store_of_two() -> Store {
    let layout = Layout {
        retention: 7200,
        usual_step: 10,
    };
    let store = Store::new(layout, 1 << 20);
    for path in ["a.b", "c"] {
        store.put(path, NOW - 60, 1.0, Some(10), NOW).unwrap();
    }
    store
}
