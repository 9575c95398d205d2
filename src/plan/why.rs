//! Why a stage runs: what differs from the last run of the stage of the same name, kind and pipeline.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::OnceLock,
};

use serde_json::Value;

use super::Reason;
use crate::{
    digest::Digest,
    key::{CacheKey, KeyMaterial},
    pipeline::Declared,
    stage::Stage,
    store::{Damage, Record, Store},
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
    pub(crate) fn last(&self, stage: &str, kind: &str) -> Option<Past<'_>> {
        self.last.get_or_init(|| self.read()).get(&(stage.to_owned(), kind.to_owned())).map(Past::from)
    }

    /// Why there is no result of this key for a stage that is made of this.
    pub(crate) fn why(&self, declared: &Declared, key: CacheKey, material: &KeyMaterial) -> Vec<Reason> {
        if self.evicted.get_or_init(|| self.store.evicted()).contains(&key) {
            return vec![Reason::Evicted];
        }
        changes(self.last(&declared.name, declared.stage.kind()), material, &declared.stage, false)
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
    let reason =
        |Damage { file, missing, .. }| if missing { Reason::Missing { file } } else { Reason::Corrupted { file } };
    damage.into_iter().map(reason).collect()
}

/// A stage as it once was.
#[derive(Clone, Copy)]
pub(crate) struct Past<'a> {
    pub(super) material: &'a KeyMaterial,
    /// What its inputs were called, by role.
    pub(super) inputs: &'a BTreeMap<String, Vec<String>>,
    /// What its sources were called, by field.
    pub(super) sources: &'a BTreeMap<String, PathBuf>,
}

impl<'a> From<&'a Record> for Past<'a> {
    fn from(record: &'a Record) -> Self {
        let Record { material, provenance, .. } = record;
        Self { material, inputs: &provenance.inputs, sources: &provenance.sources }
    }
}

/// What differs between the last run of a stage and now. Roles that `now` does not have yet are left out if `partial`.
pub(crate) fn changes(last: Option<Past<'_>>, now: &KeyMaterial, stage: &Stage, partial: bool) -> Vec<Reason> {
    let Some(last) = last else { return vec![Reason::NeverRan] };
    let old = last.material;
    let mut reasons = Vec::new();
    if old.version != now.version {
        reasons.push(Reason::Version { old: old.version, new: now.version });
    }
    if old.seed != now.seed {
        reasons.push(Reason::Seed { old: old.seed, new: now.seed });
    }
    compare("", Some(&old.parameters), Some(&now.parameters), &mut reasons);
    sources(last, now, stage, &mut reasons);
    let gone = old.inputs.keys().filter(|role| !partial && !now.inputs.contains_key(*role));
    for role in now.inputs.keys().chain(gone) {
        inputs(role, last, now, stage, &mut reasons);
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

fn sources(last: Past<'_>, now: &KeyMaterial, stage: &Stage, reasons: &mut Vec<Reason>) {
    let old = &last.material.sources;
    let gone = old.keys().filter(|field| !now.sources.contains_key(*field));
    for field in now.sources.keys().chain(gone) {
        if old.get(field) != now.sources.get(field) {
            let written = stage.sources().into_iter().find(|source| source.field == field);
            let path = written.map(|source| source.path.to_owned());
            let path = path.or_else(|| last.sources.get(field).cloned()).unwrap_or_default();
            reasons.push(Reason::Source { field: field.clone(), path });
        }
    }
}

fn inputs(role: &str, last: Past<'_>, now: &KeyMaterial, stage: &Stage, reasons: &mut Vec<Reason>) {
    let digests = |material: &KeyMaterial| -> Vec<Digest> { material.inputs.get(role).cloned().unwrap_or_default() };
    let (old, new) = (digests(last.material), digests(now));
    let names: Vec<&str> =
        stage.ports().into_iter().filter(|port| port.role == role).map(|port| port.reference).collect();
    let old_names = last.inputs.get(role);
    for i in (0..old.len().max(new.len())).filter(|&i| old.get(i) != new.get(i)) {
        let old_name = || old_names.and_then(|names| names.get(i)).map(String::as_str);
        let stage = names.get(i).copied().or_else(old_name).unwrap_or_default();
        reasons.push(Reason::Input { role: role.to_owned(), stage: stage.to_owned() });
    }
}
