//! The stages of a pipeline and what they take from each other, as text, Mermaid, DOT or SVG.

use std::{collections::HashMap, fmt::Write};

use crate::pipeline::{Declared, Pipeline};

mod svg;

pub use svg::Mark;

/// The stages in the order of the file, with the stages that they take from. Of replicas, and of the points of a sweep, one stands for all.
pub struct Dag {
    pub(super) nodes: Vec<Node>,
}

/// A stage, or a family of them.
pub(super) struct Node {
    pub(super) name: String,
    /// The kind, and how often it is there.
    kind: String,
    /// The stages that it stands for, as indices in `pipeline.stages`.
    pub(super) members: Vec<usize>,
    /// The role, and the stage that fills it.
    inputs: Vec<(&'static str, usize)>,
    /// The longest way from a stage without inputs.
    rank: usize,
}

impl Dag {
    /// The stages of a pipeline.
    pub fn of(pipeline: &Pipeline) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        let shown: Vec<&Declared> = pipeline.stages.iter().filter(|declared| declared.replica == 1).collect();
        let at_index = pipeline.stages.iter().enumerate().filter(|(_, declared)| declared.replica == 1);
        let points: HashMap<&str, &str> =
            shown.iter().map(|declared| (declared.name.as_str(), declared.point.as_str())).collect();
        let family = |name: &str| name.replacen(&format!("@{}", points.get(name).unwrap_or(&"")), "", 1);
        let mut copies = Vec::new();
        for (member, declared) in at_index {
            let name = if declared.point.is_empty() { declared.name.clone() } else { family(&declared.name) };
            let at = *index.entry(name.clone()).or_insert(nodes.len());
            if at == nodes.len() {
                let kind = declared.stage.kind().to_owned();
                nodes.push(Node { name, kind, members: Vec::new(), inputs: Vec::new(), rank: 0 });
                copies.push(0);
            }
            copies[at] += declared.replicas;
            nodes[at].members.push(member);
        }
        for declared in &shown {
            let of = |name: &str| index.get(name).or_else(|| index.get(&family(name))).copied();
            let Some(at) = of(&declared.name) else { continue };
            for port in declared.stage.ports() {
                let Some(from) = of(port.reference) else { continue };
                // The points of a list are one input, and so are those of all points of a stage.
                let swept =
                    points.get(port.reference).is_some_and(|point| !point.is_empty()) || !declared.point.is_empty();
                if !swept || !nodes[at].inputs.contains(&(port.role, from)) {
                    nodes[at].inputs.push((port.role, from));
                }
            }
        }
        for (node, copies) in nodes.iter_mut().zip(copies).filter(|(_, copies)| *copies > 1) {
            let _ = write!(node.kind, " ×{copies}");
        }
        let mut dag = Self { nodes };
        dag.rank();
        dag
    }

    /// Ranks the nodes; the pipeline is known to have no cycle.
    fn rank(&mut self) {
        let mut takers = vec![Vec::new(); self.nodes.len()];
        let mut waits: Vec<usize> = self.nodes.iter().map(|node| node.inputs.len()).collect();
        for (at, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|&(_, from)| takers[from].push(at));
        }
        let mut ready: Vec<usize> = (0..waits.len()).filter(|&at| waits[at] == 0).collect();
        while let Some(from) = ready.pop() {
            for &at in &takers[from] {
                self.nodes[at].rank = self.nodes[at].rank.max(self.nodes[from].rank + 1);
                waits[at] -= 1;
                if waits[at] == 0 {
                    ready.push(at);
                }
            }
        }
    }

    /// A tree for the terminal: each stage once, below the input that is made last; its other inputs behind an arrow.
    pub fn text(&self) -> String {
        let mut children = vec![Vec::new(); self.nodes.len()];
        let mut roots = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            match node.inputs.iter().map(|&(_, from)| from).max_by_key(|&from| (self.nodes[from].rank, from)) {
                Some(parent) => children[parent].push(at),
                None => roots.push(at),
            }
        }
        let mut out = String::new();
        // Nodes still to write: the node, its parent, what stands before it, and before what hangs below it.
        let mut stack: Vec<(usize, Option<usize>, String, String)> =
            roots.into_iter().rev().map(|root| (root, None, String::new(), String::new())).collect();
        while let Some((at, parent, before, below)) = stack.pop() {
            let node = &self.nodes[at];
            let mut others: Vec<&str> = Vec::new();
            for &(_, from) in node.inputs.iter().filter(|&&(_, from)| Some(from) != parent) {
                if !others.contains(&&*self.nodes[from].name) {
                    others.push(&self.nodes[from].name);
                }
            }
            let arrow = if others.is_empty() { String::new() } else { format!(" ← {}", others.join(", ")) };
            let _ = writeln!(out, "{before}{} ({}){arrow}", node.name, node.kind);
            for (position, &child) in children[at].iter().enumerate().rev() {
                let last = position + 1 == children[at].len();
                let (branch, gap) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                stack.push((child, Some(at), format!("{below}{branch}"), format!("{below}{gap}")));
            }
        }
        out
    }

    /// For Markdown.
    pub fn mermaid(&self) -> String {
        let mut out = String::from("flowchart TD\n");
        for (at, node) in self.nodes.iter().enumerate() {
            let _ = writeln!(out, "  s{at}[\"{}<br/><small>{}</small>\"]", node.name, node.kind);
        }
        for (at, node) in self.nodes.iter().enumerate() {
            for (role, from) in &node.inputs {
                let _ = writeln!(out, "  s{from} -->|{role}| s{at}");
            }
        }
        out
    }

    /// For Graphviz.
    pub fn dot(&self) -> String {
        let mut out = String::from("digraph pipeline {\n  node [shape=box, fontname=\"Helvetica\"];\n");
        for node in &self.nodes {
            let _ = writeln!(out, "  \"{0}\" [label=\"{0}\\n{1}\"];", node.name, node.kind);
        }
        for node in &self.nodes {
            for (role, from) in &node.inputs {
                let _ = writeln!(out, "  \"{}\" -> \"{}\" [label=\"{role}\"];", self.nodes[*from].name, node.name);
            }
        }
        out + "}\n"
    }

    /// A figure; `marks` are those of the nodes, in their order, or none.
    pub fn svg(&self, marks: &[Mark]) -> String {
        svg::draw(self, marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quickstart() -> Dag {
        let text = include_bytes!("../../pipelines/quickstart.yaml");
        Dag::of(&Pipeline::parse(text, std::path::Path::new("quickstart.yaml"), &[]).unwrap())
    }

    #[test]
    fn the_tree_shows_each_stage_once_below_its_last_input() {
        assert_eq!(
            quickstart().text(),
            "events (dataset)\n\
             └─ base (train_gan)\n   \
                └─ frozen (freeze)\n      \
                   └─ tail (pretrain_tail) ← events\n         \
                      └─ boosted (boost) ← frozen, events\n            \
                         └─ evaluation (evaluate) ← events, frozen\n"
        );
    }

    #[test]
    fn every_format_has_an_edge_for_every_port() {
        let dag = quickstart();
        let edges: usize = dag.nodes.iter().map(|node| node.inputs.len()).sum();
        assert_eq!(edges, 10);
        assert_eq!(dag.mermaid().matches("-->").count(), edges);
        assert_eq!(dag.dot().matches("->").count(), edges);
        assert_eq!(dag.svg(&[]).matches("<path class=\"edge\"").count(), edges);
    }
}
