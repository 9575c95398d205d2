//! Writing a pack: what belongs to a pipeline, brought into one order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, BufWriter, Cursor, Read, Write},
    path::{Path, PathBuf},
};

use tar::{Builder, EntryType, Header};

use super::{Item, MANIFEST, Manifest, PackError, PackedFile, PackedRecord, Piece, VERSION, wrong_path};
use crate::{
    digest::Digest,
    files,
    key::CacheKey,
    pipeline::{Files, Pipeline, absolute},
    plan::{Lock, Plan, StageState},
    store::{Store, sealed},
    user_file::UserFile,
};

/// What goes into a pack beside the pipeline and its lock.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Stages whose results are left out although the plan has them.
    pub without: Vec<String>,
    /// Whether source files are left out.
    pub without_sources: bool,
}

/// A pack that was written.
#[derive(Clone, Debug)]
pub struct Packed {
    /// What is in it.
    pub manifest: Manifest,
    /// Its size in bytes.
    pub bytes: u64,
    /// What is not in it that one might look for, a sentence each.
    pub notices: Vec<String>,
}

/// Where the bytes of an entry come from.
enum Origin {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// Packs a pipeline, its files and the results that a plan found stored, into a file, which is there in full or not at all; or into a pipe.
pub fn pack(
    pipeline: &Pipeline,
    store: &Store,
    plan: &Plan,
    choice: &Choice,
    path: &Path,
) -> Result<Packed, PackError> {
    let mut notices = Vec::new();
    let mut origins = texts(pipeline);
    match lock(pipeline, plan)? {
        Some(text) => {
            origins.insert(absolute(&Lock::path(&pipeline.path)), Origin::Bytes(text));
        }
        None => notices.push("there is no lock in it, for not all stages have a result".into()),
    }
    if !choice.without_sources {
        add_sources(pipeline, plan, &mut origins, &mut notices);
    }
    let root = common_folder(origins.keys());
    let (mut files, mut contents) = (Vec::new(), Vec::new());
    for (path, origin) in origins {
        let relative = relative(&path, &root)?;
        files.push(PackedFile { path: relative, content: piece(&path, &origin)? });
        contents.push((path, origin));
    }
    let (objects, records, texts) = results(store, plan, choice)?;
    let manifest = Manifest {
        pipeline: relative(&absolute(&pipeline.path), &root)?,
        set: pipeline.overrides().to_vec(),
        files,
        objects,
        records,
    };
    if let Some(reason) = depends_on_elsewhere(pipeline, &root, &manifest) {
        return Err(PackError::NotPackable { path: pipeline.path.clone(), reason });
    }
    manifest.check().map_err(|reason| PackError::NotPackable { path: pipeline.path.clone(), reason })?;
    contents.extend(manifest.objects.iter().map(|piece| {
        let path = store.object(piece.digest);
        (path.clone(), Origin::File(path))
    }));
    contents.extend(
        manifest.records.iter().zip(texts).map(|(record, text)| (store.record(record.key), Origin::Bytes(text))),
    );

    let io = |error: io::Error| PackError::io("write", path)(error);
    let mut file = UserFile::create(path).map_err(io)?;
    archive(BufWriter::with_capacity(1 << 20, &mut file), &manifest, contents, &io)?;
    let bytes = file.bytes();
    file.finish().map_err(io)?;
    Ok(Packed { manifest, bytes, notices })
}

/// Why the packed files alone make no pipeline: one is included by an absolute path.
fn depends_on_elsewhere(pipeline: &Pipeline, folder: &Path, manifest: &Manifest) -> Option<String> {
    let relative = |path: &Path| path.strip_prefix(folder).map(Path::to_owned);
    let texts =
        pipeline.texts().into_iter().filter_map(|(path, text)| Some((relative(&path).ok()?, text.into_bytes())));
    let texts: BTreeMap<PathBuf, Vec<u8>> = texts.collect();
    let root = Path::new(&manifest.pipeline);
    let set: Vec<_> = pipeline.overrides().iter().filter_map(|set| set.split_once('=')).collect();
    let set: Vec<_> = set.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let alone = Pipeline::parse_from(Files::Memory(&texts), texts.get(root)?, root, &set);
    alone.err().map(|error| {
        format!("without the files of this machine it is no pipeline; include them by relative paths:\n{error}")
    })
}

fn archive(
    out: impl Write,
    manifest: &Manifest,
    contents: Vec<(PathBuf, Origin)>,
    io: &dyn Fn(io::Error) -> PackError,
) -> Result<(), PackError> {
    let mut archive = Builder::new(out);
    let text = sealed::seal(VERSION, manifest).map_err(|error| io(error.into()))?;
    archive.append(&header(MANIFEST, text.len() as u64).map_err(io)?, text.as_slice()).map_err(io)?;
    for (item, (path, origin)) in manifest.items().zip(contents) {
        let Piece { digest, size } = item.content();
        let source: Box<dyn Read> = match origin {
            Origin::Bytes(bytes) => Box::new(Cursor::new(bytes)),
            Origin::File(path) => Box::new(files::open(&path).map_err(PackError::io("read", &path))?),
        };
        let mut source = Hashing { source: source.take(size), hasher: blake3::Hasher::new() };
        archive.append(&header(&item.name(), size).map_err(io)?, &mut source).map_err(io)?;
        if source.hasher.finalize().as_bytes() != digest.as_bytes() {
            let reason = match item {
                Item::Object(_) => "it is corrupted; `pgan-pipe cache verify` sets it aside, and a run makes it again",
                _ => "it changed meanwhile; pack again",
            };
            return Err(PackError::NotPackable { path, reason: reason.into() });
        }
    }
    archive.into_inner().and_then(|mut out| out.flush()).map_err(io)
}

/// The same for the same name and size, always.
fn header(name: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(EntryType::Regular);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}

struct Hashing<R> {
    source: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// The pipeline's own files as they were read; the packs that it includes from as they are.
fn texts(pipeline: &Pipeline) -> BTreeMap<PathBuf, Origin> {
    let texts = pipeline.texts().into_iter().filter(|(path, _)| !is_packed(pipeline, path));
    let texts = texts.map(|(path, text)| (path, Origin::Bytes(text.into_bytes())));
    texts.chain(pipeline.packs().iter().map(|pack| (pack.clone(), Origin::File(pack.clone())))).collect()
}

/// Whether a file comes with a pack that the pipeline includes.
fn is_packed(pipeline: &Pipeline, path: &Path) -> bool {
    pipeline.packs().iter().any(|pack| path.starts_with(pack))
}

/// The lock that lies beside the pipeline, or else one of what is stored.
fn lock(pipeline: &Pipeline, plan: &Plan) -> Result<Option<Vec<u8>>, PackError> {
    let path = Lock::path(&pipeline.path);
    match files::read(&path, files::MAX_TEXT) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Lock::of(pipeline, plan).ok().and_then(|lock| lock.to_text().ok()).map(String::into_bytes))
        }
        Err(error) => Err(PackError::io("read", &path)(error)),
    }
}

/// The source files of the stages that take part. One whose path is absolute has no place in another folder.
fn add_sources(pipeline: &Pipeline, plan: &Plan, origins: &mut BTreeMap<PathBuf, Origin>, notices: &mut Vec<String>) {
    let mut left_out = BTreeSet::new();
    for declared in plan.stages.iter().map(|stage| &pipeline.stages[stage.index]) {
        for source in declared.stage.sources() {
            let path = absolute(&pipeline.source(declared, &source));
            if is_packed(pipeline, &path) {
                continue;
            }
            if source.path.is_absolute() {
                left_out.insert(path);
            } else {
                origins.entry(path.clone()).or_insert(Origin::File(path));
            }
        }
    }
    for path in left_out {
        notices.push(format!(
            "{} is not in it, for its path is absolute in the pipeline; hand it on beside",
            path.display()
        ));
    }
}

/// What a plan found stored: objects, records, and their texts.
type Results = (Vec<Piece>, Vec<PackedRecord>, Vec<Vec<u8>>);

fn results(store: &Store, plan: &Plan, choice: &Choice) -> Result<Results, PackError> {
    let (mut objects, mut records) = (BTreeSet::new(), BTreeMap::<CacheKey, Vec<u8>>::new());
    for stage in plan.stages.iter().filter(|stage| !choice.without.contains(&stage.name)) {
        let StageState::Cached { record, .. } = &stage.state else { continue };
        objects.extend(record.outputs.values().map(|output| Piece { digest: output.digest, size: output.size }));
        let path = store.record(record.key);
        records.insert(record.key, fs::read(&path).map_err(PackError::io("read", &path))?);
    }
    let packed = |(&key, text): (&CacheKey, &Vec<u8>)| PackedRecord { key, content: of_bytes(text) };
    Ok((objects.into_iter().collect(), records.iter().map(packed).collect(), records.into_values().collect()))
}

fn piece(path: &Path, origin: &Origin) -> Result<Piece, PackError> {
    match origin {
        Origin::Bytes(bytes) => Ok(of_bytes(bytes)),
        Origin::File(file) => {
            let not_packable = |error: io::Error| match error.kind() {
                io::ErrorKind::InvalidInput => {
                    PackError::NotPackable { path: path.to_owned(), reason: error.to_string() }
                }
                _ => PackError::io("read", file)(error),
            };
            let metadata = files::metadata(file).map_err(not_packable)?;
            let digest = Digest::of_file(file).map_err(PackError::io("read", file))?;
            Ok(Piece { digest, size: metadata.len() })
        }
    }
}

fn of_bytes(bytes: &[u8]) -> Piece {
    Piece { digest: Digest::of(bytes), size: bytes.len() as u64 }
}

/// The deepest folder that all files lie in.
fn common_folder<'a>(files: impl Iterator<Item = &'a PathBuf>) -> PathBuf {
    let folders = files.map(|file| file.parent().unwrap_or(Path::new("/")).to_owned());
    let common = |a: PathBuf, b: PathBuf| {
        a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(part, _)| part).collect()
    };
    folders.reduce(common).unwrap_or_default()
}

/// A path as it stands in a pack.
fn relative(path: &Path, root: &Path) -> Result<String, PackError> {
    let not_packable = |reason: &str| PackError::NotPackable { path: path.to_owned(), reason: reason.to_owned() };
    let inside = path.strip_prefix(root).map_err(|_| not_packable("it lies outside"))?;
    let text = inside.to_str().ok_or_else(|| not_packable("its path is not UTF-8"))?;
    match wrong_path(text) {
        Some(reason) => Err(not_packable(&format!("its path {reason}"))),
        None => Ok(text.to_owned()),
    }
}
