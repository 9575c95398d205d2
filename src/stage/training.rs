//! What the stages that train share: reading the data as a discriminator sees it, and checks of options against the data.

use burn::tensor::Device;

use super::{ArtifactKind, Context, Port, Problem, Progress, Stage, StageError, Upstream};
use crate::{
    data::{CoordinatesChoice, Dataset, Scratch, Values, coordinates::MapChoice},
    model::{Derived, Rows, StoredModel, device},
    train::{
        checkpoint::{Session, Watcher},
        config::{LatentMethod, LatentsConfig, Region, StrataConfig, Weights},
        gaussians::Proposal,
        latents::LatentSampling,
        reals::{Reals, Strata},
        tail::TailGauge,
    },
    value::Positive,
};

/// The dataset of a training stage on the host, with the device to train on.
pub(super) struct Material {
    pub(super) dataset: Dataset,
    /// The training events, encoded.
    pub(super) encoded: Values,
    pub(super) device: Device,
    scratch: Scratch,
}

impl Material {
    pub(super) fn load(context: &Context<'_>) -> Result<Self, StageError> {
        let scratch = context.scratch.clone();
        let dataset = Dataset::load(context.input("data")?, &scratch)?;
        let encoded = dataset.description.coordinates.encode_all(&dataset.train, &scratch)?;
        Ok(Self { dataset, encoded, device: device::open(context.device)?, scratch })
    }

    /// The model of a role, if it was trained on this dataset.
    pub(super) fn model(&self, context: &Context<'_>, role: &str) -> Result<StoredModel, StageError> {
        let model = StoredModel::load(context.input(role)?)?;
        if model.description != self.dataset.description {
            let message = format!("the model of `{role}` was trained on another dataset than `data`");
            return Err(StageError::Unusable(message));
        }
        Ok(model)
    }

    /// All training events as a discriminator with these derived observables sees them.
    pub(super) fn reals(
        &self,
        derived: &Derived,
        strata: Option<&StrataConfig>,
        batch: usize,
    ) -> Result<Reals, StageError> {
        let description = &self.dataset.description;
        let rows = self.seen(derived)?;
        let strata = match (strata, &description.tail) {
            (Some(config), Some(tail)) => {
                let values = self.dataset.train.observable(description.observables, &tail.observable)?;
                Strata::new(config, values, tail.above, batch)?
            }
            (Some(_), None) => return Err(StageError::Unusable("`strata` needs a dataset with a `tail`".into())),
            (None, _) => Strata::all(rows.len(), batch),
        };
        Ok(Reals::new(rows, derived.flips(description), strata))
    }

    /// The training events with derived observables.
    pub(super) fn seen(&self, derived: &Derived) -> Result<Rows, StageError> {
        Ok(derived.append_all(&self.dataset.description, &self.encoded, &self.scratch)?)
    }

    /// Indices of the training events in the tail.
    pub(super) fn tail_events(&self) -> Result<Vec<u32>, StageError> {
        self.events_of(Region::Tail)
    }

    /// Indices of the training events in a region.
    fn events_of(&self, region: Region) -> Result<Vec<u32>, StageError> {
        let description = &self.dataset.description;
        let (Some(tail), Some(in_tail)) = (&description.tail, description.are_in_tail(&self.dataset.train)?) else {
            return Err(StageError::Unusable("the dataset names no `tail`".into()));
        };
        let belongs = |&(_, in_tail): &(u32, bool)| in_tail == (region == Region::Tail);
        let events: Vec<u32> = (0..).zip(in_tail).filter(belongs).map(|(event, _)| event).collect();
        if events.len() < 2 {
            let (side, part) = if region == Region::Tail { ("above", "tail") } else { ("not above", "bulk") };
            return Err(StageError::Unusable(format!(
                "only {} training events have {} {side} {}: nothing to learn the {part} from",
                events.len(),
                tail.observable,
                tail.above
            )));
        }
        Ok(events)
    }

    /// Forgets the training events outside of a region.
    pub(super) fn restrict(&mut self, region: Region) -> Result<(), StageError> {
        let events = self.events_of(region)?;
        self.encoded = self.encoded.gather(self.dataset.description.coordinates.width(), &events, &self.scratch)?;
        self.dataset.train = self.dataset.train.select(&events, &self.scratch)?;
        Ok(())
    }

    /// The tail observable of encoded rows; empty without a tail.
    pub(super) fn tail_values(&self, encoded: &[f32], context: &Context<'_>) -> Result<Vec<f64>, StageError> {
        let gauge = TailGauge::new(&self.dataset.description, &context.streams);
        Ok(gauge.map_or(Ok(Vec::new()), |mut gauge| gauge.values(encoded))?)
    }

    /// The share of events, given as encoded rows, that lie in the tail; 0 without a tail.
    pub(super) fn tail_mass(&self, encoded: &[f32], context: &Context<'_>) -> Result<f64, StageError> {
        let gauge = TailGauge::new(&self.dataset.description, &context.streams);
        Ok(gauge.map_or(Ok(0.0), |mut gauge| gauge.mass(encoded))?)
    }
}

/// How latent vectors are drawn by these options.
pub(super) fn latent_sampling<'a>(
    proposal: Option<&'a Proposal>,
    latents: Option<&LatentsConfig>,
) -> LatentSampling<'a> {
    match (proposal, latents) {
        (Some(proposal), _) => LatentSampling::Proposal(proposal),
        (None, Some(config)) => match config.method {
            LatentMethod::Stratified => {
                LatentSampling::Stratified { share: config.share.get(), pool: config.pool.get() }
            }
        },
        (None, None) => LatentSampling::Normal,
    }
}

/// What is wrong with the options of latent vectors as they stand.
pub(super) fn latents_problems(proposal: Option<&String>, latents: Option<&LatentsConfig>) -> Option<Problem> {
    (proposal.is_some() && latents.is_some()).then(|| {
        Problem::new("latents", "latent vectors come from a `proposal` or by `latents`, not both").help("remove either")
    })
}

/// What a loop of this many steps reports to and is kept by.
pub(super) fn session<'a>(context: &'a mut Context<'_>, steps: u64) -> Result<Session<'a>, StageError> {
    let device = device::open(context.device)?;
    let Context { progress, checkpoints, recorder, .. } = context;
    Ok(Session::new(Reporter { progress: &mut **progress, steps }, checkpoints, recorder, &device))
}

/// Tells the run how a loop gets on.
struct Reporter<'a> {
    progress: &'a mut dyn FnMut(Progress),
    steps: u64,
}

impl Watcher for Reporter<'_> {
    fn step(&mut self, step: u64, values: &[(&'static str, f64)]) {
        (self.progress)(Progress::of_step(step, self.steps, values));
    }

    fn resumed(&mut self, step: u64) {
        (self.progress)(Progress::Resumed { step, steps: self.steps });
    }

    fn warn(&mut self, message: String) {
        (self.progress)(Progress::Notice { message });
    }
}

/// The ports of a stage that makes another model of a model and data.
pub(super) fn model_and_data<'a>(model: &'a str, data: &'a str) -> Vec<Port<'a>> {
    vec![
        Port::one("model", model, &[ArtifactKind::Model, ArtifactKind::FrozenModel]),
        Port::one("data", data, &[ArtifactKind::Dataset]),
    ]
}

/// What is wrong with the largest value of a density ratio (`what`: a ratio, a factor).
pub(super) fn ceiling_problems(ceiling: Positive, what: &str) -> Option<Problem> {
    (ceiling.get() <= 1.0).then(|| {
        let message = format!("a ceiling of {} leaves no room for a {what}", ceiling.get());
        Problem::new("ceiling", message).help(format!("{what}s lie around 1; 5 is usual"))
    })
}

/// 5.
pub(super) fn ceiling() -> Positive {
    Positive::try_from(5.0).unwrap_or_else(|_| unreachable!())
}

/// What does not fit between a training stage's options and its dataset.
pub(super) fn mismatches(
    upstream: &Upstream<'_>,
    observables: Option<&[String]>,
    strata: Option<&StrataConfig>,
    needs_tail: Option<&'static str>,
) -> Vec<Problem> {
    let Some(Stage::Dataset(data)) = upstream.get("data").and_then(|stages| stages.first()) else { return Vec::new() };
    let mut problems = Vec::new();
    let derived = data.observables.names();
    for (index, name) in observables.unwrap_or_default().iter().enumerate() {
        if !derived.contains(&name.as_str()) {
            let message = format!("`{name}` is no derived observable of the dataset `observables`");
            problems.push(
                Problem::new(format!("discriminator.observables.{index}"), message)
                    .suggest(name, derived.iter().copied()),
            );
        }
    }
    if observables.is_some_and(|names| !names.is_empty())
        && matches!(&data.coordinates, CoordinatesChoice::Columns(maps) if maps.values().any(|map| matches!(map, MapChoice::Quantile | MapChoice::Gpd)))
    {
        let message = "derived observables cannot be differentiated through `quantile` or `gpd` coordinates";
        problems
            .push(Problem::new("discriminator.observables", message).help("use `log` or `standard` in the dataset"));
    }
    if data.tail.is_none() {
        let fields = strata.map(|_| "strata").into_iter().chain(needs_tail);
        let help = "add `tail: { observable: ..., above: ... }` to the dataset";
        problems.extend(fields.map(|field| Problem::new(field, "this needs a dataset with a `tail`").help(help)));
    }
    problems
}

/// What is wrong with strata as they stand.
pub(super) fn strata_problems(strata: Option<&StrataConfig>) -> Vec<Problem> {
    let Some(strata) = strata else { return Vec::new() };
    let mut problems = Vec::new();
    let expected = strata.edges.len().max(1) + 1;
    if strata.shares.len() != expected {
        let message = format!("{} shares for {expected} strata", strata.shares.len());
        problems.push(
            Problem::new("strata.shares", message)
                .help("give one share for each stratum, one more than there are edges"),
        );
    }
    let sum: f64 = strata.shares.iter().map(|share| share.get()).sum();
    if (sum - 1.0).abs() > 1e-6 {
        problems.push(Problem::new("strata.shares", format!("the shares sum to {sum}, not to 1")));
    }
    if strata.weights != Weights::Tempered && strata.power != StrataConfig::half() {
        problems.push(Problem::new("strata.power", "`power` belongs to `weights: tempered`"));
    }
    if strata.edges.windows(2).any(|pair| pair[0] >= pair[1]) {
        problems.push(Problem::new("strata.edges", "the edges must ascend"));
    }
    problems
}
