//! The model of a stage that has run.

use pgan_pipe::{
    plan::Plan,
    stage::{Artifact, ArtifactKind},
    store::{Damage, Fault, Record, Store},
};

use super::{
    Failure,
    arguments::{PipelineArgs, one_stage},
    failure::{CORRUPT, INVALID},
    show,
};

/// A model in the cache.
pub(super) struct Trained {
    /// The pipeline's name.
    pub(super) pipeline: String,
    /// The stage's name.
    pub(super) stage: String,
    /// Its cache key.
    pub(super) key: String,
    /// Its files, which are intact.
    pub(super) artifact: Artifact,
}

impl Trained {
    /// Looks for the model of a stage; `done` is what would be done with it, as in "sampled".
    pub(super) fn find(args: &PipelineArgs, name: &str, store: &Store, done: &str) -> Result<Self, Failure> {
        let pipeline = args.load()?;
        let plan = Plan::make(&pipeline, store, &[name.to_owned()], &[])
            .map_err(|error| Failure::of_plan(&pipeline, error))?;
        let unknown = || Failure::message(INVALID, format!("there is no stage `{name}`"));
        let wanted = one_stage(&pipeline, name)?;
        let stage = plan.stages.iter().find(|stage| Some(stage.index) == wanted).ok_or_else(unknown)?;
        let produces = pipeline.stages[stage.index].stage.produces();
        if !matches!(produces, ArtifactKind::Model | ArtifactKind::FrozenModel | ArtifactKind::Candidate) {
            let message = format!("the stage `{name}` makes {}, which cannot be {done}", produces.in_words());
            return Err(Failure::message(INVALID, message));
        }
        let record = show::record(stage, args)?;
        intact(store, record)?;
        Ok(Self {
            pipeline: pipeline.name.clone(),
            stage: stage.name.clone(),
            key: record.key.to_string(),
            artifact: Artifact::of(record, store),
        })
    }
}

/// Reads the files of a record in full. What is not as it was stored is set aside, so that its stage can run again.
pub(super) fn intact(store: &Store, record: &Record) -> Result<(), Failure> {
    let damage = store.inspect(record);
    for damage in damage.iter().filter(|damage| damage.fault != Fault::Missing) {
        store.set_aside(damage.digest)?;
    }
    match damage.first() {
        Some(Damage { file, fault, .. }) => {
            Err(Failure::message(CORRUPT, format!("`{file}` is {fault} in the cache; run the stage again")))
        }
        None => Ok(()),
    }
}
