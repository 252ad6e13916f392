//! The model graph as a drawing: nodes in columns by their distance from the images, edges as curves.

use maud::{Markup, html};

use super::GraphNode;

const LINE: f64 = 16.0;
const PADDING: f64 = 10.0;
const GAP: (f64, f64) = (72.0, 18.0);
/// Width of a character at the size of the text, roughly.
const CHARACTER: f64 = 7.4;
/// Room for an edge that passes below a node.
const LANE: f64 = 12.0;

pub(super) fn graph(nodes: &[GraphNode]) -> Markup {
    let (boxes, edges) = lay_out(nodes);
    let right = boxes.iter().map(|node| node.x + node.width).fold(0.0, f64::max);
    let lanes = edges.iter().filter_map(|edge| edge.lane);
    let bottom = boxes.iter().map(|node| node.y + node.height).chain(lanes).fold(0.0, f64::max);
    let names: Vec<&str> = boxes.iter().map(|node| node.name).collect();
    let label = format!("Model graph: {}", names.join(", "));
    html! {
        @if !boxes.is_empty() {
            div.wide {
                svg.graph width=(right + 2.0) viewBox={ "-1 -1 " (right + 2.0) " " (bottom + 2.0) }
                    role="img" aria-label=(label) {
                    @for edge in &edges { (draw_edge(edge, &boxes)) }
                    @for node in &boxes { (draw_box(node)) }
                }
            }
        }
    }
}

struct Box<'a> {
    name: &'a str,
    kind: &'a str,
    outputs: &'a [String],
    rank: usize,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

struct Edge<'a> {
    from: usize,
    to: usize,
    /// The levels taken, if not all.
    levels: Vec<&'a str>,
    /// Where it enters, from the top of the node in `to`.
    port: f64,
    /// The height at which it passes below the nodes in between, if there are any.
    lane: Option<f64>,
}

fn lay_out(nodes: &[GraphNode]) -> (Vec<Box<'_>>, Vec<Edge<'_>>) {
    let mut boxes: Vec<Box<'_>> =
        nodes.iter().map(|node| measured(&node.name, &node.kind, &node.outputs)).collect();
    let mut edges: Vec<Edge<'_>> = Vec::new();
    for (to, node) in nodes.iter().enumerate() {
        for input in &node.inputs {
            let (name, level) =
                input.split_once('.').map_or((&**input, None), |(name, level)| (name, Some(level)));
            let from = boxes.iter().position(|known| known.name == name).unwrap_or_else(|| {
                boxes.push(measured(name, "", &[]));
                boxes.len() - 1
            });
            if let Some(edge) = edges.iter_mut().find(|edge| (edge.from, edge.to) == (from, to)) {
                edge.levels.extend(level);
            } else {
                edges.push(Edge { from, to, levels: level.into_iter().collect(), port: 0.0, lane: None });
            }
        }
    }
    rank(&mut boxes, &edges);
    place(&mut boxes);
    route(&boxes, &mut edges);
    (boxes, edges)
}

fn measured<'a>(name: &'a str, kind: &'a str, outputs: &'a [String]) -> Box<'a> {
    let texts = [name, kind].into_iter().chain(outputs.iter().map(String::as_str));
    let longest = texts.map(|text| text.chars().count()).max().unwrap_or(0);
    let lines = 1 + usize::from(!kind.is_empty()) + outputs.len();
    Box {
        name,
        kind,
        outputs,
        rank: 0,
        x: 0.0,
        y: 0.0,
        width: longest as f64 * CHARACTER + 2.0 * PADDING,
        height: lines as f64 * LINE + 1.5 * PADDING,
    }
}

/// The longest way from a source. A checked graph has no cycle; the bound is for one that has.
fn rank(boxes: &mut [Box<'_>], edges: &[Edge<'_>]) {
    for _ in 0..boxes.len() {
        for edge in edges {
            let after = boxes[edge.from].rank + 1;
            if boxes[edge.to].rank < after && after < boxes.len() {
                boxes[edge.to].rank = after;
            }
        }
    }
}

/// Columns by rank, each centred on the highest one.
fn place(boxes: &mut [Box<'_>]) {
    let ranks = boxes.iter().map(|node| node.rank + 1).max().unwrap_or(0);
    let height_of = |boxes: &[Box<'_>], rank: usize| {
        let heights = boxes.iter().filter(|node| node.rank == rank).map(|node| node.height + GAP.1);
        heights.sum::<f64>() - GAP.1
    };
    let tallest = (0..ranks).map(|rank| height_of(boxes, rank)).fold(0.0, f64::max);
    let mut x = 0.0;
    for rank in 0..ranks {
        let mut y = (tallest - height_of(boxes, rank)) / 2.0;
        let column = || boxes.iter().filter(|node| node.rank == rank);
        let width = column().map(|node| node.width).fold(0.0, f64::max);
        if column().next().is_none() {
            continue;
        }
        for node in boxes.iter_mut().filter(|node| node.rank == rank) {
            (node.x, node.y, node.width) = (x, y, width);
            y += node.height + GAP.1;
        }
        x += width + GAP.0;
    }
}

/// Spreads the edges that enter a node over its height, those that come from below at the bottom.
fn route(boxes: &[Box<'_>], edges: &mut [Edge<'_>]) {
    for edge in edges.iter_mut() {
        let between =
            boxes.iter().filter(|node| (boxes[edge.from].rank + 1..boxes[edge.to].rank).contains(&node.rank));
        edge.lane = between.map(|node| node.y + node.height + LANE).reduce(f64::max);
    }
    for (to, node) in boxes.iter().enumerate() {
        let mut entering: Vec<_> = edges.iter_mut().filter(|edge| edge.to == to).collect();
        let height = |edge: &Edge<'_>| edge.lane.unwrap_or(boxes[edge.from].y - node.height);
        entering
            .sort_by(|a, b| a.lane.is_some().cmp(&b.lane.is_some()).then(height(a).total_cmp(&height(b))));
        let count = entering.len() as f64;
        for (i, edge) in entering.into_iter().enumerate() {
            edge.port = node.height * (i as f64 + 1.0) / (count + 1.0);
        }
    }
}

fn draw_edge(edge: &Edge<'_>, boxes: &[Box<'_>]) -> Markup {
    let (from, to) = (&boxes[edge.from], &boxes[edge.to]);
    let (x0, y0) = (from.x + from.width, from.y + from.height / 2.0);
    let (x1, y1) = (to.x, to.y + edge.port);
    let bend = GAP.0 / 2.0;
    let (out, back, end) = (x0 + bend, x1 - bend, x1 - 6.0);
    let path = match edge.lane {
        None => format!("M{x0:.1} {y0:.1}C{out:.1} {y0:.1} {back:.1} {y1:.1} {end:.1} {y1:.1}"),
        Some(lane) => format!(
            "M{x0:.1} {y0:.1}C{out:.1} {y0:.1} {out:.1} {lane:.1} {:.1} {lane:.1}\
             H{:.1}C{back:.1} {lane:.1} {back:.1} {y1:.1} {end:.1} {y1:.1}",
            x0 + GAP.0,
            x1 - GAP.0,
        ),
    };
    let head = format!("M{:.1} {:.1}L{x1:.1} {y1:.1}L{:.1} {:.1}Z", x1 - 7.0, y1 - 3.5, x1 - 7.0, y1 + 3.5);
    html! {
        path.edge d=(path) {}
        path.head d=(head) {}
        @if !edge.levels.is_empty() {
            text.level x=(x1 - 12.0) y=(y1 - 6.0) text-anchor="end" { (edge.levels.join(", ")) }
        }
    }
}

fn draw_box(node: &Box<'_>) -> Markup {
    let x = node.x + PADDING;
    let line = |number: usize| format!("{:.1}", node.y + PADDING / 2.0 + LINE * number as f64);
    let outputs_from = if node.kind.is_empty() { 2 } else { 3 };
    html! {
        rect x=(node.x) y=(node.y) width=(node.width) height=(node.height) rx="5" {}
        text.name x=(x) y=(line(1)) { (node.name) }
        @if !node.kind.is_empty() { text x=(x) y=(line(2)) { (node.kind) } }
        @for (i, output) in node.outputs.iter().enumerate() {
            text.shape x=(x) y=(line(outputs_from + i)) { (output) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, inputs: &[&str]) -> GraphNode {
        GraphNode {
            name: name.to_owned(),
            kind: "Kind".to_owned(),
            inputs: inputs.iter().map(ToString::to_string).collect(),
            outputs: vec!["s1 [64, 256]".to_owned()],
            parameters: 1,
            gmacs: 0.1,
        }
    }

    #[test]
    fn a_node_stands_right_of_what_it_takes() {
        let nodes = [
            node("head", &["neck", "backbone.s1", "backbone.s2"]),
            node("neck", &["backbone"]),
            node("backbone", &["images"]),
        ];
        let (boxes, edges) = lay_out(&nodes);
        assert_eq!(boxes.len(), 4);
        for edge in &edges {
            assert!(boxes[edge.from].x + boxes[edge.from].width < boxes[edge.to].x);
        }
        assert_eq!(edges[1].levels, ["s1", "s2"]);
    }

    #[test]
    fn an_edge_passes_below_the_nodes_in_between() {
        let nodes = [node("backbone", &[]), node("neck", &["backbone"]), node("head", &["backbone", "neck"])];
        let (boxes, edges) = lay_out(&nodes);
        let lanes: Vec<_> = edges.iter().map(|edge| edge.lane.is_some()).collect();
        assert_eq!(lanes, [false, true, false]);
        assert!(edges[1].lane.is_some_and(|lane| lane > boxes[1].y + boxes[1].height));
        assert!(edges[2].port < edges[1].port);
    }

    #[test]
    fn nodes_of_one_column_do_not_overlap() {
        let nodes = [node("backbone", &[]), node("a", &["backbone"]), node("b", &["backbone"])];
        let (boxes, _) = lay_out(&nodes);
        assert!(boxes[1].y + boxes[1].height < boxes[2].y);
    }

    #[test]
    fn a_cycle_is_drawn_as_well_as_it_can_be() {
        assert!(graph(&[node("a", &["b"]), node("b", &["a"])]).into_string().contains("<svg"));
        assert!(graph(&[]).into_string().is_empty());
    }
}
