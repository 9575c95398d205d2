//! The pipeline as written: YAML with positions, read into stages, and every mistake in it reported at once.
//!
//! A text goes through these hands: [`yaml`] makes a tree of nodes with places, [`parameters`] changes it by `--set` and
//! `${params.x}`, [`draft`] reads each stage's struct from it (with [`de`]), and [`checks`] looks across stages. Each of them
//! adds to one list of mistakes; a [`Pipeline`] exists only if the list stays empty. [`expand`] writes rounds and replicas out.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::stage::{Problem, Stage};

mod checks;
mod de;
mod diagnostics;
mod draft;
mod execution;
mod expand;
mod fault;
mod mend;
mod node;
mod parameters;
mod stand_in;
mod yaml;

pub use diagnostics::Diagnostics;
use diagnostics::{Diagnostic, Place, Written};
use draft::DraftStage;
pub use execution::{ByteSize, Execution, Resources, Timeout};

/// Bytes that a pipeline file may have.
const MAX_BYTES: u64 = 16 << 20;

/// A valid pipeline.
#[derive(Debug)]
pub struct Pipeline {
    /// `name:`, or the file's stem.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Stages in the order of the file, those that rounds and replicas stand for written out: replica by replica, and at the
    /// end what brings replicas together.
    pub stages: Vec<Declared>,
    /// How many stages the file itself names.
    pub named: usize,
    written: Written,
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
        File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        Self::parse(&bytes, path, overrides)
    }

    /// Reads and checks the bytes of a pipeline file that lies, or would lie, at `path`.
    pub fn parse(bytes: &[u8], path: &Path, overrides: &[(String, String)]) -> Result<Self, PipelineError> {
        let mut written = Written {
            path: path.display().to_string(),
            text: "".into(),
            overrides: overrides.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        };
        let whole = |written: &Written, message: String, help: &str| {
            let diagnostic = Diagnostic::new(message, Place::Whole).help(help);
            PipelineError::Invalid(Diagnostics::new(written.clone(), vec![diagnostic]))
        };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(whole(&written, "the file is larger than 16 MiB".into(), "a pipeline holds stages, not data"));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let line = bytes[..error.valid_up_to()].split(|&byte| byte == b'\n').count();
                let message = format!("the file is not UTF-8 text: line {line} holds other bytes");
                return Err(whole(&written, message, "save it as UTF-8"));
            }
        };
        written.text = text.into();
        let (root, mut mistakes) = yaml::read(text);
        let Some(mut root) = root else {
            if mistakes.is_empty() {
                let help = "`pgan-pipe init` writes a pipeline to start from";
                return Err(whole(&written, "the file is empty".into(), help));
            }
            return Err(PipelineError::Invalid(Diagnostics::new(written, mistakes)));
        };
        parameters::apply(&mut root, overrides, &mut mistakes);
        let draft = draft::draft(root, &mut mistakes);
        checks::check(&draft.stages, &mut mistakes);
        let stages: Vec<Declared> = draft.stages.into_iter().filter_map(Declared::finish).collect();
        if !mistakes.is_empty() {
            return Err(PipelineError::Invalid(Diagnostics::new(written, mistakes)));
        }
        let named = stages.len();
        let stages = match expand::expand(stages, draft.replicas) {
            Ok(stages) => stages,
            Err(mistake) => return Err(PipelineError::Invalid(Diagnostics::new(written, vec![*mistake]))),
        };
        let name = draft.name.unwrap_or_else(|| name_of(path));
        Ok(Self { name, path: path.to_owned(), stages, named, written })
    }

    /// The `k=v` of `--set` that it was loaded with.
    pub fn overrides(&self) -> &[String] {
        &self.written.overrides
    }

    /// A path as written in the file, made absolute: relative paths are relative to the file.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        let joined = self.path.parent().unwrap_or(Path::new("")).join(path);
        std::path::absolute(&joined).unwrap_or(joined)
    }

    /// Absolute paths of the source files of a stage (by index), by field.
    pub fn sources(&self, stage: usize) -> BTreeMap<String, PathBuf> {
        let sources = self.stages.get(stage).map(|declared| declared.stage.sources()).unwrap_or_default();
        sources.iter().map(|source| (source.field.to_owned(), self.resolve(source.path))).collect()
    }

    /// Looks into the source files of these stages (indices) before anything runs.
    pub fn preflight(&self, stages: &[usize]) -> Result<(), PipelineError> {
        let mut mistakes = Vec::new();
        for &index in stages {
            let Some(declared) = self.stages.get(index) else { continue };
            let problems = declared.stage.preflight(&self.sources(index));
            mistakes.extend(problems.iter().map(|problem| declared.diagnose(problem)));
        }
        if mistakes.is_empty() {
            return Ok(());
        }
        Err(PipelineError::Invalid(Diagnostics::new(self.written.clone(), mistakes)))
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
        let DraftStage { name, place, node, seed, execution, stage, .. } = draft;
        Some(Self {
            name,
            seed,
            execution,
            stage: stage?,
            models: Vec::new(),
            replica: 1,
            replicas: 1,
            place,
            node: Arc::new(node),
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

/// A pipeline's name from its file's: what cannot stand in a name becomes `-`.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' }).collect();
    let name = name.trim_start_matches(['-', '_', '.']);
    if name.is_empty() { "pipeline".into() } else { name.chars().take(100).collect() }
}
