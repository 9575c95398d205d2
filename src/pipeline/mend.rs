//! Reading a stage past its mistakes: each is noted and a stand-in takes its place, so that the next one is found too.

use std::borrow::Cow;

use super::{
    de::NodeDeserializer,
    diagnostics::{Diagnostic, Place},
    draft::{COMMON, DraftStage},
    fault::{Fault, FaultKind, missing},
    node::{Entry, Node, Value},
};
use crate::stage::{Stage, nearest};

/// At most so many mistakes are looked for in one stage.
const MAX_MISTAKES: usize = 64;

/// Reads the struct of a stage of this kind as far as it can be mended, and the dotted paths of what could not be read.
pub(super) fn read(
    kind: &'static str,
    draft: &DraftStage,
    mistakes: &mut Vec<Diagnostic>,
) -> (Option<Stage>, Vec<String>) {
    let mut node = Cow::Borrowed(&*draft.node);
    let mut faulty = draft.faulty.clone();
    let mut lacking = Lacking::default();
    stand_ins(&draft.node, &mut Vec::new(), &mut faulty);
    let mut stage = None;
    for _ in 0..MAX_MISTAKES {
        let fault = match Stage::deserialize(kind, NodeDeserializer::without(&node, &COMMON)) {
            None => break,
            Some(Ok(read)) => {
                stage = Some(read);
                break;
            }
            Some(Err(fault)) => fault,
        };
        let outcome = mend(node.to_mut(), &fault);
        let path = fault.path();
        let inside = |field: &str| [path.join("."), field.to_owned()].join(".").trim_start_matches('.').to_owned();
        match &fault.kind {
            FaultKind::MissingField(field) => {
                let at = inside(field);
                if !faulty.contains(&at) {
                    lacking.add(&fault, kind, field, draft.place);
                    faulty.push(at);
                }
            }
            FaultKind::UnknownField { field, expected } => {
                mistakes.push(fault.diagnostic(kind, draft.place));
                // The field that was meant is not told to be missing as well.
                faulty.extend(nearest(field, expected).map(&inside));
                faulty.push(inside(field));
            }
            FaultKind::UnknownVariant { .. } | FaultKind::Other(_) => {
                if !matches!(outcome, Mended::Silently) {
                    mistakes.push(fault.diagnostic(kind, draft.place));
                }
                faulty.push(path.join("."));
            }
        }
        if matches!(outcome, Mended::Not) {
            break;
        }
    }
    lacking.tell(mistakes);
    (stage, faulty)
}

/// Fields that are missing, those of one map together.
#[derive(Default)]
struct Lacking(Vec<(String, Place, Vec<&'static str>)>);

impl Lacking {
    fn add(&mut self, fault: &Fault, kind: &str, field: &'static str, fallback: Place) {
        let owner = fault.owner(kind);
        let place = fault.place.map_or(fallback, |(place, _)| place);
        match self.0.iter_mut().find(|(known, at, _)| known == owner && *at == place) {
            Some((_, _, fields)) => fields.push(field),
            None => self.0.push((owner.to_owned(), place, vec![field])),
        }
    }

    fn tell(self, mistakes: &mut Vec<Diagnostic>) {
        mistakes.extend(self.0.iter().map(|(owner, place, fields)| missing(owner, fields, *place)));
    }
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
