//! Drafts: the stages of a file as far as they can be read, with every mistake noted on the way.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    de::NodeDeserializer,
    diagnostics::{Diagnostic, Place},
    fault::{Fault, FaultKind, suggest},
    node::{Entry, Node, Scalar, Value, shorten},
    parameters::Parameters,
};
use crate::stage::Stage;

/// Keys at the top of a pipeline file.
const TOP: [&str; 4] = ["name", "seed", "params", "stages"];
/// Keys that every stage has beside those of its kind.
const COMMON: [&str; 2] = ["kind", "seed"];
/// At most so many mistakes are looked for in one stage.
const MAX_MISTAKES: usize = 64;

/// A file as far as it can be read.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) name: Option<String>,
    pub(super) stages: Vec<DraftStage>,
}

/// A stage as far as it can be read.
pub(super) struct DraftStage {
    pub(super) name: String,
    /// Where its name stands.
    pub(super) place: Place,
    pub(super) node: Node,
    pub(super) seed: u64,
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
    let take = |key: &str| entries.iter().find(|entry| entry.key == key);
    let no_params = Node::new(Value::Map(Vec::new()), Place::Whole);
    let params = section(take("params"), &no_params, mistakes);
    let mut parameters = Parameters::new(params, mistakes);

    let mut seed = 0;
    if let Some(mut entry) = take("seed").cloned() {
        parameters.put_in(&mut entry.value, mistakes);
        seed = read(&entry, mistakes).unwrap_or(0);
    }
    let mut name = None;
    if let Some(mut entry) = take("name").cloned() {
        parameters.put_in(&mut entry.value, mistakes);
        name = read::<String>(&entry, mistakes);
        if let Some(name) = name.as_deref().filter(|name| !is_pipeline_name(name)) {
            mistakes.push(
                Diagnostic::new(format!("`{}` cannot name a pipeline", shorten(name)), entry.value.place)
                    .help("a name holds letters, digits, `-`, `_` and `.`, and starts with a letter or digit"),
            );
        }
    }
    let Some(stages) = take("stages") else {
        mistakes.push(
            Diagnostic::new("the pipeline has no `stages`", place)
                .help("`pgan-pipe init` writes a pipeline to start from"),
        );
        return Draft { name, stages: Vec::new() };
    };
    let entries = section(Some(stages), &no_params, mistakes);
    if entries.is_empty() && matches!(stages.value.value, Value::Map(_) | Value::Scalar(_, Scalar::Null)) {
        mistakes.push(Diagnostic::new("the pipeline has no stages", stages.place).label("nothing to run"));
    }
    let stages = entries
        .iter()
        .map(|entry| {
            let mut entry = entry.clone();
            parameters.put_in(&mut entry.value, mistakes);
            draft_stage(entry, seed, mistakes)
        })
        .collect();
    Draft { name, stages }
}

/// The entries of a map at the top of the file.
fn section<'a>(entry: Option<&'a Entry>, none: &'a Node, mistakes: &mut Vec<Diagnostic>) -> &'a [Entry] {
    let Some(entry) = entry else { return none.entries().unwrap_or_default() };
    if !matches!(entry.value.value, Value::Map(_) | Value::Scalar(_, Scalar::Null)) {
        let message = format!("`{}` must be a map, not {}", entry.key, entry.value.in_words());
        mistakes.push(Diagnostic::new(message, entry.place).label("write `NAME:` lines below, indented"));
    }
    entry.value.entries().unwrap_or_default()
}

/// Reads a value by itself.
fn read<'de, T: Deserialize<'de>>(entry: &Entry, mistakes: &mut Vec<Diagnostic>) -> Option<T> {
    match T::deserialize(NodeDeserializer::new(&entry.value)) {
        Ok(value) => Some(value),
        Err(_) if matches!(entry.value.value, Value::StandIn) => None,
        Err(fault) => {
            mistakes.push(fault.under(&entry.key).diagnostic(&entry.key, entry.value.place));
            None
        }
    }
}

fn is_pipeline_name(name: &str) -> bool {
    name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_stage_name(name: &str) -> bool {
    name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

fn draft_stage(entry: Entry, default_seed: u64, mistakes: &mut Vec<Diagnostic>) -> DraftStage {
    let Entry { key: name, place, value: node } = entry;
    if !is_stage_name(&name) {
        mistakes.push(
            Diagnostic::new(format!("`{}` cannot name a stage", shorten(&name)), place)
                .help("a name holds letters, digits, `-` and `_`, and starts with a letter"),
        );
    }
    let mut draft = DraftStage { name, place, node, seed: default_seed, stage: None, faulty: Vec::new() };
    if let Some(entry) = draft.node.entry("seed") {
        match read(entry, mistakes) {
            Some(seed) => draft.seed = seed,
            None => draft.faulty.push("seed".into()),
        }
    }
    if let Some(kind) = kind(&draft, mistakes) {
        (draft.stage, draft.faulty) = stage(kind, &draft, mistakes);
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
                suggest(found, text, Stage::KINDS).from_origin(entry.value.origin)
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

/// Reads a stage's struct. Each mistake is noted and a stand-in takes its place, until the struct reads or is past mending.
fn stage(kind: &'static str, draft: &DraftStage, mistakes: &mut Vec<Diagnostic>) -> (Option<Stage>, Vec<String>) {
    let mut node = Cow::Borrowed(&draft.node);
    let mut faulty = draft.faulty.clone();
    stand_ins(&draft.node, &mut Vec::new(), &mut faulty);
    for _ in 0..MAX_MISTAKES {
        let read = match Stage::deserialize(kind, NodeDeserializer::without(&node, &COMMON)) {
            Some(read) => read,
            None => break,
        };
        let fault = match read {
            Ok(stage) => return (Some(stage), faulty),
            Err(fault) => fault,
        };
        let outcome = mend(node.to_mut(), &fault);
        if matches!(outcome, Mended::New | Mended::Not) && !is_repeated(&fault, &faulty) {
            mistakes.push(fault.diagnostic(kind, draft.place));
        }
        let mut path = fault.path();
        match &fault.kind {
            FaultKind::UnknownField { field, .. } => path.push(field.clone()),
            FaultKind::MissingField(field) => path.push((*field).to_owned()),
            _ => {}
        }
        faulty.push(path.join("."));
        if matches!(outcome, Mended::Not) {
            break;
        }
    }
    (None, faulty)
}

/// Whether a missing field is one that was taken out because its value had a mistake.
fn is_repeated(fault: &Fault, faulty: &[String]) -> bool {
    let FaultKind::MissingField(field) = fault.kind else { return false };
    let mut path = fault.path();
    path.push(field.to_owned());
    faulty.contains(&path.join("."))
}

/// Notes the paths of values whose parameter is not known.
fn stand_ins(node: &Node, path: &mut Vec<String>, faulty: &mut Vec<String>) {
    let mut inside = |step: String, child: &Node| {
        path.push(step);
        stand_ins(child, path, faulty);
        path.pop();
    };
    match &node.value {
        Value::StandIn => faulty.push(path.join(".")),
        Value::Map(entries) => entries.iter().for_each(|entry| inside(entry.key.clone(), &entry.value)),
        Value::Sequence(items) => items.iter().enumerate().for_each(|(index, item)| inside(index.to_string(), item)),
        Value::Scalar(..) => {}
    }
}

/// What became of a mistake in the tree.
enum Mended {
    /// It is out of the way, and is worth telling.
    New,
    /// A stand-in did not satisfy the type: it was taken out, and is no mistake of the user's.
    Silently,
    /// Reading again would find the same.
    Not,
}

/// Changes the tree so that reading it again gets past this mistake.
fn mend(root: &mut Node, fault: &Fault) -> Mended {
    let path = fault.path();
    match &fault.kind {
        FaultKind::UnknownField { field, .. } => match root.descend_mut(&path).map(|node| &mut node.value) {
            Some(Value::Map(entries)) => {
                entries.retain(|entry| entry.key != *field);
                return Mended::New;
            }
            _ => return Mended::Not,
        },
        FaultKind::MissingField(field) => {
            if let Some(Value::Map(entries)) = root.descend_mut(&path).map(|node| &mut node.value) {
                let value = Node::new(Value::StandIn, Place::Whole);
                entries.push(Entry { key: (*field).to_owned(), place: Place::Whole, value });
                return Mended::New;
            }
        }
        FaultKind::UnknownVariant { .. } | FaultKind::Other(_) => {}
    }
    // The deepest node that exists on the path: the value at fault, or a stand-in that a visitor went into.
    let depth = (0..=path.len()).rev().find(|&depth| root.descend_mut(&path[..depth]).is_some()).unwrap_or(0);
    let Some((last, parent)) = path[..depth].split_last() else { return Mended::Not };
    match root.descend_mut(&path[..depth]) {
        Some(node) if !matches!(node.value, Value::StandIn) => {
            node.value = Value::StandIn;
            Mended::New
        }
        _ => match root.descend_mut(parent).map(|node| &mut node.value) {
            Some(Value::Map(entries)) => {
                entries.retain(|entry| entry.key != *last);
                Mended::Silently
            }
            Some(Value::Sequence(items)) => {
                items.retain(|item| !matches!(item.value, Value::StandIn));
                Mended::Silently
            }
            _ => Mended::Not,
        },
    }
}
