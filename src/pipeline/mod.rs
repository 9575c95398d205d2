//! The pipeline as written: YAML with positions, read into stages, and every mistake in it reported at once.

use std::path::{Path, PathBuf};

use crate::stage::{Problem, Stage};

/// A valid pipeline.
#[derive(Debug)]
pub struct Pipeline {
    /// `name:`, or the file's stem.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Stages in the order of the file.
    pub stages: Vec<Declared>,
}

/// A stage of a pipeline.
#[derive(Debug)]
pub struct Declared {
    /// The name that the user gave it.
    pub name: String,
    /// Its own `seed:`, or the pipeline's.
    pub seed: u64,
    /// What it is.
    pub stage: Stage,
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

/// Mistakes in a file, each with its place.
#[derive(Debug)]
pub struct Diagnostics;

impl Diagnostics {
    /// Renders all of them with snippets; with colours for a terminal.
    pub fn render(&self, _color: bool) -> String {
        todo!()
    }
}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Pipeline {
    /// Reads and checks a pipeline file. `overrides` are the `k=v` of `--set`: they replace `params`, or a field of a stage
    /// by its dotted path (`boosted.steps`).
    pub fn load(_path: &Path, _overrides: &[(String, String)]) -> Result<Self, PipelineError> {
        todo!()
    }

    /// A path as written in the file, made absolute: relative paths are relative to the file.
    pub fn resolve(&self, _path: &Path) -> PathBuf {
        todo!()
    }

    /// Looks into the source files of these stages (indices) before anything runs.
    pub fn preflight(&self, _stages: &[usize]) -> Result<(), PipelineError> {
        todo!()
    }

    /// Puts problems of a stage (by index) at their places in the file.
    pub fn diagnose(&self, _stage: usize, _problems: &[Problem]) -> Diagnostics {
        todo!()
    }
}
