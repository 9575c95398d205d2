//! The pipeline as written: YAML with positions, read into stages, and every mistake in it reported at once.
//!
//! A text goes through these hands: [`yaml`] makes a tree of nodes with places, [`include`] joins it with the trees of the files
//! that it includes, [`parameters`] changes it by `--set` and `${params.x}`, [`draft`] reads each stage's struct from it (with [`de`]), and [`checks`] looks across stages. Each of them
//! adds to one list of mistakes; a [`Pipeline`] exists only if the list stays empty. [`matrix`] writes the points of sweeps out,
//! [`expand`] rounds and replicas.

use std::{
    collections::{BTreeMap, HashSet},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    digest::Digest,
    files,
    names::cleaned,
    stage::{Problem, Source, Stage},
};

mod checks;
mod de;
mod diagnostics;
mod draft;
mod execution;
mod expand;
mod fault;
mod include;
mod matrix;
mod mend;
mod node;
mod packed;
mod parameters;
pub mod schema;
mod stand_in;
mod yaml;

pub use diagnostics::Diagnostics;
use diagnostics::{Diagnostic, Place, Written};
use draft::DraftStage;
pub use execution::{ByteSize, Execution, Resources, Timeout};
pub use include::Files;
use matrix::join::Reference;

/// Bytes that the files of a pipeline may have together.
const MAX_BYTES: u64 = 16 << 20;

/// A valid pipeline.
#[derive(Debug)]
pub struct Pipeline {
    /// `name:`, or the file's stem.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Stages in the order of the file, those that sweeps, rounds and replicas stand for written out: replica by replica, and at
    /// the end what brings replicas together.
    pub stages: Vec<Declared>,
    /// How many stages the file itself names.
    pub named: usize,
    written: Written,
    /// Sources that need not be where the pipeline says, by their absolute paths.
    carried: BTreeMap<PathBuf, Carried>,
    /// The packs that included files lie in, absolute.
    packs: Vec<PathBuf>,
}

/// A source file that came with the pipeline from another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// What it was there.
    pub digest: Digest,
    /// Where it is here; `None` if only stages that do not run read it.
    pub file: Option<PathBuf>,
}

/// A stage of a pipeline.
#[derive(Debug)]
pub struct Declared {
    /// The name that the user gave it, or one that is made of it (with an `@`).
    pub name: String,
    /// Its own `seed:`, or the pipeline's; that of a round or a replica is derived from it.
    pub seed: u64,
    /// How it is run.
    pub execution: Execution,
    /// What it is.
    pub stage: Stage,
    /// The point of a sweep that it is at, as it stands in its name: `lr=0.001,width=64`; empty if it is not swept.
    pub point: String,
    /// The names of the models that its metrics mean by position.
    pub models: Vec<String>,
    /// Which replica it belongs to, from 1 on.
    pub replica: usize,
    /// How many replicas there are of it.
    pub replicas: usize,
    place: Place,
    node: Arc<node::Node>,
}

/// Why a pipeline cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The file cannot be read.
    #[error("cannot read the pipeline {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is no valid pipeline.
    #[error("{0}")]
    Invalid(Diagnostics),
}

impl Pipeline {
    /// Reads and checks a pipeline file. `overrides` are the `k=v` of `--set`: they replace `params`, the pipeline's `seed` or
    /// `name`, or a field of a stage by its dotted path (`boosted.steps`).
    pub fn load(path: &Path, overrides: &[(String, String)]) -> Result<Self, PipelineError> {
        let io = |source| PipelineError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = files::open_or_stream(path).map_err(io)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        Self::parse(&bytes, path, overrides)
    }

    /// Reads and checks the bytes of a pipeline file that lies, or would lie, at `path`.
    pub fn parse(bytes: &[u8], path: &Path, overrides: &[(String, String)]) -> Result<Self, PipelineError> {
        Self::parse_from(Files::Disk, bytes, path, overrides)
    }

    /// Like [`Pipeline::parse`], with a say in where included files are read from.
    pub fn parse_from(
        files: Files<'_>,
        bytes: &[u8],
        path: &Path,
        overrides: &[(String, String)],
    ) -> Result<Self, PipelineError> {
        let mut mistakes = Vec::new();
        let (root, texts, packs) = include::read(bytes, path, files, &mut mistakes);
        let overrides_text = overrides.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let written = Written { texts, overrides: overrides_text };
        let Some(mut root) = root else {
            return Err(PipelineError::Invalid(Diagnostics::new(written, mistakes)));
        };
        parameters::apply(&mut root, overrides, &mut mistakes);
        let mut draft = draft::draft(root, &mut mistakes);
        let named = draft.stages.iter().map(|stage| &stage.name).collect::<HashSet<_>>().len();
        checks::check(&draft.stages, &mut mistakes);
        if mistakes.is_empty() && matrix::join::is_swept(&draft.stages) {
            draft.stages = matrix::join::join(&draft.stages, &mut mistakes);
            checks::check(&draft.stages, &mut mistakes);
        }
        let stages: Vec<Declared> = draft.stages.into_iter().filter_map(Declared::finish).collect();
        if !mistakes.is_empty() {
            return Err(PipelineError::Invalid(Diagnostics::new(written, mistakes)));
        }
        let stages = match expand::expand(stages, draft.replicas) {
            Ok(stages) => stages,
            Err(mistake) => return Err(PipelineError::Invalid(Diagnostics::new(written, vec![*mistake]))),
        };
        let name = draft.name.unwrap_or_else(|| name_of(path));
        let (carried, packs) = (packs.carried(), packs.paths().iter().map(|pack| absolute(pack)).collect());
        Ok(Self { name, path: path.to_owned(), stages, named, written, carried, packs })
    }

    /// Reads and checks a pipeline from the texts of its files, by absolute path: what [`texts`](Self::texts) gave.
    pub fn of_texts(
        path: &Path,
        texts: &BTreeMap<PathBuf, String>,
        overrides: &[(String, String)],
    ) -> Result<Self, PipelineError> {
        let absent = || PipelineError::Io { path: path.to_owned(), source: std::io::ErrorKind::NotFound.into() };
        let files = texts.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes())).collect();
        Self::parse_from(Files::Memory(&files), files.get(path).ok_or_else(absent)?, path, overrides)
    }

    /// The texts of the files that it was read from, by absolute path.
    pub fn texts(&self) -> BTreeMap<PathBuf, String> {
        self.files().map(|(path, text)| (absolute(path), text.to_owned())).collect()
    }

    /// Takes these source files, by the absolute paths that they had, to be what they were on the machine that the pipeline comes from.
    pub fn carry(&mut self, sources: BTreeMap<PathBuf, Carried>) {
        self.carried = sources.into_iter().map(|(path, carried)| (include::plain(&path), carried)).collect();
    }

    /// The packs that included files lie in, absolute.
    pub fn packs(&self) -> &[PathBuf] {
        &self.packs
    }

    /// The digest of a source file that came along without the file.
    pub(crate) fn carried(&self, path: &Path) -> Option<Digest> {
        self.carried.get(&include::plain(path)).map(|carried| carried.digest)
    }

    /// The file, absolute.
    pub fn absolute_path(&self) -> PathBuf {
        absolute(&self.path)
    }

    /// The `k=v` of `--set` that it was loaded with.
    pub fn overrides(&self) -> &[String] {
        &self.written.overrides
    }

    /// The stages (indices) that a name means: the stage of this name, or of a sweep all points that agree with it: `base` means
    /// all of `base@lr=0.1,width=8` and `base@lr=0.2,width=8`, and `base@lr=0.1` the first.
    pub fn select(&self, name: &str) -> Vec<usize> {
        let whole = self.stages.iter().position(|declared| declared.name == name);
        let points = || {
            let meant = Reference::of(name);
            let agrees =
                |declared: &Declared| !declared.point.is_empty() && meant.selects(&declared.name, &declared.point);
            (0..self.stages.len()).filter(|&index| agrees(&self.stages[index])).collect()
        };
        whole.map_or_else(points, |index| vec![index])
    }

    /// The files that it is made of, its own first, as they are called and with their texts.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.written.texts.iter().map(|text| (text.path.as_path(), &*text.text))
    }

    /// The path of a source of a stage: a relative one is relative to the file that it is written in; one that comes from a
    /// parameter to the parameter's file, one from `--set` to that of the pipeline.
    pub fn source(&self, declared: &Declared, source: &Source<'_>) -> PathBuf {
        let (place, origin) = declared.node.nearest(source.field).unwrap_or((declared.place, None));
        let file = self.written.texts.get(origin.unwrap_or(place).text()).map_or(&*self.path, |text| &text.path);
        file.parent().unwrap_or(Path::new("")).join(source.path)
    }

    /// Absolute paths of the source files of a stage, by field.
    pub fn sources(&self, declared: &Declared) -> BTreeMap<String, PathBuf> {
        let sources = declared.stage.sources().into_iter();
        let located = sources.map(|source| {
            let path = self.source(declared, &source);
            let path = std::path::absolute(&path).unwrap_or(path);
            let carried = self.carried.get(&include::plain(&path)).and_then(|carried| carried.file.clone());
            (source.field.to_owned(), carried.unwrap_or(path))
        });
        located.collect()
    }

    /// Looks into the source files of these stages (indices) before anything runs.
    pub fn preflight(&self, stages: &[usize]) -> Result<(), PipelineError> {
        let mut mistakes = Vec::new();
        for &index in stages {
            let Some(declared) = self.stages.get(index) else { continue };
            let sources = self.sources(declared);
            let packed: Vec<Problem> = sources.iter().filter_map(|(field, path)| self.in_pack(field, path)).collect();
            let problems = if packed.is_empty() { declared.stage.preflight(&sources) } else { packed };
            mistakes.extend(problems.iter().map(|problem| declared.diagnose(problem)));
        }
        if mistakes.is_empty() {
            return Ok(());
        }
        Err(PipelineError::Invalid(Diagnostics::new(self.written.clone(), mistakes)))
    }

    /// Returns remarks on the source files of all stages, which are no mistakes: each once, with the first stage that it concerns.
    pub fn remarks(&self) -> Vec<(&str, String)> {
        let mut remarks: Vec<(&str, String)> = Vec::new();
        for declared in &self.stages {
            for remark in declared.stage.remarks(&self.sources(declared)) {
                if remarks.iter().all(|(_, said)| *said != remark) {
                    remarks.push((&declared.name, remark));
                }
            }
        }
        remarks
    }

    /// What to say of a source that lies in a pack.
    fn in_pack(&self, field: &str, path: &Path) -> Option<Problem> {
        let path = include::plain(path);
        let pack = self.packs.iter().find(|pack| path.starts_with(pack))?;
        let (name, file) = (pack.file_name().unwrap_or_default().display(), path.strip_prefix(pack).ok()?.display());
        let problem =
            Problem::new(field, format!("`{file}` is in the pack {name}, which is included for its texts alone"));
        Some(problem.help(format!("`pgan-pipe unpack {name}`, and include the pipeline from its folder")))
    }

    /// Puts problems of a stage (by index) at their places in the file.
    pub fn diagnose(&self, stage: usize, problems: &[Problem]) -> Diagnostics {
        let place = |problem: &Problem| match self.stages.get(stage) {
            Some(declared) => declared.diagnose(problem),
            None => Diagnostic::new(&*problem.message, Place::Whole),
        };
        Diagnostics::new(self.written.clone(), problems.iter().map(place).collect())
    }
}

impl Declared {
    /// The names of the stages that it takes, by role.
    pub(crate) fn input_names(&self) -> BTreeMap<String, Vec<String>> {
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for port in self.stage.ports() {
            names.entry(port.role.to_owned()).or_default().push(port.reference.to_owned());
        }
        names
    }

    /// The paths of its sources as written, by field.
    pub(crate) fn source_paths(&self) -> BTreeMap<String, PathBuf> {
        let sources = self.stage.sources().into_iter();
        sources.map(|source| (source.field.to_owned(), source.path.to_owned())).collect()
    }

    fn finish(draft: DraftStage) -> Option<Self> {
        let DraftStage { name, place, node, seed, execution, stage, point, .. } = draft;
        Some(Self {
            name,
            seed,
            execution,
            stage: stage?,
            point: matrix::in_words(&point),
            models: Vec::new(),
            replica: 1,
            replicas: 1,
            place,
            node,
        })
    }

    /// The place of a field, or of the nearest thing that exists.
    fn field(&self, field: &str) -> Place {
        self.node.nearest(field).map_or(self.place, |(place, _)| place)
    }

    fn diagnose(&self, problem: &Problem) -> Diagnostic {
        checks::place(problem, self.node.nearest(&problem.field).unwrap_or((self.place, None)))
    }
}

/// Absolute, without `.` and `..`.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    include::plain(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// A pipeline's name from its file's, cleaned of what cannot stand in a name.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().map_or("pipeline".into(), |stem| stem.to_string_lossy());
    let name = cleaned(&stem, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'), '-', 100);
    let name = name.trim_start_matches(['-', '_', '.']);
    if name.is_empty() { "pipeline".into() } else { name.into() }
}
