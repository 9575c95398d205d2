//! Carries the points of sweeps along the DAG, and gives each its name: `base@lr=0.001,width=64`.
//!
//! A stage that takes a swept stage through a port for one artifact is swept along with it; inputs that share an axis are joined
//! on it, and other axes multiply. A list takes all points, or those that agree with the stage's own where it has the axis, too.
//! Axes count in the order of the file, and so do their values; the first one varies slowest.
//!
//! It comes after the checks: references resolve, and there is no cycle. What it gives is checked again.

use std::collections::{BTreeMap, HashMap};

use petgraph::{
    algo::toposort,
    graph::{DiGraph, NodeIndex},
};
use serde_json::Value as Json;

use super::{Coordinate, in_words};
use crate::{
    pipeline::{
        diagnostics::{Diagnostic, Place},
        draft::DraftStage,
        expand::MOST_STAGES,
    },
    stage::{Port, Stage, nearest},
};

/// Longest part of a stage's name that tells the point.
const MAX_NAME: usize = 120;

/// A reference to a stage of the file, to some of its points, and to a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline) struct Reference<'a> {
    /// The stage's name in the file.
    pub(in crate::pipeline) stage: &'a str,
    /// `lr=0.001,width=64`, or a part of it.
    point: Option<&'a str>,
    /// `@round1`, or nothing.
    round: &'a str,
}

impl<'a> Reference<'a> {
    pub(in crate::pipeline) fn of(reference: &'a str) -> Self {
        let (stage, rest) = reference.split_at(reference.find('@').unwrap_or(reference.len()));
        match rest.strip_prefix('@').filter(|rest| rest.split('@').next().is_some_and(|point| point.contains('='))) {
            None => Self { stage, point: None, round: rest },
            Some(rest) => {
                let (point, round) = rest.split_at(rest.find('@').unwrap_or(rest.len()));
                Self { stage, point: Some(point), round }
            }
        }
    }

    /// The stage, if some of its points are meant and nothing more.
    pub(in crate::pipeline) fn swept(self) -> Option<&'a str> {
        self.point.filter(|_| self.round.is_empty()).map(|_| self.stage)
    }

    /// Whether it means the stage of this name, which is at this point.
    pub(in crate::pipeline) fn selects(self, name: &str, point: &str) -> bool {
        let of = |stage: &str| stage == self.stage;
        name.strip_suffix(self.round).and_then(|name| name.strip_suffix(point)?.strip_suffix('@')).is_some_and(of)
            && self.agrees(point)
    }

    /// Whether it tells nothing else than this point.
    fn agrees(self, point: &str) -> bool {
        self.point.is_none_or(|meant| meant.split(',').all(|part| point.split(',').any(|known| known == part)))
    }
}

/// Whether there is anything to join: a sweep, or a reference to a point.
pub(in crate::pipeline) fn is_swept(drafts: &[DraftStage]) -> bool {
    let refers = |draft: &DraftStage| match &draft.stage {
        Some(stage) => stage.ports().iter().any(|port| Reference::of(port.reference).point.is_some()),
        None => false,
    };
    drafts.iter().any(|draft| !draft.point.is_empty() || refers(draft))
}

/// Axis and value by their order in the file.
type Point = BTreeMap<usize, usize>;

/// A stage at a point.
struct Row {
    point: Point,
    /// `lr=0.001,width=64`.
    label: String,
    /// The draft that it is a copy of.
    draft: usize,
    name: String,
    /// The names of what its ports for one artifact take, in their order.
    inputs: Vec<String>,
}

/// Writes out the points of all sweeps.
pub(in crate::pipeline) fn join(drafts: &[DraftStage], mistakes: &mut Vec<Diagnostic>) -> Vec<DraftStage> {
    let mut join = Join::new(drafts);
    // Cycles are refused before.
    for node in toposort(&join.graph(), None).unwrap_or_default() {
        match join.rows(node.index()) {
            Ok(rows) => join.rows[node.index()] = rows,
            Err(mistake) => {
                mistakes.push(*mistake);
                return Vec::new();
            }
        }
    }
    mistakes.extend(join.unused());
    let mut all = Vec::with_capacity(join.rows.iter().map(Vec::len).sum());
    for row in join.rows.iter().flatten() {
        match join.wired(row) {
            Ok(draft) => all.push(draft),
            Err(mistake) => mistakes.push(*mistake),
        }
    }
    all
}

struct Join<'a> {
    drafts: &'a [DraftStage],
    /// The drafts of each stage of the file, in its order.
    families: Vec<Vec<usize>>,
    /// Stages of the file by name.
    index: HashMap<&'a str, usize>,
    /// Axes by name: their place in the order, and those of their values.
    axes: HashMap<&'a str, (usize, HashMap<&'a str, usize>)>,
    /// Axes and their values in order.
    order: Vec<(&'a str, Vec<&'a str>)>,
    /// The points of each stage, as far as they are known.
    rows: Vec<Vec<Row>>,
}

impl<'a> Join<'a> {
    fn new(drafts: &'a [DraftStage]) -> Self {
        let (mut families, mut index) = (Vec::<Vec<usize>>::new(), HashMap::new());
        let mut axes: HashMap<&str, (usize, HashMap<&str, usize>)> = HashMap::new();
        let mut order: Vec<(&str, Vec<&str>)> = Vec::new();
        for (at, draft) in drafts.iter().enumerate() {
            let family = *index.entry(draft.name.as_str()).or_insert(families.len());
            if family == families.len() {
                families.push(Vec::new());
            }
            families[family].push(at);
            for Coordinate { axis, label } in &draft.point {
                let (at, values) = axes.entry(axis).or_insert_with(|| {
                    order.push((axis, Vec::new()));
                    (order.len() - 1, HashMap::new())
                });
                let labels = &mut order[*at].1;
                values.entry(label).or_insert_with(|| {
                    labels.push(label);
                    labels.len() - 1
                });
            }
        }
        let rows = families.iter().map(|_| Vec::new()).collect();
        Self { drafts, families, index, axes, order, rows }
    }

    fn graph(&self) -> DiGraph<(), ()> {
        let mut graph = DiGraph::new();
        self.families.iter().for_each(|_| {
            graph.add_node(());
        });
        for (at, draft) in self.drafts.iter().enumerate() {
            for port in draft.stage.iter().flat_map(Stage::ports) {
                if let (Some(&from), Some(&to)) =
                    (self.index.get(Reference::of(port.reference).stage), self.index.get(&*self.drafts[at].name))
                {
                    graph.update_edge(NodeIndex::new(from), NodeIndex::new(to), ());
                }
            }
        }
        graph
    }

    /// The points that a port may take.
    fn offered(&self, draft: &DraftStage, port: &Port<'_>) -> Result<Vec<&Row>, Box<Diagnostic>> {
        let reference = Reference::of(port.reference);
        let rows = self.index.get(reference.stage).map_or(&[][..], |&family| &self.rows[family]);
        let found: Vec<&Row> = rows.iter().filter(|row| reference.agrees(&row.label)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let (place, origin) = draft.locate(&port.field);
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let message = format!("`{}` has no point `{}`", reference.stage, reference.point.unwrap_or_default());
        let diagnostic = Diagnostic::new(message, place).with_origin(origin);
        Err(Box::new(match (nearest(port.reference, &names), names.first()) {
            (Some(near), _) if near.contains('=') => diagnostic.help(format!("did you mean `{near}`?")),
            (_, Some(first)) if first.contains('=') => diagnostic.help(format!("its first point is `{first}`")),
            _ => diagnostic.help("it is not swept: refer to it by its name alone"),
        }))
    }

    /// The points of a stage of the file, once those of all that it takes are known.
    fn rows(&self, family: usize) -> Result<Vec<Row>, Box<Diagnostic>> {
        let mut rows: Vec<Row> = Vec::new();
        let before: usize = self.rows.iter().map(Vec::len).sum();
        for &at in &self.families[family] {
            let draft = &self.drafts[at];
            let own = draft.point.iter().filter_map(|Coordinate { axis, label }| {
                let (axis, values) = self.axes.get(axis.as_str())?;
                Some((*axis, *values.get(label.as_str())?))
            });
            let mut points: Vec<(Point, Vec<String>)> = vec![(own.collect(), Vec::new())];
            for port in draft.stage.iter().flat_map(Stage::ports).filter(|port| list_of(&port.field).is_none()) {
                let offered = self.offered(draft, &port)?;
                let round = Reference::of(port.reference).round;
                let mut joined = Vec::new();
                for (point, inputs) in &points {
                    for row in offered.iter().filter(|row| fits(&row.point, point)) {
                        if before + rows.len() + joined.len() >= MOST_STAGES {
                            let message = format!("the sweeps come to more than {MOST_STAGES} stages");
                            let help = "take values out, or share axes between stages that belong together";
                            return Err(Box::new(Diagnostic::new(message, draft.place).help(help)));
                        }
                        let point = point.iter().chain(&row.point).map(|(&axis, &value)| (axis, value)).collect();
                        let input = format!("{}{round}", row.name);
                        joined.push((point, inputs.iter().cloned().chain([input]).collect()));
                    }
                }
                if joined.is_empty() {
                    return Err(Box::new(self.no_match(draft, &port, &points[0].0)));
                }
                points = joined;
            }
            for (point, inputs) in points {
                let label = in_words(&self.labels(&point));
                let name = if label.is_empty() { draft.name.clone() } else { format!("{}@{label}", draft.name) };
                if label.len() > MAX_NAME {
                    let message = format!("the point `{name}` has too long a name");
                    let help = format!("shorten its axes or values: all together may have {MAX_NAME} characters");
                    return Err(Box::new(Diagnostic::new(message, draft.place).help(help)));
                }
                rows.push(Row { point, label, draft: at, name, inputs });
            }
        }
        rows.sort_by(|one, other| one.point.cmp(&other.point));
        Ok(rows)
    }

    fn labels(&self, point: &Point) -> Vec<Coordinate> {
        let label = |(&axis, &value): (&usize, &usize)| {
            let (name, labels) = self.order.get(axis)?;
            Some(Coordinate { axis: (*name).to_owned(), label: (*labels.get(value)?).to_owned() })
        };
        point.iter().filter_map(label).collect()
    }

    /// No point of an input goes with a point of the stage.
    fn no_match(&self, draft: &DraftStage, port: &Port<'_>, point: &Point) -> Diagnostic {
        let (place, origin) = draft.locate(&port.field);
        let at = in_words(&self.labels(point));
        let reference = Reference::of(port.reference).stage;
        let message = format!("`{}` has the point `{}`, and `{reference}` has none that agrees", draft.name, at);
        let family = self.index.get(reference).map_or(&[][..], |&family| &self.rows[family]);
        let names: Vec<&str> = family.iter().take(6).map(|row| row.name.as_str()).collect();
        Diagnostic::new(message, place)
            .with_origin(origin)
            .help(format!("give the axis the same values in both; there are `{}`", names.join("`, `")))
    }

    /// The stage of a row, with references to points in the place of those to stages.
    fn wired(&self, row: &Row) -> Result<DraftStage, Box<Diagnostic>> {
        let draft = &self.drafts[row.draft];
        let mut wired = DraftStage { name: row.name.clone(), point: self.labels(&row.point), ..draft.clone() };
        let Some(stage) = &draft.stage else { return Ok(wired) };
        let mut fields = BTreeMap::<String, Json>::new();
        let mut inputs = row.inputs.iter();
        for port in stage.ports() {
            let Some(list) = list_of(&port.field) else {
                fields.extend(inputs.next().map(|input| (port.field.clone(), input.as_str().into())));
                continue;
            };
            let offered = self.offered(draft, &port)?;
            let round = Reference::of(port.reference).round;
            let names = offered.iter().filter(|offer| fits(&offer.point, &row.point));
            let names: Vec<Json> = names.map(|offer| format!("{}{round}", offer.name).into()).collect();
            if names.is_empty() {
                return Err(Box::new(self.no_match(draft, &port, &row.point)));
            }
            if let Json::Array(all) = fields.entry(list.to_owned()).or_insert_with(|| Json::Array(Vec::new())) {
                all.extend(names);
            }
        }
        let refuse = |error: serde_json::Error| {
            Box::new(Diagnostic::new(format!("the stage `{}` cannot be swept: {error}", draft.name), draft.place))
        };
        wired.stage = Some(stage.with_fields(fields).map_err(refuse)?);
        Ok(wired)
    }

    /// Axes that neither a field nor an input of their stage has.
    fn unused(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for family in &self.families {
            let Some(&first) = family.first() else { continue };
            for (axis, place) in &self.drafts[first].unused {
                let swept = |port: &Port<'_>| {
                    let rows = self.index.get(Reference::of(port.reference).stage).map(|&family| &self.rows[family]);
                    let at = self.axes.get(axis.as_str()).map_or(usize::MAX, |(at, _)| *at);
                    rows.into_iter().flatten().any(|row| row.point.contains_key(&at))
                };
                let ports = family.iter().filter_map(|&at| self.drafts[at].stage.as_ref()).flat_map(Stage::ports);
                if !ports.into_iter().any(|port| swept(&port)) {
                    found.push(never_used(axis, *place));
                }
            }
        }
        found
    }
}

fn never_used(axis: &str, place: Place) -> Diagnostic {
    Diagnostic::new(format!("the axis `{axis}` is never used"), place)
        .help(format!("write `${{matrix.{axis}}}` where its value goes, or take a stage that has the axis"))
}

/// Whether two points agree in all axes that they share.
fn fits(one: &Point, other: &Point) -> bool {
    one.iter().all(|(axis, value)| other.get(axis).is_none_or(|known| known == value))
}

/// The list that a field stands in: `models` of `models.1`.
fn list_of(field: &str) -> Option<&str> {
    let (list, index) = field.rsplit_once('.')?;
    index.bytes().all(|digit| digit.is_ascii_digit()).then_some(list)
}
