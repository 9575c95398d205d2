//! What an expansion keeps: keys, names, places.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write,
    path::Path,
};

use proptest::prelude::*;

use super::{super::Pipeline, *};
use crate::{digest::Digest, plan::material};

const STUDY: &str = "
seed: 48
stages:
  events: { kind: dataset, file: x.csv, tail: { observable: x, above: 1 } }
  base: { kind: train_gan, data: events, steps: 5 }
  frozen: { kind: freeze, model: base }
  tail: { kind: pretrain_tail, data: events, like: frozen, method: copy }
  boosted: { kind: boost, base: frozen, candidate: tail, data: events, steps: 7 }
  longer: { kind: train_gan, seed: 3, data: events, steps: 12 }
  evaluation: { kind: evaluate, data: events, models: [frozen, longer, boosted] }
";

fn read(text: &str, set: &[(&str, &str)]) -> Result<Pipeline, String> {
    let set: Vec<(String, String)> = set.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    Pipeline::parse(text.as_bytes(), Path::new("p.yaml"), &set).map_err(|error| error.to_string())
}

fn expanded(replicas: usize, rounds: usize) -> Pipeline {
    read(STUDY, &[("replicas", &replicas.to_string()), ("boosted.rounds", &rounds.to_string())]).unwrap()
}

fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.stages.iter().map(|declared| declared.name.as_str()).collect()
}

/// The key of each stage, were the content of every artifact its maker's key.
fn keys(pipeline: &Pipeline) -> BTreeMap<String, String> {
    fn key(pipeline: &Pipeline, name: &str, known: &mut BTreeMap<String, String>) -> String {
        if let Some(key) = known.get(name) {
            return key.clone();
        }
        let declared = pipeline.stages.iter().find(|declared| declared.name == name).unwrap();
        let mut inputs: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
        for port in declared.stage.ports() {
            let content = Digest::of(key(pipeline, port.reference, known).as_bytes());
            inputs.entry(port.role.to_owned()).or_default().push(content);
        }
        let sources = declared.stage.sources().into_iter();
        let sources = sources.map(|s| (s.field.to_owned(), Digest::of(s.path.to_string_lossy().as_bytes()))).collect();
        let found = material(&declared.stage, declared.seed, inputs, sources).unwrap().key().unwrap().to_string();
        known.insert(name.to_owned(), found.clone());
        found
    }
    let mut known = BTreeMap::new();
    for name in names(pipeline) {
        key(pipeline, name, &mut known);
    }
    known
}

#[test]
fn the_first_copy_keeps_the_seed_and_no_other_two_share_one() {
    let mut seeds = HashSet::new();
    for stage in (0..50).chain([u64::MAX, u64::MAX - 1]) {
        assert_eq!(seed(stage, "round", 1), stage);
        for k in 2..=100 {
            assert!(seeds.insert(seed(stage, "round", k)) && seeds.insert(seed(stage, "replica", k)));
            assert!(seed(stage, "replica", k) < 1 << 53);
        }
    }
}

/// If this fails, the results of every study in every cache are lost.
#[test]
fn derived_seeds_do_not_drift() {
    assert_eq!([seed(48, "replica", 2), seed(48, "round", 2)], [4_599_397_595_569_439, 2_273_036_588_532]);
}

#[test]
fn replicas_share_the_data_and_meet_in_the_evaluation() {
    let pipeline = expanded(2, 1);
    let of_one = ["events", "base", "frozen", "tail", "boosted", "longer", "evaluation@1"];
    let of_two = ["base@2", "frozen@2", "tail@2", "boosted@2", "longer@2", "evaluation@2", "evaluation"];
    assert_eq!(names(&pipeline), [&of_one[..], &of_two[..]].concat());
    let Stage::Aggregate(aggregate) = &pipeline.stages[13].stage else { panic!("an aggregate") };
    assert_eq!(aggregate.evaluations, ["evaluation@1", "evaluation@2"]);
    let Stage::Evaluate(second) = &pipeline.stages[12].stage else { panic!("an evaluation") };
    assert_eq!((second.data.as_str(), second.models.join(" ")), ("events", "frozen@2 longer@2 boosted@2".to_owned()));
    assert_eq!(pipeline.stages[13].models, ["frozen", "longer", "boosted"]);
    assert_eq!(pipeline.stages[12].models, ["frozen@2", "longer@2", "boosted@2"]);
    assert_eq!(pipeline.named, 7);
}

#[test]
fn a_stage_with_a_seed_of_its_own_has_its_own_seeds_in_replicas() {
    let pipeline = expanded(3, 1);
    let seed_of = |name: &str| pipeline.stages.iter().find(|declared| declared.name == name).unwrap().seed;
    assert_eq!((seed_of("base"), seed_of("longer")), (48, 3));
    assert_eq!((seed_of("base@3"), seed_of("longer@3")), (seed(48, "replica", 3), seed(3, "replica", 3)));
    assert_eq!(seed_of("base@3"), seed_of("boosted@3"), "arms are paired");
}

#[test]
fn rounds_grow_a_mixture_stage_by_stage() {
    let pipeline = expanded(1, 3);
    let boosting: Vec<&str> = names(&pipeline).into_iter().filter(|name| name.starts_with("boosted")).collect();
    assert_eq!(
        boosting,
        [
            "boosted@round1",
            "boosted@frozen1",
            "boosted@candidate2",
            "boosted@round2",
            "boosted@frozen2",
            "boosted@candidate3",
            "boosted"
        ]
    );
    let find = |name: &str| &pipeline.stages.iter().find(|declared| declared.name == name).unwrap().stage;
    let ports = |name: &str| -> Vec<(&str, String)> {
        find(name).ports().iter().map(|port| (port.role, port.reference.to_owned())).collect()
    };
    let all = |pairs: &[(&'static str, &str)]| -> Vec<(&str, String)> {
        pairs.iter().map(|&(role, name)| (role, name.to_owned())).collect()
    };
    assert_eq!(ports("boosted@round1"), all(&[("base", "frozen"), ("candidate", "tail"), ("data", "events")]));
    assert_eq!(ports("boosted@candidate3"), all(&[("data", "events"), ("like", "boosted@frozen2")]));
    let last = [
        ("base", "boosted@frozen2"),
        ("candidate", "boosted@candidate3"),
        ("data", "events"),
        ("grown_from", "boosted@frozen1"),
    ];
    assert_eq!(ports("boosted"), all(&last));
}

#[test]
fn a_round_before_the_last_can_be_judged_by_its_name() {
    let text = STUDY.replace("longer, boosted]", "boosted@round1, boosted]");
    let pipeline = read(&text, &[("boosted.rounds", "2"), ("replicas", "2")]).unwrap();
    let second = pipeline.stages.iter().find(|declared| declared.name == "evaluation@2").unwrap();
    assert_eq!(second.models, ["frozen@2", "boosted@round1@2", "boosted@2"]);
    for (rounds, help) in [("1", "give it more `rounds`"), ("3", "`boosted@round1` to `boosted@round2`")] {
        let text = text.replace("boosted@round1", "boosted@round7");
        let message = read(&text, &[("boosted.rounds", rounds)]).unwrap_err();
        assert!(message.contains("there is no round `boosted@round7`") && message.contains(help), "{message}");
    }
}

#[test]
fn a_mistake_in_a_stage_that_is_repeated_is_told_once_at_its_place() {
    let message = read(&STUDY.replace("steps: 7", "steps: 7, share: 3"), &[("replicas", "5"), ("boosted.rounds", "4")]);
    let message = message.unwrap_err();
    assert!(message.contains("p.yaml:8:89") && message.matches("error:").count() == 1, "{message}");
}

#[test]
fn names_of_the_program_are_not_the_users() {
    let message = read(&STUDY.replace("longer:", "base@2:").replace("longer,", ""), &[]).unwrap_err();
    assert!(message.contains("`base@2` cannot name a stage"), "{message}");
}

#[test]
fn counts_out_of_range_are_refused_where_they_stand() {
    for count in ["0", "101", "-1", "1.5", "many"] {
        let message = read(STUDY, &[("replicas", count)]).unwrap_err();
        assert!(message.contains(&format!("--set replicas={count}")), "{message}");
        let message = read(&format!("replicas: {count}\n{}", STUDY.trim_start()), &[]).unwrap_err();
        assert!(message.contains("p.yaml:1:11") && message.matches("error:").count() == 1, "{message}");
        assert!(read(STUDY, &[("boosted.rounds", count)]).unwrap_err().contains("boosted.rounds"));
    }
}

#[test]
fn a_pipeline_that_would_expand_too_far_is_refused_before_it_does() {
    let mut text = format!("replicas: 100\n{}", STUDY.trim_start());
    for arm in 0..300 {
        let _ = writeln!(text, "  arm{arm}: {{ kind: train_gan, data: events, steps: 5 }}");
    }
    let message = read(&text, &[]).unwrap_err();
    assert!(message.contains("expands into 30602 stages, and 20000 is the most"), "{message}");
    assert!(message.contains("p.yaml:1:11"), "{message}");
}

#[test]
fn an_aggregate_takes_two_or_more_evaluations_of_the_same_models() {
    let more = "  other: { kind: evaluate, data: events, models: [frozen] }\n";
    for (evaluations, said) in
        [("[evaluation]", "one evaluation has no interval"), ("[evaluation, other]", "another number of")]
    {
        let text = format!("{STUDY}{more}  both: {{ kind: aggregate, evaluations: {evaluations} }}\n");
        let message = read(&text, &[]).unwrap_err();
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn an_evaluation_of_seeds_of_ones_own_takes_all_replicas() {
    let more = "  again: { kind: evaluate, seed: 5, data: events, models: [frozen, longer, boosted] }
  both: { kind: aggregate, evaluations: [evaluation, again] }\n";
    let pipeline = read(&format!("{STUDY}{more}"), &[("replicas", "2")]).unwrap();
    let both = pipeline.stages.iter().find(|declared| declared.name == "both").unwrap();
    let Stage::Aggregate(aggregate) = &both.stage else { panic!("an aggregate") };
    assert_eq!(aggregate.evaluations, ["evaluation@1", "evaluation@2", "again@1", "again@2"]);
    assert_eq!(both.models, ["frozen", "longer", "boosted"]);
}

proptest! {
    #[test]
    fn the_first_replica_has_the_keys_of_the_pipeline_without_replicas(replicas in 2usize..7, rounds in 1usize..5) {
        let (alone, many) = (keys(&expanded(1, rounds)), keys(&expanded(replicas, rounds)));
        for (name, key) in &alone {
            let name = if name == "evaluation" { "evaluation@1" } else { name };
            prop_assert_eq!(&many[name], key);
        }
        let distinct: HashSet<&String> = many.values().collect();
        prop_assert_eq!(distinct.len(), many.len(), "no two stages share a key");
    }

    #[test]
    fn more_replicas_reuse_those_that_are_there(fewer in 2usize..5, more in 0usize..4, rounds in 1usize..4) {
        let (few, many) = (keys(&expanded(fewer, rounds)), keys(&expanded(fewer + more, rounds)));
        for (name, key) in few.iter().filter(|(name, _)| *name != "evaluation") {
            prop_assert_eq!(&many[name], key);
        }
    }

    #[test]
    fn more_rounds_reuse_those_that_are_there(fewer in 1usize..5, more in 1usize..4, replicas in 1usize..3) {
        let (few, many) = (keys(&expanded(replicas, fewer)), keys(&expanded(replicas, fewer + more)));
        for (name, key) in few.iter().filter(|(name, _)| !name.starts_with("evaluation")) {
            let last = name.strip_prefix("boosted").filter(|rest| !rest.contains(char::is_alphabetic));
            let name = last.map_or_else(|| name.clone(), |replica| format!("boosted@round{fewer}{replica}"));
            prop_assert_eq!(&many[&name], key);
        }
    }

    #[test]
    fn one_round_and_one_replica_are_none(text in Just(STUDY)) {
        prop_assert_eq!(keys(&expanded(1, 1)), keys(&read(text, &[]).unwrap()));
    }

    #[test]
    fn edits_reach_what_hangs_on_them_and_nothing_else(replicas in 1usize..4, rounds in 1usize..4, edit in 0usize..5) {
        let (field, value, reached): (_, _, &[&str]) = match edit {
            0 => ("evaluation.margin", "0.3", &[]),
            1 => ("evaluation.primary", "auc", &[]),
            2 => ("longer.steps", "13", &["longer", "evaluation"]),
            3 => ("boosted.steps", "8", &["boosted", "evaluation"]),
            _ => ("name", "other", &[]),
        };
        let counts = [("replicas", replicas.to_string()), ("boosted.rounds", rounds.to_string())];
        let counts = counts.each_ref().map(|(key, value)| (*key, value.as_str()));
        let before = keys(&read(STUDY, &counts).unwrap());
        let after = keys(&read(STUDY, &[&counts[..], &[(field, value)]].concat()).unwrap());
        for (name, key) in &before {
            // What was declared beforehand is recorded with the study, and with nothing that is computed.
            let declared = edit < 2 && replicas > 1 && name == "evaluation";
            let hangs = reached.iter().any(|prefix| name.starts_with(prefix)) && name != "boosted@candidate1";
            prop_assert_eq!(after[name] != *key, declared || hangs, "{}", name);
        }
    }
}
