//! What can go wrong in a verb, and the exit code that it ends with.

use std::{io, process::ExitCode};

use anyhow::anyhow;
use pgan_pipe::{
    credentials::cut_text,
    pack::PackError,
    pipeline::{Pipeline, PipelineError},
    plan::{LockError, PlanError},
    remote::RemoteError,
    run::RunError,
    store::StoreError,
    submit::{EngineError, SubmitError},
};

use super::output::{say, say_mistakes};

/// A stage failed, or is not there to be used.
pub(super) const STAGE: u8 = 1;
/// Invalid usage or pipeline.
pub(super) const INVALID: u8 = 2;
/// The store or another file cannot be read or written.
pub(super) const IO: u8 = 3;
/// Something is out of date.
pub(super) const STALE: u8 = 4;
/// Corruption was found.
pub(super) const CORRUPT: u8 = 5;
/// A remote is out of reach, or refuses.
pub(super) const REMOTE: u8 = 6;

/// Why a verb did not do what it was asked.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    error: anyhow::Error,
}

/// Why standard output could not be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
struct Unprinted(io::Error);

impl Failure {
    pub(super) fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into() }
    }

    /// A plan that cannot be made; a source that is not there is shown at its place in the file.
    pub(super) fn of_plan(pipeline: &Pipeline, error: PlanError) -> Self {
        if let PlanError::Source { stage, .. } = &error
            && let Some(index) = pipeline.stages.iter().position(|declared| declared.name == *stage)
            && let Err(invalid) = pipeline.preflight(&[index])
        {
            return invalid.into();
        }
        error.into()
    }

    pub(super) fn message(code: u8, message: impl std::fmt::Display) -> Self {
        Self::new(code, anyhow!("{message}"))
    }

    /// Makes the failure of a standard output that cannot be written to.
    pub(super) fn unprinted(error: io::Error) -> Self {
        Self::new(IO, Unprinted(error))
    }

    /// Says on standard error what went wrong, and gives the exit code. Whoever closed standard output wants to hear nothing.
    pub(super) fn report(self) -> ExitCode {
        if let Some(Unprinted(error)) = self.error.downcast_ref()
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return ExitCode::SUCCESS;
        }
        match self.error.downcast_ref::<PipelineError>() {
            Some(PipelineError::Invalid(diagnostics)) => say_mistakes(diagnostics),
            // Whatever names an address: a path, an argument, the word of a library.
            _ => say(&format!("error: {}", cut_text(&chain(&self.error)))),
        }
        ExitCode::from(self.code)
    }
}

/// The message with its causes, less those that it tells itself.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match () {
        () if told.is_empty() => cause,
        () if told.contains(&cause) => told,
        () => format!("{told}: {cause}"),
    })
}

impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Self {
        let code = match &error {
            PipelineError::Invalid(_) => INVALID,
            PipelineError::Io { source, .. } => of_source(source),
        };
        Self::new(code, error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(IO, error)
    }
}

impl From<PackError> for Failure {
    fn from(error: PackError) -> Self {
        let code = match &error {
            PackError::Store(_) | PackError::Io { action: "write", .. } => IO,
            PackError::Io { source, .. } | PackError::Read(source) => of_source(source),
            PackError::NoPack(_) | PackError::NotPackable { .. } | PackError::InTheWay { .. } => INVALID,
            PackError::Spoilt { .. } => CORRUPT,
        };
        Self::new(code, error)
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let code = match &error {
            PlanError::Store(_) => IO,
            PlanError::Source { source, .. } => of_source(source),
            _ => INVALID,
        };
        Self::new(code, error)
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let code = match &error {
            LockError::Absent { .. } | LockError::Invalid { .. } => INVALID,
            LockError::Io { .. } => IO,
            LockError::NotCached { .. } => STALE,
        };
        Self::new(code, error)
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        let code = of_remote(&error);
        Self::new(code, error)
    }
}

/// The exit code of trouble with a remote.
pub(super) fn of_remote(error: &RemoteError) -> u8 {
    match error {
        RemoteError::Address { .. }
        | RemoteError::Setting { .. }
        | RemoteError::Settings { .. }
        | RemoteError::ReadOnly { .. } => INVALID,
        RemoteError::Io { .. } | RemoteError::Store(_) | RemoteError::Runtime { .. } => IO,
        RemoteError::Closed { .. }
        | RemoteError::Trouble { .. }
        | RemoteError::Absent { .. }
        | RemoteError::Unreadable { .. }
        | RemoteError::Exists { .. } => REMOTE,
        RemoteError::Spoiled { .. } | RemoteError::BadRecord { .. } | RemoteError::CorruptedHere { .. } => CORRUPT,
        RemoteError::Stopped(signal) => u8::try_from(128 + signal).unwrap_or(REMOTE),
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Plan(error) => error.into(),
            RunError::Invalid(error) => error.into(),
            RunError::Store(error) => error.into(),
            RunError::Stopped(signal) => Self::new(u8::try_from(128 + signal).unwrap_or(IO), RunError::Stopped(signal)),
            error @ RunError::NotAsLocked { .. } => Self::new(STALE, error),
            error @ RunError::NotReady { .. } => Self::new(STAGE, error),
            error @ (RunError::Worker { .. } | RunError::Full { .. }) => Self::new(IO, error),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let code = if matches!(error, EngineError::Absent { .. }) { INVALID } else { IO };
        Self::new(code, error)
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Plan(error) => error.into(),
            SubmitError::Invalid(error) => error.into(),
            SubmitError::Store(error) => error.into(),
            SubmitError::Engine(error) => error.into(),
            SubmitError::Run(error) => error.into(),
            SubmitError::Remote(error) => error.into(),
            SubmitError::Changed { .. } => Self::new(STALE, error),
            SubmitError::NoSuchStage { .. }
            | SubmitError::NeverSubmitted { .. }
            | SubmitError::NotText(_)
            | SubmitError::NoRemote
            | SubmitError::NoPush => Self::new(INVALID, error),
            SubmitError::Halfway { .. }
            | SubmitError::NoWorker(_)
            | SubmitError::NoSubmission { .. }
            | SubmitError::NotOurs(_) => Self::new(IO, error),
            SubmitError::Differs { .. } => Self::new(REMOTE, error),
        }
    }
}

/// A path that leads nowhere, or to what is no file, is wrong usage; one that cannot be read is trouble.
fn of_source(error: &io::Error) -> u8 {
    use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, NotFound};
    if matches!(error.kind(), NotFound | NotADirectory | IsADirectory | InvalidInput) { INVALID } else { IO }
}
