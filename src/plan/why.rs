//! Why a stage runs: what differs from the last run of the stage of the same name, kind and pipeline.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::OnceLock,
};

use serde_json::Value;

use super::{Change, Reason};
use crate::{
    digest::Digest,
    key::{CacheKey, KeyMaterial},
    pipeline::Declared,
    store::{Damage, Fault, Record, Store},
};

/// The last runs of a pipeline's stages. The store is read at the first question: a run that finds everything cached asks none.
#[derive(Debug)]
pub(crate) struct History {
    store: Store,
    pipeline: String,
    /// By stage name and kind.
    last: OnceLock<BTreeMap<(String, String), Record>>,
    evicted: OnceLock<BTreeSet<CacheKey>>,
}

impl History {
    pub(crate) fn new(store: &Store, pipeline: &str) -> Self {
        Self { store: store.clone(), pipeline: pipeline.to_owned(), last: OnceLock::new(), evicted: OnceLock::new() }
    }

    /// The last record of the stage of this name and kind. A history that cannot be read is empty: it only explains.
    pub(crate) fn last(&self, stage: &str, kind: &str) -> Option<Made<'_>> {
        self.last.get_or_init(|| self.read()).get(&(stage.to_owned(), kind.to_owned())).map(Made::from)
    }

    /// Why there is no result of this key for a stage that is made of this.
    pub(crate) fn why(&self, declared: &Declared, key: CacheKey, material: &KeyMaterial) -> Vec<Reason> {
        if self.evicted.get_or_init(|| self.store.evicted()).contains(&key) {
            return vec![Reason::Evicted];
        }
        let (inputs, sources) = (declared.input_names(), declared.source_paths());
        let now = Made { material, inputs: &inputs, sources: &sources };
        changes(self.last(&declared.name, declared.stage.kind()), now, false)
    }

    fn read(&self) -> BTreeMap<(String, String), Record> {
        let mut last: BTreeMap<(String, String), Record> = BTreeMap::new();
        for record in self.store.list().unwrap_or_default().into_iter().map(|entry| entry.record) {
            if record.provenance.pipeline != self.pipeline {
                continue;
            }
            let name = (record.provenance.stage.clone(), record.material.kind.clone());
            if last.get(&name).is_none_or(|other| started(other) < started(&record)) {
                last.insert(name, record);
            }
        }
        last
    }
}

fn started(record: &Record) -> Option<jiff::Timestamp> {
    record.provenance.started.parse().ok()
}

/// The files of a result that are not as they were stored.
pub(crate) fn damaged(damage: Vec<Damage>) -> Vec<Reason> {
    let reason = |Damage { file, fault, .. }| match fault {
        Fault::Missing => Reason::Missing { file },
        Fault::Corrupted => Reason::Corrupted { file },
        Fault::Unreadable(reason) => Reason::Unreadable { file, reason },
    };
    damage.into_iter().map(reason).collect()
}

/// What a stage is made of.
#[derive(Clone, Copy)]
pub(crate) struct Made<'a> {
    pub(crate) material: &'a KeyMaterial,
    /// What its inputs are called, by role.
    pub(crate) inputs: &'a BTreeMap<String, Vec<String>>,
    /// What its sources are called, by field.
    pub(crate) sources: &'a BTreeMap<String, PathBuf>,
}

impl<'a> From<&'a Record> for Made<'a> {
    fn from(record: &'a Record) -> Self {
        let Record { material, provenance, .. } = record;
        Self { material, inputs: &provenance.inputs, sources: &provenance.sources }
    }
}

/// What differs between a stage as it was and as it is. Roles that it does not have yet are left out if `partial`.
pub(crate) fn changes(then: Option<Made<'_>>, now: Made<'_>, partial: bool) -> Vec<Reason> {
    let Some(then) = then else { return vec![Reason::NeverRan] };
    let (old, new) = (then.material, now.material);
    let mut reasons = Vec::new();
    if old.version != new.version {
        reasons.push(Reason::Version { old: old.version, new: new.version });
    }
    if old.seed != new.seed {
        reasons.push(Reason::Seed { old: old.seed, new: new.seed });
    }
    compare("", Some(&old.parameters), Some(&new.parameters), &mut reasons);
    // A field that became a reference, or was one, stands as null on the other side.
    let refers = |made: Made<'_>, field: &String| {
        made.inputs.contains_key(field)
            || made.material.inputs.contains_key(field)
            || made.material.sources.contains_key(field)
    };
    let is_reference = |reason: &Reason| match reason {
        Reason::Parameter { name, old: Some(Value::Null), new: None } => refers(now, name),
        Reason::Parameter { name, old: None, new: Some(Value::Null) } => refers(then, name),
        _ => false,
    };
    reasons.retain(|reason| !is_reference(reason));
    sources(then, now, &mut reasons);
    let is_known = |role: &String| !partial || new.inputs.contains_key(role);
    let begun = now.inputs.keys().filter(|role| !is_known(role) && !old.inputs.contains_key(*role));
    let gone = old
        .inputs
        .keys()
        .filter(|role| !new.inputs.contains_key(*role) && (!partial || !now.inputs.contains_key(*role)));
    for role in new.inputs.keys().chain(begun).chain(gone) {
        inputs(role, then, now, &mut reasons);
    }
    reasons
}

/// Walks two values in parallel and reports the leaves that differ.
fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, reasons: &mut Vec<Reason>) {
    if old == new {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (old, new) {
        let gone = old.keys().filter(|name| !new.contains_key(*name));
        for name in new.keys().chain(gone) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            compare(&path, old.get(name), new.get(name), reasons);
        }
    } else {
        reasons.push(Reason::Parameter { name: path.to_owned(), old: old.cloned(), new: new.cloned() });
    }
}

fn sources(then: Made<'_>, now: Made<'_>, reasons: &mut Vec<Reason>) {
    let (old, new) = (&then.material.sources, &now.material.sources);
    let gone = old.keys().filter(|field| !new.contains_key(*field));
    for field in new.keys().chain(gone) {
        if old.get(field) != new.get(field) {
            let path = now.sources.get(field).or_else(|| then.sources.get(field)).cloned().unwrap_or_default();
            let change = change(old.contains_key(field), new.contains_key(field));
            reasons.push(Reason::Source { field: field.clone(), path, change });
        }
    }
}

fn inputs(role: &str, then: Made<'_>, now: Made<'_>, reasons: &mut Vec<Reason>) {
    let digests = |made: Made<'_>| -> Vec<Digest> { made.material.inputs.get(role).cloned().unwrap_or_default() };
    let (old, new) = (digests(then), digests(now));
    // An input that is not made yet has a name alone.
    let named = if new.is_empty() { now.inputs.get(role).map_or(0, Vec::len) } else { new.len() };
    for i in (0..old.len().max(named)).filter(|&i| old.get(i).is_none() || old.get(i) != new.get(i)) {
        let name = |made: Made<'_>| made.inputs.get(role)?.get(i).cloned();
        let stage = name(now).or_else(|| name(then)).unwrap_or_default();
        let change = change(i < old.len(), i < named);
        reasons.push(Reason::Input { role: role.to_owned(), stage, change });
    }
}

fn change(then: bool, now: bool) -> Change {
    match (then, now) {
        (false, _) => Change::New,
        (true, false) => Change::Gone,
        (true, true) => Change::Content,
    }
}
