use super::*;

/// The curves of a loop that reports its step and a wave, from a step on.
fn go_on(curves: &mut Curves, from: u64, steps: u64) {
    curves.resume(steps);
    for step in from + 1..=steps {
        if step.is_multiple_of(LOG_EVERY) || step == steps {
            curves.record(step, steps, &[("step", step as f64), ("wave", (step as f64).sin())]);
        }
    }
}

fn train(steps: u64) -> Curves {
    let mut curves = Curves::new();
    go_on(&mut curves, 0, steps);
    curves
}

fn column(series: &Series, name: &str) -> Vec<f64> {
    series.values[name].iter().map(|value| value.unwrap()).collect()
}

#[test]
fn a_short_loop_has_a_row_for_each_report_and_one_for_its_end() {
    let series = train(170).series("a");
    assert_eq!((series.stride, series.step.as_slice()), (50, [50, 100, 150, 170].as_slice()));
    assert_eq!(column(&series, "step"), [50.0, 100.0, 150.0, 170.0]);
    assert_eq!(train(20).series("a").step, [20]);
}

#[test]
fn a_long_loop_has_means_over_wider_strides() {
    let series = train(50 * 2500 + 1).series("a");
    assert_eq!((series.stride, series.step.len()), (200, 626));
    assert_eq!(series.step[..2], [200, 400]);
    assert_eq!(column(&series, "step")[..2], [125.0, 325.0], "means of 50, 100, 150 and 200, and so on");
    assert_eq!(series.step[624..], [125_000, 125_001]);
    let partial = train(50 * 2001).series("a");
    assert_eq!(
        partial.step[partial.step.len() - 2..],
        [100_000, 100_050],
        "a row that is not full ends where the loop does"
    );
}

#[test]
fn no_loop_has_more_rows_than_it_may() {
    for steps in [50 * ROWS as u64, 50 * ROWS as u64 + 50, 1_000_000, 1_000_000_000] {
        let mut curves = Curves::new();
        (20..=20_000).for_each(|i| curves.record(steps * i / 20_000 / 50 * 50, steps, &[("x", 1.0)]));
        let series = curves.series("a");
        assert!(series.step.len() <= ROWS, "{} rows of {steps} steps", series.step.len());
        assert_eq!(series.step.last(), Some(&(steps / 50 * 50)));
    }
}

#[test]
fn a_loop_that_goes_on_has_the_curves_of_one_that_was_never_left() {
    for (first, then) in [(300, 600), (320, 610), (320, 320), (49_990, 130_000)] {
        let mut curves = train(first);
        let json = serde_json::to_string(&curves).unwrap();
        assert_eq!(serde_json::from_str::<Curves>(&json).unwrap(), curves);
        go_on(&mut curves, first, then);
        assert_eq!(curves, train(then), "{first} steps, then {then}");
    }
}

#[test]
fn what_is_not_there_or_not_finite_is_none() {
    let mut curves = Curves::new();
    curves.record(50, 150, &[("loss", 1.0), ("ratio", f64::NAN)]);
    curves.record(75, 150, &[("held_out", 3.0)]);
    curves.record(100, 150, &[("loss", f64::INFINITY)]);
    curves.record(150, 150, &[("loss", 2.0)]);
    let series = curves.series("a");
    assert_eq!(series.step, [50, 100, 150]);
    assert_eq!(series.values["loss"], [Some(1.0), None, Some(2.0)]);
    assert_eq!(series.values["held_out"], [None, Some(3.0), None]);
    assert!(!series.values.contains_key("ratio"));
    assert_eq!(series.points("held_out").collect::<Vec<_>>(), [(100, 3.0)]);
    assert_eq!(series.points("nothing").count(), 0);
}

#[test]
fn a_file_comes_back_as_it_was_and_a_spoilt_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::default();
    assert_eq!(recorder.history(), None);
    recorder.of("gan").record(50, 50, &[("d_loss", 2.0 / 3.0), ("learning_rate", 2e-4)]);
    let history = recorder.history().unwrap();
    history.save(folder.path()).unwrap();
    let path = folder.path().join(History::FILE);
    assert_eq!(History::load(&path).unwrap(), history);
    let text = fs::read_to_string(&path).unwrap();
    insta::assert_snapshot!(text, @r#"{"format":1,"series":[{"loop":"gan","stride":50,"step":[50],"values":{"d_loss":[0.6666667],"learning_rate":[0.0002]}}]}"#);
    for (good, bad, said) in [
        ("\"format\":1", "\"format\":2", "format 2 is not 1"),
        ("[50]", "[50,50]", "do not ascend"),
        ("[0.6666667]", "[1,2]", "`d_loss` of `gan` has not as many values"),
        ("0.6666667", "NaN", "expected"),
    ] {
        fs::write(&path, text.replacen(good, bad, 1)).unwrap();
        let error = History::load(&path).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("history.json"), "{error}");
    }
}
