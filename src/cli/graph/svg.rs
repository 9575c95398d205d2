//! The graph as a figure: a row for each rank, data walking downward.

use std::fmt::Write;

use super::Dag;

const WIDTH: usize = 150;
const HEIGHT: usize = 44;
const GAP_X: usize = 36;
const GAP_Y: usize = 48;
const MARGIN: usize = 16;

/// Draws the stages as boxes and what they take as curves. Names of stages hold nothing that XML would mind.
pub(super) fn draw(dag: &Dag) -> String {
    let rows = dag.nodes.iter().map(|node| node.rank + 1).max().unwrap_or(0);
    let mut row: Vec<Vec<usize>> = vec![Vec::new(); rows];
    for (at, node) in dag.nodes.iter().enumerate() {
        row[node.rank].push(at);
    }
    let longest = dag.nodes.iter().map(|node| node.name.len().max(node.kind.len())).max().unwrap_or(0);
    let box_width = WIDTH.max(longest * 8 + 24);
    let row_width = |boxes: usize| boxes * box_width + boxes.saturating_sub(1) * GAP_X;
    let width = row.iter().map(|boxes| row_width(boxes.len())).max().unwrap_or(0) + 2 * MARGIN;
    let height = rows * HEIGHT + rows.saturating_sub(1) * GAP_Y + 2 * MARGIN;

    let mut corner = vec![(0, 0); dag.nodes.len()];
    for (rank, boxes) in row.iter().enumerate() {
        let left = (width - row_width(boxes.len())) / 2;
        for (position, &at) in boxes.iter().enumerate() {
            corner[at] = (left + position * (box_width + GAP_X), MARGIN + rank * (HEIGHT + GAP_Y));
        }
    }
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"Helvetica, Arial, sans-serif\" text-anchor=\"middle\">\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" fill=\"#667\"/></marker></defs>\n"
    );
    for (at, node) in dag.nodes.iter().enumerate() {
        for (port, &(role, from)) in node.inputs.iter().enumerate() {
            // Ports share the upper edge of the box.
            let x = corner[at].0 + box_width * (port + 1) / (node.inputs.len() + 1);
            let (y, x0, y0) = (corner[at].1, corner[from].0 + box_width / 2, corner[from].1 + HEIGHT);
            let bend = GAP_Y / 2 + (y - y0) / 6;
            let _ = writeln!(
                out,
                "<path class=\"edge\" d=\"M{x0} {y0} C{x0} {} {x} {} {x} {y}\" fill=\"none\" stroke=\"#667\" \
                 marker-end=\"url(#tip)\"><title>{role}</title></path>",
                y0 + bend,
                y - bend.min(y)
            );
        }
    }
    for (node, &(x, y)) in dag.nodes.iter().zip(&corner) {
        let middle = x + box_width / 2;
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
    }
    out + "</svg>\n"
}
