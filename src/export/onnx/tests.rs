use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;

use self::interpret::{Matrix, run};
use super::*;
use crate::{
    data::{
        Coordinates, Description, Observables,
        coordinates::{ColumnMap, PHI_MAX},
        dijet,
    },
    device::DeviceName,
    model::{Derived, Draws, Model, Weights, Window, architecture::mlp, layer::Layer},
    rng::Streams,
};

mod interpret;

fn origin() -> Origin {
    Origin { pipeline: "study".into(), stage: "boosted".into(), key: "00ff".into() }
}

fn dijet_events() -> Description {
    Description {
        features: dijet::FEATURES.map(str::to_owned).to_vec(),
        coordinates: Coordinates::Dijet {
            means: [0.1, -0.1, -1.8, -1.7, -0.1, 0.0, 0.0],
            deviations: [0.9, 1.1, 0.7, 0.6, 1.1, 0.8, 0.5],
        },
        observables: Observables::Dijet,
        symmetries: vec![dijet::FLIPPED.to_vec()],
        tail: None,
        truth: None,
    }
}

/// A column of each map.
fn columns() -> Description {
    let knots: Vec<f64> = (0..50).map(|k| f64::from(k).powi(2)).collect();
    let maps = vec![
        ColumnMap::Standard { mean: 3.0, deviation: 2.0 },
        ColumnMap::Log { mean: 5.0, deviation: 0.5 },
        ColumnMap::MinMax { min: -1.0, max: 4.0 },
        ColumnMap::Quantile { knots: knots.clone() },
        ColumnMap::Gpd { knots: knots.clone(), shape: 0.3, scale: 20.0 },
        ColumnMap::Gpd { knots, shape: 0.0, scale: 20.0 },
    ];
    Description {
        features: ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec(),
        coordinates: Coordinates::Columns(maps),
        observables: Observables::None,
        symmetries: Vec::new(),
        tail: None,
        truth: None,
    }
}

fn rng() -> ChaCha8Rng {
    Streams::new(3, "test").stream("weights")
}

fn model(description: Description, components: usize) -> StoredModel {
    let (width, mut rng) = (description.coordinates.width(), rng());
    let component = |index: usize| {
        // The last component takes fewer latent numbers.
        let latent = if index + 1 == components { 4 } else { 5 };
        Component::new(1.0 / components as f64, Weights::fresh(mlp(latent, &[8], width), &mut rng))
    };
    let components = (0..components).map(component).collect();
    StoredModel { description, components, discriminator: None, ratios: Vec::new() }
}

/// Two sides of a cut, thinned by a classifier that sees observables, and by strata.
fn everything() -> StoredModel {
    let mut model = model(dijet_events(), 3);
    for (component, side) in model.components.iter_mut().zip([Side::Below, Side::Above]) {
        component.windows.push(Window { observable: "jj_M".into(), side, cut: 900.0 });
    }
    let names = ["jj_M", "jj_pt", "jj_eta"].map(str::to_owned).to_vec();
    let derived = Derived { names, means: vec![6.6, 4.0, 0.0], deviations: vec![0.4, 0.8, 1.5] };
    let net = Weights::fresh(mlp(10, &[6], 1), &mut rng());
    let strata =
        StrataFactors { observable: "ljet1_pt".into(), edges: vec![400.0, 600.0], log_factors: vec![0.0, 0.5, -0.3] };
    model.ratios = vec![
        Ratio { factor: Factor::Classifier(Discriminator { derived, net }), offset: 0.1, ceiling: 1.0 },
        Ratio { factor: Factor::Strata(strata), offset: 0.0, ceiling: 0.5 },
    ];
    model
}

fn decoded(model: &StoredModel) -> proto::Model {
    proto::Model::decode(&*onnx(model, &origin()).unwrap()).unwrap()
}

fn matrix(columns: usize, values: &[f64]) -> Matrix {
    Matrix::new(columns, values.iter().copied())
}

/// Draws events, makes them again by the graph, and compares; gives the draws.
fn agrees(model: &StoredModel) -> Draws {
    let loaded = Model::new(model, DeviceName::default()).unwrap();
    let (events, draws) = loaded.sample_with_draws(1000, &mut rng()).unwrap();
    let expected = model.description.observables.append_to(&events).unwrap();
    let z: Vec<f64> = draws.z().iter().copied().map(f64::from).collect();
    let mut inputs = vec![("z", matrix(draws.latent(), &z))];
    if !draws.uniforms().is_empty() {
        inputs.push(("u", matrix(draws.uniforms().len(), draws.u())));
    }
    let values = run(&decoded(model).graph.unwrap(), inputs);
    if let Some(decided) = values.get("accepted").or(values.get("inside")) {
        let accepted: Vec<f64> = draws.accepted().iter().map(|&kept| f64::from(u8::from(kept))).collect();
        assert_eq!(decided.values, accepted);
    }
    let made = values["events"].values.chunks_exact(values["events"].columns);
    let made: Vec<&[f64]> = made.zip(draws.accepted()).filter(|(_, kept)| **kept).map(|(row, _)| row).collect();
    assert_eq!(made.len(), expected.len());
    for (column, values) in expected.columns().iter().enumerate() {
        let size = values.iter().fold(0.0f32, |size, value| size.max(value.abs()));
        for (event, &value) in made.iter().zip(values) {
            let tolerance = 1e-5 * f64::from(value.abs().max(size / 10.0));
            assert!(
                (event[column] - f64::from(value)).abs() < tolerance,
                "column {column}: {} is not {value}",
                event[column]
            );
        }
    }
    draws
}

#[test]
fn the_graph_of_a_mixture_makes_the_events_of_the_same_draws() {
    let draws = agrees(&model(dijet_events(), 2));
    assert_eq!(draws.uniforms(), [Uniform::Component, Uniform::Symmetry(0), Uniform::Sign]);
    assert!(draws.accepted().iter().all(|kept| *kept));
}

#[test]
fn the_graph_of_a_spliced_and_thinned_model_rejects_what_sampling_rejects() {
    let draws = agrees(&everything());
    assert_eq!(draws.uniforms(), [Uniform::Component, Uniform::Symmetry(0), Uniform::Accept, Uniform::Sign]);
    assert!(draws.accepted().iter().any(|kept| !kept));
}

#[test]
fn every_map_of_a_column_is_in_the_graph() {
    assert!(agrees(&model(columns(), 1)).uniforms().is_empty());
}

#[test]
fn draws_change_no_event() {
    let loaded = Model::new(&everything(), DeviceName::default()).unwrap();
    let recorded = loaded.sample_with_draws(3000, &mut rng()).unwrap().0;
    assert_eq!(loaded.sample(3000, &mut rng()).unwrap(), recorded);
}

#[test]
fn a_graph_is_in_topological_order_and_every_name_is_given_once() {
    let graph = decoded(&everything()).graph.unwrap();
    let mut known = HashSet::new();
    let inputs = graph.input.iter().map(|input| &input.name).chain(graph.initializer.iter().map(|tensor| &tensor.name));
    assert!(inputs.cloned().all(|name| known.insert(name)));
    for node in &graph.node {
        assert!(node.input.iter().all(|name| known.contains(name)), "{node:?}");
        assert!(known.insert(node.output[0].clone()), "{node:?}");
    }
    let outputs: Vec<&str> = graph.output.iter().map(|output| &*output.name).collect();
    assert_eq!(outputs, ["events", "inside", "probability", "accepted"]);
    let used: HashSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
    assert!(graph.initializer.iter().all(|tensor| used.contains(&tensor.name)));
    for tensor in &graph.initializer {
        let size = if tensor.data_type() == DataType::Float { 4 } else { 8 };
        assert_eq!(tensor.dims.iter().product::<i64>() as usize * size, tensor.raw_data.len(), "{}", tensor.name);
    }
}

#[test]
fn the_same_model_gives_the_same_bytes_and_the_file_says_where_it_comes_from() {
    let model = everything();
    assert_eq!(onnx(&model, &origin()).unwrap(), onnx(&model, &origin()).unwrap());
    let metadata = decoded(&model).metadata_props;
    let of = |key: &str| metadata.iter().find(|entry| entry.key == key).unwrap().value.clone();
    assert_eq!([of("pipeline"), of("stage"), of("key")], ["study", "boosted", "00ff"]);
    assert_eq!(of("uniforms"), r#"["component","symmetry_0","accept","sign"]"#);
    assert!(of("columns").ends_with(r#""ljet2_M","jj_pt","jj_eta","jj_M"]"#));
}

#[test]
fn a_cut_on_a_sign_that_is_drawn_is_refused() {
    let mut model = model(dijet_events(), 1);
    model.components[0].windows.push(Window { observable: "ljet2_phi".into(), side: Side::Above, cut: 0.5 * PHI_MAX });
    let message = onnx(&model, &origin()).unwrap_err().to_string();
    assert!(message.starts_with("the model cuts on `ljet2_phi`"), "{message}");
    assert!(crate::export::safetensors(&model, &origin()).is_err());
}

#[test]
fn the_normal_distribution_function_keeps_its_digits_in_both_tails() {
    let graph = Graph::default();
    let x = graph.input("x", DataType::Double, 1, "");
    graph.output(normal::cdf(x), "cdf", DataType::Double, Some(1), "");
    graph.output(normal::log_cdf(x), "log", DataType::Double, Some(1), "");
    // mpmath: log(erfc(-x / sqrt(2)) / 2)
    let reference = [
        (-37.0, -689.030_585_576_890_6),
        (-24.0, -292.098_721_003_207_8),
        (-10.0, -53.231_285_150_512_47),
        (-5.0, -15.064_998_393_988_725),
        (-1.0, -1.841_021_645_009_263_6),
        (-0.1, -0.776_154_592_730_273_3),
        (0.1, -0.616_505_010_115_026_3),
        (1.0, -0.172_753_779_023_449_88),
        (5.0, -2.866_516_129_637_636e-07),
    ];
    let at: Vec<f64> = reference.iter().map(|(x, _)| *x).collect();
    let values = run(&graph.finish("normal"), vec![("x", matrix(1, &at))]);
    for (row, (x, log)) in reference.into_iter().enumerate() {
        let (found, cdf) = (values["log"].values[row], values["cdf"].values[row]);
        assert!((found / log - 1.0).abs() < 1e-14 || (found - log).abs() < 1e-15, "ln Φ({x}) = {found}");
        assert!((cdf / log.exp() - 1.0).abs() < 1e-12, "Φ({x}) = {cdf}");
    }
}

#[test]
fn a_safetensors_export_holds_what_sampling_needs_and_no_more() {
    let mut model = everything();
    let net = Weights::fresh(vec![Layer::Linear { inputs: 7, outputs: 1 }], &mut rng());
    model.discriminator = Some(Discriminator { derived: Derived::default(), net });
    let bytes = crate::export::safetensors(&model, &origin()).unwrap();
    assert_eq!(bytes, crate::export::safetensors(&model, &origin()).unwrap());
    let file = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("components.2.0.weight").unwrap().shape(), [4, 8]);
    assert!(file.names().iter().all(|name| !name.starts_with("discriminator")));
    let (_, metadata) = ::safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let entry = &metadata.metadata().as_ref().unwrap()["pgan_pipe"];
    let described: serde_json::Value = serde_json::from_str(entry).unwrap();
    assert_eq!(described["latent"], 5);
    assert_eq!(described["model"]["ratios"][1]["strata"]["edges"][1], 600.0);
}
