// Exact on purpose: these numbers are copied or representable.
#![allow(clippy::float_cmp)]

use std::{f32::consts::LN_10, f64::consts::PI};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{data::normal, rng::Streams};

fn names() -> Vec<String> {
    dijet::FEATURES.map(str::to_owned).to_vec()
}

fn rng() -> ChaCha8Rng {
    Streams::new(1, "test").stream("signs")
}

fn embedded() -> Table {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dijet/train.parquet");
    crate::data::read_table(path.as_ref(), None).unwrap()
}

fn fitted() -> Coordinates {
    let standard = [(0.1, 0.9), (-0.1, 1.1), (-1.8, 0.7), (-1.7, 0.6), (-0.1, 1.1), (0.0, 0.8), (0.0, 0.5)];
    Coordinates::Dijet { means: standard.map(|(mean, _)| mean), deviations: standard.map(|(_, d)| d) }
}

prop_compose! {
    fn dijet_event()(
        pt2 in 250.0f32..6000.0, ratio in 1.0f32..2.0, m1 in 0.0f32..600.0, m2 in 0.0f32..600.0,
        eta1 in -2.49f32..2.49, eta2 in -2.49f32..2.49, phi in -3.1f32..3.1,
    ) -> [f32; 7] {
        [pt2 * ratio, eta1, m1, pt2, eta2, phi, m2]
    }
}

proptest! {
    #[test]
    fn decoding_undoes_encoding_of_dijet_events(events in vec(dijet_event(), 1..50)) {
        let table = Table::from_rows(names(), events.as_flattened()).unwrap();
        let rows = fitted().encode(&table).unwrap();
        let back = fitted().decode(&rows, &names(), &mut rng()).unwrap();
        for (name, tolerance) in dijet::FEATURES.iter().zip([0.01, 1e-4, 0.01, 0.01, 1e-4, 1e-4, 0.01]) {
            for (&x, &y) in table.column(name).unwrap().iter().zip(back.column(name).unwrap()) {
                let (x, y) = if *name == "ljet2_phi" { (x.abs(), y.abs()) } else { (x, y) };
                prop_assert!((x - y).abs() < tolerance, "{name}: {x} came back as {y}");
            }
        }
    }

    #[test]
    fn any_finite_row_decodes_to_a_physical_event(row in vec(any::<f32>(), 7), scale in 0.0f32..1.0) {
        let wild: Vec<f32> = row.iter().map(|y| if y.is_finite() { *y } else { f32::MAX }).collect();
        let mild: Vec<f32> = wild.iter().map(|y| y.clamp(-20.0, 20.0) * scale).collect();
        for row in [wild, mild] {
            let table = fitted().decode(&row, &names(), &mut rng()).unwrap();
            let events = dijet::Columns::of(&table).unwrap();
            let [pt1, eta1, m1, pt2, eta2, phi2, m2] = events.event(0);
            prop_assert!(pt1 >= pt2 && pt2 >= 250.0 && m1 >= 0.0 && m2 >= 0.0);
            prop_assert!(phi2.abs() <= PI && eta1.abs() < 2.5 && eta2.abs() < 2.5);
            prop_assert!([pt1, m1, m2].iter().all(|x| x.is_finite()));
            // And what was decoded can be encoded again.
            prop_assert!(fitted().encode(&table).is_ok());
        }
    }
}

#[test]
fn the_embedded_events_encode_to_mean_zero_and_deviation_one() {
    let events = embedded();
    let choice = CoordinatesChoice::Named(NamedCoordinates::Dijet);
    let coordinates = Coordinates::fit(&choice, &Events::of(&events).unwrap(), &[], &Scratch::memory()).unwrap();
    let rows = coordinates.encode(&events).unwrap();
    for i in 0..7 {
        let column: Vec<f64> = rows.iter().skip(i).step_by(7).copied().map(f64::from).collect();
        let mean = column.iter().sum::<f64>() / column.len() as f64;
        let square = column.iter().map(|y| y * y).sum::<f64>() / column.len() as f64;
        let mean_bound = if i < 5 { 1e-6 } else { 0.02 };
        assert!(mean.abs() < mean_bound && (square - 1.0).abs() < 1e-5, "coordinate {i}: {mean}, {square}");
    }
    let Coordinates::Dijet { means, .. } = coordinates else { panic!("not dijet coordinates") };
    assert_eq!(means[5..], [0.0, 0.0]);
}

#[test]
fn dijet_coordinates_follow_their_formulas() {
    // The formulas of the module `dijet`, by hand with scipy.special.ndtri.
    let event = [f32::exp(0.5) * 500.0, 0.5, 99.0, 500.0, -1.0, 3.0, 49.0];
    let table = Table::from_rows(names(), &event).unwrap();
    let plain = Coordinates::Dijet { means: [0.0; 7], deviations: [1.0; 7] };
    let expected = [1.653_541, 2.303_856, -2.109_438, -LN_10, 0.281_698, -0.135_520, 0.388_857];
    for (value, expected) in plain.encode(&table).unwrap().iter().zip(expected) {
        assert!((value - expected).abs() < 3e-6, "{value} for {expected}");
    }
}

#[test]
fn no_event_piles_up_at_an_edge_that_scores_do_not_have() {
    // Normal scores: about as many events within 0.001 of φ = π as the exponential density says, and none at it.
    let scores: Vec<f32> = (0..20_000).map(|i| normal::quantile((f64::from(i) + 0.5) / 20_000.0) as f32).collect();
    let rows: Vec<f32> = scores.iter().flat_map(|&x| [x; 7]).collect();
    let plain = Coordinates::Dijet { means: [0.0; 7], deviations: [1.0; 7] };
    let events = plain.decode(&rows, &names(), &mut rng()).unwrap();
    let near = |name: &str, edge: f64, reach: f64| {
        let column = events.column(name).unwrap();
        column.iter().filter(|&&x| (f64::from(x.abs()) - edge).abs() < reach).count() as f64 / 20_000.0
    };
    let edges: [(&str, f64, f64, f64); 2] = [("ljet2_phi", PI, 1e-3, 0.15), ("ljet2_pt", 250.0, 0.5, 0.23 * 250.0)];
    for (name, edge, reach, scale) in edges {
        let expected = 1.0 - (-reach / scale).exp();
        assert!(
            (near(name, edge, reach) / expected - 1.0).abs() < 0.05,
            "{name}: {} for {expected}",
            near(name, edge, reach)
        );
        assert!(near(name, edge, reach / 100.0) < 0.02 * expected, "{name} piles up at {edge}");
    }
}

#[test]
fn the_sign_of_phi_is_drawn_evenly_and_reproducibly() {
    let rows = vec![0.0; 7 * 4000];
    let table = fitted().decode(&rows, &names(), &mut rng()).unwrap();
    let negative = table.column("ljet2_phi").unwrap().iter().filter(|&&phi| phi < 0.0).count();
    assert!((1850..2150).contains(&negative), "{negative} of 4000");
    assert_eq!(table, fitted().decode(&rows, &names(), &mut rng()).unwrap());
}

#[test]
fn the_order_of_the_features_is_free() {
    let events = embedded().rows(&[0, 1, 2]);
    let mut turned = names();
    turned.reverse();
    let rows = fitted().encode(&events).unwrap();
    assert_eq!(fitted().encode(&events.select(&turned).unwrap()).unwrap(), rows);
    let back = fitted().decode(&rows, &turned, &mut rng()).unwrap();
    assert_eq!(back.select(&names()).unwrap(), fitted().decode(&rows, &names(), &mut rng()).unwrap());
}

#[test]
fn events_outside_the_domain_are_errors_that_say_where_and_why() {
    let choice = CoordinatesChoice::Named(NamedCoordinates::Dijet);
    let good = [300.0, 0.0, 10.0, 260.0, 0.0, 3.0, 10.0];
    for (place, value, says) in [
        (3, 249.0, "`ljet2_pt` is 249"),
        (0, 255.0, "`ljet1_pt` is 255"),
        (1, 2.6, "`ljet1_eta`"),
        (5, 6.1, "`ljet2_phi`"),
        (6, -3.0, "`ljet2_M`"),
    ] {
        let mut bad = good;
        bad[place] = value;
        let table = Table::from_rows(names(), &[good, bad].concat()).unwrap();
        let message = choice.check(&table, None).unwrap_err().to_string();
        assert!(message.contains("row 2") && message.contains(says), "{message}");
        assert!(fitted().encode(&table).is_err());
    }
    let message = choice.check(&embedded().select(&names()[1..]).unwrap(), None).unwrap_err().to_string();
    assert!(message.contains("takes exactly the features ljet1_pt"), "{message}");
}

#[test]
fn rows_that_are_not_finite_are_refused() {
    assert!(fitted().decode(&[f32::NAN; 7], &names(), &mut rng()).is_err());
    assert!(fitted().decode(&[0.0; 8], &names(), &mut rng()).is_err());
}

#[test]
fn a_map_for_each_column_is_taken_by_name_and_the_rest_is_standardised() {
    let choice: CoordinatesChoice = serde_json::from_str(r#"{"b": "log"}"#).unwrap();
    let events = Events::new(vec!["a".into(), "b".into()], vec![-1.0, 1.0, 3.0, 100.0].into()).unwrap();
    let coordinates = Coordinates::fit(&choice, &events, &["a".into()], &Scratch::memory()).unwrap();
    let Coordinates::Columns(maps) = &coordinates else { panic!("not a map for each column") };
    assert_eq!(maps[0], ColumnMap::Standard { mean: 0.0, deviation: 5.0f64.sqrt() });
    assert!(matches!(maps[1], ColumnMap::Log { .. }));
    let json = serde_json::to_string(&coordinates).unwrap();
    assert_eq!(serde_json::from_str::<Coordinates>(&json).unwrap(), coordinates);
    let unknown: CoordinatesChoice = serde_json::from_str(r#"{"c": "log"}"#).unwrap();
    let refused = Coordinates::fit(&unknown, &events, &[], &Scratch::memory());
    assert!(matches!(refused, Err(DataError::NoColumn { .. })));
}
