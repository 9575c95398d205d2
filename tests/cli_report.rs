//! The report of a pipeline, through the program.

use std::fs;

mod program;

use program::Folder;

/// A column that would be markup, were it not escaped.
const HOSTILE: &str = "<script>alert(1)</script>";

/// A short training on a table of its own, judged with a tail.
fn pipeline() -> String {
    format!(
        "\
name: reported
seed: 3
stages:
  events:
    kind: dataset
    file: events.csv
    features: [mass, angle, \"{HOSTILE}\"]
    coordinates: {{ mass: log }}
    tail: {{ observable: mass, above: 2 }}
    split: {{ validation: 0.1, test: 0.3 }}
  base:
    kind: train_gan
    data: events
    generator: {{ architecture: mlp, layers: [8], latent: 4 }}
    discriminator: {{ layers: [8] }}
    loss: {{ kind: non_saturating, r1: 0.1 }}
    steps: 200
    batch: 32
  frozen: {{ kind: freeze, model: base }}
  evaluation: {{ kind: evaluate, data: events, models: [base, frozen], metrics: [chi2, tail], bootstrap: 20 }}
"
    )
}

fn bench() -> Folder {
    let folder = Folder::new();
    let row = |i: i32| {
        let mass = ((f64::from(i) + 0.5) / 2000.0).powf(-0.25);
        format!("{mass},{},{}", f64::from(i * 37 % 101) / 101.0 - 0.5, i * 11 % 97)
    };
    let rows: Vec<String> = std::iter::once(format!("mass,angle,{HOSTILE}")).chain((0..2000).map(row)).collect();
    fs::write(folder.path("events.csv"), rows.join("\n")).unwrap();
    fs::write(folder.path("pipeline.yaml"), pipeline()).unwrap();
    folder
}

fn page(folder: &Folder) -> String {
    fs::read_to_string(folder.path("results/reported/report.html")).unwrap()
}

#[test]
fn the_page_holds_results_curves_and_provenance_and_needs_nothing_else() {
    let folder = bench();
    folder.print(&["run", "pipeline.yaml", "-q"]);
    folder.print(&["report", "pipeline.yaml", "--plots", "figures"]);
    let html = page(&folder);
    for words in [
        "mass: quantiles of the tail",
        "real vs real",
        "ran in the latest run",
        "base − test events, in σ up to 5",
        "d_loss",
        "id=\"provenance\"",
        "kind: evaluate, data: events",
        "non_saturating",
    ] {
        assert!(html.contains(words), "{words} is missing");
    }
    assert!(!html.contains(HOSTILE) && html.contains("&lt;script&gt;"));
    for outside in ["src=\"http", "href=\"http", "url(http", "@import", "NaN"] {
        assert!(!html.contains(outside), "{outside}");
    }

    let figures: Vec<String> = fs::read_dir(folder.path("figures/evaluation"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(figures.len(), 8, "three observables and the quantiles, each twice: {figures:?}");
    let png = fs::read(folder.path("figures/evaluation/mass-quantiles.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000);

    folder.print(&["report", "pipeline.yaml"]);
    assert_eq!(page(&folder), html, "the same results give the same bytes");
    folder.print(&["run", "pipeline.yaml", "-q"]);
    folder.print(&["report", "pipeline.yaml"]);
    assert!(page(&folder).contains("taken from the cache") && !page(&folder).contains("ran in the latest run"));
}

#[test]
fn columns_whose_names_are_alike_have_a_plot_each() {
    let folder = Folder::new();
    let long = "é".repeat(150);
    let columns = ["pt [GeV]", "pt (GeV)", "pt/GeV", "e+", "e-", "PT", "pt", &long];
    let row = |i: usize| {
        let values = (1..=columns.len()).map(|k| format!("{}", (i * (7 * k + 30) % 101) as f64 / 101.0));
        values.collect::<Vec<_>>().join(",")
    };
    let rows: Vec<String> = std::iter::once(columns.join(",")).chain((0..600).map(row)).collect();
    fs::write(folder.path("events.csv"), rows.join("\n")).unwrap();
    let pipeline = "\
name: alike
stages:
  events: { kind: dataset, file: events.csv }
  base:
    kind: train_gan
    data: events
    generator: { architecture: mlp, layers: [8], latent: 4 }
    discriminator: { layers: [8] }
    steps: 20
    batch: 32
  frozen: { kind: freeze, model: base }
  evaluation: { kind: evaluate, data: events, models: [base, frozen], metrics: [chi2], bootstrap: 0 }
";
    fs::write(folder.path("pipeline.yaml"), pipeline).unwrap();
    let run = folder.run(&["run", "pipeline.yaml"]);
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("8 plots in results/alike/evaluation"), "{said}");
    folder.print(&["report", "pipeline.yaml", "--plots", "figures"]);
    for (place, extension) in [("results/alike/evaluation", "svg"), ("figures/evaluation", "png")] {
        let paths = fs::read_dir(folder.path(place)).unwrap().map(|entry| entry.unwrap().path());
        let paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
        let folded: std::collections::HashSet<String> =
            paths.iter().map(|path| path.to_string_lossy().to_lowercase()).collect();
        let contents: std::collections::HashSet<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        assert_eq!((paths.len(), folded.len(), contents.len()), (8, 8, 8), "{paths:?}");
    }
    assert!(folder.path("results/alike/evaluation/e+.svg").exists());
}

#[test]
fn what_has_not_run_or_failed_is_shown_as_such() {
    let folder = bench();
    let output = folder.run(&["report", "pipeline.yaml"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success());
    assert!(
        said.starts_with("4 of 4 stages have no result as they stand; run them: pgan-pipe run pipeline.yaml\n"),
        "{said}"
    );
    let html = page(&folder);
    assert!(
        html.contains("Nothing has been evaluated as the pipeline stands.") && html.contains("not run as it stands")
    );

    folder.print(&["run", "pipeline.yaml", "events", "-q"]);
    // No event has a mass above this.
    let failing = ["--set", "events.tail.above=1e9", "--set", "base.region=tail"];
    assert_eq!(folder.run(&[&["run", "pipeline.yaml", "-q"], &failing[..]].concat()).status.code(), Some(1));
    folder.print(&[&["report", "pipeline.yaml", "-o", "failed.html"], &failing[..]].concat());
    let html = fs::read_to_string(folder.path("failed.html")).unwrap();
    assert!(html.contains("class=\"stage failed\"") && html.contains("--set events.tail.above=1e9"));
}

#[test]
fn a_result_that_is_not_as_it_was_stored_is_not_shown() {
    let folder = bench();
    folder.print(&["run", "pipeline.yaml", "-q"]);
    let show = folder.print(&["show", "pipeline.yaml", "evaluation", "--json"]);
    let record: serde_json::Value = serde_json::from_str(&show).unwrap();
    let digest = record["outputs"]["evaluation.json"]["digest"].as_str().unwrap();
    let object = folder.path(&format!("cache/v1/objects/{}/{}", &digest[..2], &digest[2..]));
    let text = fs::read_to_string(&object).unwrap();
    let mut permissions = fs::metadata(&object).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "the folder is gone in a moment")]
    permissions.set_readonly(false);
    fs::set_permissions(&object, permissions).unwrap();
    fs::write(&object, text.replacen("\"format\":2", "\"format\":3", 1)).unwrap();

    let output = folder.run(&["report", "pipeline.yaml"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("the results of `evaluation` were corrupted"), "{said}");
    assert!(!folder.path("results/reported/report.html").exists());
    folder.print(&["run", "pipeline.yaml", "-q"]);
    folder.print(&["report", "pipeline.yaml"]);
}
