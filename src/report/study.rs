//! The report of a study of several seeds: the table with means and intervals, the comparisons of models paired by seed, and a
//! verdict by the loss that was named beforehand. Also the names of its numbers.

use std::collections::BTreeMap;

use super::{
    sweep,
    table::{Column, Numbers, body, shortened, wrapped},
};
use crate::metrics::paired::Loss;

/// The number of seeds, among the metrics of a study.
pub const SEEDS: &str = "seeds";

/// Endings of numbers that stand beside another one.
const BESIDE: [&str; 5] = ["_low", "_high", "_sd", "_sigma", "_error"];

/// Longest name of a model in the comparisons.
const LONGEST: usize = 24;

/// Where the metric of `MODEL.METRIC[.OBSERVABLE]` ends. The point of `qq_0.01` is one of a number.
fn end_of_metric(name: &str) -> usize {
    let Some(start) = name.find('.').map(|dot| dot + 1) else { return name.len() };
    let is_decimal = |dot: usize| {
        let before = name[start..dot].rsplit('_').next().unwrap_or_default();
        let digits = !before.is_empty() && before.len() < dot - start && before.bytes().all(|b| b.is_ascii_digit());
        digits && name[dot + 1..].starts_with(|c: char| c.is_ascii_digit())
    };
    let mut dots = name.match_indices('.').map(|(dot, _)| dot).skip(1);
    dots.find(|&dot| !is_decimal(dot)).unwrap_or(name.len())
}

/// The name of a number that stands beside another: `models[0].ks_low.jj_M` beside `models[0].ks.jj_M`.
pub fn beside(name: &str, ending: &str) -> String {
    let (metric, observable) = name.split_at(end_of_metric(name));
    format!("{metric}{ending}{observable}")
}

/// The name of the number that this one stands beside, if its ending says that it does.
pub fn stem(name: &str) -> Option<String> {
    let (metric, observable) = name.split_at(end_of_metric(name));
    BESIDE.iter().find_map(|ending| Some(metric.strip_suffix(ending)?.to_owned() + observable))
}

/// The mean log of the ratio of two models' losses, by their positions.
pub fn log_ratio(model: usize, other: usize, loss: Loss) -> String {
    format!("models[{model}].log_ratio.{}.models[{other}]", loss.metric())
}

/// How many models these metrics tell of.
pub fn models(metrics: &BTreeMap<String, f64>) -> usize {
    let position = |name: &String| name.strip_prefix("models[")?.split_once(']')?.0.parse::<usize>().ok();
    metrics.keys().filter_map(position).max().map_or(0, |last| last + 1)
}

/// The models that are compared: each later one with the first, and the last with each.
pub fn pairs(models: usize) -> Vec<(usize, usize)> {
    let last = models.saturating_sub(1);
    (1..models).map(|later| (later, 0)).chain((1..last).map(|earlier| (last, earlier))).collect()
}

/// A mean log-ratio with its interval and Wilcoxon's p.
#[derive(Clone, Copy)]
pub(super) struct Ratio {
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    p: Option<f64>,
}

impl Ratio {
    /// That of a model's loss over another's, if every seed has both.
    pub(super) fn of(numbers: Numbers<'_>, (model, other): (usize, usize), loss: Loss) -> Option<Self> {
        let name = log_ratio(model, other, loss);
        let get = |ending: &str| numbers.0.get(&beside(&name, ending)).copied();
        Some(Self { mean: get("")?, low: get("_low")?, high: get("_high")?, p: get("_wilcoxon_p") })
    }

    fn word(self) -> &'static str {
        match () {
            () if self.low == 0.0 && self.high == 0.0 => "the same",
            () if self.high < 0.0 => "better",
            () if self.low > 0.0 => "worse",
            () => "",
        }
    }

    /// `0.68 (0.58 to 0.80)`.
    pub(super) fn in_words(self) -> String {
        format!("{:.2} ({:.2} to {:.2})", self.mean.exp(), self.low.exp(), self.high.exp())
    }
}

/// Renders the metrics of a study: the table of means, ratios of losses of models paired by seed, and in a sentence whether the
/// last model beats the first one by the `primary` loss, and whether the bulk stays within its margin.
pub fn study(metrics: &BTreeMap<String, f64>, names: &[String], primary: Loss, margin: f64) -> String {
    let mut lines = body(metrics, names);
    if let Some(seeds) = metrics.get(SEEDS) {
        lines.push(format!("mean over {seeds:.0} seeds ± half of its 95 % interval (Student's t)"));
    }
    let comparisons = columns(&comparisons(metrics, names, primary));
    if !comparisons.is_empty() {
        lines.push(String::new());
        lines.extend(comparisons);
        lines.push("ratios are geometric means; among many, some differ by chance: the `primary` one decides".into());
        lines.push(String::new());
    }
    lines.extend(wrapped(&conclusion(metrics, names, primary, margin)));
    lines.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

/// Whether the last model beats the first one; of a sweep, what to do with the best of many.
pub(super) fn conclusion(metrics: &BTreeMap<String, f64>, names: &[String], primary: Loss, margin: f64) -> String {
    if sweep::is_sweep(names) {
        sweep::ADVICE_OF_STUDY.to_owned()
    } else {
        verdict(Numbers(metrics), names, primary, margin)
    }
}

/// The ratios of losses, below a row of titles; no rows where nothing can be compared.
pub(super) fn comparisons(metrics: &BTreeMap<String, f64>, names: &[String], primary: Loss) -> Vec<[String; 5]> {
    let numbers = Numbers(metrics);
    let swept = sweep::is_sweep(names);
    let losses = if swept { std::slice::from_ref(&primary) } else { &Loss::ALL[..] };
    // Of a sweep each is held to the first: what all are held to says nothing more.
    let pairs = if swept { (1..names.len()).map(|later| (later, 0)).collect() } else { pairs(names.len()) };
    let longest = if sweep::is_sweep(names) { sweep::LONGEST } else { LONGEST };
    let name = |model: usize| shortened(names.get(model).map_or("?", String::as_str), longest);
    let mut rows: Vec<[String; 5]> = Vec::new();
    for (model, other) in pairs {
        let mut title = format!("{} / {}", name(model), name(other));
        for &loss in losses {
            let Some(ratio) = Ratio::of(numbers, (model, other), loss) else { continue };
            let p = ratio.p.map_or_else(String::new, |p| format!("{p:.3}"));
            rows.push([std::mem::take(&mut title), loss.in_words().into(), ratio.in_words(), p, ratio.word().into()]);
        }
    }
    if !rows.is_empty() {
        rows.insert(0, ["paired by seed", "ratio of", "mean (95 % interval)", "Wilcoxon", ""].map(str::to_owned));
    }
    rows
}

/// Rows as lines of columns.
fn columns(rows: &[[String; 5]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 4] = std::array::from_fn(width);
    let padded = |text: &str, width: usize| format!("{text}{:1$}", "", width - text.chars().count() + 2);
    let line = |row: &[String; 5]| {
        row.iter().zip(widths).map(|(cell, width)| padded(cell, width)).collect::<String>() + &row[4]
    };
    rows.iter().map(line).collect()
}

/// Whether the last model beats the first one by the primary loss, and the bulk's margin.
fn verdict(numbers: Numbers<'_>, names: &[String], primary: Loss, margin: f64) -> String {
    let [first, .., last] = names else {
        return "One model alone: there is nothing to compare it with but the real-vs-real floor.".to_owned();
    };
    let pair = (names.len() - 1, 0);
    let seeds = numbers.0.get(SEEDS).copied().unwrap_or(0.0);
    let words = primary.in_words();
    let Some(ratio) = Ratio::of(numbers, pair, primary) else {
        return format!(
            "Nothing can be said of the {words} of `{last}` and `{first}`, by which they were to be compared: not every seed has \
             it. Name another `primary`."
        );
    };
    let floor = numbers.get(Column::Floor, primary.metric()).map(|floor| primary.of(floor));
    let level = floor.map_or_else(String::new, |floor| format!(" (real vs real {})", super::table::distance(floor)));
    let found = format!("ratio {}, {seeds:.0} seeds paired", ratio.in_words());
    let said = match ratio.word() {
        "the same" => format!("No gain: `{last}` and `{first}` have the same {words} in every seed"),
        "better" => format!("Gain: `{last}` has a smaller {words} than `{first}`: {found}{level}"),
        "worse" => format!("Worse: `{last}` has a larger {words} than `{first}`: {found}{level}"),
        _ => format!(
            "No gain: the interval of the {words} of `{last}` over that of `{first}` includes 1: {found}{level}"
        ),
    };
    let said = said + &against_others(numbers, names, primary);
    let Some(bulk) = Ratio::of(numbers, pair, Loss::Chi2NdfMean) else { return said + "." };
    let most = margin.exp();
    let kept = match () {
        () if bulk.high <= margin => format!("within its margin of {most:.2}"),
        () if bulk.low > margin => format!("outside of its margin of {most:.2}"),
        () => format!("not shown to be within its margin of {most:.2}"),
    };
    format!("{said}. Bulk: mean χ²/NDF {}, {kept}.", bulk.in_words())
}

/// The last model's primary loss over that of each model between it and the first: `; against `longer` 0.90 (0.80 to 0.95)`.
fn against_others(numbers: Numbers<'_>, names: &[String], primary: Loss) -> String {
    let last = names.len() - 1;
    let against = |other: usize| {
        let ratio = Ratio::of(numbers, (last, other), primary)?;
        let word = if ratio.word().is_empty() { "no gain" } else { ratio.word() };
        Some(format!("; against `{}` {}, {word}", names[other], ratio.in_words()))
    };
    (1..last).filter_map(against).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_beside_a_number_is_named_before_its_observable() {
        for (name, low) in [
            ("models[0].ks.jj_M", "models[0].ks_low.jj_M"),
            ("models[0].tail_w1", "models[0].tail_w1_low"),
            ("floor.qq_0.01", "floor.qq_0.01_low"),
            ("models[1].qq_0.01.x", "models[1].qq_0.01_low.x"),
            ("models[1].truth_ratio.1500", "models[1].truth_ratio_low.1500"),
            ("models[1].ks.x_0.5", "models[1].ks_low.x_0.5"),
            ("models[1].log_ratio.tail_w1.models[0]", "models[1].log_ratio_low.tail_w1.models[0]"),
        ] {
            assert_eq!(beside(name, "_low"), low);
            assert_eq!(stem(low).as_deref(), Some(name));
        }
        assert_eq!(stem("models[0].chi2_ndf_mean"), None);
        assert_eq!(stem("seeds"), None);
    }

    #[test]
    fn each_later_model_meets_the_first_and_the_last_meets_all() {
        assert_eq!(pairs(4), [(1, 0), (2, 0), (3, 0), (3, 1), (3, 2)]);
        assert_eq!(pairs(2), [(1, 0)]);
        assert!(pairs(1).is_empty() && pairs(0).is_empty());
    }

    /// The verdict on intervals of the logs of tail W1 and of the bulk.
    fn said(tail: (f64, f64), bulk: (f64, f64)) -> String {
        let mut metrics = BTreeMap::from([(SEEDS.to_owned(), 5.0), ("floor.tail_w1".to_owned(), 0.002)]);
        for (loss, (low, high)) in [(Loss::TailW1, tail), (Loss::Chi2NdfMean, bulk)] {
            let name = log_ratio(1, 0, loss);
            metrics.insert(beside(&name, "_low"), low);
            metrics.insert(beside(&name, "_high"), high);
            metrics.insert(name, f64::midpoint(low, high));
        }
        verdict(Numbers(&metrics), &["frozen".into(), "boosted".into()], Loss::TailW1, 0.1)
    }

    #[test]
    fn a_gain_is_said_with_its_interval_and_the_bulk_with_its_margin() {
        assert_eq!(
            said((-0.6, -0.2), (-0.05, 0.04)),
            "Gain: `boosted` has a smaller tail W1 than `frozen`: ratio 0.67 (0.55 to 0.82), 5 seeds paired (real vs real \
             0.0020). Bulk: mean χ²/NDF 1.00 (0.95 to 1.04), within its margin of 1.11."
        );
    }

    #[test]
    fn the_last_model_is_held_to_those_between_too() {
        let mut metrics = BTreeMap::from([(SEEDS.to_owned(), 5.0)]);
        for (other, (low, high)) in [(0, (-0.6, -0.2)), (1, (-0.1, 0.1))] {
            let name = log_ratio(2, other, Loss::TailW1);
            metrics.extend([(beside(&name, "_low"), low), (beside(&name, "_high"), high), (name, 0.0)]);
        }
        let names = ["frozen", "longer", "boosted"].map(str::to_owned);
        let text = verdict(Numbers(&metrics), &names, Loss::TailW1, 0.1);
        assert!(
            text.starts_with("Gain: ") && text.ends_with("; against `longer` 1.00 (0.90 to 1.11), no gain."),
            "{text}"
        );
    }

    #[test]
    fn an_interval_that_holds_no_change_is_no_gain() {
        let text = said((-0.3, 0.01), (0.2, 0.4));
        assert!(
            text.starts_with("No gain: the interval of the tail W1 of `boosted` over that of `frozen` includes 1: ")
        );
        assert!(text.ends_with("outside of its margin of 1.11."), "{text}");
    }

    #[test]
    fn a_loss_is_said_to_be_worse_and_an_open_bulk_not_to_be_shown() {
        let text = said((0.1, 0.3), (-0.1, 0.2));
        assert!(text.starts_with("Worse: `boosted` has a larger tail W1"), "{text}");
        assert!(text.ends_with("not shown to be within its margin of 1.11."), "{text}");
    }

    #[test]
    fn models_that_are_one_in_every_seed_gain_nothing() {
        let text = said((0.0, 0.0), (0.0, 0.0));
        assert!(text.starts_with("No gain: `boosted` and `frozen` have the same tail W1 in every seed."), "{text}");
    }

    #[test]
    fn without_the_primary_loss_or_a_second_model_nothing_is_claimed() {
        let (numbers, two) = (BTreeMap::new(), ["a".to_owned(), "b".to_owned()]);
        assert!(verdict(Numbers(&numbers), &two, Loss::Auc, 0.1).starts_with("Nothing can be said of the AUC − ½"));
        assert!(verdict(Numbers(&numbers), &two[..1], Loss::Auc, 0.1).starts_with("One model alone"));
    }
}
