//! Expansion: what `rounds:` and `replicas:` stand for, written out as stages of their own.
//!
//! It comes after the checks, so a mistake is told once, however often its stage is repeated, and every stage that comes of
//! another keeps that one's place in the file. Names that users cannot write (they hold an `@`) belong to it:
//! `boosted@round1`, `boosted@frozen1`, `boosted@candidate2`, `base@2`, `evaluation@1`.
//!
//! Seeds are derived, so that a copy has randomness of its own and the first one the randomness of the stage as written:
//! round or replica 1 has the stage's seed s, and k > 1 the first 53 bits of BLAKE3 over (s, "round" or "replica", k), in the
//! key-derivation mode. 53 bits survive programs that read JSON's numbers as floats. Rounds come first: a replica derives
//! from its round's seed.

use std::collections::HashMap;

use super::{
    Declared,
    diagnostics::{Diagnostic, Place},
};
use crate::{
    stage::{ArtifactKind, Port, Stage},
    value::ReplicaCount,
};

mod replicas;
mod rounds;

pub(super) use rounds::of_round;

/// Stages that sweeps, rounds and replicas may expand into.
pub(super) const MOST_STAGES: usize = 20_000;

/// Writes rounds out, then replicas.
pub(super) fn expand(
    stages: Vec<Declared>,
    replicas: Option<(ReplicaCount, Place)>,
) -> Result<Vec<Declared>, Box<Diagnostic>> {
    let mut stages = rounds::expand(stages)?;
    if let Some((count, place)) = replicas.filter(|(count, _)| count.get() > 1) {
        stages = replicas::expand(&stages, count.get(), place)?;
    }
    name_models(&mut stages);
    Ok(stages)
}

/// Refuses what would expand too far, before it does.
fn limit(stages: usize, place: Place) -> Result<(), Box<Diagnostic>> {
    if stages <= MOST_STAGES {
        return Ok(());
    }
    let message = format!("the pipeline expands into {stages} stages, and {MOST_STAGES} is the most");
    Err(Box::new(Diagnostic::new(message, place).help("lower `replicas` or `rounds`, or split the pipeline")))
}

/// The seed of the k-th round or replica of a stage.
fn seed(stage: u64, what: &str, k: usize) -> u64 {
    if k == 1 {
        return stage;
    }
    let mut hasher = blake3::Hasher::new_derive_key("pgan-pipe 2026 derived seed v1");
    hasher.update(&stage.to_le_bytes());
    hasher.update(what.as_bytes());
    hasher.update(&[0]);
    hasher.update(&(k as u64).to_le_bytes());
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_be_bytes(first) >> 11
}

impl Declared {
    /// A stage that comes of this one.
    fn offspring(&self, name: String, seed: u64, stage: Stage) -> Self {
        let Self { place, node, replica, replicas, point, .. } = self;
        Self {
            name,
            seed,
            execution: self.execution,
            stage,
            point: point.clone(),
            models: Vec::new(),
            replica: *replica,
            replicas: *replicas,
            place: *place,
            node: node.clone(),
        }
    }

    /// A copy under another name, whose ports refer to other stages.
    fn rewired(
        &self,
        name: String,
        seed: u64,
        reference: impl Fn(&Port<'_>) -> String,
    ) -> Result<Self, Box<Diagnostic>> {
        let refuse = |error| {
            let message = format!("the stage `{}` cannot be repeated: {error}", self.name);
            Box::new(Diagnostic::new(message, self.place))
        };
        let references = self.stage.ports().into_iter().map(|port| (port.field.clone(), reference(&port).into()));
        Ok(self.offspring(name, seed, self.stage.with_fields(references.collect()).map_err(refuse)?))
    }
}

/// Notes the names of the models that metrics mean by position: an evaluation's own, or those of the first evaluation that
/// a stage takes.
fn name_models(stages: &mut [Declared]) {
    let own = |declared: &Declared| -> Vec<String> {
        let ports = declared.stage.ports();
        ports.iter().filter(|port| port.role == "models").map(|port| port.reference.to_owned()).collect()
    };
    let names: HashMap<String, Vec<String>> = stages.iter().map(|stage| (stage.name.clone(), own(stage))).collect();
    for declared in stages {
        let ports = declared.stage.ports();
        let judged = ports.iter().find(|port| port.accepts.contains(&ArtifactKind::Evaluation));
        let name = judged.map_or(declared.name.as_str(), |port| port.reference);
        declared.models = names.get(name).cloned().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests;
