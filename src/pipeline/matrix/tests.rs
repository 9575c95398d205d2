//! What a sweep stands for, and how mistakes in it are told.

use std::{fmt::Write, path::Path};

use super::super::{Pipeline, PipelineError};
use crate::{digest::Digest, plan::material, stage::Stage};

const SWEEP: &str = "
seed: 48
params: { rates: [1e-3, 1e-4] }
stages:
  events: { kind: dataset, file: x.csv, tail: { observable: x, above: 1 } }
  base:
    kind: train_gan
    matrix: { lr: \"${params.rates}\", width: [8, 16] }
    data: events
    generator: { layers: [\"${matrix.width}\"] }
    optimizer: { rate: \"${matrix.lr}\" }
    steps: 5
  frozen: { kind: freeze, model: base }
  evaluation: { kind: evaluate, data: events, models: [frozen] }
";

fn read_with(text: &str, set: &[(&str, &str)]) -> Result<Pipeline, PipelineError> {
    let set: Vec<(String, String)> = set.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    Pipeline::parse(text.as_bytes(), Path::new("p.yaml"), &set)
}

fn read(text: &str) -> Pipeline {
    read_with(text, &[]).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> String {
    read_with(text, &[]).map(|_| ()).unwrap_err().to_string()
}

fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.stages.iter().map(|declared| declared.name.as_str()).collect()
}

fn stage<'a>(pipeline: &'a Pipeline, name: &str) -> &'a Stage {
    &pipeline.stages.iter().find(|declared| declared.name == name).unwrap_or_else(|| panic!("{name}")).stage
}

fn inputs(pipeline: &Pipeline, name: &str) -> String {
    stage(pipeline, name).ports().iter().map(|port| port.reference).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_stage_stands_for_its_points_and_those_that_take_it_go_along() {
    let pipeline = read(SWEEP);
    let points = ["lr=0.001,width=8", "lr=0.001,width=16", "lr=0.0001,width=8", "lr=0.0001,width=16"];
    let of = |stage: &str| points.map(|point| format!("{stage}@{point}"));
    let expected = [vec!["events".to_owned()], of("base").into(), of("frozen").into(), vec!["evaluation".to_owned()]];
    assert_eq!(names(&pipeline), expected.concat());
    assert_eq!(inputs(&pipeline, "frozen@lr=0.0001,width=8"), "base@lr=0.0001,width=8");
    assert_eq!(inputs(&pipeline, "evaluation"), format!("events {}", of("frozen").join(" ")));
    assert_eq!(
        (pipeline.named, pipeline.stages[1].models.len(), pipeline.stages.last().unwrap().models.len()),
        (4, 0, 4)
    );
    assert_eq!(pipeline.stages[4].point, "lr=0.0001,width=16");
}

#[test]
fn a_point_has_the_key_of_a_plain_stage_with_its_values_written_out() {
    let plain = SWEEP
        .replace("    matrix: { lr: \"${params.rates}\", width: [8, 16] }\n", "")
        .replace("\"${matrix.width}\"", "16")
        .replace("\"${matrix.lr}\"", "0.0001");
    let key = |pipeline: &Pipeline, name: &str| {
        let declared = pipeline.stages.iter().find(|declared| declared.name == name).unwrap();
        let inputs = [("data".to_owned(), vec![Digest::of(b"events")])].into();
        material(&declared.stage, declared.seed, inputs, [].into()).unwrap().key().unwrap()
    };
    assert_eq!(key(&read(SWEEP), "base@lr=0.0001,width=16"), key(&read(&plain), "base"));
    assert_ne!(key(&read(SWEEP), "base@lr=0.001,width=16"), key(&read(&plain), "base"));
}

#[test]
fn inputs_that_share_an_axis_are_joined_and_other_axes_multiply() {
    let text = format!(
        "{SWEEP}  tail: {{ kind: pretrain_tail, data: events, like: frozen, method: none, matrix: {{ lr: [1e-4] }} }}
  boosted:
    kind: boost
    matrix: {{ share: [0.2, 0.4] }}
    base: frozen
    candidate: tail
    data: events
    steps: 7
    ema: \"${{matrix.share}}\"
  each: {{ kind: evaluate, matrix: {{ width: [8, 16] }}, data: events, models: [base, boosted] }}
"
    );
    let pipeline = read(&text);
    let boosted: Vec<&str> = names(&pipeline).into_iter().filter(|name| name.starts_with("boosted")).collect();
    assert_eq!(
        boosted,
        [
            "boosted@lr=0.0001,width=8,share=0.2",
            "boosted@lr=0.0001,width=8,share=0.4",
            "boosted@lr=0.0001,width=16,share=0.2",
            "boosted@lr=0.0001,width=16,share=0.4"
        ]
    );
    assert_eq!(
        inputs(&pipeline, "boosted@lr=0.0001,width=16,share=0.2"),
        "frozen@lr=0.0001,width=16 tail@lr=0.0001,width=16 events"
    );
    assert_eq!(
        inputs(&pipeline, "each@width=8"),
        "events base@lr=0.001,width=8 base@lr=0.0001,width=8 boosted@lr=0.0001,width=8,share=0.2 \
         boosted@lr=0.0001,width=8,share=0.4"
    );
}

#[test]
fn a_reference_may_name_a_point_or_a_part_of_one() {
    let of = |reference: &str| read(&SWEEP.replace("model: base", &format!("model: \"{reference}\"")));
    assert_eq!(inputs(&of("base@width=8,lr=0.001"), "frozen@lr=0.001,width=8"), "base@lr=0.001,width=8");
    assert_eq!(names(&of("base@lr=0.001")).len(), 1 + 4 + 2 + 1);
    let message = refused(&SWEEP.replace("model: base", "model: base@lr=0.01"));
    assert!(message.contains("`base` has no point `lr=0.01`") && message.contains("p.yaml:13:34"), "{message}");
    for reference in ["base@2", "base@lr=0.001@2", "base@", "@lr=1"] {
        let message = refused(&SWEEP.replace("model: base", &format!("model: \"{reference}\"")));
        assert!(message.contains(&format!("there is no stage `{reference}`")), "{message}");
    }
    let message = refused(&SWEEP.replace("data: events, models", "data: \"events@lr=0.001\", models"));
    assert!(message.contains("it is not swept: refer to it by its name alone"), "{message}");
}

#[test]
fn points_can_be_taken_out() {
    let excluded = "width: [8, 16], exclude: [{ lr: 0.001, width: 16 }, { lr: 1e-4, width: 8 }] }";
    let pipeline = read(&SWEEP.replace("width: [8, 16] }", excluded));
    assert_eq!(names(&pipeline)[1..3], ["base@lr=0.001,width=8", "base@lr=0.0001,width=16"]);
}

#[test]
fn the_name_of_a_swept_stage_means_all_of_its_points() {
    let pipeline = read_with(SWEEP, &[("replicas", "2")]).unwrap();
    let select = |name: &str| -> Vec<&str> {
        pipeline.select(name).into_iter().map(|index| pipeline.stages[index].name.as_str()).collect()
    };
    assert_eq!(select("base").len(), 4);
    assert_eq!(select("base@width=8"), ["base@lr=0.001,width=8", "base@lr=0.0001,width=8"]);
    assert_eq!(select("base@width=8,lr=0.001@2"), ["base@lr=0.001,width=8@2"]);
    assert_eq!(select("evaluation"), ["evaluation"]);
    assert!(select("base@lr=7").is_empty() && select("bas").is_empty());
}

#[test]
fn set_changes_an_axis_and_a_field_of_all_points() {
    let pipeline = read_with(SWEEP, &[("rates", "[0.5]"), ("base.matrix.width", "[4, 5, 6]"), ("base.steps", "9")]);
    let pipeline = pipeline.unwrap();
    assert_eq!(names(&pipeline)[1..4], ["base@lr=0.5,width=4", "base@lr=0.5,width=5", "base@lr=0.5,width=6"]);
    let Stage::TrainGan(base) = stage(&pipeline, "base@lr=0.5,width=6") else { panic!("a training") };
    assert_eq!((base.steps.get(), base.generator.layers[0].get()), (9, 6));
}

#[test]
fn rounds_may_differ_from_point_to_point() {
    let text = format!(
        "{SWEEP}  tail: {{ kind: pretrain_tail, data: events, like: frozen, method: none }}
  boosted: {{ kind: boost, matrix: {{ k: [1, 2] }}, base: frozen, candidate: tail, data: events, steps: 7, rounds: \"${{matrix.k}}\" }}
"
    );
    let pipeline = read_with(&text, &[("rates", "[0.5]"), ("base.matrix.width", "[4]")]).unwrap();
    let point = "lr=0.5,width=4";
    let all = names(&pipeline);
    assert!(all.contains(&&*format!("boosted@{point},k=2@round1")) && all.contains(&&*format!("boosted@{point},k=1")));
    assert!(!all.contains(&&*format!("boosted@{point},k=1@round1")));
    let judged = format!("{text}  last: {{ kind: evaluate, data: events, models: [boosted@round1] }}\n");
    let message = refused(&judged.replace("k: [1, 2]", "k: [2, 1]"));
    assert!(message.contains("there is no round `boosted@lr=0.001,width=8,k=1@round1`"), "{message}");
}

#[test]
fn mistakes_in_a_sweep_are_told_once_and_at_their_places() {
    let of = |matrix: &str, rate: &str| {
        refused(&SWEEP.replace("lr: \"${params.rates}\", width: [8, 16]", matrix).replace("${matrix.lr}", rate))
    };
    let all = [
        of("lr: [1e-3, -1, few], width: [8]", "${matrix.lr}"),
        of("lr: [1, 1.0], width: [], 2x: [1], w: 3", "${matrix.lr}"),
        of("lr: [1, [2], ~, .inf], width: [8]", "${matrix.lr}"),
        of("lr: [1], width: [8], depth: [1, 2]", "${matrix.rl}"),
        of("lr: [1], width: [8], depth: [1, 2]", "${matrix.lr}"),
        of("lr: [1], width: [8], exclude: [{ lr: 1 }]", "${matrix.lr}"),
        of("lr: [1], width: [8, 9], exclude: [{ rl: 1, width: 7 }, {}, 3]", "${matrix.lr}"),
        of("lr: [1], width: [8]", "${lr}"),
        of("lr: [\"${matrix.width}\"], width: [8]", "${matrix.lr}"),
        refused(&SWEEP.replace("matrix: { lr: \"${params.rates}\", width: [8, 16] }", "matrix: [1]")),
        refused(&SWEEP.replace("    matrix: { lr: \"${params.rates}\", width: [8, 16] }\n", "")),
    ];
    insta::assert_snapshot!(all.join("\n\n----\n\n"));
}

#[test]
fn an_axis_that_an_input_has_is_used_and_must_have_its_values() {
    let own = |values: &str| {
        SWEEP.replace("frozen: { kind: freeze,", &format!("frozen: {{ kind: freeze, matrix: {{ lr: [{values}] }},"))
    };
    assert_eq!(names(&read(&own("1e-4"))).len(), 1 + 4 + 2 + 1);
    insta::assert_snapshot!(refused(&own("1e-4, 1e-5")));
}

#[test]
fn sweeps_are_bounded() {
    let values = |n: usize| (1..=n).map(|value| value.to_string()).collect::<Vec<_>>().join(", ");
    let swept = |n: usize| format!("lr: [{0}], width: [{0}]", values(n));
    let text = |n: usize| SWEEP.replace("lr: \"${params.rates}\", width: [8, 16]", &swept(n));
    let message = refused(&text(32));
    assert!(message.contains("the axes have 1024 points, and 1000 is the most"), "{message}");
    // Each stage multiplies by an axis of its own.
    let mut text = text(10);
    for at in 0..4 {
        let base = if at == 0 { "frozen".to_owned() } else { format!("s{}", at - 1) };
        let _ = writeln!(
            text,
            "  s{at}: {{ kind: post_stratify, model: {base}, data: events, edges: [\"${{matrix.e{at}}}\"], matrix: {{ e{at}: [{}] }} }}",
            values(20)
        );
    }
    let message = refused(&text);
    assert!(message.contains("the sweeps come to more than 20000 stages"), "{message}");
}
