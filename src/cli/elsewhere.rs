//! Plans that know what a remote has.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::AtomicUsize},
};

use pgan_pipe::{
    key::CacheKey,
    pipeline::Pipeline,
    plan::Plan,
    remote::{Offered, Remote, RemoteError, Watch},
    store::{Record, Store},
};

use super::{Failure, arguments::MaybeRemoteArgs, output::say};

/// What a remote was found to have while a plan was made.
pub(super) struct Found<'a> {
    remote: &'a Remote,
    stop: &'a AtomicUsize,
    /// Records of results that the store has not.
    pub(super) offered: BTreeMap<CacheKey, Offered>,
    /// Records that are none.
    pub(super) bad: Vec<RemoteError>,
    /// Why the remote was asked no more.
    pub(super) trouble: Option<RemoteError>,
}

impl<'a> Found<'a> {
    pub(super) fn on(remote: &'a Remote, stop: &'a AtomicUsize) -> Self {
        Self { remote, stop, offered: BTreeMap::new(), bad: Vec::new(), trouble: None }
    }

    /// Makes a plan, and looks on the remote for what the store has not.
    pub(super) fn plan(
        &mut self,
        pipeline: &Pipeline,
        store: &Store,
        targets: &[String],
        force: &[String],
    ) -> Result<Plan, Failure> {
        Plan::make_with(pipeline, store, targets, force, &mut |keys| self.records(keys))
            .map_err(|error| Failure::of_plan(pipeline, error))
    }

    fn records(&mut self, keys: &[CacheKey]) -> BTreeMap<CacheKey, Arc<Record>> {
        if self.trouble.is_some() {
            return BTreeMap::new();
        }
        let mut watch = Watch { stop: self.stop, on_progress: &mut |_| {} };
        match self.remote.offers(keys, &mut watch) {
            Ok(offers) => {
                let records = offers.records.iter().map(|(&key, offered)| (key, Arc::clone(&offered.record))).collect();
                self.offered.extend(offers.records);
                self.bad.extend(offers.bad);
                records
            }
            Err(error) => {
                self.trouble = Some(error);
                BTreeMap::new()
            }
        }
    }
}

/// A plan that knows what the remote has, if there is one. Trouble with it is told, and no failure.
pub(super) fn plan(
    pipeline: &Pipeline,
    file: &Path,
    store: &Store,
    (targets, force): (&[String], &[String]),
    remote: &MaybeRemoteArgs,
) -> Result<Plan, Failure> {
    let Some((remote, _)) = remote.of_run(file)? else {
        return Plan::make(pipeline, store, targets, force).map_err(|error| Failure::of_plan(pipeline, error));
    };
    let stop = AtomicUsize::new(0);
    let mut found = Found::on(&remote, &stop);
    let plan = found.plan(pipeline, store, targets, force)?;
    for error in found.bad.iter().chain(&found.trouble) {
        say(&format!("warning: {error}"));
    }
    Ok(plan)
}
