//! Pulling: objects come first, each compared with its digest before the store has it; then the record.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{
    sync::{OnceCell, mpsc},
    task::JoinSet,
};

use super::{
    Offered, PART, Progress, Remote, RemoteError, Watch, blocking,
    error::MEND,
    fetch::Read,
    guard::guarded_future,
    link::{Link, SLOTS},
    partial::Partial,
};
use crate::{
    digest::Digest,
    key::CacheKey,
    store::{Output, Record, Store},
};

/// Results under way at once.
pub(super) const AT_ONCE: usize = 16;

/// Parts of one object under way at once: they are written in their order.
const PARTS_AT_ONCE: usize = 4;

/// What came of each result.
pub type Pulled = BTreeMap<CacheKey, Result<Arc<Record>, RemoteError>>;

impl Remote {
    /// Brings results into a store. One that cannot be had does not keep the others from coming.
    pub fn pull(
        &self,
        store: &Store,
        offered: Vec<Offered>,
        watch: &mut Watch<'_>,
    ) -> Result<(Pulled, Arc<Progress>), RemoteError> {
        let line = self.line()?;
        let progress = Arc::new(Progress::default());
        let pull = Arc::new(Pull::new(&line.link, store, &progress));
        for output in missing(store, &offered).into_values() {
            progress.expect(output.size);
        }
        let work = |offered: Offered| {
            let pull = Arc::clone(&pull);
            async move {
                let result = guarded_future(&pull.link.address, pull.result(&offered)).await;
                (offered.record.key, result)
            }
        };
        let pulled = line.wait(watch, &progress, all(offered.into_iter().map(work)))?;
        Ok((pulled, progress))
    }

    /// Brings objects that no result names into a store.
    pub(crate) fn pull_objects(
        &self,
        store: &Store,
        outputs: &[Output],
        watch: &mut Watch<'_>,
    ) -> Result<(), RemoteError> {
        let line = self.line()?;
        let progress = Arc::new(Progress::default());
        let missing: Vec<Output> = outputs.iter().copied().filter(|&output| !store.holds(output)).collect();
        for output in &missing {
            progress.expect(output.size);
        }
        store.check_room(missing.iter().map(|output| output.size).sum())?;
        let pull = Pull::new(&line.link, store, &progress);
        let objects: Vec<_> = missing.into_iter().map(|output| pull.object(output)).collect();
        line.wait(watch, &progress, stream::iter(objects).buffer_unordered(AT_ONCE).try_collect())
    }
}

/// Does the work on the runtime's threads, some at once.
pub(super) async fn all<T: Send + 'static, F: Future<Output = (CacheKey, T)> + Send + 'static>(
    work: impl Iterator<Item = F>,
) -> Result<BTreeMap<CacheKey, T>, RemoteError> {
    let (mut tasks, mut done) = (JoinSet::new(), BTreeMap::new());
    let mut take = |joined: Result<(CacheKey, T), tokio::task::JoinError>| match joined {
        Ok((key, result)) => {
            done.insert(key, result);
            Ok(())
        }
        Err(error) => Err(RemoteError::Runtime { source: error.into() }),
    };
    for task in work {
        if tasks.len() >= AT_ONCE
            && let Some(joined) = tasks.join_next().await
        {
            take(joined)?;
        }
        tasks.spawn(task);
    }
    while let Some(joined) = tasks.join_next().await {
        take(joined)?;
    }
    Ok(done)
}

/// The objects of these results that the store has not, each once.
fn missing(store: &Store, offered: &[Offered]) -> BTreeMap<Digest, Output> {
    let outputs = offered.iter().flat_map(|offered| offered.record.outputs.values());
    outputs.filter(|output| !store.holds(**output)).map(|output| (output.digest, *output)).collect()
}

/// Results on their way into a store.
struct Pull {
    link: Arc<Link>,
    store: Store,
    progress: Arc<Progress>,
    /// Objects that several results name come once.
    objects: Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
}

impl Pull {
    fn new(link: &Arc<Link>, store: &Store, progress: &Arc<Progress>) -> Self {
        let (link, progress) = (Arc::clone(link), Arc::clone(progress));
        Self { link, store: store.clone(), progress, objects: Mutex::default() }
    }

    async fn result(&self, offered: &Offered) -> Result<Arc<Record>, RemoteError> {
        let (store, key) = (self.store.clone(), offered.record.key);
        let outputs = missing(&store, std::slice::from_ref(offered));
        store.check_room(outputs.values().map(|output| output.size).sum())?;
        let objects = stream::iter(outputs.into_values()).map(|output| self.object(output));
        objects.buffer_unordered(SLOTS).try_collect::<()>().await?;
        let text = Arc::clone(&offered.text);
        let adopted = blocking(move || Ok(store.adopt(key, &text)?)).await?;
        adopted
            .ok_or_else(|| RemoteError::Absent { what: "what was just pulled was taken away meanwhile; it".to_owned() })
    }

    async fn object(&self, output: Output) -> Result<(), RemoteError> {
        let cell = {
            let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(objects.entry(output.digest).or_default())
        };
        cell.get_or_try_init(|| async {
            if output.size > PART {
                Box::pin(self.large(output)).await?;
            } else {
                self.small(output).await?;
            }
            self.progress.done();
            Ok(())
        })
        .await
        .copied()
    }

    async fn small(&self, output: Output) -> Result<(), RemoteError> {
        let _room = self.link.room(output.size).await;
        let path = self.link.object(output.digest);
        let bytes = match self.link.read(&path, output.size, None).await? {
            Read::Whole(pieces) => pieces.concat(),
            Read::OtherSize(size) => return Err(self.of_other_size(output, size)),
        };
        self.progress.moved(output.size);
        let store = self.store.clone();
        if blocking(move || Ok(store.take_in_bytes(&bytes, output.digest)?)).await? {
            Ok(())
        } else {
            Err(self.altered(output))
        }
    }

    /// Fetches the parts that an earlier pull has not, and compares the whole. Should it differ, the earlier ones may be to blame: once
    /// more from the beginning.
    async fn large(&self, output: Output) -> Result<(), RemoteError> {
        loop {
            let store = self.store.clone();
            let mut partial = blocking(move || Partial::open(&store, output)).await?;
            let taken_up = partial.length();
            self.progress.moved(taken_up);
            partial = self.parts(partial, output).await?;
            let store = self.store.clone();
            if blocking(move || partial.finish(&store, output.digest)).await? {
                return Ok(());
            }
            self.progress.lost(output.size);
            if taken_up == 0 {
                return Err(self.altered(output));
            }
        }
    }

    /// Fetches what is missing at the end, some parts at once, and appends them in their order while others come.
    async fn parts(&self, partial: Partial, output: Output) -> Result<Partial, RemoteError> {
        let path = self.link.object(output.digest);
        let starts = (partial.length()..output.size).step_by(PART as usize);
        let part = |start: u64| {
            let path = &path;
            async move {
                let permit = self.link.parts.acquire().await;
                let range = start..(start + PART).min(output.size);
                Ok::<_, RemoteError>((self.link.read(path, output.size, Some(range)).await?, permit))
            }
        };
        let (sender, mut receiver) = mpsc::channel(1);
        let fetch = async move {
            let mut parts = stream::iter(starts).map(part).buffered(PARTS_AT_ONCE);
            while let Some(part) = parts.next().await {
                // Nobody takes it if writing has failed.
                if sender.send(part).await.is_err() {
                    break;
                }
            }
        };
        let mut write = pin!(async {
            let mut partial = partial;
            while let Some(part) = receiver.recv().await {
                let (pieces, permit) = match part {
                    Ok((Read::Whole(pieces), permit)) => (pieces, permit),
                    Ok((Read::OtherSize(size), _)) => return Err(self.of_other_size(output, size)),
                    Err(error) if error.gives_no_parts() => return self.whole(partial, output).await,
                    Err(error) => return Err(error),
                };
                let before = partial.length();
                partial = blocking(move || partial.append(&pieces)).await?;
                drop(permit);
                self.progress.moved(partial.length() - before);
            }
            Ok(partial)
        });
        tokio::select! {
            written = &mut write => written,
            () = fetch => write.await,
        }
    }

    /// Fetches all of it in one go, from a server that gives no parts.
    async fn whole(&self, mut partial: Partial, output: Output) -> Result<Partial, RemoteError> {
        self.progress.lost(partial.length());
        partial.clear()?;
        let path = self.link.object(output.digest);
        let found = self.link.open(&path, None).await?;
        if found.meta.size != output.size {
            return Err(self.of_other_size(output, found.meta.size));
        }
        self.link
            .stream(&path, found, |piece| {
                partial.add(&piece)?;
                self.progress.moved(piece.len() as u64);
                Ok(partial.length() <= output.size)
            })
            .await?;
        Ok(partial)
    }

    fn altered(&self, output: Output) -> RemoteError {
        self.spoiled(output, "of other content than its name says".to_owned())
    }

    fn of_other_size(&self, output: Output, size: u64) -> RemoteError {
        self.spoiled(output, format!("of {size} bytes and not of {}", output.size))
    }

    fn spoiled(&self, output: Output, fault: String) -> RemoteError {
        self.link.is_spoiled(output.digest);
        let path = self.link.object(output.digest).to_string();
        RemoteError::Spoiled { path, digest: output.digest, fault, advice: MEND }
    }
}
