//! Every stage kind with its options, run in small on the device that `PGAN_TEST_DEVICE` names (`cpu` if unset).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use pgan_pipe::{
    data::Scratch,
    device::DeviceName,
    model::{Factor, Ratio, StoredModel},
    rng::Streams,
    stage::{Artifact, Context, Metrics, Progress, Stage, StageError},
};
use tempfile::TempDir;

mod ratios;

/// Runs stages into folders of a temporary directory.
struct Workshop {
    folder: TempDir,
    made: usize,
    notices: Vec<String>,
    scratch: Scratch,
}

impl Workshop {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), made: 0, notices: Vec::new(), scratch: Scratch::memory() }
    }

    fn try_run(
        &mut self,
        seed: u64,
        kind: &str,
        yaml_as_json: serde_json::Value,
        inputs: &[(&str, &Artifact)],
    ) -> Result<(Artifact, Metrics), StageError> {
        let stage = Stage::deserialize(kind, yaml_as_json).unwrap().unwrap();
        assert_eq!(stage.problems(), []);
        self.made += 1;
        let out = self.folder.path().join(format!("{}-{kind}", self.made));
        fs::create_dir(&out).unwrap();
        let mut by_role: BTreeMap<String, Vec<Artifact>> = BTreeMap::new();
        for (role, artifact) in inputs {
            by_role.entry((*role).to_owned()).or_default().push((*artifact).clone());
        }
        let device: DeviceName = std::env::var("PGAN_TEST_DEVICE").as_deref().unwrap_or("cpu").parse().unwrap();
        let notices = &mut self.notices;
        let mut context = Context {
            inputs: by_role,
            sources: stage.sources().iter().map(|source| (source.field.to_owned(), source.path.to_owned())).collect(),
            streams: Streams::new(seed, kind),
            device,
            out: out.clone(),
            scratch: self.scratch.clone(),
            checkpoints: pgan_pipe::train::checkpoint::Checkpoints::none(),
            recorder: pgan_pipe::train::history::Recorder::default(),
            progress: &mut |progress| {
                if let Progress::Notice { message } = progress {
                    notices.push(message);
                }
            },
        };
        let metrics = stage.run(&mut context)?;
        Ok((Artifact { kind: stage.produces(), files: files(&out) }, metrics))
    }

    fn run(&mut self, kind: &str, fields: serde_json::Value, inputs: &[(&str, &Artifact)]) -> (Artifact, Metrics) {
        self.try_run(1, kind, fields, inputs).unwrap()
    }

    fn heavy_tail(&mut self) -> Artifact {
        let fields = serde_json::json!({
            "synthetic": { "density": "pareto", "index": 3.0, "dimensions": 2, "events": 4000 },
            "coordinates": { "x0": "log" },
            "tail": { "observable": "x0", "quantile": 0.9 },
        });
        self.run("dataset", fields, &[]).0
    }

    fn frozen(&mut self, data: &Artifact, steps: u64) -> Artifact {
        let fields = serde_json::json!({
            "data": "d", "steps": steps, "batch": 64, "optimizer": { "rate": 2e-3 },
            "generator": { "layers": [16, 16], "latent": 4 }, "discriminator": { "layers": [16, 16] },
        });
        let (base, _) = self.run("train_gan", fields, &[("data", data)]);
        self.run("freeze", serde_json::json!({ "model": "m" }), &[("model", &base)]).0
    }
}

fn files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path())).collect()
}

fn bytes(artifact: &Artifact) -> BTreeMap<String, Vec<u8>> {
    artifact.files.iter().map(|(name, path)| (name.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn every_loss_and_architecture_trains_to_finite_weights() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    for architecture in ["mlp", "precisegan_fc", "precisegan_cnn"] {
        for loss in ["relativistic", "non_saturating", "wgan_gp"] {
            let dropout = if loss == "wgan_gp" { 0.0 } else { 0.2 };
            let fields = serde_json::json!({
                "data": "d", "steps": 4, "batch": 32, "loss": { "kind": loss },
                "generator": { "architecture": architecture, "layers": [16], "latent": 8 },
                "discriminator": { "architecture": architecture, "layers": [16], "dropout": dropout },
            });
            let (model, metrics) = shop.run("train_gan", fields, &[("data", &data)]);
            assert!(metrics["generator.parameters"] > 0.0);
            // Loading checks that every weight is finite.
            StoredModel::load(&model).unwrap();
            let (frozen, _) = shop.run("freeze", serde_json::json!({ "model": "m" }), &[("model", &model)]);
            StoredModel::load(&frozen).unwrap();
        }
    }
}

#[test]
fn tempered_strata_train_and_boost_under_every_loss() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let base = shop.frozen(&data, 5);
    let fields = serde_json::json!({ "data": "d", "like": "l", "method": "copy" });
    let (candidate, _) = shop.run("pretrain_tail", fields, &[("data", &data), ("like", &base)]);
    for loss in ["relativistic", "non_saturating", "wgan_gp"] {
        let mut train = |weights: &str| {
            let fields = serde_json::json!({
                "data": "d", "steps": 6, "batch": 64, "loss": { "kind": loss },
                "strata": { "shares": [0.5, 0.5], "weights": weights, "power": 0.5 },
                "generator": { "layers": [16] }, "discriminator": { "layers": [16] },
            });
            shop.run("train_gan", fields, &[("data", &data)])
        };
        let ((tempered, metrics), (exact, exact_metrics)) = (train("tempered"), train("exact"));
        assert_ne!(bytes(&tempered)["model.safetensors"], bytes(&exact)["model.safetensors"]);
        assert!(metrics["reals.effective_share"] > exact_metrics["reals.effective_share"]);
        let fields = serde_json::json!({
            "base": "b", "candidate": "c", "data": "d", "steps": 6, "batch": 64, "loss": { "kind": loss },
            "mixture": { "initial": 0.2 }, "strata": { "shares": [0.5, 0.5], "weights": "tempered" },
        });
        shop.run("boost", fields, &[("base", &base), ("candidate", &candidate), ("data", &data)]);
    }
}

#[test]
fn every_optimizer_and_schedule_trains() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    for kind in ["adam", "rmsprop", "sgd"] {
        for schedule in ["cosine", "linear", "constant"] {
            let fields = serde_json::json!({
                "data": "d", "steps": 3, "batch": 32,
                "generator": { "layers": [8] }, "discriminator": { "layers": [8] },
                "optimizer": { "kind": kind, "schedule": schedule, "rate": 1e-3, "beta1": 0.5, "warmup": 2 },
            });
            shop.run("train_gan", fields, &[("data", &data)]);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let fields = serde_json::json!({
        "data": "d", "steps": 20, "batch": 64, "strata": { "shares": [0.5, 0.5] },
        "generator": { "layers": [16, 16], "latent": 4 }, "discriminator": { "layers": [16, 16], "dropout": 0.1 },
    });
    let mut train = |seed| bytes(&shop.try_run(seed, "train_gan", fields.clone(), &[("data", &data)]).unwrap().0);
    let first = train(1);
    assert_eq!(first, train(1));
    assert_ne!(first["model.safetensors"], train(2)["model.safetensors"]);
}

#[test]
fn training_brings_the_generator_closer_to_the_data() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let (short, long) = (shop.frozen(&data, 1), shop.frozen(&data, 400));
    let fields = serde_json::json!({ "data": "d", "models": ["short", "long"] });
    let (_, metrics) = shop.run("evaluate", fields, &[("data", &data), ("models", &short), ("models", &long)]);
    let chi2 = |model: usize| metrics[&format!("models[{model}].chi2_ndf_mean")];
    assert!(chi2(1) < 0.5 * chi2(0), "χ²/NDF {} after 400 steps, {} after one", chi2(1), chi2(0));
}

#[test]
fn every_pretraining_puts_more_events_into_the_tail_than_the_base_does() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let base = shop.frozen(&data, 100);
    for (method, moments) in [("vae", "mmd"), ("moment_matching", "mmd"), ("moment_matching", "crude")] {
        let fields = serde_json::json!({
            "data": "d", "like": "l", "method": method, "moments": moments, "steps": 200, "batch": 64,
            "optimizer": { "rate": 5e-3 },
        });
        let (_, metrics) = shop.run("pretrain_tail", fields, &[("data", &data), ("like", &base)]);
        assert!(metrics["tail.mass"] > 0.5, "{method} {moments}: {metrics:?}");
    }
}

#[test]
fn a_copy_is_the_base_itself() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let base = shop.frozen(&data, 5);
    let fields = serde_json::json!({ "data": "d", "like": "l", "method": "copy" });
    let (copy, _) = shop.run("pretrain_tail", fields, &[("data", &data), ("like", &base)]);
    let generator = |artifact| StoredModel::load(artifact).unwrap().components.swap_remove(0).generator;
    assert_eq!(generator(&copy), generator(&base));
}

#[test]
fn boosting_adds_a_component_and_its_weights_sum_to_one_under_every_rule() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let base = shop.frozen(&data, 5);
    let fields = serde_json::json!({ "data": "d", "like": "l", "method": "none" });
    let (candidate, _) = shop.run("pretrain_tail", fields, &[("data", &data), ("like", &base)]);
    for learn in ["moments", "em", "adversarial", "fixed", "fully_corrective"] {
        for loss in ["relativistic", "non_saturating", "wgan_gp"] {
            let fields = serde_json::json!({
                "base": "b", "candidate": "c", "data": "d", "steps": 20, "batch": 64, "loss": { "kind": loss },
                "mixture": { "learn": learn, "initial": 0.3, "every": 5, "warmup": 0.1 },
                "strata": { "shares": [0.5, 0.5] }, "accept": "always",
            });
            let inputs = [("base", &base), ("candidate", &candidate), ("data", &data)];
            let (boosted, metrics) = shop.run("boost", fields, &inputs);
            let model = StoredModel::load(&boosted).unwrap();
            assert_eq!(model.components.len(), 2);
            let sum: f64 = model.components.iter().map(|component| component.weight).sum();
            assert!((sum - 1.0).abs() < 1e-12);
            assert_eq!(model.components[1].weight, metrics["q"]);
            assert_eq!(metrics["q"] == 0.3, learn == "fixed");
        }
    }
}

#[test]
fn boosting_declines_and_says_so_where_the_base_overproduces_the_tail() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    // A "base" that has learnt nothing but the tail.
    let untrained = shop.frozen(&data, 1);
    let fields = serde_json::json!({
        "data": "d", "like": "l", "method": "moment_matching", "steps": 200, "batch": 64, "optimizer": { "rate": 5e-3 },
    });
    let (tail_only, _) = shop.run("pretrain_tail", fields, &[("data", &data), ("like", &untrained)]);
    let mut base = StoredModel::load(&untrained).unwrap();
    base.components = StoredModel::load(&tail_only).unwrap().components;
    let folder = shop.folder.path().join("tail-heavy");
    fs::create_dir(&folder).unwrap();
    base.save(&folder).unwrap();
    let base = Artifact { kind: untrained.kind, files: files(&folder) };

    let fields = serde_json::json!({ "base": "b", "candidate": "c", "data": "d", "steps": 20, "batch": 64 });
    let (boosted, metrics) = shop.run("boost", fields, &[("base", &base), ("candidate", &tail_only), ("data", &data)]);
    assert_eq!((metrics["declined"], metrics["q"]), (1.0, 0.0));
    assert_eq!(bytes(&boosted), bytes(&base), "the base stands unchanged");
    assert!(shop.notices.iter().any(|notice| notice.starts_with("boosting declined")), "{:?}", shop.notices);
}

#[test]
fn a_diverging_training_is_an_error_that_says_what_to_do() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let fields = serde_json::json!({
        "data": "d", "steps": 60, "batch": 32, "optimizer": { "kind": "sgd", "rate": 1e30 },
        "generator": { "layers": [8] }, "discriminator": { "layers": [8] },
    });
    let error = shop.try_run(1, "train_gan", fields, &[("data", &data)]).unwrap_err().to_string();
    assert!(error.contains("diverged") && error.contains("optimizer.rate"), "{error}");
}

#[test]
fn a_weighted_truth_judges_models_and_has_the_test_events_for_its_floor() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let model = shop.frozen(&data, 5);
    // The Pareto law of the events above 1.5, P(x0 > x) = x⁻³, in 500 events of equal weight; all events have 2 pb.
    let share = 1.5_f64.powi(-3);
    let event =
        |i: u32| format!("{},{}\n", (share * (f64::from(i) + 0.5) / 500.0).powf(-1.0 / 3.0), 2.0 * share / 500.0);
    let path = shop.folder.path().join("truth.csv");
    fs::write(&path, format!("x0,weight\n{}", (0..500).map(event).collect::<String>())).unwrap();
    let fields = serde_json::json!({
        "data": "d", "models": ["m"], "metrics": ["truth", "ks"],
        "truth": {
            "file": path, "observable": "x0", "weight": "weight", "edges": [1.5, 2.0, 3.0, 5.0], "cross_section": 2.0,
            "normalisation": 0.01
        },
    });
    let (_, metrics) = shop.run("evaluate", fields, &[("data", &data), ("models", &model)]);
    assert!(metrics["floor.truth_chi2_ndf"] < 4.0 && metrics["floor.truth_w1"] < 0.2, "{metrics:?}");
    assert!(metrics["models[0].truth_chi2_ndf"] > metrics["floor.truth_chi2_ndf"], "five steps make no generator");
    assert!((metrics["floor.truth_ratio.1.5"] - 1.0).abs() < 0.5);
    assert!(metrics["floor.truth_w1_low"] <= metrics["floor.truth_w1"]);
    assert!(metrics.keys().all(|name| !name.contains("chi2_ndf.") && !name.contains("tail")), "only what was chosen");
}

#[test]
fn training_goes_on_from_a_start_with_its_nets() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let fields = |steps: u64, rate: f64| {
        serde_json::json!({
            "data": "d", "steps": steps, "batch": 64, "optimizer": { "rate": rate },
            "generator": { "layers": [16, 16], "latent": 4 }, "discriminator": { "layers": [8, 8] },
        })
    };
    let (base, _) = shop.run("train_gan", fields(5, 2e-3), &[("data", &data)]);
    // A rate of next to nothing shows what the training started from.
    let mut go_on = fields(1, 1e-30);
    go_on["start"] = "base".into();
    go_on["ema"] = 0.0.into();
    let (same, _) = shop.run("train_gan", go_on.clone(), &[("data", &data), ("start", &base)]);
    let (before, after) = (StoredModel::load(&base).unwrap(), StoredModel::load(&same).unwrap());
    assert_eq!(before, after);

    for (net, layers) in [("generator", [16, 8]), ("discriminator", [16, 8])] {
        let mut other = go_on.clone();
        other[net]["layers"] = serde_json::json!(layers);
        let error = shop.try_run(1, "train_gan", other, &[("data", &data), ("start", &base)]).unwrap_err();
        assert!(error.to_string().contains(&format!("leave `{net}` out")), "{error}");
    }
    let left_out = serde_json::json!({ "data": "d", "steps": 1, "batch": 64, "start": "base" });
    let (longer, _) = shop.run("train_gan", left_out, &[("data", &data), ("start", &base)]);
    assert_eq!(
        StoredModel::load(&longer).unwrap().components[0].generator.layers,
        before.components[0].generator.layers
    );
}

/// Values of x0 that a model makes.
fn drawn(model: &Artifact, events: usize) -> Vec<f32> {
    let model = pgan_pipe::model::Model::load(model, DeviceName::Cpu).unwrap();
    let events = model.sample(events, &mut Streams::new(1, "sample").stream("events")).unwrap();
    events.column("x0").unwrap().to_vec()
}

#[test]
fn a_splice_takes_its_bulk_from_one_model_and_its_tail_from_another() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let mut part = |region: &str| {
        let fields = serde_json::json!({
            "data": "d", "steps": 150, "batch": 64, "region": region, "optimizer": { "rate": 2e-3 },
            "generator": { "layers": [16, 16], "latent": 4 }, "discriminator": { "layers": [16, 16] },
        });
        shop.run("train_gan", fields, &[("data", &data)]).0
    };
    let (bulk, tail) = (part("bulk"), part("tail"));
    let fields = serde_json::json!({ "bulk": "b", "tail": "t", "data": "d" });
    let inputs = [("bulk", &bulk), ("tail", &tail), ("data", &data)];
    let (spliced, metrics) = shop.run("splice", fields.clone(), &inputs);
    let (frozen, _) = shop.run("freeze", serde_json::json!({ "model": "m" }), &[("model", &spliced)]);
    let cut = StoredModel::load(&frozen).unwrap().components[0].windows[0].cut as f32;
    let share = |values: &[f32]| values.iter().filter(|&&x| x > cut).count() as f64 / values.len() as f64;
    let found = share(&drawn(&frozen, 20_000));
    assert!((found - metrics["tail.mass"]).abs() < 0.008, "{found} is not {}", metrics["tail.mass"]);
    assert!(share(&drawn(&tail, 2000)) > 0.5 && share(&drawn(&bulk, 2000)) < 0.2);
    // Paired: below the cut, what the splice takes over from the bulk model stands at the same place.
    let (a, b) = (drawn(&frozen, 2000), drawn(&bulk, 2000));
    assert!(a.iter().zip(&b).filter(|(a, b)| a == b).count() > 1200);

    let judge = serde_json::json!({ "data": "d", "models": ["bulk", "spliced"] });
    let (_, judged) = shop.run("evaluate", judge, &[("data", &data), ("models", &bulk), ("models", &spliced)]);
    let miss = |model: usize| (judged[&format!("models[{model}].tail_mass_ratio")] - 1.0).abs();
    assert!(miss(1) < miss(0), "{judged:?}");

    // A splice of a splice keeps all windows; sides that make nothing there are refused.
    let again = [("bulk", &frozen), ("tail", &tail), ("data", &data)];
    let (twice, _) = shop.run("splice", fields.clone(), &again);
    assert_eq!(StoredModel::load(&twice).unwrap().components[0].windows.len(), 2);
    let only_bulk = {
        let mut model = StoredModel::load(&frozen).unwrap();
        model.components.truncate(1);
        model.components[0].weight = 1.0;
        let folder = shop.folder.path().join("only-bulk");
        fs::create_dir(&folder).unwrap();
        model.save(&folder).unwrap();
        Artifact { kind: frozen.kind, files: files(&folder) }
    };
    let wrong = [("bulk", &bulk), ("tail", &only_bulk), ("data", &data)];
    let error = shop.try_run(1, "splice", fields, &wrong).unwrap_err().to_string();
    assert!(error.contains("`region: tail`"), "{error}");
}

/// A base that has seen no tail, frozen, and a candidate that has learnt it.
fn tailless_base_and_candidate(shop: &mut Workshop, data: &Artifact) -> (Artifact, Artifact) {
    let fields = serde_json::json!({
        "data": "d", "steps": 150, "batch": 64, "region": "bulk", "optimizer": { "rate": 2e-3 },
        "generator": { "layers": [16, 16], "latent": 4 }, "discriminator": { "layers": [16, 16] },
    });
    let (base, _) = shop.run("train_gan", fields, &[("data", data)]);
    let (base, _) = shop.run("freeze", serde_json::json!({ "model": "m" }), &[("model", &base)]);
    let fields = serde_json::json!({
        "data": "d", "like": "l", "method": "moment_matching", "steps": 300, "batch": 64, "optimizer": { "rate": 5e-3 },
    });
    let (candidate, _) = shop.run("pretrain_tail", fields, &[("data", data), ("like", &base)]);
    (base, candidate)
}

#[test]
fn a_mix_gives_a_base_without_a_tail_what_it_lacks_under_every_rule() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let (base, candidate) = tailless_base_and_candidate(&mut shop, &data);
    let inputs = [("base", &base), ("candidate", &candidate), ("data", &data)];
    for learn in ["moments", "line_search", "fully_corrective"] {
        let fields = serde_json::json!({
            "base": "b", "candidate": "c", "data": "d", "mixture": { "learn": learn }, "accept": "significant",
        });
        let (mixed, metrics) = shop.run("mix", fields, &inputs);
        assert_eq!(metrics["declined"], 0.0, "{learn}: {metrics:?} {:?}", shop.notices);
        assert!(
            metrics["validation.gain.low"] > 0.0 && metrics["q"] > 0.01 && metrics["q"] < 0.3,
            "{learn}: {metrics:?}"
        );
        let model = StoredModel::load(&mixed).unwrap();
        assert!(model.discriminator.is_some() && model.components[1].weight == metrics["q"]);
        let fields = serde_json::json!({
            "base": "b", "candidate": "c", "data": "d", "steps": 10, "batch": 64, "optimizer": { "rate": 1e-5 },
            "mixture": { "learn": learn, "every": 5 },
        });
        let (boosted, after) = shop.run("boost", fields, &inputs);
        assert_eq!(StoredModel::load(&boosted).unwrap().components.len(), 2);
        assert!((after["q"] / metrics["q"] - 1.0).abs() < 0.2, "{learn}: {} after {}", after["q"], metrics["q"]);
        for watched in ["d_real_tail", "d_fake_tail", "d_real_bulk", "d_fake_bulk", "candidate_share_of_tail"] {
            assert!(after[&format!("last.{watched}")].is_finite());
        }
        if learn == "moments" {
            assert!((metrics["tail.mixture"] - metrics["tail.real"]).abs() < 1e-9);
        }
    }
}

#[test]
fn a_mixture_without_gain_on_validation_events_is_declined_and_the_base_stands() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let (base, candidate) = tailless_base_and_candidate(&mut shop, &data);
    let (good, _) = {
        let fields = serde_json::json!({ "base": "b", "candidate": "c", "data": "d" });
        shop.run("mix", fields, &[("base", &base), ("candidate", &candidate), ("data", &data)])
    };
    let (good, _) = shop.run("freeze", serde_json::json!({ "model": "m" }), &[("model", &good)]);
    let inputs = [("base", &good), ("candidate", &candidate), ("data", &data)];
    let mixture = serde_json::json!({ "learn": "fixed", "initial": 0.6 });
    for accept in ["validation", "significant", "always"] {
        let fields = serde_json::json!({
            "base": "b", "candidate": "c", "data": "d", "mixture": mixture, "accept": accept,
        });
        let (found, metrics) = shop.run("mix", fields, &inputs);
        assert!(metrics["validation.gain"] < 0.0, "{metrics:?}");
        let declined = accept != "always";
        assert_eq!((metrics["declined"] == 1.0, bytes(&found) == bytes(&good)), (declined, declined));
        assert_eq!(StoredModel::load(&found).unwrap().components.len(), if declined { 2 } else { 3 });
    }
    assert!(shop.notices.iter().any(|notice| notice.contains("no gain")), "{:?}", shop.notices);
    let search = serde_json::json!({ "base": "b", "candidate": "c", "data": "d", "mixture": { "learn": "line_search", "initial": 0.3 } });
    let (_, metrics) = shop.run("mix", search, &inputs);
    assert!(metrics["q"] < 0.05, "{metrics:?}");
}

#[test]
fn candidates_on_reweighted_data_learn_what_the_base_lacks() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let (base, _) = tailless_base_and_candidate(&mut shop, &data);
    for method in ["adagan", "residual"] {
        let fields = serde_json::json!({
            "data": "d", "like": "l", "method": method, "weight": 0.1, "steps": 300, "classifier_steps": 400, "batch": 64,
            "optimizer": { "rate": 2e-3 },
        });
        let inputs = [("data", &data), ("like", &base)];
        let (candidate, metrics) = shop.run("pretrain_tail", fields.clone(), &inputs);
        assert!(metrics["weights.tail_mass"] > 0.25 && metrics["weights.kept_share"] < 0.9, "{method}: {metrics:?}");
        assert!(metrics["tail.mass"] > 0.2, "{method}: {metrics:?}");
        assert_eq!(
            bytes(&shop.run("pretrain_tail", fields, &inputs).0),
            bytes(&candidate),
            "the same seed, the same bytes"
        );
        let fields = serde_json::json!({
            "base": "b", "candidate": "c", "data": "d", "mixture": { "learn": "fixed", "initial": 0.1 },
        });
        let (_, mixed) = shop.run("mix", fields, &[("base", &base), ("candidate", &candidate), ("data", &data)]);
        assert_eq!(mixed["declined"], 0.0, "{method}: {mixed:?}");
    }
}

#[test]
fn an_inversion_finds_latent_vectors_of_the_tail_and_training_draws_from_them() {
    let mut shop = Workshop::new();
    let data = shop.heavy_tail();
    let base = shop.frozen(&data, 300);
    let fields = serde_json::json!({
        "model": "m", "data": "d", "steps": 400, "batch": 64, "optimizer": { "rate": 2e-3 }, "ema": 0.99,
        "strata": { "shares": [0.5, 0.5] }, "gaussians": 2, "share": 0.5,
    });
    let inputs = [("model", &base), ("data", &data)];
    let (proposal, metrics) = shop.run("invert", fields.clone(), &inputs);
    assert!((metrics["weights.mean"] - 1.0).abs() < 0.02, "{metrics:?}");
    assert!(metrics["tail_rate.proposal"] > 1.5 * metrics["tail_rate.model"], "{metrics:?}");
    let unbiased = metrics["tail_rate.proposal_weighted"] / metrics["tail_rate.model"];
    assert!((unbiased - 1.0).abs() < 0.1, "{metrics:?}");
    assert_eq!(bytes(&shop.run("invert", fields, &inputs).0), bytes(&proposal), "the same seed, the same bytes");

    let (candidate, _) = {
        let fields = serde_json::json!({ "data": "d", "like": "l", "method": "copy" });
        shop.run("pretrain_tail", fields, &[("data", &data), ("like", &base)])
    };
    for latents in ["proposal", "stratified"] {
        let mut train = serde_json::json!({ "data": "d", "start": "s", "steps": 10, "batch": 64 });
        let mut boost = serde_json::json!({
            "base": "b", "candidate": "c", "data": "d", "steps": 10, "batch": 64, "accept": "always",
            "mixture": { "learn": "fixed", "initial": 0.2 },
        });
        let (mut to_train, mut to_boost) = (
            vec![("data", &data), ("start", &base)],
            vec![("base", &base), ("candidate", &candidate), ("data", &data)],
        );
        for (fields, inputs) in [(&mut train, &mut to_train), (&mut boost, &mut to_boost)] {
            if latents == "proposal" {
                fields["proposal"] = "p".into();
                inputs.push(("proposal", &proposal));
            } else {
                fields["latents"] = serde_json::json!({ "method": "stratified", "share": 0.5, "pool": 4 });
            }
        }
        let (trained, _) = shop.run("train_gan", train, &to_train);
        StoredModel::load(&trained).unwrap();
        let (boosted, metrics) = shop.run("boost", boost, &to_boost);
        assert_eq!(StoredModel::load(&boosted).unwrap().components.len(), 2);
        assert!(metrics["last.candidate_share_of_tail"] < 0.6, "{metrics:?}");
    }
}
