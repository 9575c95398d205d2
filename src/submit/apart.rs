//! Submitting for machines that share nothing but a remote: what jobs need is there before they are queued.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
};

use super::SubmitError;
use crate::{
    key::CacheKey,
    pipeline::Pipeline,
    plan::{Plan, PlannedStage, StageState},
    remote::{Offered, Patience, Remote, RemoteError, Sending, Settings, Watch},
    run::RunError,
    store::{Output, Record, Store, StoreError},
};

/// A remote that stands in the place of a shared store. Trouble with it is no warning: without it there is no result.
#[derive(Clone, Debug)]
pub(super) struct Depot {
    remote: Remote,
    stop: Arc<AtomicUsize>,
}

/// A plan with the records that a depot offers.
pub(super) struct Surveyed {
    pub(super) plan: Plan,
    pub(super) offered: BTreeMap<CacheKey, Offered>,
    /// Records there that are none.
    pub(super) bad: Vec<RemoteError>,
}

impl Depot {
    /// The depot of these settings; its questions end when the flag is set.
    pub(super) fn new(settings: Settings, stop: Arc<AtomicUsize>) -> Self {
        Self { remote: Remote::new(settings, Patience::PUSH_OR_PULL), stop }
    }

    /// The same for what must come to its end.
    pub(super) fn unstoppable(&self) -> Self {
        Self { remote: self.remote.clone(), stop: Arc::default() }
    }

    /// Does something with the remote.
    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&Remote, &mut Watch<'_>) -> Result<T, RemoteError>,
    ) -> Result<T, SubmitError> {
        let mut watch = Watch { stop: &self.stop, on_progress: &mut |_| {} };
        question(&self.remote, &mut watch).map_err(|error| match error {
            RemoteError::Stopped(signal) => RunError::Stopped(signal).into(),
            error => error.into(),
        })
    }

    /// Plans with what lies here and there.
    pub(super) fn survey(
        &self,
        pipeline: &Pipeline,
        store: &Store,
        targets: &[String],
    ) -> Result<Surveyed, SubmitError> {
        let (mut offered, mut bad, mut trouble) = (BTreeMap::new(), Vec::new(), None);
        let plan = Plan::make_with(pipeline, store, targets, &[], &mut |keys| match self
            .ask(|remote, watch| remote.offers(keys, watch))
        {
            Ok(offers) => {
                let records = offers.records.iter().map(|(&key, there)| (key, Arc::clone(&there.record))).collect();
                offered.extend(offers.records);
                bad.extend(offers.bad);
                records
            }
            Err(error) => {
                trouble = Some(error);
                BTreeMap::new()
            }
        })?;
        trouble.map_or(Ok(Surveyed { plan, offered, bad }), Err)
    }

    /// Brings results to the depot. Another result of the same key would make other keys of all that follows.
    fn push(&self, store: &Store, records: &[Arc<Record>]) -> Result<(), SubmitError> {
        let (pushed, _) = self.ask(|remote, watch| remote.push(store, records, false, watch))?;
        for record in records {
            if let Some(Ok(Sending::Differs)) = pushed.get(&record.key) {
                let (stage, remote) = (record.provenance.stage.clone(), self.remote.address().to_string());
                return Err(SubmitError::Differs { stage, remote });
            }
        }
        pushed.into_values().find_map(Result::err).map_or(Ok(()), |error| Err(error.into()))
    }

    /// Brings there what these stages take from the store, and the source files that they read. Gives what all source files are.
    pub(super) fn supply(
        &self,
        pipeline: &Pipeline,
        store: &Store,
        plan: &Plan,
        to_run: &[&PlannedStage],
    ) -> Result<BTreeMap<PathBuf, Output>, SubmitError> {
        let runs: BTreeSet<usize> = to_run.iter().map(|stage| stage.index).collect();
        let mut needed = runs.clone();
        for stage in plan.stages.iter().rev() {
            if needed.contains(&stage.index) {
                needed.extend(stage.inputs.iter().map(|(_, producer)| *producer));
            }
        }
        let stored = plan.stages.iter().filter(|stage| needed.contains(&stage.index));
        let stored = stored.filter_map(|stage| match &stage.state {
            StageState::Cached { record, .. } => Some(Arc::clone(record)),
            _ => None,
        });
        self.push(store, &stored.collect::<Vec<_>>())?;
        let mut sources = BTreeMap::new();
        for stage in &plan.stages {
            for path in pipeline.sources(&pipeline.stages[stage.index]).into_values() {
                let known = pipeline.carried(&path).map(|digest| Output { digest, size: 0 });
                let source = known.map_or_else(|| source(store, &path), Ok)?;
                if runs.contains(&stage.index) {
                    if !store.holds(source) && store.take_in_copy(&path)? != source {
                        return Err(SubmitError::Changed { stage: stage.name.clone() });
                    }
                    self.ask(|remote, watch| remote.push_objects(store, &[source], watch))?;
                }
                sources.insert(path, source);
            }
        }
        Ok(sources)
    }

    /// Puts a submission there, where its jobs look for it.
    pub(super) fn post(&self, store: &Store, id: &str) -> Result<(), SubmitError> {
        let path = store.submission_file(id);
        let text = fs::read(&path).map_err(StoreError::io("read", &path))?;
        self.ask(|remote, watch| remote.put_note(&["submissions", id, "submission.json"], text, true, watch))
    }

    /// Puts the list of its jobs there, by which a collection knows how long it is needed.
    pub(super) fn post_jobs(&self, store: &Store, id: &str) -> Result<(), SubmitError> {
        let path = store.jobs_file(id);
        let text = fs::read(&path).map_err(StoreError::io("read", &path))?;
        self.ask(|remote, watch| remote.put_note(&["submissions", id, "jobs.jsonl"], text, false, watch))
    }
}

/// What a source file is.
fn source(store: &Store, path: &Path) -> Result<Output, StoreError> {
    let size = fs::metadata(path).map(|metadata| metadata.len());
    let found = size.and_then(|size| Ok(Output { digest: store.source(path)?, size }));
    found.map_err(StoreError::io("read", path))
}
