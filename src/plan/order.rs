//! The order of a run: which stages take part, and each after those whose results it takes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use petgraph::{
    Direction::{Incoming, Outgoing},
    graph::{DiGraph, NodeIndex},
    visit::EdgeRef,
};

use super::PlanError;
use crate::{pipeline::Pipeline, stage::nearest};

/// The stages in the order in which they can run, and their graph by position.
pub(super) struct Order {
    pub(super) stages: Vec<Ordered>,
    pub(super) graph: DiGraph<usize, &'static str>,
    /// Those that run even if cached, by their index in `pipeline.stages`.
    pub(super) forced: BTreeSet<usize>,
}

/// So many names are listed where none is near.
const LISTED: usize = 20;

/// A stage that takes part: its index in `pipeline.stages`, and those of its inputs with their roles, in the order of its ports.
pub(super) struct Ordered {
    pub(super) index: usize,
    pub(super) inputs: Vec<(&'static str, usize)>,
}

pub(super) fn order(pipeline: &Pipeline, targets: &[String], force: &[String]) -> Result<Order, PlanError> {
    let names = pipeline.stages.iter().enumerate().map(|(index, declared)| (declared.name.as_str(), index)).collect();
    let forced = find(pipeline, force)?.into_iter().collect();
    let whole = whole_graph(pipeline, &names)?;
    let wanted = match targets {
        [] => (0..pipeline.stages.len()).collect(),
        _ => ancestors(&whole, find(pipeline, targets)?),
    };
    let order = topological(&whole, &wanted);
    if order.len() < wanted.len() {
        let stuck = wanted.into_iter().filter(|index| !order.contains(index));
        return Err(PlanError::Cycle { stages: stuck.map(|index| pipeline.stages[index].name.clone()).collect() });
    }
    Ok(ordered(&whole, &order, forced))
}

/// The stages (indices) of these names; the name of a swept stage stands for all of its points.
fn find(pipeline: &Pipeline, names: &[String]) -> Result<Vec<usize>, PlanError> {
    let mut found = Vec::new();
    for name in names {
        let meant = pipeline.select(name);
        if meant.is_empty() {
            let known: Vec<&str> = pipeline.stages.iter().map(|declared| declared.name.as_str()).collect();
            let help = match nearest(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.len() > LISTED => {
                    format!("its stages are `{}` and {} more", known[..LISTED].join("`, `"), known.len() - LISTED)
                }
                None => format!("its stages are `{}`", known.join("`, `")),
            };
            return Err(PlanError::UnknownStage { name: name.clone(), help });
        }
        found.extend(meant);
    }
    Ok(found)
}

/// The graph of all stages; nodes are indices in `pipeline.stages`, edges stand in the order of the ports.
fn whole_graph(pipeline: &Pipeline, names: &BTreeMap<&str, usize>) -> Result<DiGraph<usize, &'static str>, PlanError> {
    let mut graph = DiGraph::new();
    for index in 0..pipeline.stages.len() {
        graph.add_node(index);
    }
    for (index, declared) in pipeline.stages.iter().enumerate() {
        for port in declared.stage.ports() {
            let producer = names.get(port.reference).ok_or_else(|| PlanError::UnknownReference {
                stage: declared.name.clone(),
                reference: port.reference.to_owned(),
            })?;
            graph.add_edge(NodeIndex::new(*producer), NodeIndex::new(index), port.role);
        }
    }
    Ok(graph)
}

fn ancestors(graph: &DiGraph<usize, &'static str>, mut open: Vec<usize>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    while let Some(index) = open.pop() {
        if found.insert(index) {
            open.extend(graph.neighbors_directed(NodeIndex::new(index), Incoming).map(NodeIndex::index));
        }
    }
    found
}

/// Kahn's order with the earliest stage of the file first; stages in a cycle are left out.
fn topological(graph: &DiGraph<usize, &'static str>, wanted: &BTreeSet<usize>) -> Vec<usize> {
    let mut missing = vec![0; graph.node_count()];
    for &index in wanted {
        missing[index] = graph.edges_directed(NodeIndex::new(index), Incoming).count();
    }
    let mut ready: BinaryHeap<_> = wanted.iter().filter(|&&index| missing[index] == 0).map(|&i| Reverse(i)).collect();
    let mut order = Vec::new();
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for next in graph.neighbors_directed(NodeIndex::new(index), Outgoing).map(NodeIndex::index) {
            if wanted.contains(&next) {
                missing[next] -= 1;
                if missing[next] == 0 {
                    ready.push(Reverse(next));
                }
            }
        }
    }
    order
}

fn ordered(whole: &DiGraph<usize, &'static str>, order: &[usize], forced: BTreeSet<usize>) -> Order {
    let mut position = vec![NodeIndex::default(); whole.node_count()];
    let mut graph = DiGraph::new();
    let mut stages = Vec::new();
    for (i, &index) in order.iter().enumerate() {
        position[index] = graph.add_node(i);
        let mut edges: Vec<_> = whole.edges_directed(NodeIndex::new(index), Incoming).collect();
        edges.sort_unstable_by_key(EdgeRef::id);
        let inputs: Vec<_> = edges.iter().map(|edge| (*edge.weight(), edge.source().index())).collect();
        for &(role, producer) in &inputs {
            graph.add_edge(position[producer], position[index], role);
        }
        stages.push(Ordered { index, inputs });
    }
    Order { stages, graph, forced }
}
