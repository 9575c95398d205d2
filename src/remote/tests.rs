//! Transfers in memory: what is cut off goes on, and what is there is not moved again.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
};

use async_trait::async_trait;
use object_store::{
    MultipartId, ObjectStore, ObjectStoreExt, PutPayload, PutResult,
    memory::InMemory,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    key::{CacheKey, KeyMaterial},
    stage::ArtifactKind,
    store::{Found, Lookup, Outcome, Provenance, Record, Store},
};

const PATIENCE: Patience =
    Patience { answer: Duration::from_secs(5), part: Duration::from_secs(5), retries: 0, parts: 2 };

/// A bucket in memory whose uploads break off after some parts.
#[derive(Debug, Default)]
struct Bucket {
    objects: Arc<InMemory>,
    /// Parts that it takes before it breaks off.
    takes: AtomicUsize,
    parts: AtomicUsize,
    uploads: AtomicUsize,
    /// It panics in the place of taking a part.
    panics: AtomicBool,
}

#[async_trait]
impl MultipartStore for Bucket {
    async fn create_multipart(&self, path: &Path) -> object_store::Result<MultipartId> {
        self.uploads.fetch_add(1, Ordering::Relaxed);
        self.objects.create_multipart(path).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part: usize,
        data: PutPayload,
    ) -> object_store::Result<PartId> {
        assert!(!self.panics.load(Ordering::Relaxed), "hush");
        if self.parts.fetch_add(1, Ordering::Relaxed) >= self.takes.load(Ordering::Relaxed) {
            return Err(object_store::Error::Generic { store: "test", source: "cut off".into() });
        }
        // As S3 says it.
        let forgotten = |source| object_store::Error::NotFound { path: path.to_string(), source: Box::new(source) };
        self.objects.put_part(path, id, part, data).await.map_err(forgotten)
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> object_store::Result<PutResult> {
        self.objects.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> object_store::Result<()> {
        self.objects.abort_multipart(path, id).await
    }
}

fn remote(bucket: &Arc<Bucket>) -> Remote {
    let address = Address::parse("s3://bucket/prefix", std::path::Path::new("")).unwrap();
    let remote = Remote::new(Settings::of(address.clone()), PATIENCE);
    let objects: Arc<dyn ObjectStore> = bucket.objects.clone();
    let link = Link::over(address.root().unwrap(), address, (objects, Some(bucket.clone())), PATIENCE);
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    *remote.line.lock().unwrap() = Some(Line { link: Arc::new(link), engine: Arc::new(Engine(Some(runtime))) });
    remote
}

fn bucket() -> Arc<Bucket> {
    Arc::new(Bucket { takes: AtomicUsize::new(usize::MAX), ..Bucket::default() })
}

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    (folder, store)
}

fn material(steps: u64) -> KeyMaterial {
    KeyMaterial {
        format: KeyMaterial::FORMAT,
        kind: "train_gan".to_owned(),
        version: 1,
        parameters: json!({ "steps": steps }),
        seed: 1,
        inputs: BTreeMap::new(),
        sources: BTreeMap::new(),
    }
}

/// Stores a result of these files.
fn put(store: &Store, steps: u64, files: &[(&str, &[u8])]) -> Arc<Record> {
    let Lookup::Miss(slot) = store.lookup(material(steps).key().unwrap()).unwrap() else { panic!("it is there") };
    for (name, bytes) in files {
        fs::write(slot.out().join(name), bytes).unwrap();
    }
    let provenance = Provenance {
        stage: format!("stage{steps}"),
        pipeline: "test".to_owned(),
        version: "0".to_owned(),
        device: "cpu".to_owned(),
        host: "linux".to_owned(),
        started: "2026-01-01T00:00:00Z".to_owned(),
        seconds: 1.5,
        argv: Vec::new(),
        inputs: BTreeMap::new(),
        sources: BTreeMap::new(),
    };
    let outcome = Outcome {
        material: material(steps),
        produces: ArtifactKind::Model,
        files: files.iter().map(|(name, _)| (*name).to_owned()).collect(),
        metrics: BTreeMap::new(),
        notices: Vec::new(),
        provenance,
    };
    Arc::new(slot.commit(outcome).unwrap().record)
}

/// Bytes that do not repeat.
fn noise(length: u64) -> Vec<u8> {
    (0..length).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect()
}

const LARGE: u64 = 2 * PART + 1000;

fn push(remote: &Remote, store: &Store, records: &[Arc<Record>]) -> (Vec<Result<Sending, RemoteError>>, Arc<Progress>) {
    let stop = AtomicUsize::new(0);
    let mut watch = Watch { stop: &stop, on_progress: &mut |_| {} };
    let (pushed, progress) = remote.push(store, records, false, &mut watch).unwrap();
    (pushed.into_values().collect(), progress)
}

fn pull(remote: &Remote, store: &Store, keys: &[CacheKey]) -> (pull::Pulled, Arc<Progress>) {
    let stop = AtomicUsize::new(0);
    let mut watch = Watch { stop: &stop, on_progress: &mut |_| {} };
    let offers = remote.offers(keys, &mut watch).unwrap();
    assert!(offers.bad.is_empty(), "{:?}", offers.bad);
    remote.pull(store, offers.records.into_values().collect(), &mut watch).unwrap()
}

#[test]
fn what_is_pushed_is_pulled_with_the_same_bytes() {
    let ((_here, here), (_there, there), bucket) = (store(), store(), bucket());
    let large = noise(LARGE);
    let records = [
        put(&here, 1, &[("empty", b""), ("small", b"content"), ("large", &large)]),
        put(&here, 2, &[("small", b"content"), ("again", b"content")]),
    ];
    let remote = remote(&bucket);
    let (pushed, progress) = push(&remote, &here, &records);
    assert!(matches!(&pushed[..], [Ok(Sending::Sent), Ok(Sending::Sent)]), "{pushed:?}");
    assert_eq!((progress.objects(), progress.bytes()), (3, LARGE + 7), "what is shared goes once");
    let (pushed, progress) = push(&remote, &here, &records);
    assert!(matches!(&pushed[..], [Ok(Sending::There), Ok(Sending::There)]), "{pushed:?}");
    assert_eq!((progress.objects(), progress.there()), (0, 3));

    let keys = [records[0].key, records[1].key, material(3).key().unwrap()];
    let (pulled, progress) = pull(&remote, &there, &keys);
    assert_eq!(pulled.values().filter(|result| result.is_ok()).count(), 2);
    assert_eq!((progress.objects(), progress.bytes()), (3, LARGE + 7));
    for record in records {
        assert!(matches!(there.find(record.key).unwrap(), Found::Complete(found) if found == record));
        assert_eq!(fs::read(here.record(record.key)).unwrap(), fs::read(there.record(record.key)).unwrap());
    }
    assert!(there.verify().faults.is_empty());
    assert_eq!(fs::read_dir(there.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn an_upload_that_is_cut_off_goes_on_with_the_parts_that_are_missing() {
    let ((_here, here), bucket) = (store(), bucket());
    let record = put(&here, 1, &[("large", &noise(LARGE))]);
    bucket.takes.store(2, Ordering::Relaxed);
    let cut = push(&remote(&bucket), &here, std::slice::from_ref(&record)).0;
    assert!(matches!(&cut[..], [Err(RemoteError::Trouble { .. })]), "{cut:?}");

    bucket.takes.store(usize::MAX, Ordering::Relaxed);
    bucket.parts.store(0, Ordering::Relaxed);
    let done = push(&remote(&bucket), &here, std::slice::from_ref(&record)).0;
    assert!(matches!(&done[..], [Ok(Sending::Sent)]), "{done:?}");
    assert_eq!(bucket.uploads.load(Ordering::Relaxed), 1, "it is the same upload");
    assert_eq!(bucket.parts.load(Ordering::Relaxed), 1, "one part was missing");
    let (_there, there) = store();
    assert!(pull(&remote(&bucket), &there, &[record.key]).0[&record.key].is_ok());
    assert_eq!(fs::read_dir(here.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn an_upload_that_the_service_has_forgotten_begins_anew() {
    let ((_here, here), one, other) = (store(), bucket(), bucket());
    let record = put(&here, 1, &[("large", &noise(LARGE))]);
    one.takes.store(2, Ordering::Relaxed);
    push(&remote(&one), &here, std::slice::from_ref(&record));
    // The same address, where nobody knows the upload.
    let done = push(&remote(&other), &here, std::slice::from_ref(&record)).0;
    assert!(matches!(&done[..], [Ok(Sending::Sent)]), "{done:?}");
}

#[test]
fn a_download_goes_on_from_the_bytes_that_are_there_if_they_are_right() {
    let ((_here, here), bucket) = (store(), bucket());
    let large = noise(LARGE);
    let record = put(&here, 1, &[("large", &large)]);
    push(&remote(&bucket), &here, std::slice::from_ref(&record));
    let output = record.outputs["large"];
    // The beginning; what a power cut tore; and more than it can be.
    for begun in [large[..PART as usize + 5].to_vec(), vec![0; PART as usize], noise(LARGE + 1)] {
        let (_there, there) = store();
        let path = there.partial(&format!("pull-{}", output.digest)).unwrap();
        fs::write(&path, &begun).unwrap();
        let (pulled, progress) = pull(&remote(&bucket), &there, &[record.key]);
        assert!(pulled[&record.key].is_ok(), "{pulled:?}");
        assert_eq!(progress.bytes(), LARGE);
        assert_eq!(fs::read(there.object(output.digest)).unwrap(), large);
        assert!(!path.exists());
    }
}

#[test]
fn a_push_mends_what_came_spoiled() {
    let ((_here, here), (_there, there), bucket) = (store(), store(), bucket());
    let record = put(&here, 1, &[("small", b"content")]);
    let remote = remote(&bucket);
    push(&remote, &here, std::slice::from_ref(&record));
    let line = remote.line().unwrap();
    let spoil = |path: Path, bytes: &'static [u8]| {
        line.engine.0.as_ref().unwrap().block_on(bucket.objects.put(&path, bytes.into())).unwrap();
    };
    spoil(line.link.object(record.outputs["small"].digest), b"c0ntent");
    let pulled = pull(&remote, &there, &[record.key]).0;
    assert!(matches!(&pulled[&record.key], Err(RemoteError::Spoiled { .. })), "{pulled:?}");
    // The size is right: only who has seen it knows.
    push(&remote, &here, std::slice::from_ref(&record));
    spoil(line.link.record(record.key), b"<html>");
    let mended = push(&remote, &here, std::slice::from_ref(&record)).0;
    assert!(matches!(&mended[..], [Ok(Sending::Sent)]), "{mended:?}");
    assert!(pull(&remote, &there, &[record.key]).0[&record.key].is_ok());
}

#[test]
fn a_record_of_another_version_is_no_offer_and_stays() {
    let ((_here, here), bucket) = (store(), bucket());
    let record = put(&here, 1, &[("small", b"content")]);
    let remote = remote(&bucket);
    let line = remote.line().unwrap();
    let path = line.link.record(record.key);
    let newer = bucket.objects.put(&path, (&b"{\"version\":2}"[..]).into());
    line.engine.0.as_ref().unwrap().block_on(newer).unwrap();
    let (_there, there) = store();
    assert!(pull(&remote, &there, &[record.key]).0.is_empty());
    let pushed = push(&remote, &here, std::slice::from_ref(&record)).0;
    assert!(
        matches!(&pushed[..], [Err(RemoteError::BadRecord { fault, .. })] if fault.contains("another version")),
        "{pushed:?}"
    );
}

#[test]
fn a_client_that_panics_gives_errors_and_whoever_waits_for_it_is_called() {
    let ((_here, here), bucket) = (store(), bucket());
    let (large, small) = (put(&here, 1, &[("large", &noise(LARGE))]), put(&here, 2, &[("small", b"content")]));
    bucket.panics.store(true, Ordering::Relaxed);
    let remote = remote(&bucket);
    let is_told = |result: &Result<Sending, RemoteError>| {
        let error = result.as_ref().unwrap_err();
        let told = error.to_string();
        assert!(told.contains("its client broke down in ") && told.contains("src/remote/tests.rs:"), "{told}");
        assert!(!told.contains("hush") && error.is_of_remote());
    };
    let (called, waits) = mpsc::channel();
    let done = move |result| called.send(result).unwrap();
    remote.push_behind(&here, Arc::clone(&large), &Arc::default(), done);
    is_told(&waits.recv_timeout(Duration::from_secs(10)).unwrap());
    // One result that makes it panic does not keep the others.
    let stop = AtomicUsize::new(0);
    let mut watch = Watch { stop: &stop, on_progress: &mut |_| {} };
    let records = [Arc::clone(&large), Arc::clone(&small)];
    let pushed = remote.push(&here, &records, false, &mut watch).unwrap().0;
    is_told(&pushed[&large.key]);
    assert!(matches!(pushed[&small.key], Ok(Sending::Sent)));
}

#[test]
fn a_remote_that_cannot_be_made_is_told_to_whoever_waits() {
    let (_here, here) = store();
    let record = put(&here, 1, &[("small", b"content")]);
    let address = Address::parse("nowhere/at/all", std::path::Path::new("")).unwrap();
    let (called, waits) = mpsc::channel();
    let remote = Remote::new(Settings::of(address), PATIENCE);
    remote.push_behind(&here, record, &Arc::default(), move |result| called.send(result).unwrap());
    assert!(waits.recv_timeout(Duration::from_secs(10)).unwrap().is_err());
}

#[test]
fn a_stop_flag_ends_a_transfer_at_once() {
    let ((_here, here), bucket) = (store(), bucket());
    let record = put(&here, 1, &[("large", &noise(LARGE))]);
    let remote = remote(&bucket);
    let line = remote.line().unwrap();
    // Nobody gives the parts back.
    let _held = line.engine.0.as_ref().unwrap().block_on(line.link.parts.acquire_many(2)).unwrap();
    let (stop, mut told) = (AtomicUsize::new(0), 0);
    let mut on_progress = |_: &Progress| {
        told += 1;
        stop.store(2, Ordering::Relaxed);
    };
    let mut watch = Watch { stop: &stop, on_progress: &mut on_progress };
    let stopped = remote.push(&here, &[record], false, &mut watch);
    assert!(matches!(stopped, Err(RemoteError::Stopped(2))));
    assert_eq!(told, 1);
}

#[test]
fn settings_that_are_handed_over_are_the_same_elsewhere() {
    let address = Address::parse("s3://bucket/results", std::path::Path::new("")).unwrap();
    let settings = Settings {
        push: false,
        endpoint: Some("https://host:9000/".parse().unwrap()),
        region: Some("here".to_owned()),
        profile: Some("lab".to_owned()),
        anonymous: true,
        timeout: Duration::from_millis(2500),
        ..Settings::of(address)
    };
    assert_eq!(Settings::take_over(&settings.hand_over()).unwrap(), settings);
    let folder = Settings::of(Address::parse("some/folder", std::path::Path::new("")).unwrap());
    let there = Settings::take_over(&folder.hand_over()).unwrap();
    assert_eq!(there.address.to_string(), std::path::absolute("some/folder").unwrap().to_str().unwrap());
    assert!(Settings::take_over("{}").unwrap_err().to_string().contains("submit the pipeline again"));
}
