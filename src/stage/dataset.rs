//! `dataset`: reads events from a file or a known density, splits them, and fits their coordinates.

use std::{
    collections::BTreeMap,
    fmt,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IntoDeserializer, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use super::{ArtifactKind, Context, Metrics, Port, Problem, Source, StageError, StageKind};
use crate::{
    data::{
        Coordinates, CoordinatesChoice, DataError, Dataset as SplitEvents, Description, Events, Observables, Scratch,
        Table, Tail, Truth, coordinates::NamedCoordinates, dijet, read, read::Merged, split, synthetic,
    },
    value::{EventCount, Finite, Fraction, OpenProbability, Positive, Width},
};

mod check;

pub(crate) use check::unreadable;

/// Events are numbered by 32 bits.
const MAX_EVENTS: usize = u32::MAX as usize;

/// Reads events from a file, or draws them from a known density; splits them into training, validation and test events; and fits
/// the coordinates in which a generator sees them.
///
/// ```yaml
/// events:
///   kind: dataset
///   file: events.csv
///   features: [pt, eta, mass]
///   coordinates: { pt: log, mass: log }
///   tail: { observable: pt, quantile: 0.95 }
///   split: { validation: 0.1, test: 0.2 }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Events in a parquet, CSV (with a header) or npy file, or a link to one; this or `synthetic`.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Events of a known density; this or `file`.
    #[serde(default)]
    pub synthetic: Option<Synthetic>,
    /// A separate file of test events; then nothing of `file` is kept for testing.
    #[serde(default)]
    pub test_file: Option<PathBuf>,
    /// Feature columns in order. Absent: all numeric columns of the file, in its order, less an index that pandas has written; what is left out is
    /// told. Truth values are 0 and 1.
    #[serde(default)]
    pub features: Option<Vec<String>>,
    /// Keeps events inside all of these windows.
    #[serde(default)]
    pub filter: Vec<Window>,
    /// Keeps at most this many events, the first ones. Absent: all.
    #[serde(default)]
    pub limit: Option<EventCount>,
    /// How columns are encoded for a generator: a ready set, or a map for each column.
    #[serde(default = "standard")]
    pub coordinates: CoordinatesChoice,
    /// Derived observables, made of the features.
    #[serde(default)]
    pub observables: Observables,
    /// Sets of columns whose signs may be flipped together without changing the density, or `dijet`.
    #[serde(default)]
    pub symmetries: Symmetries,
    /// Which events are the tail. Needed by all that boosts.
    #[serde(default)]
    pub tail: Option<TailChoice>,
    /// Shares of the events that are kept for validation and for testing.
    #[serde(default)]
    pub split: Split,
}

fn standard() -> CoordinatesChoice {
    CoordinatesChoice::Named(NamedCoordinates::Standard)
}

/// Events of a known density, with the columns x0, x1, …; x0 carries the tail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    /// The density of x0.
    pub density: Density,
    /// Degrees of freedom of `student_t`.
    #[serde(default)]
    pub degrees: Option<Positive>,
    /// The tail index α of `pareto`: P(x0 > x) = x^(−α).
    #[serde(default)]
    pub index: Option<Positive>,
    /// The deviation of ln x0 of `log_normal`; 1 if absent.
    #[serde(default)]
    pub sigma: Option<Positive>,
    /// Columns.
    #[serde(default = "two")]
    pub dimensions: Width,
    /// Events to draw.
    pub events: EventCount,
}

fn two() -> Width {
    Width::try_from(2).unwrap_or_else(|_| unreachable!())
}

/// Densities of x0 by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Density {
    /// Standard normal.
    Normal,
    /// Student's t with `degrees`.
    StudentT,
    /// Pareto above 1 with `index`.
    Pareto,
    /// Log-normal with `sigma`.
    LogNormal,
}

impl Synthetic {
    /// The density of x0; `None` if its parameter is missing.
    pub fn truth(&self) -> Option<Truth> {
        Some(match self.density {
            Density::Normal => Truth::Normal,
            Density::StudentT => Truth::StudentT { degrees: self.degrees?.get() },
            Density::Pareto => Truth::Pareto { index: self.index?.get() },
            Density::LogNormal => Truth::LogNormal { sigma: self.sigma.map_or(1.0, Positive::get) },
        })
    }
}

/// Keeps events whose observable lies in [above, below).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// A feature or derived observable.
    pub observable: String,
    /// The lower edge, in the unit of the observable; it is inside. Absent: no edge.
    #[serde(default)]
    pub above: Option<Finite>,
    /// The upper edge, in the unit of the observable; it is outside. Absent: no edge.
    #[serde(default)]
    pub below: Option<Finite>,
}

/// Exact symmetries as chosen.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Symmetries {
    /// A ready set: `dijet` (η → −η of both jets; the sign of φ₂ is drawn on decoding) or `none`.
    Named(NamedSymmetries),
    /// Sets of columns.
    Flips(Vec<Vec<String>>),
}

/// Ready sets of symmetries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamedSymmetries {
    /// No symmetry.
    None,
    /// Those of a jet pair.
    Dijet,
}

/// Written out because serde's `untagged` would lose positions and the names that are expected.
impl<'de> Deserialize<'de> for Symmetries {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Choice;

        impl<'de> Visitor<'de> for Choice {
            type Value = Symmetries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none`, `dijet`, or sets of columns: [[NAME, NAME], [NAME]]")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                NamedSymmetries::deserialize(name.into_deserializer()).map(Symmetries::Named)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, sets: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(sets)).map(Symmetries::Flips)
            }
        }

        from.deserialize_any(Choice)
    }
}

impl Default for Symmetries {
    fn default() -> Self {
        Self::Named(NamedSymmetries::None)
    }
}

/// The tail as chosen: above a value, or above a quantile of the training events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TailChoice {
    /// A feature or derived observable.
    pub observable: String,
    /// The cut, in the observable's unit; this or `quantile`.
    #[serde(default)]
    pub above: Option<Finite>,
    /// The share of training events below the cut; this or `above`.
    #[serde(default)]
    pub quantile: Option<OpenProbability>,
}

/// Shares of the file's events, drawn by the stage's seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Kept for choosing by: weights of mixtures, when to stop.
    #[serde(default = "tenth")]
    pub validation: Fraction,
    /// Kept for reporting on; 0 with a `test_file`. Absent: 0.2, or 0 with a `test_file`.
    #[serde(default)]
    pub test: Option<Fraction>,
}

fn tenth() -> Fraction {
    Fraction::try_from(0.1).unwrap_or_else(|_| unreachable!())
}

impl Default for Split {
    fn default() -> Self {
        Self { validation: tenth(), test: None }
    }
}

impl Dataset {
    /// The features as far as they are known before reading: declared, or those of synthetic events.
    pub fn feature_names(&self) -> Option<Vec<String>> {
        match (&self.features, &self.synthetic) {
            (Some(features), _) => Some(features.clone()),
            (None, Some(synthetic)) => Some(synthetic::names(synthetic.dimensions.get())),
            (None, None) => None,
        }
    }

    /// All observables, features first, as far as they are known before reading.
    pub fn observable_names(&self) -> Option<Vec<String>> {
        self.feature_names().map(|features| self.observables_of(&features))
    }

    fn observables_of(&self, features: &[String]) -> Vec<String> {
        features.iter().cloned().chain(self.observables.names().iter().map(|&name| name.to_owned())).collect()
    }

    /// Sets of columns that the symmetries flip together.
    fn flips(&self) -> Vec<Vec<String>> {
        match &self.symmetries {
            Symmetries::Named(NamedSymmetries::None) => Vec::new(),
            Symmetries::Named(NamedSymmetries::Dijet) => {
                vec![vec!["ljet1_eta".into(), "ljet2_eta".into()], vec!["ljet2_phi".into()]]
            }
            Symmetries::Flips(sets) => sets.clone(),
        }
    }

    /// The symmetries as sets of encoded coordinates. Dijet coordinates know their own; |φ₂| has no sign to flip.
    fn flipped_coordinates(&self, features: &[String]) -> Vec<Vec<usize>> {
        let dijet = self.coordinates == CoordinatesChoice::Named(NamedCoordinates::Dijet);
        match &self.symmetries {
            Symmetries::Named(NamedSymmetries::Dijet) if dijet => vec![dijet::FLIPPED.to_vec()],
            _ => {
                let place = |name: &String| features.iter().position(|feature| feature == name);
                self.flips().iter().map(|set| set.iter().filter_map(place).collect()).collect()
            }
        }
    }

    /// Reads these columns of a file and keeps the events inside the windows, at most `limit` of them, that the coordinates can express. Also returns
    /// the columns of which single precision merges values.
    fn read(
        &self,
        path: &Path,
        columns: Option<&[String]>,
        limit: Option<usize>,
        scratch: &Scratch,
    ) -> Result<(Events, Vec<Merged>), DataError> {
        let of_file = |message: String| DataError::Format { path: path.to_owned(), message };
        let mut rows = scratch.collector();
        let (mut names, mut seen, mut left) = (Vec::new(), 0, limit.unwrap_or(MAX_EVENTS + 1));
        let merged = read::stream(path, columns, &mut |piece| {
            let mut kept = self.kept(&piece)?;
            kept.truncate(left);
            left -= kept.len();
            if left == 0 && limit.is_none() {
                return Err(of_file(format!("more than {MAX_EVENTS} events; choose fewer with `limit` or `filter`")));
            }
            let events = if kept.len() == piece.len() { &piece } else { &piece.rows(&kept) };
            for row in &mut kept {
                *row += seen;
            }
            seen += piece.len();
            self.coordinates.check(events, Some(&kept)).map_err(|error| match error {
                DataError::Unusable(message) => of_file(message),
                other => other,
            })?;
            rows.extend(&events.to_rows())?;
            names = piece.names().to_vec();
            Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let events = Events::new(names, rows.finish()?)?;
        if events.is_empty() {
            return Err(of_file("no event lies inside all windows of `filter`; widen them".into()));
        }
        Ok((events, merged))
    }

    /// The events inside all windows.
    fn kept(&self, table: &Table) -> Result<Vec<usize>, DataError> {
        let mut kept: Vec<usize> = (0..table.len()).collect();
        for window in &self.filter {
            let values = self.observables.values(table, &window.observable)?;
            let above = window.above.map_or(f64::NEG_INFINITY, Finite::get);
            let below = window.below.map_or(f64::INFINITY, Finite::get);
            kept.retain(|&event| values[event] >= above && values[event] < below);
        }
        Ok(kept)
    }

    /// All events that are split, and the true density of their first feature where it is known.
    fn events(&self, context: &mut Context<'_>) -> Result<(Events, Option<Truth>), StageError> {
        let limit = self.limit.map(EventCount::get);
        if let Some(synthetic) = &self.synthetic {
            let missing = || StageError::Unusable("`synthetic` lacks the parameter of its density".into());
            let truth = synthetic.truth().ok_or_else(missing)?;
            let mut rng = context.streams.stream("synthetic");
            let table = truth.events(synthetic.events.get(), synthetic.dimensions.get(), &mut rng)?;
            let mut kept = self.kept(&table)?;
            kept.truncate(limit.unwrap_or(usize::MAX));
            // A filter changes the density.
            return Ok((Events::of(&table.rows(&kept))?, self.filter.is_empty().then_some(truth)));
        }
        let path = source(context, "file")?;
        if self.features.is_none()
            && let Some(message) = check::left_out(&path, &read::columns(&path, None)?)
        {
            context.notice(message);
        }
        Ok((self.read_and_tell(context, "file", self.features.as_deref(), limit)?, None))
    }

    /// Reads a source as [`read`](Self::read) does, and tells of values that merge.
    fn read_and_tell(
        &self,
        context: &mut Context<'_>,
        field: &str,
        columns: Option<&[String]>,
        limit: Option<usize>,
    ) -> Result<Events, StageError> {
        let (events, merged) = self.read(&source(context, field)?, columns, limit, &context.scratch)?;
        for merged in merged {
            context.notice(format!("`{field}`: {merged}"));
        }
        Ok(events)
    }

    /// The cut of the tail on the training events, with the share of them above it.
    fn tail(&self, choice: &TailChoice, train: &Events) -> Result<(Tail, f64), StageError> {
        let values = train.observable(self.observables, &choice.observable)?;
        let quantile = |p: OpenProbability| {
            let mut sorted: Vec<f64> = values.clone().collect();
            sorted.sort_unstable_by(f64::total_cmp);
            crate::data::interpolated_quantile(&sorted, p.get())
        };
        let above = choice.above.map(Finite::get).or_else(|| choice.quantile.map(quantile));
        let above = above.ok_or_else(|| StageError::Unusable("`tail` needs `above` or `quantile`".into()))?;
        let (mut in_tail, mut largest) = (0_usize, f64::NEG_INFINITY);
        for value in values {
            in_tail += usize::from(value > above);
            largest = largest.max(value);
        }
        if in_tail == 0 {
            return Err(StageError::Unusable(format!(
                "no training event has `{}` above {}: the largest is {}; lower the cut of `tail`, or read more events",
                choice.observable, above as f32, largest as f32
            )));
        }
        let fraction = in_tail as f64 / train.len() as f64;
        Ok((Tail { observable: choice.observable.clone(), above }, fraction))
    }
}

fn source(context: &Context<'_>, field: &str) -> Result<PathBuf, StageError> {
    let missing = || StageError::Unusable(format!("the source `{field}` is not there"));
    context.sources.get(field).cloned().ok_or_else(missing)
}

impl StageKind for Dataset {
    const VERSION: u32 = 3;
    const PRODUCES: ArtifactKind = ArtifactKind::Dataset;

    fn ports(&self) -> Vec<Port<'_>> {
        Vec::new()
    }

    fn sources(&self) -> Vec<Source<'_>> {
        [("file", &self.file), ("test_file", &self.test_file)]
            .into_iter()
            .filter_map(|(field, path)| Some(Source { field, path: path.as_deref()? }))
            .collect()
    }

    fn problems(&self) -> Vec<Problem> {
        check::problems(self)
    }

    fn preflight(&self, sources: &BTreeMap<String, PathBuf>) -> Vec<Problem> {
        check::preflight(self, sources)
    }

    fn remarks(&self, sources: &BTreeMap<String, PathBuf>) -> Vec<String> {
        check::remarks(self, sources)
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let (events, truth) = self.events(context)?;
        let test_share = self.split.test.map_or(if self.test_file.is_some() { 0.0 } else { 0.2 }, Fraction::get);
        let mut order = context.streams.stream("split");
        let scratch = &context.scratch.clone();
        let count =
            u32::try_from(events.len()).map_err(|_| StageError::Unusable("there are too many events".into()))?;
        let split = split::split(count, self.split.validation.get(), test_share, &mut order);
        let (for_test, for_validation) = (split.test, split.test + split.validation);
        let events = events.permuted(split.order, scratch)?;
        let (train, validation) = (events.slice(for_validation..events.len()), events.slice(for_test..for_validation));
        let test = match self.test_file {
            Some(_) => self.read_and_tell(context, "test_file", Some(events.names()), None)?,
            None => events.slice(0..for_test),
        };
        if train.is_empty() || test.is_empty() {
            return Err(StageError::Unusable(format!(
                "{} events leave {} for training and {} for testing; read more events, or change `split`",
                events.len(),
                train.len(),
                test.len()
            )));
        }
        let coordinates = Coordinates::fit(&self.coordinates, &train, &self.flips().concat(), scratch)?;
        let tail = self.tail.as_ref().map(|choice| self.tail(choice, &train)).transpose()?;

        let mut metrics = Metrics::new();
        for (name, part) in [("train", &train), ("validation", &validation), ("test", &test)] {
            metrics.insert(format!("events.{name}"), part.len() as f64);
        }
        if let Some((tail, fraction)) = &tail {
            metrics.extend([("tail.above".to_owned(), tail.above), ("tail.fraction".to_owned(), *fraction)]);
        }
        let description = Description {
            symmetries: self.flipped_coordinates(events.names()),
            features: events.names().to_vec(),
            coordinates,
            observables: self.observables,
            tail: tail.map(|(tail, _)| tail),
            truth,
        };
        SplitEvents { description, train, validation, test }.save(&context.out)?;
        Ok(metrics)
    }
}

#[cfg(test)]
mod tests;
