//! What can be wrong with a `dataset` stage: with its fields as they stand, and with its files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Coordinates, CoordinatesChoice, DataError, Dataset, Density, EventCount, Finite, Fraction, NamedCoordinates,
    NamedSymmetries, Problem, Scratch, Symmetries, Synthetic, dijet, read,
};
use crate::data::{
    coordinates::MapChoice,
    read::{Columns, Unreadable},
};

/// Events of a file that are looked at before anything runs, at most; the stage itself looks at the rest.
const MAX_LOOKED_AT: usize = 1_000_000;

/// Most numbers of synthetic events.
const MAX_SYNTHETIC: usize = 1 << 28;

/// What is wrong with the fields as they stand.
pub(super) fn problems(stage: &Dataset) -> Vec<Problem> {
    let mut found = sources(stage);
    found.extend(stage.synthetic.iter().flat_map(|synthetic| synthetic_parameters(stage, synthetic)));
    found.extend(features(stage));
    found.extend(windows(stage));
    found.extend(tail(stage));
    found.extend(shares(stage));
    match stage.feature_names() {
        Some(names) => found.extend(unknown_names(stage, &names)),
        None if needs_dijet_columns(stage) => found.push(
            Problem::new("features", "the dijet coordinates, observables and symmetries need `features`")
                .help(format!("add `features: [{}]`", dijet::FEATURES.join(", "))),
        ),
        None => {}
    }
    found
}

fn sources(stage: &Dataset) -> Vec<Problem> {
    let mut found = Vec::new();
    match (&stage.file, &stage.synthetic) {
        (None, None) => found.push(
            Problem::new("file", "a dataset needs `file` or `synthetic`")
                .help("give a parquet, CSV or npy file, or a known density"),
        ),
        (Some(_), Some(_)) => found.push(Problem::new("synthetic", "a dataset takes `file` or `synthetic`, not both")),
        _ => {}
    }
    if stage.synthetic.is_some() && stage.test_file.is_some() {
        found.push(Problem::new("test_file", "synthetic events are tested on their own share, not on a file"));
    }
    found
}

fn synthetic_parameters(stage: &Dataset, synthetic: &Synthetic) -> Vec<Problem> {
    let mut found = Vec::new();
    let parameters = [
        ("degrees", synthetic.degrees, Density::StudentT, "student_t", true),
        ("index", synthetic.index, Density::Pareto, "pareto", true),
        ("sigma", synthetic.sigma, Density::LogNormal, "log_normal", false),
    ];
    for (name, value, density, density_name, required) in parameters {
        let field = format!("synthetic.{name}");
        if synthetic.density == density && required && value.is_none() {
            found.push(Problem::new(field, format!("the density `{density_name}` needs `{name}`")));
        } else if synthetic.density != density && value.is_some() {
            found.push(Problem::new(field, format!("`{name}` belongs to the density `{density_name}`")));
        }
    }
    if synthetic.events.get().saturating_mul(synthetic.dimensions.get()) > MAX_SYNTHETIC {
        found.push(Problem::new("synthetic.events", format!("events × dimensions is more than {MAX_SYNTHETIC}")));
    }
    if stage.features.is_some() {
        found.push(
            Problem::new("features", "synthetic events name their own columns: x0, x1, …").help("leave `features` out"),
        );
    }
    found
}

fn features(stage: &Dataset) -> Vec<Problem> {
    let Some(names) = &stage.features else { return Vec::new() };
    let mut found = Vec::new();
    if names.is_empty() {
        found.push(Problem::new("features", "there must be at least one feature"));
    }
    for (index, name) in names.iter().enumerate() {
        let field = format!("features.{index}");
        if names[..index].contains(name) {
            found.push(Problem::new(field, format!("the feature `{name}` is listed twice")));
        } else if stage.observables.names().contains(&name.as_str()) {
            found.push(Problem::new(field, format!("`{name}` is derived from the features; it cannot be one too")));
        }
    }
    found
}

fn windows(stage: &Dataset) -> Vec<Problem> {
    let mut found = Vec::new();
    for (index, window) in stage.filter.iter().enumerate() {
        match (window.above.map(Finite::get), window.below.map(Finite::get)) {
            (None, None) => {
                found.push(Problem::new(format!("filter.{index}"), "a window needs `above`, `below` or both"));
            }
            (Some(above), Some(below)) if above >= below => {
                let message = format!("nothing lies at or above {above} and below {below}");
                found.push(Problem::new(format!("filter.{index}.below"), message));
            }
            _ => {}
        }
    }
    found
}

fn tail(stage: &Dataset) -> Vec<Problem> {
    match stage.tail.as_ref().map(|tail| (tail.above, tail.quantile)) {
        Some((None, None)) => vec![
            Problem::new("tail", "a tail needs `above` or `quantile`")
                .help("`above: 1500` is a value of the observable, `quantile: 0.99` a share of the training events"),
        ],
        Some((Some(_), Some(_))) => vec![Problem::new("tail.quantile", "a tail takes `above` or `quantile`, not both")],
        _ => Vec::new(),
    }
}

fn shares(stage: &Dataset) -> Vec<Problem> {
    let mut found = Vec::new();
    let given = stage.split.test.map(Fraction::get);
    if stage.test_file.is_some() {
        if given.is_some_and(|test| test > 0.0) {
            let help = "leave `split.test` out, or leave `test_file` out";
            found
                .push(Problem::new("split.test", "with `test_file`, nothing of `file` is kept for testing").help(help));
        }
        return found;
    }
    let (validation, test) = (stage.split.validation.get(), given.unwrap_or(0.2));
    if test <= 0.0 {
        found.push(Problem::new("split.test", "no events would be left to test on").help("or give a `test_file`"));
    }
    if validation + test >= 1.0 {
        let message = format!("validation {validation} and test {test} leave nothing to train on");
        found.push(Problem::new("split", message).help("their sum must be below 1"));
    }
    found
}

fn needs_dijet_columns(stage: &Dataset) -> bool {
    stage.coordinates == CoordinatesChoice::Named(NamedCoordinates::Dijet)
        || stage.symmetries == Symmetries::Named(NamedSymmetries::Dijet)
        || !stage.observables.needs().is_empty()
}

/// Names that are not among the features or observables, wherever they stand.
fn unknown_names(stage: &Dataset, features: &[String]) -> Vec<Problem> {
    let mut found = dijet_columns(stage, features);
    let observables = stage.observables_of(features);
    let known = || observables.iter().map(String::as_str);
    let mut observable = |field: String, name: &String| {
        if !observables.contains(name) {
            found.push(
                Problem::new(field, format!("`{name}` is neither a feature nor a derived observable"))
                    .suggest(name, known()),
            );
        }
    };
    for (index, window) in stage.filter.iter().enumerate() {
        observable(format!("filter.{index}.observable"), &window.observable);
    }
    if let Some(tail) = &stage.tail {
        observable("tail.observable".to_owned(), &tail.observable);
    }
    let columns = || features.iter().map(String::as_str);
    if let CoordinatesChoice::Columns(maps) = &stage.coordinates {
        for name in maps.keys().filter(|name| !features.contains(name)) {
            let problem = Problem::new(format!("coordinates.{name}"), format!("`{name}` is not a feature"));
            found.push(problem.suggest(name, columns()));
        }
    }
    found.extend(symmetries(stage, features));
    found
}

fn dijet_columns(stage: &Dataset, features: &[String]) -> Vec<Problem> {
    let mut found = Vec::new();
    let is_dijet = |name: &String| dijet::FEATURES.contains(&name.as_str());
    let missing: Vec<&str> =
        dijet::FEATURES.into_iter().filter(|name| !features.iter().any(|feature| feature == name)).collect();
    if stage.coordinates == CoordinatesChoice::Named(NamedCoordinates::Dijet) {
        let extra: Vec<&str> = features.iter().filter(|name| !is_dijet(name)).map(String::as_str).collect();
        if !missing.is_empty() || !extra.is_empty() {
            let say = |names: &[&str], what: &str| {
                if names.is_empty() { String::new() } else { format!("; {} {what}", names.join(", ")) }
            };
            let message = format!(
                "`coordinates: dijet` takes exactly the seven dijet features{}{}",
                say(&missing, "missing"),
                say(&extra, "not among them")
            );
            found.push(
                Problem::new("coordinates", message).help(format!("use `features: [{}]`", dijet::FEATURES.join(", "))),
            );
        }
    } else if !stage.observables.needs().is_empty() && !missing.is_empty() {
        found.push(Problem::new(
            "observables",
            format!("`observables: dijet` needs the features {}", missing.join(", ")),
        ));
    }
    found
}

fn symmetries(stage: &Dataset, features: &[String]) -> Vec<Problem> {
    let mut found = Vec::new();
    let named = matches!(stage.symmetries, Symmetries::Named(_));
    if stage.coordinates == CoordinatesChoice::Named(NamedCoordinates::Dijet) {
        if !named {
            let message = "`coordinates: dijet` mixes its columns, so columns cannot be flipped one by one";
            found.push(Problem::new("symmetries", message).help("use `symmetries: dijet`"));
        }
        return found;
    }
    for (set, names) in stage.flips().iter().enumerate() {
        if names.is_empty() {
            found.push(Problem::new(format!("symmetries.{set}"), "a set of columns to flip is empty"));
        }
        for (index, name) in names.iter().enumerate() {
            let field = if named { "symmetries".to_owned() } else { format!("symmetries.{set}.{index}") };
            if !features.contains(name) {
                let problem = Problem::new(field, format!("`{name}` is flipped, but it is not a feature"));
                found.push(problem.suggest(name, features.iter().map(String::as_str)));
            } else if names[..index].contains(name) {
                found.push(Problem::new(field, format!("`{name}` is listed twice in a set")));
            } else if stage.coordinates.map(name).is_some_and(|map| map != MapChoice::Standard) {
                let problem = Problem::new(field, format!("`{name}` is flipped, so its map must be `standard`"));
                found.push(problem.help("no other map keeps the symmetry"));
            }
        }
    }
    found
}

/// What is wrong with the files.
pub(super) fn preflight(stage: &Dataset, sources: &BTreeMap<String, PathBuf>) -> Vec<Problem> {
    let Some(path) = sources.get("file") else { return Vec::new() };
    let mut found = file(stage, path);
    let features = stage.features.clone().or_else(|| read::columns(path, None).ok().map(|columns| columns.numeric()));
    if let (Some(path), Some(features)) = (sources.get("test_file"), features) {
        found.extend(test_file(stage, path, &features));
    }
    found
}

fn file(stage: &Dataset, path: &Path) -> Vec<Problem> {
    let columns = match columns("file", path, stage.features.as_deref()) {
        Ok(columns) => columns,
        Err(problem) => return vec![problem],
    };
    let wrong = match &stage.features {
        Some(features) => missing(path, features, &columns, |index| format!("features.{index}")),
        None => unknown_names(stage, &columns.numeric()),
    };
    if !wrong.is_empty() {
        return wrong;
    }
    let limit = stage.limit.map_or(MAX_LOOKED_AT, EventCount::get).min(MAX_LOOKED_AT);
    let scratch = Scratch::memory();
    match stage.read(path, stage.features.as_deref(), Some(limit), &scratch) {
        // The first events may be alike where all together are not.
        Ok((events, _)) if events.len() == MAX_LOOKED_AT => Vec::new(),
        Ok((events, _)) => {
            let fitted = Coordinates::fit(&stage.coordinates, &events, &stage.flips().concat(), &scratch);
            fitted.err().map(|error| Problem::new("coordinates", error.to_string())).into_iter().collect()
        }
        // Names that are not known are told by `problems`, at their place.
        Err(DataError::NoColumn { .. }) => Vec::new(),
        Err(error) => vec![Problem::new("file", error.to_string())],
    }
}

fn test_file(stage: &Dataset, path: &Path, features: &[String]) -> Vec<Problem> {
    let columns = match columns("test_file", path, Some(features)) {
        Ok(columns) => columns,
        Err(problem) => return vec![problem],
    };
    let missing = missing(path, features, &columns, |_| "test_file".to_owned());
    if !missing.is_empty() {
        return missing;
    }
    match stage.read(path, Some(features), Some(MAX_LOOKED_AT), &Scratch::memory()) {
        Ok(_) | Err(DataError::NoColumn { .. }) => Vec::new(),
        Err(error) => vec![Problem::new("test_file", error.to_string())],
    }
}

/// Returns remarks on the files, which are no mistakes.
pub(super) fn remarks(stage: &Dataset, sources: &BTreeMap<String, PathBuf>) -> Vec<String> {
    let path = sources.get("file").filter(|_| stage.features.is_none());
    path.and_then(|path| left_out(path, &read::columns(path, None).ok()?)).into_iter().collect()
}

/// Says which columns of a file are not read where no features are named.
pub(super) fn left_out(path: &Path, columns: &Columns) -> Option<String> {
    let name = path.file_name().unwrap_or_default().display();
    let message = |columns| {
        format!("of {name} these columns are left out: {columns}; list what you want in `features` to choose otherwise")
    };
    columns.left_out().map(message)
}

/// The columns of a file.
fn columns(field: &str, path: &Path, features: Option<&[String]>) -> Result<Columns, Problem> {
    if !path.exists() {
        return Err(Problem::new(field, format!("there is no file {}", path.display())));
    }
    read::columns(path, features).map_err(|error| Problem::new(field, error.to_string()))
}

/// Features that a file does not give.
fn missing(path: &Path, features: &[String], columns: &Columns, field: impl Fn(usize) -> String) -> Vec<Problem> {
    let features = features.iter().enumerate();
    features.filter_map(|(index, name)| unreadable(path, columns, name, field(index))).collect()
}

/// Returns the problem with reading a column of a file.
pub(crate) fn unreadable(path: &Path, columns: &Columns, name: &str, field: String) -> Option<Problem> {
    match columns.place(name) {
        Ok(_) => None,
        Err(Unreadable::Unfit(message)) => Some(Problem::new(field, format!("{}: {message}", path.display()))),
        Err(Unreadable::Absent) => {
            let message = format!("the column `{name}` is not among the numeric ones of {}", path.display());
            Some(Problem::new(field, message).suggest(name, columns.readable().iter().map(String::as_str)))
        }
    }
}
