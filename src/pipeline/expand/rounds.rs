//! `rounds: K` of a `boost` stage: each round boosts the frozen model of the one before, with a candidate of its own.

use std::collections::HashMap;

use super::{super::Declared, Diagnostic, limit, seed};
use crate::{
    stage::{ArtifactKind, Port, Stage, boost::Boost, freeze::Freeze},
    value::RoundCount,
};

/// The boost stage and the round that a reference like `boosted@round1` means; whether there are so many is not asked.
pub(in crate::pipeline) fn of_round(reference: &str) -> Option<(&str, usize)> {
    let (name, round) = reference.split_once("@round")?;
    let number = round.parse().ok()?;
    (round == usize::to_string(&number) && number > 0).then_some((name, number))
}

fn rounds(stage: &Stage) -> usize {
    if let Stage::Boost(boost) = stage { boost.rounds.get() } else { 1 }
}

pub(super) fn expand(stages: Vec<Declared>) -> Result<Vec<Declared>, Box<Diagnostic>> {
    // A round but the first has a candidate; a round but the last has a frozen model and a name of its own.
    let more: usize = stages.iter().map(|declared| 3 * (rounds(&declared.stage) - 1)).sum();
    let Some(most) = stages.iter().max_by_key(|declared| rounds(&declared.stage)).filter(|_| more > 0) else {
        return Ok(stages);
    };
    limit(stages.len() + more, most.field("rounds"))?;

    let index: HashMap<&str, usize> = stages.iter().enumerate().map(|(i, stage)| (stage.name.as_str(), i)).collect();
    let mut expanded = Vec::with_capacity(stages.len() + more);
    for declared in &stages {
        match &declared.stage {
            Stage::Boost(boost) if boost.rounds.get() > 1 => {
                let candidate = index.get(boost.candidate.as_str()).map(|&at| &stages[at]);
                in_rounds(declared, boost, candidate, &mut expanded)?;
            }
            stage => expanded.push(declared.offspring(declared.name.clone(), declared.seed, stage.clone())),
        }
    }
    Ok(expanded)
}

/// The stages of one boost stage, round by round.
fn in_rounds(
    declared: &Declared,
    boost: &Boost,
    candidate: Option<&Declared>,
    expanded: &mut Vec<Declared>,
) -> Result<(), Box<Diagnostic>> {
    let (name, last) = (&declared.name, boost.rounds.get());
    let mut this = Boost { rounds: RoundCount::ONE, ..boost.clone() };
    for round in 1..=last {
        if let Some(candidate) = candidate.filter(|_| round > 1) {
            // It is made like the model of the round before.
            let reference = |port: &Port<'_>| {
                if port.accepts.contains(&ArtifactKind::FrozenModel) {
                    this.base.clone()
                } else {
                    port.reference.to_owned()
                }
            };
            let fresh = format!("{name}@candidate{round}");
            let seed = seed(candidate.seed, "round", round);
            expanded.push(candidate.rewired(fresh.clone(), seed, reference)?);
            this.candidate = fresh;
        }
        let own = if round == last { name.clone() } else { format!("{name}@round{round}") };
        let seed = seed(declared.seed, "round", round);
        expanded.push(declared.offspring(own.clone(), seed, Stage::Boost(this.clone())));
        if round < last {
            let frozen = format!("{name}@frozen{round}");
            expanded.push(declared.offspring(frozen.clone(), seed, Stage::Freeze(Freeze { model: own })));
            this.grown_from = Some(std::mem::replace(&mut this.base, frozen));
        }
    }
    Ok(())
}
