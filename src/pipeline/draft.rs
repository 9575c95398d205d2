//! Drafts: the stages of a file as far as they can be read, with every mistake noted on the way.

use std::{collections::HashSet, sync::Arc};

use serde::Deserialize;

use super::{
    de::NodeDeserializer,
    diagnostics::{Diagnostic, Place},
    execution::Execution,
    fault::suggest,
    matrix::{Coordinate, Matrix},
    mend,
    node::{Entry, Node, Scalar, Value, shorten},
    parameters::{Parameters, Sweep},
};
use crate::{stage::Stage, value::ReplicaCount};

/// Keys at the top of a pipeline file.
pub(super) const TOP: [&str; 6] = ["name", "seed", "replicas", "include", "params", "stages"];
/// Keys that every stage has beside those of its kind.
pub(super) const COMMON: [&str; 7] = ["kind", "matrix", "seed", "device", "resources", "retries", "timeout"];

/// A file as far as it can be read.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) name: Option<String>,
    /// How many seeds it is run with, and where that stands.
    pub(super) replicas: Option<(ReplicaCount, Place)>,
    pub(super) stages: Vec<DraftStage>,
}

/// A stage as far as it can be read; of one with a `matrix`, one of its points.
#[derive(Clone)]
pub(super) struct DraftStage {
    pub(super) name: String,
    /// Where its name stands.
    pub(super) place: Place,
    pub(super) node: Arc<Node>,
    /// The axes of its own `matrix`, with their values.
    pub(super) point: Vec<Coordinate>,
    /// Those of them that it does not mention, and where they stand.
    pub(super) unused: Vec<(String, Place)>,
    pub(super) seed: u64,
    pub(super) execution: Execution,
    /// `None` if its kind is not known, or if it is past mending.
    pub(super) stage: Option<Stage>,
    /// Dotted paths of the fields that hold stand-ins; empty for a stage without mistakes.
    pub(super) faulty: Vec<String>,
}

impl DraftStage {
    /// Whether this field, or what it stands in, has a mistake that is already known.
    pub(super) fn is_faulty(&self, field: &str) -> bool {
        self.faulty
            .iter()
            .any(|path| field.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }

    /// The place of a field, or of the nearest thing that exists.
    pub(super) fn locate(&self, field: &str) -> (Place, Option<Place>) {
        self.node.nearest(field).unwrap_or((self.place, None))
    }
}

/// Reads the whole file.
pub(super) fn draft(root: Node, mistakes: &mut Vec<Diagnostic>) -> Draft {
    let place = root.place;
    let Value::Map(entries) = root.value else {
        mistakes.push(
            Diagnostic::new(format!("a pipeline is a map with `stages:`, not {}", root.in_words()), place)
                .help("`pgan-pipe init` writes a pipeline to start from"),
        );
        return Draft::default();
    };
    for entry in &entries {
        if !TOP.contains(&&*entry.key) {
            let message = format!("a pipeline has no `{}` at the top", shorten(&entry.key));
            mistakes.push(suggest(Diagnostic::new(message, entry.place).label("unknown key"), &entry.key, &TOP));
        }
    }
    // Taken out: they are most of the file, and become the stages without a copy.
    let (mut stages, entries): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.key == "stages");
    let take = |key: &str| entries.iter().find(|entry| entry.key == key);
    let no_params = Node::new(Value::Map(Vec::new()), Place::Whole);
    let params = section(take("params"), &no_params, mistakes);
    let mut parameters = Parameters::new(params, mistakes);

    let mut seed = 0;
    if let Some(mut entry) = take("seed").cloned() {
        parameters.put_in(&mut entry.value, mistakes);
        seed = read_entry(&entry, mistakes).unwrap_or(0);
    }
    let mut replicas = None;
    if let Some(mut entry) = take("replicas").cloned() {
        parameters.put_in(&mut entry.value, mistakes);
        replicas = read_entry(&entry, mistakes).map(|count| (count, entry.value.place));
    }
    let mut name = None;
    if let Some(mut entry) = take("name").cloned() {
        parameters.put_in(&mut entry.value, mistakes);
        name = read_entry::<String>(&entry, mistakes);
        if let Some(name) = name.as_deref().filter(|name| !is_pipeline_name(name)) {
            mistakes.push(
                Diagnostic::new(format!("`{}` cannot name a pipeline{}", shorten(name), too_long(name)), entry.value.place)
                    .help(format!(
                        "a name holds letters, digits, `-`, `_` and `.`, starts with a letter or digit, and has at most {MAX_NAME} characters"
                    )),
            );
        }
    }
    let Some(stages) = stages.pop() else {
        mistakes.push(
            Diagnostic::new("the pipeline has no `stages`", place)
                .help("`pgan-pipe init` writes a pipeline to start from"),
        );
        return Draft { name, replicas, stages: Vec::new() };
    };
    let place = stages.place;
    if section(Some(&stages), &no_params, mistakes).is_empty()
        && matches!(stages.value.value, Value::Map(_) | Value::Scalar(_, Scalar::Null))
    {
        mistakes.push(Diagnostic::new("the pipeline has no stages", place).label("nothing to run"));
    }
    let entries = if let Value::Map(entries) = stages.value.value { entries } else { Vec::new() };
    let stages = entries.into_iter().flat_map(|entry| points(entry, &mut parameters, seed, mistakes)).collect();
    Draft { name, replicas, stages }
}

/// The entries of a map at the top of the file.
fn section<'a>(entry: Option<&'a Entry>, none: &'a Node, mistakes: &mut Vec<Diagnostic>) -> &'a [Entry] {
    mistakes.extend(entry.and_then(not_a_map));
    entry.map_or(none, |entry| &entry.value).entries().unwrap_or_default()
}

/// What is wrong with a section at the top of a file that is neither a map nor left out.
pub(super) fn not_a_map(entry: &Entry) -> Option<Diagnostic> {
    if matches!(entry.value.value, Value::Map(_) | Value::Scalar(_, Scalar::Null)) {
        return None;
    }
    let message = format!("`{}` must be a map, not {}", entry.key, entry.value.in_words());
    Some(Diagnostic::new(message, entry.place).label("write `NAME:` lines below, indented"))
}

/// Reads a value by itself.
pub(super) fn read_entry<'de, T: Deserialize<'de>>(entry: &Entry, mistakes: &mut Vec<Diagnostic>) -> Option<T> {
    match T::deserialize(NodeDeserializer::new(&entry.value)) {
        Ok(value) => Some(value),
        Err(_) if matches!(entry.value.value, Value::StandIn) => None,
        Err(fault) => {
            mistakes.push(fault.under(&entry.key).diagnostic(&entry.key, entry.value.place));
            None
        }
    }
}

/// Longest name of a stage or pipeline: files are named after them.
const MAX_NAME: usize = 100;

/// Says how long a name is, if that is too long.
fn too_long(name: &str) -> String {
    let length = name.chars().count();
    if length > MAX_NAME { format!(": it has {length} characters") } else { String::new() }
}

fn is_pipeline_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_stage_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// The stage of an entry: one, or of a sweep one a point.
fn points(
    mut entry: Entry,
    parameters: &mut Parameters<'_>,
    seed: u64,
    mistakes: &mut Vec<Diagnostic>,
) -> Vec<DraftStage> {
    let matrix = match &mut entry.value.value {
        Value::Map(entries) => entries.iter().position(|entry| entry.key == "matrix").map(|at| entries.remove(at)),
        _ => None,
    };
    let matrix = matrix.map(|mut entry| {
        parameters.put_in(&mut entry.value, mistakes);
        Matrix::read(&entry, mistakes)
    });
    let Some(Some(matrix)) = matrix else {
        parameters.sweep = if matrix.is_some() { Sweep::Faulty } else { Sweep::None };
        parameters.put_in(&mut entry.value, mistakes);
        parameters.sweep = Sweep::None;
        return vec![draft_stage(entry, seed, mistakes)];
    };
    let (mut drafts, mut mentioned) = (Vec::new(), HashSet::new());
    let cost = entry.value.cost();
    for (values, point) in matrix.points() {
        if let Err(mistake) = parameters.spend(cost, entry.place) {
            mistakes.push(*mistake);
            break;
        }
        let mut copy = entry.clone();
        parameters.sweep = Sweep::Point { values, used: HashSet::new() };
        parameters.put_in(&mut copy.value, mistakes);
        if let Sweep::Point { used, .. } = std::mem::take(&mut parameters.sweep) {
            mentioned.extend(used);
        }
        drafts.push(DraftStage { point, ..draft_stage(copy, seed, mistakes) });
    }
    let unused = matrix.axes.iter().filter(|axis| !mentioned.contains(&axis.name));
    let unused: Vec<(String, Place)> = unused.map(|axis| (axis.name.clone(), axis.place)).collect();
    for draft in &mut drafts {
        draft.unused.clone_from(&unused);
    }
    drafts
}

fn draft_stage(entry: Entry, default_seed: u64, mistakes: &mut Vec<Diagnostic>) -> DraftStage {
    let Entry { key: name, place, value: node } = entry;
    if !is_stage_name(&name) {
        mistakes
            .push(Diagnostic::new(format!("`{}` cannot name a stage{}", shorten(&name), too_long(&name)), place).help(
            format!(
                "a name holds letters, digits, `-` and `_`, starts with a letter, and has at most {MAX_NAME} characters"
            ),
        ));
    }
    let execution = Execution::read(&node, mistakes);
    let mut draft = DraftStage {
        name,
        place,
        node: Arc::new(node),
        point: Vec::new(),
        unused: Vec::new(),
        seed: default_seed,
        execution,
        stage: None,
        faulty: Vec::new(),
    };
    if let Some(entry) = draft.node.entry("seed") {
        match read_entry(entry, mistakes) {
            Some(seed) => draft.seed = seed,
            None => draft.faulty.push("seed".into()),
        }
    }
    if let Some(kind) = kind(&draft, mistakes) {
        (draft.stage, draft.faulty) = mend::read(kind, &draft, mistakes);
    }
    draft
}

/// The kind, if it is a known one.
fn kind(draft: &DraftStage, mistakes: &mut Vec<Diagnostic>) -> Option<&'static str> {
    let known = Stage::KINDS.join("`, `");
    let mistake = match (&draft.node.value, draft.node.entry("kind")) {
        (Value::StandIn, _) => return None,
        (Value::Map(_), Some(entry)) => match &entry.value.value {
            Value::Scalar(text, scalar) if *scalar != Scalar::Null => {
                if let Some(kind) = Stage::KINDS.iter().find(|kind| *kind == text) {
                    return Some(kind);
                }
                let message = format!("there is no stage kind `{}`", shorten(text));
                let found = Diagnostic::new(message, entry.value.place).label("unknown kind");
                suggest(found, text, Stage::KINDS).with_origin(entry.value.origin)
            }
            Value::StandIn => return None,
            _ => Diagnostic::new(format!("`kind` is {}, not a name", entry.value.in_words()), entry.value.place)
                .help(format!("kinds are `{known}`")),
        },
        (Value::Map(_) | Value::Scalar(_, Scalar::Null), _) => {
            Diagnostic::new(format!("the stage `{}` has no `kind`", draft.name), draft.place)
                .help(format!("kinds are `{known}`"))
        }
        _ => {
            Diagnostic::new(format!("the stage `{}` is {}, not a map", draft.name, draft.node.in_words()), draft.place)
                .help(format!("write `kind:` and its fields below the name; kinds are `{known}`"))
        }
    };
    mistakes.push(mistake);
    None
}
