//! A base about to be given a new component: samples of both, the weights that they ask for, and the verdict of validation
//! events.

use super::{Accept, LEAST, Learn, MixtureConfig};
use crate::{
    model::{Component, Discriminator, Model, StoredModel, Weights},
    stage::{Context, Metrics, StageError, training::Material},
    train::{
        classes::{ComponentClasses, fully_corrective},
        mixture::TailMasses,
        selection::{Gain, TailJudge, mixed},
    },
};

/// Events of each component that tail masses and gains are measured on.
const SAMPLE_EVENTS: usize = 100_000;
/// Events of each component that the classifier of `fully_corrective` learns from.
const CLASS_EVENTS: usize = 50_000;
/// Steps of that classifier.
const CLASS_STEPS: u64 = 1500;

/// A base with a sample of each of its components, about to be given a new one.
pub(in crate::stage) struct Trial<'a> {
    pub(in crate::stage) material: &'a Material,
    pub(in crate::stage) base: &'a StoredModel,
    samples: Vec<Sample>,
    real_mass: f64,
}

/// Events of a component.
struct Sample {
    /// Encoded rows.
    rows: Vec<f32>,
    /// The tail observable; empty without a tail.
    values: Vec<f64>,
}

/// A second generator as it comes into the mixture.
pub(in crate::stage) struct Newcomer {
    pub(in crate::stage) generator: Weights,
    /// Its weight so far.
    pub(in crate::stage) weight: f64,
    /// The discriminator that trained it against the mixture, if one did.
    pub(in crate::stage) discriminator: Option<Discriminator>,
}

/// How a trial ended.
pub(in crate::stage) enum Verdict {
    /// The mixture, its weights settled.
    Taken(Box<StoredModel>),
    /// The base stands; why, for the user.
    Declined(String),
}

/// The base model and the candidate's generator of a stage with these ports, if they fit the data.
pub(in crate::stage) fn inputs(
    context: &Context<'_>,
    material: &Material,
) -> Result<(StoredModel, Weights), StageError> {
    let base = material.model(context, "base")?;
    let candidate = material.model(context, "candidate")?.components.swap_remove(0).generator;
    if !base.ratios.is_empty() {
        return Err(StageError::Unusable(
            "the base model has been reweighted, and a component cannot be added to that; boost first, then reweight"
                .into(),
        ));
    }
    Ok((base, candidate))
}

impl<'a> Trial<'a> {
    /// Samples the base.
    pub(in crate::stage) fn new(
        material: &'a Material,
        base: &'a StoredModel,
        context: &Context<'_>,
    ) -> Result<Self, StageError> {
        let sample = |component: &Component| Sample::draw(component, base, material, context);
        let samples = base.components.iter().map(sample).collect::<Result<_, _>>()?;
        let tail = &material.dataset.description.tail;
        let events = if tail.is_some() { material.tail_events()?.len() } else { 0 };
        Ok(Self { material, base, samples, real_mass: events as f64 / material.dataset.train.len() as f64 })
    }

    /// Tail masses of the training events, the base, and a second generator.
    pub(in crate::stage) fn masses(
        &self,
        candidate: &Weights,
        context: &Context<'_>,
    ) -> Result<TailMasses, StageError> {
        let candidate = Component::new(1.0, candidate.clone());
        Ok(self.masses_with(&Sample::draw(&candidate, self.base, self.material, context)?))
    }

    fn masses_with(&self, candidate: &Sample) -> TailMasses {
        let above = self.material.dataset.description.tail.as_ref().map_or(f64::INFINITY, |tail| tail.above);
        let weighted = self.base.components.iter().zip(&self.samples);
        let base = weighted.map(|(component, sample)| component.weight * sample.mass(above)).sum();
        TailMasses { real: self.real_mass, base, candidate: candidate.mass(above) }
    }

    /// Settles the weights of the base's components and of a new one, and says whether the mixture is taken. Adds to the
    /// metrics.
    pub(in crate::stage) fn settle(
        &self,
        config: &MixtureConfig,
        accept: Accept,
        newcomer: Newcomer,
        context: &mut Context<'_>,
        metrics: &mut Metrics,
    ) -> Result<Verdict, StageError> {
        let Newcomer { generator, weight: q, discriminator } = newcomer;
        let component = Component::new(q, generator);
        let sample = Sample::draw(&component, self.base, self.material, context)?;
        let masses = self.masses_with(&sample);
        let judge = self.judge(&sample)?;
        let base: Vec<f64> = self.base.components.iter().map(|component| component.weight).collect();
        let weights = match config.learn {
            Learn::Em | Learn::Adversarial if q <= config.floor() && accept != Accept::Always => {
                return Ok(Verdict::Declined(format!(
                    "boosting declined: the mixture weight collapsed to its floor {q}: the real events do not ask for the \
                     second generator. The base stands unchanged"
                )));
            }
            Learn::Em | Learn::Adversarial | Learn::Fixed => mixed(&base, q),
            Learn::Moments => match masses.initial_weight() {
                Some(q) => mixed(&base, config.within(q)),
                None if accept == Accept::Always => mixed(&base, q),
                None => return Ok(Verdict::Declined(declined(masses))),
            },
            Learn::LineSearch => {
                let Some(judge) = &judge else {
                    let message =
                        "`line_search` needs validation events in the tail; raise `split.validation` of the dataset";
                    return Err(StageError::Unusable(message.into()));
                };
                let q = judge.line_search(&base, config.max.get());
                if q <= LEAST {
                    return Ok(Verdict::Declined(format!(
                        "boosting declined: no weight of the second generator brings the tail nearer to that of {} validation \
                         events. The base stands unchanged",
                        judge.events()
                    )));
                }
                mixed(&base, config.within(q))
            }
            Learn::FullyCorrective => {
                let mut weights = self.fully_corrective(&mixed(&base, q), &sample, discriminator.as_ref(), context)?;
                let last = weights.pop().map_or(q, |q| config.within(q));
                let rest: f64 = weights.iter().sum();
                for weight in &mut weights {
                    *weight *= (1.0 - last) / rest;
                }
                weights.push(last);
                weights
            }
        };
        let q = weights.last().copied().unwrap_or(q);
        self.record(&weights, masses, metrics);
        if let Some(judge) = judge {
            let before: Vec<f64> = base.iter().copied().chain(std::iter::once(0.0)).collect();
            let gain = judge.gain(&before, &weights, &mut context.streams.stream("bootstrap"));
            metrics.extend(gain_as_metrics(gain));
            if let Some(reason) = refusal(gain, accept, judge.events()) {
                return Ok(Verdict::Declined(reason));
            }
            if gain.gain.low <= 0.0 {
                context.notice(within_noise(gain, judge.events()));
            }
        } else if accept != Accept::Always {
            context.notice("there are no validation events in the tail to judge by: the mixture is taken untested");
        }
        let mut components = self.base.components.clone();
        components.push(Component { weight: q, ..component });
        components.iter_mut().zip(weights).for_each(|(component, weight)| component.weight = weight);
        let discriminator = discriminator.or_else(|| self.base.discriminator.clone());
        Ok(Verdict::Taken(Box::new(StoredModel { components, discriminator, ..self.base.clone() })))
    }

    /// What the weights make of the tail.
    fn record(&self, weights: &[f64], masses: TailMasses, metrics: &mut Metrics) {
        let above = self.material.dataset.description.tail.as_ref().map_or(f64::INFINITY, |tail| tail.above);
        let Some((&q, rest)) = weights.split_last() else { return };
        let of_base: f64 = rest.iter().zip(&self.samples).map(|(weight, sample)| weight * sample.mass(above)).sum();
        let of_candidate = q * masses.candidate;
        metrics.extend([
            ("q".to_owned(), q),
            ("ln_q".to_owned(), q.ln()),
            ("tail.candidate_after".to_owned(), masses.candidate),
            ("tail.mixture".to_owned(), of_base + of_candidate),
        ]);
        if of_base + of_candidate > 0.0 {
            metrics.insert("tail.share_of_candidate".to_owned(), of_candidate / (of_base + of_candidate));
        }
        if rest.len() > 1 {
            metrics.extend(weights.iter().enumerate().map(|(k, &weight)| (format!("weights.{k}"), weight)));
        }
    }

    /// The judge by validation events, where some lie in the tail.
    fn judge(&self, candidate: &Sample) -> Result<Option<TailJudge>, StageError> {
        let dataset = &self.material.dataset;
        let Some(tail) = &dataset.description.tail else { return Ok(None) };
        let validation = dataset.validation.observable(dataset.description.observables, &tail.observable)?;
        let validation: Vec<f64> = validation.collect();
        let samples = self.samples.iter().chain(std::iter::once(candidate));
        let values: Vec<Vec<f64>> = samples.map(|sample| sample.values.clone()).collect();
        Ok(TailJudge::new(&validation, &values, tail.above))
    }

    /// Weights of all components by EM on training events.
    fn fully_corrective(
        &self,
        weights: &[f64],
        candidate: &Sample,
        discriminator: Option<&Discriminator>,
        context: &Context<'_>,
    ) -> Result<Vec<f64>, StageError> {
        let description = &self.material.dataset.description;
        let derived = discriminator.or(self.base.discriminator.as_ref()).map(|d| d.derived.clone()).unwrap_or_default();
        let width = description.coordinates.width();
        let see = |rows: &[f32]| derived.append(description, &rows[..rows.len().min(CLASS_EVENTS * width)]);
        let samples = self.samples.iter().chain(std::iter::once(candidate));
        let samples = samples.map(|sample| see(&sample.rows)).collect::<Result<Vec<_>, _>>()?;
        let streams = &context.streams;
        let classes = ComponentClasses::train(&samples, CLASS_STEPS, streams, &self.material.device)?;
        let log_densities = classes.log_densities(&see(&self.material.encoded)?)?;
        Ok(fully_corrective(weights, &log_densities))
    }
}

impl Sample {
    fn draw(
        component: &Component,
        like: &StoredModel,
        material: &Material,
        context: &Context<'_>,
    ) -> Result<Self, StageError> {
        let whole = Component { weight: 1.0, ..component.clone() };
        let alone = StoredModel { components: vec![whole], discriminator: None, ..like.clone() };
        let mut rng = context.streams.stream("tail mass");
        let rows = Model::new(&alone, context.device)?.sample_encoded(SAMPLE_EVENTS, &mut rng)?;
        let values = material.tail_values(&rows, context)?;
        Ok(Self { rows, values })
    }

    /// The share of the events above a cut.
    fn mass(&self, above: f64) -> f64 {
        self.values.iter().filter(|&&value| value > above).count() as f64 / self.values.len().max(1) as f64
    }
}

/// The masses under their names.
pub(in crate::stage) fn masses_as_metrics(masses: TailMasses) -> Metrics {
    let TailMasses { real, base, candidate } = masses;
    [("tail.real", real), ("tail.base", base), ("tail.candidate", candidate)].map(|(k, v)| (k.to_owned(), v)).into()
}

fn gain_as_metrics(gain: Gain) -> Metrics {
    let numbers = [
        ("w1.base", gain.base),
        ("w1.mixture", gain.mixture),
        ("gain", gain.gain.value),
        ("gain.low", gain.gain.low),
        ("gain.high", gain.gain.high),
        ("mass_ratio.base", gain.base_mass),
        ("mass_ratio.mixture", gain.mixture_mass.value),
        ("mass_ratio.mixture.low", gain.mixture_mass.low),
        ("mass_ratio.mixture.high", gain.mixture_mass.high),
    ];
    numbers.into_iter().filter(|(_, v)| v.is_finite()).map(|(k, v)| (format!("validation.{k}"), v)).collect()
}

/// Why the validation events refuse a mixture; `None` if they do not.
fn refusal(gain: Gain, accept: Accept, events: usize) -> Option<String> {
    let refused = match accept {
        Accept::Always => false,
        Accept::Validation => gain.gain.value <= 0.0,
        Accept::Significant => gain.gain.low <= 0.0,
    };
    refused.then(|| {
        format!(
            "boosting declined: on {events} validation events the mixture's log-tail W1 is {:.4}, the base's {:.4} (gain {:.4}, \
             90 % interval {:.4} to {:.4}): no gain. The base stands unchanged",
            gain.mixture, gain.base, gain.gain.value, gain.gain.low, gain.gain.high
        )
    })
}

fn within_noise(gain: Gain, events: usize) -> String {
    format!(
        "on {events} validation events the mixture's gain in log-tail W1 is within the noise: {:.4}, 90 % interval {:.4} to {:.4}",
        gain.gain.value, gain.gain.low, gain.gain.high
    )
}

/// Why no mixture can mend the tail, for the user.
pub(in crate::stage) fn declined(masses: TailMasses) -> String {
    let TailMasses { real, base, candidate } = masses;
    if base >= real {
        format!(
            "boosting declined: the base already makes {:.2} % tail events where the data has {:.2} %, and adding a component \
             cannot take events away; the base stands unchanged",
            base * 100.0,
            real * 100.0
        )
    } else {
        format!(
            "boosting declined: the candidate makes {:.2} % tail events, no more than the data's {:.2} %, so no weight of it gives \
             the tail what it lacks; pretrain it longer or by another `method`. The base stands unchanged",
            candidate * 100.0,
            real * 100.0
        )
    }
}

/// Leaves the base as it was, and says why.
pub(in crate::stage) fn decline(
    reason: String,
    base: &StoredModel,
    context: &mut Context<'_>,
    metrics: &mut Metrics,
) -> Result<(), StageError> {
    context.notice(reason);
    metrics.extend([("declined".to_owned(), 1.0), ("q".to_owned(), 0.0)]);
    metrics.remove("ln_q");
    Ok(base.save(&context.out)?)
}
