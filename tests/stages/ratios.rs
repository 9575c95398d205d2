//! Density ratios: reweighting, post-stratification, and what may follow them.

use super::*;

#[test]
fn reweighting_brings_a_model_closer_to_the_data_and_makes_events_without_weights() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let base = shop.frozen(&data, 100);
    let fields = serde_json::json!({
        "model": "m", "data": "d", "steps": 400, "batch": 128, "classifier": { "layers": [16, 16] },
        "strata": { "shares": [0.5, 0.5] }, "optimizer": { "rate": 5e-3 }, "ema": 0.98,
    });
    let (reweighted, metrics) = shop.run("reweight", fields.clone(), &[("model", &base), ("data", &data)]);
    assert_eq!(metrics["declined"], 0.0);
    assert!(metrics["held_out_gain"] > 0.01 && metrics["ratio.kept"] > 0.05, "{metrics:?}");
    let (again, _) = shop.run("reweight", fields, &[("model", &base), ("data", &data)]);
    assert_eq!(bytes(&reweighted), bytes(&again));

    // It can be frozen like any model, and judged.
    let (frozen, _) = shop.run("freeze", serde_json::json!({ "model": "m" }), &[("model", &reweighted)]);
    assert_eq!(StoredModel::load(&frozen).unwrap().ratios.len(), 1);
    let fields = serde_json::json!({ "data": "d", "models": ["base", "frozen"], "events": 20000 });
    let (_, metrics) = shop.run("evaluate", fields, &[("data", &data), ("models", &base), ("models", &frozen)]);
    let chi2 = |model: usize| metrics[&format!("models[{model}].chi2_ndf_mean")];
    assert!(chi2(1) < 0.5 * chi2(0), "χ²/NDF {} reweighted, {} before", chi2(1), chi2(0));
}

#[test]
fn a_ratio_that_knows_nothing_is_declined_and_the_model_stands() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let base = shop.frozen(&data, 5);
    let fields = serde_json::json!({
        "model": "m", "data": "d", "steps": 1, "batch": 16, "optimizer": { "rate": 1e-9 }, "pool": 100,
    });
    let (same, metrics) = shop.run("reweight", fields, &[("model", &base), ("data", &data)]);
    assert_eq!(metrics["declined"], 1.0);
    let mut files = bytes(&same);
    assert!(files.remove("history.json").is_some(), "beside the curves");
    assert_eq!(files, bytes(&base));
    assert!(shop.notices.iter().any(|notice| notice.starts_with("reweighting declined")), "{:?}", shop.notices);
}

#[test]
fn post_stratification_gives_the_tail_the_mass_that_it_has_in_the_data() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let base = shop.frozen(&data, 100);
    let fields = serde_json::json!({ "model": "m", "data": "d", "ceiling": 1000 });
    let (stratified, metrics) = shop.run("post_stratify", fields, &[("model", &base), ("data", &data)]);
    let stored = StoredModel::load(&stratified).unwrap();
    assert!(matches!(stored.ratios.as_slice(), [Ratio { factor: Factor::Strata(_), .. }]));
    assert!((metrics["strata[1].factor"] - metrics["strata[1].real"] / metrics["strata[1].model"]).abs() < 1e-9);

    let fields = serde_json::json!({ "data": "d", "models": ["m", "s"], "events": 50000, "metrics": ["tail"] });
    let inputs = [("data", &data), ("models", &base), ("models", &stratified)];
    let (_, judged) = shop.run("evaluate", fields, &inputs);
    let miss = |model: usize| judged[&format!("models[{model}].tail_mass_ratio")].ln().abs();
    assert!(miss(1) < 0.15 && miss(1) < miss(0), "{} after, {} before", miss(1), miss(0));
}

#[test]
fn a_component_cannot_be_added_to_a_reweighted_model() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let base = shop.frozen(&data, 30);
    let mut stored = StoredModel::load(&base).unwrap();
    let classifier = stored.discriminator.clone().unwrap();
    stored.ratios.push(Ratio { factor: Factor::Classifier(classifier), offset: 0.0, ceiling: 1.0 });
    let folder = shop.folder.path().join("reweighted");
    fs::create_dir(&folder).unwrap();
    stored.save(&folder).unwrap();
    let base = Artifact { kind: base.kind, files: files(&folder) };
    assert_eq!(StoredModel::load(&base).unwrap(), stored, "a ratio comes back as it was written");
    let fields = serde_json::json!({ "data": "d", "like": "l", "method": "copy" });
    let (candidate, _) = shop.run("pretrain_tail", fields, &[("data", &data), ("like", &base)]);
    let fields = serde_json::json!({ "base": "b", "candidate": "c", "data": "d", "steps": 2, "batch": 16 });
    let inputs = [("base", &base), ("candidate", &candidate), ("data", &data)];
    let error = shop.try_run(1, "boost", fields, &inputs).unwrap_err().to_string();
    assert!(error.contains("boost first, then reweight"), "{error}");
}
