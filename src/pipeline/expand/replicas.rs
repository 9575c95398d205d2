//! `replicas: N` of a pipeline: what is trained is trained with N seeds, and evaluations are brought together.
//!
//! What makes a dataset is shared, unless it is made of a model: all replicas train on the same events and are judged on
//! the same test events. The first replica has the names of the file and, with them, its keys: N can be raised later.

use std::collections::HashMap;

use super::{super::Declared, Diagnostic, Place, limit, seed};
use crate::stage::{ArtifactKind, Stage, aggregate::Aggregate};

/// What becomes of a stage.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// One for all replicas.
    Shared,
    /// One for each replica; the first keeps the name.
    Replicated,
    /// One for each replica, and one under its name that brings them together.
    Evaluated,
    /// Takes the evaluations of all replicas.
    Aggregate,
}

impl Fate {
    /// The name of a stage in the k-th replica.
    fn name(self, name: &str, k: usize) -> String {
        match self {
            Self::Replicated if k > 1 => format!("{name}@{k}"),
            Self::Evaluated => format!("{name}@{k}"),
            _ => name.to_owned(),
        }
    }
}

pub(super) fn expand(stages: &[Declared], count: usize, place: Place) -> Result<Vec<Declared>, Box<Diagnostic>> {
    let fates = fates(stages);
    let replicated = fates.values().filter(|fate| matches!(fate, Fate::Replicated | Fate::Evaluated)).count();
    let evaluated = fates.values().filter(|&&fate| fate == Fate::Evaluated).count();
    limit(stages.len() - replicated + evaluated + count * replicated, place)?;

    let fate = |name: &str| fates.get(name).copied().unwrap_or(Fate::Shared);
    let mut expanded = Vec::with_capacity(count * stages.len());
    // Replica by replica: a study that is interrupted has some of them complete.
    for k in 1..=count {
        for declared in stages {
            let of_all = match fate(&declared.name) {
                Fate::Aggregate => continue,
                Fate::Shared if k > 1 => continue,
                Fate::Shared => 1,
                Fate::Replicated | Fate::Evaluated => count,
            };
            let name = fate(&declared.name).name(&declared.name, k);
            let seed = seed(declared.seed, "replica", k);
            let copy = declared.rewired(name, seed, |port| fate(port.reference).name(port.reference, k))?;
            expanded.push(Declared { replica: k, replicas: of_all, ..copy });
        }
    }
    let each = |evaluation: &String| (1..=count).map(move |k| Fate::Evaluated.name(evaluation, k)).collect::<Vec<_>>();
    for declared in stages {
        let aggregate = match &declared.stage {
            Stage::Evaluate(evaluate) => {
                Aggregate { evaluations: each(&declared.name), primary: evaluate.primary, margin: evaluate.margin }
            }
            Stage::Aggregate(aggregate) => {
                Aggregate { evaluations: aggregate.evaluations.iter().flat_map(each).collect(), ..aggregate.clone() }
            }
            _ => continue,
        };
        expanded.push(declared.offspring(declared.name.clone(), declared.seed, Stage::Aggregate(aggregate)));
    }
    Ok(expanded)
}

fn fates(stages: &[Declared]) -> HashMap<String, Fate> {
    let by_kind = |declared: &Declared| match &declared.stage {
        Stage::Evaluate(_) => Fate::Evaluated,
        Stage::Aggregate(_) => Fate::Aggregate,
        stage if stage.produces() == ArtifactKind::Dataset => Fate::Shared,
        _ => Fate::Replicated,
    };
    let mut fates: HashMap<String, Fate> =
        stages.iter().map(|declared| (declared.name.clone(), by_kind(declared))).collect();
    // A dataset that is made of what is replicated is replicated, too.
    let of_replicated = |declared: &&Declared, fates: &HashMap<String, Fate>| {
        fates[&declared.name] == Fate::Shared
            && declared.stage.ports().iter().any(|port| fates.get(port.reference) == Some(&Fate::Replicated))
    };
    while let Some(made) = stages.iter().find(|declared| of_replicated(declared, &fates)) {
        fates.insert(made.name.clone(), Fate::Replicated);
    }
    fates
}
