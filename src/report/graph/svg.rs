//! The graph as a figure: a row for each rank, data walking downward. What skips a row goes around the boxes, in lanes beside
//! them, one for each stage that it comes from.

use std::fmt::Write;

use super::Dag;

const WIDTH: usize = 150;
const HEIGHT: usize = 44;
const GAP_X: usize = 36;
const GAP_Y: usize = 56;
const MARGIN: usize = 16;
/// Between the boxes and the first lane, and between lanes.
const LANE: usize = 18;
/// Lanes that turn at heights of their own between two rows.
const TURNS: usize = 4;
const STYLE: &str = "fill=\"none\" stroke=\"#667\" marker-end=\"url(#tip)\"";

/// What a page adds to a box.
#[derive(Clone, Debug, Default)]
pub struct Mark {
    /// A class for style sheets.
    pub class: &'static str,
    /// Where a click leads, as an `id` of the page.
    pub anchor: String,
    /// What the pointer shows.
    pub title: String,
}

/// Where everything stands.
struct Layout {
    /// The upper left corner of each box.
    corner: Vec<(usize, usize)>,
    box_width: usize,
    /// The lane of each stage whose result skips a row.
    lane: Vec<Option<usize>>,
    /// The right edge of the boxes.
    right: usize,
    size: (usize, usize),
}

impl Layout {
    fn of(dag: &Dag) -> Self {
        let rows = dag.nodes.iter().map(|node| node.rank + 1).max().unwrap_or(0);
        let mut row: Vec<Vec<usize>> = vec![Vec::new(); rows];
        for (at, node) in dag.nodes.iter().enumerate() {
            row[node.rank].push(at);
        }
        let longest = dag.nodes.iter().map(|node| node.name.len().max(node.kind.chars().count())).max().unwrap_or(0);
        let box_width = WIDTH.max(longest * 8 + 24);
        let row_width = |boxes: usize| boxes * box_width + boxes.saturating_sub(1) * GAP_X;
        let right = MARGIN + row.iter().map(|boxes| row_width(boxes.len())).max().unwrap_or(0);

        let mut corner = vec![(0, 0); dag.nodes.len()];
        for (rank, boxes) in row.iter().enumerate() {
            let left = (MARGIN + right - row_width(boxes.len())) / 2;
            for (position, &at) in boxes.iter().enumerate() {
                corner[at] = (left + position * (box_width + GAP_X), MARGIN + rank * (HEIGHT + GAP_Y));
            }
        }
        let lane = lanes(dag);
        let lanes = lane.iter().flatten().max().map_or(0, |lane| lane + 1);
        let height = rows * HEIGHT + rows.saturating_sub(1) * GAP_Y + 2 * MARGIN;
        Self { corner, box_width, lane, right, size: (right + lanes * LANE + MARGIN, height) }
    }

    /// The curve from a stage to the upper edge of another one, at `x`.
    fn edge(&self, from: usize, at: usize, x: usize, long: bool) -> String {
        let (x0, y0) = (self.corner[from].0 + self.box_width / 2, self.corner[from].1 + HEIGHT);
        let y = self.corner[at].1;
        match self.lane[from] {
            Some(lane) if long => {
                let beside = self.right + LANE * (lane + 1);
                let turn = 5 * (lane % TURNS);
                rounded(&[
                    (x0, y0),
                    (x0, y0 + 10 + turn),
                    (beside, y0 + 10 + turn),
                    (beside, y - 14 - turn),
                    (x, y - 14 - turn),
                    (x, y),
                ])
            }
            _ => format!("M{x0} {y0} C{x0} {} {x} {} {x} {y}", y0 + GAP_Y / 2, y - GAP_Y / 2),
        }
    }
}

/// Whether an edge passes by a row.
fn is_long(dag: &Dag, from: usize, at: usize) -> bool {
    dag.nodes[at].rank > dag.nodes[from].rank + 1
}

/// Gives each stage whose result skips a row the first lane that is free as far down as it needs it.
fn lanes(dag: &Dag) -> Vec<Option<usize>> {
    let mut last = vec![None; dag.nodes.len()];
    for (at, node) in dag.nodes.iter().enumerate() {
        for &(_, from) in node.inputs.iter().filter(|&&(_, from)| is_long(dag, from, at)) {
            last[from] = last[from].max(Some(node.rank));
        }
    }
    let mut order: Vec<usize> = (0..last.len()).filter(|&from| last[from].is_some()).collect();
    order.sort_by_key(|&from| dag.nodes[from].rank);
    let mut taken: Vec<Option<usize>> = Vec::new();
    let mut lane = vec![None; last.len()];
    for from in order {
        let free = taken.iter().position(|&until| until <= Some(dag.nodes[from].rank)).unwrap_or(taken.len());
        taken.resize(taken.len().max(free + 1), None);
        taken[free] = last[from];
        lane[from] = Some(free);
    }
    lane
}

/// Straight lines with rounded corners, along the axes.
fn rounded(points: &[(usize, usize)]) -> String {
    let towards = |from: usize, to: usize| {
        let step = from.abs_diff(to).min(14) / 2;
        if to > from { from + step } else { from - step }
    };
    let mut path = format!("M{} {}", points[0].0, points[0].1);
    for corner in points.windows(3) {
        let [before, (x, y), after] = [corner[0], corner[1], corner[2]];
        let (start, end) = ((towards(x, before.0), towards(y, before.1)), (towards(x, after.0), towards(y, after.1)));
        let _ = write!(path, " L{} {} Q{x} {y} {} {}", start.0, start.1, end.0, end.1);
    }
    let (x, y) = points[points.len() - 1];
    path + &format!(" L{x} {y}")
}

/// Draws the stages as boxes and what they take as curves. Names of stages hold nothing that XML would mind.
pub(super) fn draw(dag: &Dag, marks: &[Mark]) -> String {
    let layout = Layout::of(dag);
    let (width, height) = layout.size;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"Helvetica, Arial, sans-serif\" text-anchor=\"middle\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" fill=\"#667\"/></marker></defs>\n"
    );
    for (at, node) in dag.nodes.iter().enumerate() {
        // Ports share the upper edge of the box, from left to right as their curves arrive: those from lanes last.
        let mut ports = node.inputs.clone();
        ports.sort_by_key(|&(_, from)| (is_long(dag, from, at), layout.lane[from], layout.corner[from].0));
        for (port, &(role, from)) in ports.iter().enumerate() {
            let x = layout.corner[at].0 + layout.box_width * (port + 1) / (ports.len() + 1);
            let path = layout.edge(from, at, x, is_long(dag, from, at));
            let _ = writeln!(out, "<path class=\"edge\" d=\"{path}\" {STYLE}><title>{role}</title></path>");
        }
    }
    for (at, (node, &(x, y))) in dag.nodes.iter().zip(&layout.corner).enumerate() {
        let (middle, box_width) = (x + layout.box_width / 2, layout.box_width);
        if let Some(mark) = marks.get(at) {
            let Mark { class, anchor, title } = mark;
            let _ = writeln!(out, "<a href=\"#{anchor}\" class=\"{class}\"><title>{title}</title>");
        }
        let _ = write!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{box_width}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"#f4f6fb\" \
             stroke=\"#334\"/>\n<text x=\"{middle}\" y=\"{}\" font-size=\"14\" fill=\"#112\">{}</text>\n\
             <text x=\"{middle}\" y=\"{}\" font-size=\"11\" fill=\"#667\">{}</text>\n",
            y + 19,
            node.name,
            y + 35,
            node.kind
        );
        if at < marks.len() {
            out += "</a>\n";
        }
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::{super::Node, *};

    fn dag(nodes: &[(usize, &[usize])]) -> Dag {
        let node = |(at, (rank, inputs)): (usize, &(usize, &[usize]))| Node {
            name: format!("s{at}"),
            kind: "freeze".to_owned(),
            members: vec![at],
            inputs: inputs.iter().map(|&from| ("data", from)).collect(),
            rank: *rank,
        };
        Dag { nodes: nodes.iter().enumerate().map(node).collect() }
    }

    #[test]
    fn only_stages_whose_result_skips_a_row_have_a_lane() {
        // 0 → 1 → 2 → 3, 0 → 2 and 1 → 3: two lanes side by side.
        assert_eq!(lanes(&dag(&[(0, &[]), (1, &[0]), (2, &[1, 0]), (3, &[2, 1])])), [Some(0), Some(1), None, None]);
    }

    #[test]
    fn a_lane_that_has_ended_is_free_for_the_next() {
        let chain: [(usize, &[usize]); 5] = [(0, &[]), (1, &[0]), (2, &[1, 0]), (3, &[2]), (4, &[3, 2])];
        assert_eq!(lanes(&dag(&chain)), [Some(0), None, Some(0), None, None]);
    }

    #[test]
    fn corners_are_cut_within_their_lines() {
        assert_eq!(rounded(&[(0, 0), (0, 20), (4, 20)]), "M0 0 L0 13 Q0 20 2 20 L4 20");
    }
}
