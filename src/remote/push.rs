//! Pushing: objects go first, each compared with its digest before it goes; then the record, unless there is one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

use super::{
    Progress, Remote, RemoteError, Watch, blocking,
    guard::guarded_future,
    link::{Link, SLOTS},
    pull::all,
};
use crate::{
    digest::Digest,
    key::CacheKey,
    store::{Output, Record, Store, StoreError},
};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// It was sent.
    Sent,
    /// The remote had it, with the same files.
    There,
    /// The remote had another result of this key, which stays.
    Differs,
}

/// What became of each result.
pub type Pushed = BTreeMap<CacheKey, Result<Sending, RemoteError>>;

/// From so many objects on, folders are listed in the place of asking for each object.
const MANY: usize = 512;

impl Remote {
    /// Gives results to the remote. What it has already is not sent again, unless it is to be overwritten. One result that cannot be sent
    /// does not keep the others.
    pub fn push(
        &self,
        store: &Store,
        records: &[Arc<Record>],
        overwrite: bool,
        watch: &mut Watch<'_>,
    ) -> Result<(Pushed, Arc<Progress>), RemoteError> {
        if !self.address().is_writable() {
            return Err(RemoteError::ReadOnly { address: self.address().clone() });
        }
        let line = self.line()?;
        let progress = Arc::new(Progress::default());
        let outputs: BTreeMap<Digest, u64> =
            records.iter().flat_map(|record| record.outputs.values()).map(|o| (o.digest, o.size)).collect();
        for &size in outputs.values() {
            progress.expect(size);
        }
        let link = Arc::clone(&line.link);
        let told = Arc::clone(&progress);
        let pushed = line.wait(watch, &progress, async move {
            let listed = if outputs.len() < MANY || overwrite { None } else { link.list(outputs.keys()).await? };
            let push = Arc::new(Push::new(link, store.clone(), told, overwrite, listed));
            let work = |record: &Arc<Record>| {
                let (push, record) = (Arc::clone(&push), Arc::clone(record));
                async move { (record.key, push.guarded_result(&record).await) }
            };
            all(records.iter().map(work)).await
        })?;
        Ok((pushed, progress))
    }

    /// Gives objects that no result names to the remote.
    pub(crate) fn push_objects(
        &self,
        store: &Store,
        outputs: &[Output],
        watch: &mut Watch<'_>,
    ) -> Result<(), RemoteError> {
        let line = self.line()?;
        let progress = Arc::new(Progress::default());
        for output in outputs {
            progress.expect(output.size);
        }
        let push = Push::new(Arc::clone(&line.link), store.clone(), Arc::clone(&progress), false, None);
        let sends: Vec<_> = outputs.iter().map(|&output| push.once(output)).collect();
        line.wait(watch, &progress, stream::iter(sends).buffer_unordered(SLOTS).try_collect())
    }

    /// Begins to give a result to the remote, and goes on with it while the caller does other things. `done` is called in any case.
    pub(crate) fn push_behind(
        &self,
        store: &Store,
        record: Arc<Record>,
        progress: &Arc<Progress>,
        done: impl FnOnce(Result<Sending, RemoteError>) + Send + 'static,
    ) {
        let line = match self.line() {
            Ok(line) => line,
            Err(error) => return done(Err(error)),
        };
        let push = Push::new(line.link, store.clone(), Arc::clone(progress), false, None);
        match &line.engine.0 {
            Some(runtime) => drop(runtime.spawn(async move { done(push.guarded_result(&record).await) })),
            None => done(Err(RemoteError::Stopped(0))),
        }
    }
}

/// Results on their way to a remote.
pub(super) struct Push {
    pub(super) link: Arc<Link>,
    pub(super) store: Store,
    pub(super) progress: Arc<Progress>,
    overwrite: bool,
    /// The objects that the remote has, with their sizes, if folders were listed.
    listed: Option<HashMap<Digest, u64>>,
    /// Objects that several results name go once.
    objects: Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
}

impl Push {
    fn new(
        link: Arc<Link>,
        store: Store,
        progress: Arc<Progress>,
        overwrite: bool,
        listed: Option<HashMap<Digest, u64>>,
    ) -> Self {
        Self { link, store, progress, overwrite, listed, objects: Mutex::default() }
    }

    async fn guarded_result(&self, record: &Record) -> Result<Sending, RemoteError> {
        guarded_future(&self.link.address, self.result(record)).await
    }

    async fn result(&self, record: &Record) -> Result<Sending, RemoteError> {
        let outputs: BTreeMap<Digest, (&String, &Output)> =
            record.outputs.iter().map(|(name, output)| (output.digest, (name, output))).collect();
        let send = |(name, &output): (&String, &Output)| {
            let (name, stage) = (name.clone(), &record.provenance.stage);
            async move { self.once(output).await.map_err(|error| error.naming(&name, stage)) }
        };
        let sends: Vec<_> = outputs.into_values().map(send).collect();
        stream::iter(sends).buffer_unordered(SLOTS).try_collect::<()>().await?;
        let path = self.store.record(record.key);
        let text = blocking(move || Ok(fs::read(&path).map_err(StoreError::io("read", &path))?)).await?;
        let _slot = self.link.slots.acquire().await;
        self.link.send_record(record, text, self.overwrite).await
    }

    async fn once(&self, output: Output) -> Result<(), RemoteError> {
        let cell = {
            let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(objects.entry(output.digest).or_default())
        };
        cell.get_or_try_init(|| self.object(output)).await.copied()
    }

    async fn object(&self, output: Output) -> Result<(), RemoteError> {
        let again = self.overwrite || self.link.was_spoiled(output.digest);
        if !again && self.is_there(output).await? {
            self.progress.found(output.size);
            return Ok(());
        }
        self.send(output).await?;
        self.progress.done();
        Ok(())
    }

    async fn is_there(&self, output: Output) -> Result<bool, RemoteError> {
        let there = if let Some(listed) = &self.listed {
            listed.get(&output.digest).copied()
        } else {
            let _slot = self.link.slots.acquire().await;
            self.link.size(&self.link.object(output.digest)).await?
        };
        Ok(there == Some(output.size))
    }
}

impl Link {
    /// The objects that lie in the folders of these; `None` if the remote lists none.
    async fn list<'a>(
        &self,
        objects: impl Iterator<Item = &'a Digest>,
    ) -> Result<Option<HashMap<Digest, u64>>, RemoteError> {
        let all = self.root.clone().join("objects");
        let there = self.within(self.patience.part, "list", &all, self.objects.list_with_delimiter(Some(&all)));
        let there: BTreeSet<String> = match there.await {
            Ok(found) => found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect(),
            // Who may write need not be allowed to list.
            Err(RemoteError::Trouble { passing: false, .. } | RemoteError::Absent { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let wanted: BTreeSet<String> = objects.map(|digest| digest.to_string()[..2].to_owned()).collect();
        let shards = wanted.into_iter().filter(|shard| there.contains(shard));
        let shard = |shard: String| async move {
            let _slot = self.slots.acquire().await;
            let folder = self.root.clone().join("objects").join(&*shard);
            let found = self.objects.list(Some(&folder)).map_ok(|meta| {
                let name = meta.location.filename().unwrap_or_default();
                Some((format!("{shard}{name}").parse::<Digest>().ok()?, meta.size))
            });
            let found = found.try_collect::<Vec<_>>();
            // A long list takes several answers.
            self.within(self.patience.part, "list", &folder, found).await
        };
        let found: Vec<_> = stream::iter(shards).map(shard).buffer_unordered(SLOTS).try_collect().await?;
        Ok(Some(found.into_iter().flatten().flatten().collect()))
    }
}
