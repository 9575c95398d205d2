use serde_json::json;

use super::*;

/// A stage that was trained by two loops.
pub(super) fn tracked() -> Tracked {
    let record = json!({
        "key": "ab".repeat(32),
        "material": {
            "format": 1, "kind": "pretrain_tail", "version": 3, "seed": 48, "inputs": {}, "sources": {},
            "parameters": {
                "loss": { "kind": "relativistic", "r1": 0.1, "penalty": null }, "layers": [8, 8], "start": null, "fast": true,
            },
        },
        "produces": "candidate",
        "outputs": {},
        "metrics": { "models[0].tail_w1": 0.25, "strata[0].real": 0.5 },
        "notices": ["a | b"],
        "provenance": {
            "stage": "tail", "pipeline": "study", "version": "0.1.0", "device": "cpu", "host": "linux x86_64",
            "started": "2026-01-02T03:04:05.500Z", "seconds": 10.0, "argv": ["pgan-pipe", "run"], "inputs": {}, "sources": {},
        },
    });
    let record: Record = serde_json::from_value(record).unwrap();
    let series = json!([
        { "loop": "ratio", "stride": 50, "step": [50, 100], "values": { "loss": [1.5, 1.25], "held_out": [null, 1.375] } },
        { "loop": "gan", "stride": 50, "step": [50, 90], "values": { "d_loss": [0.75, 0.5] } },
    ]);
    Tracked {
        name: "tail".to_owned(),
        pipeline: "study".to_owned(),
        metrics: named_metrics(&["frozen".to_owned()], &record.metrics),
        record: Arc::new(record),
        series: serde_json::from_value(series).unwrap(),
    }
}

#[test]
fn parameters_are_flat_and_what_is_not_set_is_left_out() {
    let expected = [
        ("fast", json!(true)),
        ("layers", json!("[8,8]")),
        ("loss.kind", json!("relativistic")),
        ("loss.r1", json!(0.1)),
        ("seed", json!(48)),
    ];
    assert_eq!(tracked().parameters(), expected.map(|(name, value)| (name.to_owned(), value)).into());
}

#[test]
fn names_of_curves_begin_with_the_loop_where_there_are_several() {
    let mut tracked = tracked();
    let names = |tracked: &Tracked| -> Vec<(u64, Vec<(String, f64)>)> {
        tracked.points().map(|point| (point.step, point.values().collect())).collect()
    };
    let all = names(&tracked);
    assert_eq!(all[0], (50, vec![("ratio/loss".to_owned(), 1.5)]), "what is not there is left out");
    assert_eq!(all[1].1.len(), 2);
    assert_eq!(all[3], (90, vec![("gan/d_loss".to_owned(), 0.5)]));
    assert_eq!((tracked.last_step(), tracked.time_of(50) - tracked.started()), (100, 5.0));
    tracked.series.remove(0);
    assert_eq!(names(&tracked)[1], (90, vec![("d_loss".to_owned(), 0.5)]));
    tracked.series.clear();
    assert_eq!((tracked.last_step(), tracked.time_of(0) - tracked.started()), (0, 10.0));
}
