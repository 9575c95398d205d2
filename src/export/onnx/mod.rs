//! ONNX: the whole way from random numbers to events in physical units as one graph.
//!
//! Inputs are `z` (f32, latent vectors) and, where something is to be decided, `u` (f64, uniform numbers, see
//! [`Uniform`]); outputs are `events` (f32) and, as the model needs them, `inside`, `probability` and `accepted`. Every row is a
//! candidate by itself. Nets run in single precision as in this program, all after them in double.

mod graph;
mod net;
mod normal;
mod physics;
mod proto;

use prost::Message;

use self::{
    graph::{Graph, Value},
    physics::{Events, seen},
    proto::{DataType, IR_VERSION, OPSET, OperatorSet, Property},
};
use super::{ExportError, Origin, check, columns};
use crate::model::{Component, Discriminator, Factor, Ratio, Side, StoredModel, StrataFactors, Uniform};

/// A model as the bytes of an ONNX file; the same model from the same origin gives the same bytes.
pub fn onnx(model: &StoredModel, origin: &Origin) -> Result<Vec<u8>, ExportError> {
    check(model)?;
    let graph = Graph::default();
    let columns = Candidates::build(&graph, model)?.give_out()?;
    let uniforms: Vec<String> = model.uniforms().into_iter().map(Uniform::name).collect();
    let json = |names: &[String]| serde_json::Value::from(names.to_vec()).to_string();
    let metadata = [
        ("columns", json(&columns)),
        ("uniforms", json(&uniforms)),
        ("pipeline", origin.pipeline.clone()),
        ("stage", origin.stage.clone()),
        ("key", origin.key.clone()),
    ];
    let metadata = metadata.map(|(key, value)| Property { key: key.to_owned(), value });
    let file = proto::Model {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: format!("The model of the stage `{}` of the pipeline `{}`.", origin.stage, origin.pipeline),
        graph: Some(graph.finish(&origin.stage)),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata.into(),
    };
    Ok(file.encode_to_vec())
}

/// What becomes of candidates.
struct Candidates<'a, 'g> {
    graph: &'g Graph,
    model: &'a StoredModel,
    /// The uniform numbers, by what they decide.
    uniforms: Vec<(Uniform, Value<'g>)>,
    /// Encoded rows in single precision.
    rows: Value<'g>,
    /// Whether they lie inside of the windows of their components, if there are some.
    inside: Option<Value<'g>>,
}

impl<'a, 'g> Candidates<'a, 'g> {
    /// From the inputs to encoded rows: the mixture with its windows, then symmetries.
    fn build(graph: &'g Graph, model: &'a StoredModel) -> Result<Self, ExportError> {
        let z = graph.input("z", DataType::Float, model.latent(), "latent vectors: standard normal numbers");
        let decided = model.uniforms();
        let mut uniforms = Vec::new();
        if !decided.is_empty() {
            let names: Vec<String> = decided.iter().map(|uniform| uniform.name()).collect();
            let doc = format!("uniform numbers in [0, 1): {}", names.join(", "));
            let u = graph.input("u", DataType::Double, decided.len(), &doc);
            uniforms = decided.into_iter().enumerate().map(|(index, uniform)| (uniform, u.column(index))).collect();
        }
        let mut candidates = Self { graph, model, uniforms, rows: z, inside: None };
        candidates.mix(z)?;
        candidates.symmetrise();
        Ok(candidates)
    }

    fn uniform(&self, wanted: Uniform) -> Option<Value<'g>> {
        self.uniforms.iter().find(|(uniform, _)| *uniform == wanted).map(|(_, value)| *value)
    }

    /// Each component makes a row of each latent vector; the choice takes one of them.
    fn mix(&mut self, z: Value<'g>) -> Result<(), ExportError> {
        let latent = self.model.latent();
        let made: Vec<Value<'g>> = (self.model.components.iter().enumerate())
            .map(|(index, Component { generator, .. })| {
                let own = generator.inputs();
                let z = if own < latent { z.first(own) } else { z };
                net::forward(generator, &format!("components.{index}"), z)
            })
            .collect();
        // Whether the choice lies below the end of each component's weight but the last one's.
        let mut below = 0.0;
        let Some((last, others)) = made.split_last() else { return Ok(()) };
        let mut ends = Vec::new();
        if let Some(choice) = self.uniform(Uniform::Component) {
            for Component { weight, .. } in &self.model.components[..others.len()] {
                below += weight;
                ends.push(choice.less(below));
            }
        }
        let taken = others.iter().zip(&ends).rev();
        self.rows = taken.fold(*last, |rest, (rows, before_end)| before_end.choose(*rows, rest));
        self.look_through_windows(&ends)
    }

    fn look_through_windows(&mut self, ends: &[Value<'g>]) -> Result<(), ExportError> {
        if self.model.components.iter().all(|component| component.windows.is_empty()) {
            return Ok(());
        }
        let events = self.decode(None);
        for (index, Component { windows, .. }) in self.model.components.iter().enumerate() {
            let before_end = ends.get(index).copied();
            let from_start = index.checked_sub(1).map(|before| ends[before].not());
            // Another component's event, or one inside.
            let others = [before_end.map(Value::not), from_start.map(Value::not)];
            for window in windows {
                let above = observable(&events, &window.observable)?.greater(window.cut);
                let holds = if window.side == Side::Above { above } else { above.not() };
                let holds = others.into_iter().flatten().fold(holds, |holds, other| holds.with("Or", other));
                self.inside = Some(self.inside.map_or(holds, |inside| inside.with("And", holds)));
            }
        }
        Ok(())
    }

    fn symmetrise(&mut self) {
        let width = self.model.description.coordinates.width();
        for (set, columns) in self.model.description.symmetries.iter().enumerate() {
            let Some(coin) = self.uniform(Uniform::Symmetry(set)) else { continue };
            let sign = |column| if columns.contains(&column) { -1.0 } else { 1.0 };
            let signs: Vec<f32> = (0..width).map(sign).collect();
            let signs = self.graph.floats(format!("symmetry_{set}"), &[1, width], &signs);
            self.rows = coin.less(0.5).choose(self.rows * signs, self.rows);
        }
    }

    /// The events of the rows.
    fn decode(&self, negative: Option<Value<'g>>) -> Events<'a, 'g> {
        Events::decode(&self.model.description, self.rows.cast(DataType::Double), negative)
    }

    /// Gives out the events, and which of them belong to the sample; gives the names of the columns.
    fn give_out(self) -> Result<Vec<String>, ExportError> {
        let Self { graph, model, .. } = self;
        let events = self.decode(self.uniform(Uniform::Sign).map(|sign| sign.less(0.5)));
        let names = columns(&model.description);
        let values = names.iter().map(|name| Ok(observable(&events, name)?.cast(DataType::Float)));
        let values = graph.concat(&values.collect::<Result<Vec<_>, ExportError>>()?);
        graph.output(values, "events", DataType::Float, Some(names.len()), &names.join(", "));
        if let Some(inside) = self.inside {
            let doc =
                "whether the event lies inside of its component's windows; if not, draw its z again and keep its u";
            graph.output(inside, "inside", DataType::Bool, None, doc);
        }
        if let Some(accept) = self.uniform(Uniform::Accept) {
            let factors = model.ratios.iter().enumerate().map(|(index, ratio)| self.acceptance(index, ratio, &events));
            let factors = factors.collect::<Result<Vec<_>, _>>()?;
            let probability = factors.into_iter().reduce(|product, factor| product * factor).unwrap_or(accept);
            let accepted = accept.less(probability);
            let accepted = self.inside.map_or(accepted, |inside| accepted.with("And", inside));
            let doc = "the probability of keeping the event: the product of its density ratios, each over its ceiling";
            graph.output(probability, "probability", DataType::Double, None, doc);
            graph.output(accepted, "accepted", DataType::Bool, None, "whether the event belongs to the sample");
        }
        Ok(names)
    }

    /// min(w, c)/c of a ratio.
    fn acceptance(&self, index: usize, ratio: &Ratio, events: &Events<'a, 'g>) -> Result<Value<'g>, ExportError> {
        let log = match &ratio.factor {
            Factor::Classifier(Discriminator { derived, net }) => {
                let seen = seen(derived, &self.model.description, self.rows);
                let seen = seen.ok_or_else(|| ExportError::Observable(derived.names.join(", ")))?;
                net::forward(net, &format!("ratios.{index}"), seen).cast(DataType::Double)
            }
            Factor::Strata(StrataFactors { observable: name, edges, log_factors }) => {
                let value = observable(events, name)?;
                // The lowest stratum's, for each event; then that of each stratum whose lower edge is reached.
                let lowest = value * 0.0 + log_factors[0];
                let strata = edges.iter().zip(&log_factors[1..]);
                strata.fold(lowest, |log, (edge, factor)| value.at_least(*edge).choose(*factor, log))
            }
        };
        Ok((log + ratio.offset - ratio.ceiling).min(0.0).exp())
    }
}

fn observable<'g>(events: &Events<'_, 'g>, name: &str) -> Result<Value<'g>, ExportError> {
    events.observable(name).ok_or_else(|| ExportError::Observable(name.to_owned()))
}

#[cfg(test)]
mod tests;
