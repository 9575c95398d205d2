//! Checks across stages: references, what ports take, cycles, and what the stages themselves object to.

use std::collections::HashMap;

use petgraph::{algo::kosaraju_scc, graph::DiGraph};

use super::{
    diagnostics::{Diagnostic, Place},
    draft::DraftStage,
    expand::of_round,
    fault::suggest,
    matrix::join::Reference,
    node::shorten,
};
use crate::stage::{ArtifactKind, Port, Problem, Stage, Upstream};

/// Adds every mistake between stages, and those that the stages find in themselves.
pub(super) fn check(stages: &[DraftStage], mistakes: &mut Vec<Diagnostic>) {
    // Before they are written out, all points of a sweep have one name: the first stands for them.
    let index: HashMap<&str, usize> =
        stages.iter().enumerate().rev().map(|(i, stage)| (stage.name.as_str(), i)).collect();
    let mut graph = DiGraph::<(), Place>::with_capacity(stages.len(), stages.len());
    let nodes: Vec<_> = stages.iter().map(|_| graph.add_node(())).collect();
    for (position, draft) in stages.iter().enumerate() {
        let Some(stage) = &draft.stage else { continue };
        let mut upstream: Option<Upstream<'_>> = Some(Upstream::new());
        for port in stage.ports() {
            if draft.is_faulty(&port.field) {
                upstream = None;
                continue;
            }
            let target = index.get(port.reference).copied().or_else(|| {
                // Rounds are no stages yet: a reference to one is a reference to their stage.
                let at = |name: &str| index.get(name).or_else(|| index.get(Reference::of(name).swept()?)).copied();
                let Some((name, round)) = of_round(port.reference) else { return at(port.reference) };
                at(name).filter(|&at| round < rounds(&stages[at]))
            });
            if let Some(target) = target.filter(|&target| target != position) {
                graph.add_edge(nodes[target], nodes[position], draft.locate(&port.field).0);
            }
            match resolve(draft, &port, target.map(|target| &stages[target]), stages) {
                Err(mistake) => {
                    mistakes.push(*mistake);
                    upstream = None;
                }
                Ok(Some(of)) => {
                    if let Some(upstream) = &mut upstream {
                        upstream.entry(port.role).or_default().push(of);
                    }
                }
                Ok(None) => upstream = None,
            }
        }
        if draft.faulty.is_empty() {
            let mut problems = stage.problems();
            if let Some(upstream) = upstream {
                problems.extend(stage.mismatches(&upstream));
            }
            mistakes.extend(problems.iter().map(|problem| place(problem, draft.locate(&problem.field))));
        }
    }
    cycles(&graph, stages, mistakes);
}

/// Puts a stage's own objection at its place.
pub(super) fn place(problem: &Problem, (place, origin): (Place, Option<Place>)) -> Diagnostic {
    let diagnostic = Diagnostic::new(&*problem.message, place).with_origin(origin);
    match &problem.help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// The stage that a port refers to, if it makes what the port takes. `None` if that stage has mistakes of its own.
fn resolve<'a>(
    draft: &DraftStage,
    port: &Port<'_>,
    target: Option<&'a DraftStage>,
    stages: &[DraftStage],
) -> Result<Option<&'a Stage>, Box<Diagnostic>> {
    let (at, origin) = draft.locate(&port.field);
    let error = |message: String| Diagnostic::new(message, at).with_origin(origin);
    let Some(target) = target else {
        if let Some(boost) = of_round(port.reference).and_then(|(name, _)| stages.iter().find(|s| s.name == name)) {
            let (name, rounds) = (&boost.name, rounds(boost));
            let message = format!("there is no round `{}`: `{name}` has {rounds}", shorten(port.reference));
            return Err(Box::new(error(message).help(match rounds {
                1 => format!("refer to `{name}`, or give it more `rounds`"),
                _ => format!("the rounds before the last are `{name}@round1` to `{name}@round{}`", rounds - 1),
            })));
        }
        let fits = |draft: &&DraftStage| draft.stage.as_ref().is_some_and(|s| port.accepts.contains(&s.produces()));
        let known: Vec<&str> = stages.iter().filter(fits).map(|stage| stage.name.as_str()).collect();
        let any: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
        let message = format!("there is no stage `{}`", shorten(port.reference));
        let found = error(message).label(format!("`{}` takes {}", port.role, in_words(port.accepts)));
        let near = crate::stage::nearest(port.reference, &any).is_some_and(|name| name != draft.name);
        return Err(Box::new(match (near, known.is_empty()) {
            (true, _) => suggest(found, port.reference, &any),
            (false, false) => {
                found.help(format!("stages that fit are `{}`", known[..known.len().min(12)].join("`, `")))
            }
            (false, true) => found.help(cure(port, None)),
        }));
    };
    if target.place == draft.place {
        return Err(Box::new(
            error(format!("the stage `{}` refers to itself", draft.name)).help("a stage takes what other stages make"),
        ));
    }
    let Some(stage) = &target.stage else { return Ok(None) };
    if port.accepts.contains(&stage.produces()) {
        return Ok(target.faulty.is_empty().then_some(stage));
    }
    let makes = stage.produces().in_words();
    let message = format!("`{}` takes {}, but `{}` makes {makes}", port.role, in_words(port.accepts), target.name);
    Err(Box::new(
        error(message)
            .label(format!("this is {makes}"))
            .also(target.place, "made here")
            .help(cure(port, Some((&target.name, stage.produces())))),
    ))
}

/// How many rounds a stage boosts; a stage that boosts nothing, or is not known, has one.
fn rounds(draft: &DraftStage) -> usize {
    if let Some(Stage::Boost(boost)) = &draft.stage { boost.rounds.get() } else { 1 }
}

/// How to get what the port takes.
fn cure(port: &Port<'_>, found: Option<(&str, ArtifactKind)>) -> String {
    match (port.accepts.first(), found) {
        // Only `freeze` takes no frozen model where it takes a model.
        (Some(ArtifactKind::Model), Some((name, ArtifactKind::FrozenModel))) => {
            format!("`{name}` is frozen already: take it directly, and leave this stage out")
        }
        (Some(ArtifactKind::FrozenModel), Some((name, ArtifactKind::Model))) => {
            format!("add a `freeze` stage with `model: {name}`, and refer to it here")
        }
        (Some(ArtifactKind::FrozenModel), _) => "add a `freeze` stage, and refer to it here".into(),
        (Some(ArtifactKind::Candidate), _) => "add a `pretrain_tail` stage, and refer to it here".into(),
        (Some(ArtifactKind::Dataset), _) => "refer to a `dataset` stage".into(),
        (Some(ArtifactKind::Proposal), _) => "add an `invert` stage, and refer to it here".into(),
        _ if port.accepts.contains(&ArtifactKind::FrozenModel) => {
            "refer to a `train_gan`, `boost` or `freeze` stage".into()
        }
        _ => "refer to a `train_gan` or `boost` stage".into(),
    }
}

fn in_words(accepts: &[ArtifactKind]) -> String {
    accepts.iter().map(|kind| kind.in_words()).collect::<Vec<_>>().join(" or ")
}

fn cycles(graph: &DiGraph<(), Place>, stages: &[DraftStage], mistakes: &mut Vec<Diagnostic>) {
    for component in kosaraju_scc(graph).iter().filter(|component| component.len() > 1) {
        let inside: std::collections::HashSet<_> = component.iter().copied().collect();
        let Some(&start) = component.iter().min() else { continue };
        // Walking along edges inside the component must come back to a stage that was passed.
        let mut path = vec![start];
        let mut passed: HashMap<_, usize> = HashMap::from([(start, 0)]);
        let first = loop {
            let Some(next) = path.last().and_then(|&at| graph.neighbors(at).filter(|n| inside.contains(n)).min())
            else {
                return;
            };
            if let Some(&first) = passed.get(&next) {
                break first;
            }
            passed.insert(next, path.len());
            path.push(next);
        };
        let cycle = &path[first..];
        let names: Vec<&str> = cycle.iter().chain(cycle.first()).map(|node| &*stages[node.index()].name).collect();
        let shown = if names.len() > 12 {
            format!("{} → … → {}", names[..6].join(" → "), names[names.len() - 5..].join(" → "))
        } else {
            names.join(" → ")
        };
        let edge = |from: usize| {
            let (a, b) = (cycle[from], cycle[(from + 1) % cycle.len()]);
            graph.find_edge(a, b).and_then(|edge| graph.edge_weight(edge).copied()).map(|place| (place, names[from]))
        };
        let mut edges = (0..cycle.len()).filter_map(edge).take(8);
        let Some((place, name)) = edges.next() else { continue };
        let diagnostic = Diagnostic::new(format!("the stages wait for each other: {shown}"), place)
            .label(format!("waits for `{name}`"))
            .help("take one of these references out: data walks in one direction");
        mistakes.push(edges.fold(diagnostic, |all, (place, name)| all.also(place, format!("waits for `{name}`"))));
    }
}
