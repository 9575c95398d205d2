//! A job on a machine that shares nothing with others but a remote: it takes what its stage needs from there, works in a cache of its own,
//! and leaves its result, its end and the end of its log there.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use super::{
    SubmitError,
    apart::{Depot, Surveyed},
    job::{LOOK, PATIENCE},
};
use crate::{
    digest::Digest,
    key::CacheKey,
    pipeline::{Carried, Pipeline},
    plan::StageState,
    remote::{Offered, RemoteError, Sending, Settings},
    run::RunError,
    store::{Output, Record, Store, StoreError, Submission},
};

/// Of a log so much is told, in bytes.
const TAIL: u64 = 16 << 10;

/// How such a job is set up.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The remote.
    pub remote: Settings,
    /// The job's log.
    pub log: PathBuf,
}

/// A job with its remote.
pub(super) struct Node<'a> {
    depot: Depot,
    store: &'a Store,
    id: &'a str,
    log: &'a Path,
    stop: &'a AtomicUsize,
}

impl<'a> Node<'a> {
    pub(super) fn new(
        options: &'a NodeOptions,
        store: &'a Store,
        id: &'a str,
        stop: &'a Arc<AtomicUsize>,
    ) -> Result<Self, SubmitError> {
        check_owner(store.root())?;
        Ok(Self { depot: Depot::new(options.remote.clone(), Arc::clone(stop)), store, id, log: &options.log, stop })
    }

    /// Brings the submission, and takes back what an earlier attempt said of its end.
    pub(super) fn fetch(&self) -> Result<Option<Submission>, SubmitError> {
        let path = ["submissions", self.id, "submission.json"].map(str::to_owned).to_vec();
        let text = self.depot.ask(|remote, watch| remote.notes(&[path], watch))?.pop().flatten();
        Ok(text.map(|text| self.store.adopt_submission(self.id, &text)).transpose()?.flatten())
    }

    pub(super) fn clear_end(&self, recipe: Digest) -> Result<(), SubmitError> {
        let name = format!("{recipe}.json");
        self.depot.ask(|remote, watch| remote.drop_note(&["submissions", self.id, "ends", &name], watch))
    }

    /// Brings the results that the stage takes, or its own if the remote has it; gives the records of those that need not come.
    pub(super) fn take_inputs(
        &self,
        pipeline: &Pipeline,
        stage: &str,
    ) -> Result<BTreeMap<CacheKey, Arc<Record>>, SubmitError> {
        let Surveyed { plan, offered, .. } = self.await_inputs(pipeline, stage)?;
        let own = plan.stages.iter().find(|planned| planned.name == stage);
        let there = matches!(own.map(|own| &own.state), Some(StageState::Elsewhere { .. }));
        let inputs = own.filter(|_| !there).map(|own| &own.inputs).into_iter().flatten();
        let inputs: Vec<usize> = inputs.map(|(_, producer)| *producer).collect();
        let (mut needed, mut known) = (Vec::<Offered>::new(), BTreeMap::new());
        for planned in &plan.stages {
            let StageState::Elsewhere { key, record } = &planned.state else { continue };
            if planned.name == stage || inputs.contains(&planned.index) {
                needed.extend(offered.get(key).cloned());
            } else {
                known.insert(*key, Arc::clone(record));
            }
        }
        let (pulled, _) = self.depot.ask(|remote, watch| remote.pull(self.store, needed, watch))?;
        match pulled.into_values().find_map(Result::err) {
            Some(error) => Err(error.into()),
            None => Ok(known),
        }
    }

    /// Waits a while for the results of other jobs: what another machine has written is seen after some seconds.
    fn await_inputs(&self, pipeline: &Pipeline, stage: &str) -> Result<Surveyed, SubmitError> {
        let since = Instant::now();
        loop {
            let mut surveyed = self.depot.survey(pipeline, self.store, &[stage.to_owned()])?;
            let lacking = surveyed.plan.stages.iter().filter(|planned| {
                let there = matches!(planned.state, StageState::Cached { .. } | StageState::Elsewhere { .. });
                !there && planned.name != stage
            });
            let lacking: Vec<_> = lacking.collect();
            if lacking.is_empty() {
                return Ok(surveyed);
            }
            let bad = |error: &RemoteError| {
                lacking.iter().any(|planned| matches!(&planned.state, StageState::Run { key, .. } if error.is_of(*key)))
            };
            if let Some(at) = surveyed.bad.iter().position(bad) {
                return Err(surveyed.bad.swap_remove(at).into());
            }
            if since.elapsed() >= PATIENCE {
                let stages = lacking.into_iter().map(|planned| planned.name.clone()).collect();
                return Err(RunError::NotReady { stages }.into());
            }
            match self.stop.load(Ordering::Relaxed) {
                0 => thread::sleep(LOOK),
                signal => return Err(RunError::Stopped(signal).into()),
            }
        }
    }

    /// Brings the source files that the stage reads, and has the pipeline find them.
    pub(super) fn take_sources(
        &self,
        pipeline: &mut Pipeline,
        stage: &str,
        sources: &BTreeMap<PathBuf, Output>,
    ) -> Result<(), SubmitError> {
        let read = pipeline.stages.iter().filter(|declared| declared.name == stage);
        let read: Vec<PathBuf> = read.flat_map(|declared| pipeline.sources(declared).into_values()).collect();
        let mut carried = carried(sources);
        for path in read {
            let Some(source) = sources.get(&path) else { continue };
            self.depot.ask(|remote, watch| remote.pull_objects(self.store, &[*source], watch))?;
            let name = path.file_name().unwrap_or_default();
            let file = self.store.source_file(self.id, source.digest, Path::new(name));
            self.store.take_out_object(source.digest, &file)?;
            if Digest::of_file(&file).map_err(StoreError::io("read", &file))? != source.digest {
                self.store.set_aside(source.digest)?;
                return Err(SubmitError::Changed { stage: stage.to_owned() });
            }
            carried.insert(path, Carried { digest: source.digest, file: Some(file) });
        }
        pipeline.carry(carried);
        Ok(())
    }

    /// Gives the result to the remote, whatever signal comes meanwhile. If that has another one of the same key, then this is forgotten
    /// for it: all that follows is made of that.
    pub(super) fn give(&self, record: &Arc<Record>) -> Result<(), SubmitError> {
        let depot = self.depot.unstoppable();
        let (mut pushed, _) =
            depot.ask(|remote, watch| remote.push(self.store, std::slice::from_ref(record), false, watch))?;
        match pushed.remove(&record.key) {
            Some(Err(error)) => Err(error.into()),
            Some(Ok(Sending::Differs)) => {
                self.store.forget(record.key)?;
                let mut offers = depot.ask(|remote, watch| remote.offers(&[record.key], watch))?;
                let first: Vec<Offered> = offers.records.remove(&record.key).into_iter().collect();
                let (mut pulled, _) = depot.ask(|remote, watch| remote.pull(self.store, first, watch))?;
                pulled.remove(&record.key).transpose()?;
                Ok(())
            }
            Some(Ok(Sending::Sent | Sending::There)) | None => Ok(()),
        }
    }

    /// Leaves word of the job's end, and the end of its log.
    pub(super) fn leave(&self, recipe: Digest) -> Result<(), SubmitError> {
        let depot = self.depot.unstoppable();
        if let (Ok(tail), Some(name)) = (tail(self.log), self.log.file_name().and_then(|name| name.to_str())) {
            depot.ask(|remote, watch| remote.put_note(&["submissions", self.id, "logs", name], tail, false, watch))?;
        }
        let path = self.store.end_file(self.id, recipe);
        let end = std::fs::read(&path).map_err(StoreError::io("read", &path))?;
        let name = format!("{recipe}.json");
        depot.ask(|remote, watch| remote.put_note(&["submissions", self.id, "ends", &name], end, false, watch))
    }
}

/// The sources of a submission, none of which is here.
pub(super) fn carried(sources: &BTreeMap<PathBuf, Output>) -> BTreeMap<PathBuf, Carried> {
    let carried = |source: &Output| Carried { digest: source.digest, file: None };
    sources.iter().map(|(path, source)| (path.clone(), carried(source))).collect()
}

fn tail(log: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Refuses a cache that another user has made in a folder that all may write to: what lies there is believed.
fn check_owner(cache: &Path) -> Result<(), SubmitError> {
    let ours = std::fs::metadata("/proc/self").map(|process| process.uid());
    let Ok(ours) = ours else { return Ok(()) };
    let foreign = |folder: &&Path| {
        let public = folder.parent().and_then(|parent| parent.metadata().ok());
        let public = public.is_some_and(|parent| parent.mode() & 0o002 != 0);
        public && folder.symlink_metadata().is_ok_and(|there| there.uid() != ours && there.uid() != 0)
    };
    match cache.ancestors().find(foreign) {
        Some(folder) => Err(SubmitError::NotOurs(folder.to_owned())),
        None => Ok(()),
    }
}
