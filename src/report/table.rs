//! The table at the end of a run: models beside each other and beside the real-vs-real floor, and a plain verdict.

use std::collections::BTreeMap;

use super::{study, sweep, verdict::verdict};

/// Widest line, in characters.
const WIDTH: usize = 100;
/// Longest name of a model or observable that is written out.
const LONGEST: usize = 22;
/// Space before each column.
const GAP: usize = 2;

/// Numbers of an evaluation by position: `models[0].ks.jj_M`, `floor.ks.jj_M`.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a>(pub(super) &'a BTreeMap<String, f64>);

/// A column of numbers.
#[derive(Clone, Copy)]
pub(super) enum Column {
    Floor,
    Model(usize),
}

impl Numbers<'_> {
    pub(super) fn get(self, column: Column, metric: &str) -> Option<f64> {
        self.0.get(&Self::name(column, metric)).copied()
    }

    fn name(column: Column, metric: &str) -> String {
        match column {
            Column::Floor => format!("floor.{metric}"),
            Column::Model(index) => format!("models[{index}].{metric}"),
        }
    }

    /// Whether these are means over seeds.
    fn is_study(self) -> bool {
        self.0.contains_key(study::SEEDS)
    }

    /// Half of the interval of a mean over seeds; nothing beside the numbers of a single evaluation, nor of seeds that agree.
    fn half_interval(self, column: Column, metric: &str) -> Option<f64> {
        if !self.is_study() {
            return None;
        }
        let name = Self::name(column, metric);
        let end = |ending: &str| self.0.get(&study::beside(&name, ending)).copied();
        Some((end("_high")? - end("_low")?) / 2.0).filter(|half| *half > 0.0)
    }

    /// The observables for which any column has this metric, in alphabetical order.
    fn observables(self, metric: &str) -> Vec<String> {
        let of = |name: &String| {
            let (_, rest) = name.split_once('.')?;
            rest.strip_prefix(metric)?.strip_prefix('.').map(str::to_owned)
        };
        let mut found: Vec<String> = self.0.keys().filter_map(of).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// A line of the table.
pub(super) struct Row {
    pub(super) label: String,
    pub(super) metric: String,
    show: Show,
}

/// How a number is written, and what is best.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Show {
    /// Smaller is better.
    Score,
    /// Smaller is better.
    Distance,
    /// Near 1 is better; with the error of its log.
    Ratio,
    /// Near 0 is better; in per cent.
    Deviation,
    /// Of a ROC curve: near 1/2 is better, and below it is noise.
    Area,
    /// From `METRIC_low` to `METRIC_high`, of distances or of deviations in per cent; no ideal of its own.
    Interval {
        /// Whether the ends are deviations.
        per_cent: bool,
    },
}

impl Row {
    pub(super) fn new(label: impl Into<String>, metric: impl Into<String>, show: Show) -> Self {
        Self { label: label.into(), metric: metric.into(), show }
    }

    pub(super) fn cell(&self, numbers: Numbers<'_>, column: Column) -> Option<String> {
        let value = numbers.get(column, &self.metric)?;
        if let Some(half) = numbers.half_interval(column, &self.metric) {
            return Some(match self.show {
                Show::Deviation => with_error(100.0 * value, 100.0 * half, true) + " %",
                _ => with_error(value, half, false),
            });
        }
        Some(match self.show {
            Show::Score => score(value),
            Show::Distance => distance(value),
            Show::Ratio => mass_ratio(value, numbers.get(column, &format!("{}_sigma", self.metric))),
            Show::Deviation => format!("{} %", per_cent(value)),
            Show::Area => format!("{value:.3}"),
            Show::Interval { per_cent: as_per_cent } => {
                let high = numbers.get(column, &self.metric.replace("_low", "_high"))?;
                if as_per_cent {
                    format!("{}…{} %", per_cent(value), per_cent(high))
                } else {
                    format!("{}…{}", distance(value), distance(high))
                }
            }
        })
    }

    /// Whether it holds the interval of the row before it.
    pub(super) fn is_interval(&self) -> bool {
        matches!(self.show, Show::Interval { .. })
    }

    /// How far from the ideal.
    fn loss(&self, value: f64) -> f64 {
        match self.show {
            Show::Score | Show::Distance => value,
            Show::Area => (value - 0.5).max(0.0),
            // No end of an interval is nearer to an ideal than another.
            Show::Interval { .. } => 0.0,
            Show::Ratio => value.ln().abs(),
            Show::Deviation => value.abs(),
        }
    }

    /// The model nearest to the ideal, if there are several to choose from.
    pub(super) fn best(&self, numbers: Numbers<'_>, models: usize) -> Option<usize> {
        let losses: Vec<(f64, usize)> = (0..models)
            .filter_map(|index| Some((self.loss(numbers.get(Column::Model(index), &self.metric)?), index)))
            .collect();
        let best = losses.iter().copied().min_by(|one, other| one.0.total_cmp(&other.0))?;
        (losses.len() > 1 && losses.iter().any(|other| other.0 > best.0)).then_some(best.1)
    }
}

fn per_cent(value: f64) -> String {
    format!("{:+.1}", 100.0 * value).replace('-', "−")
}

/// A mean with half of its interval, both to the second digit of the latter.
fn with_error(mean: f64, half: f64, signed: bool) -> String {
    let decimals = (1.0 - half.log10().floor()).clamp(0.0, 6.0) as usize;
    let mean = if signed { format!("{mean:+.decimals$}") } else { format!("{mean:.decimals$}") };
    format!("{mean} ± {half:.decimals$}").replace('-', "−")
}

fn score(value: f64) -> String {
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$}")
}

/// Three digits or so, whatever the unit.
pub(super) fn distance(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        small if small < 1e-4 => format!("{value:.1e}"),
        small if small < 1.0 => format!("{value:.4}"),
        _ => score(value),
    }
}

/// A ratio with its deviation, which is that of the log times the ratio.
pub(super) fn mass_ratio(ratio: f64, sigma: Option<f64>) -> String {
    match sigma.map(|sigma| sigma * ratio) {
        Some(error) if error < 0.00995 => format!("{ratio:.3} ± {error:.3}"),
        Some(error) => format!("{ratio:.2} ± {error:.2}"),
        None => format!("{ratio:.2}"),
    }
}

/// The lines of a table, in their order, whether these numbers have them or not.
pub(super) fn rows(numbers: Numbers<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    let each = |title: &str, metric: &str, show: Show| {
        let row = |name: String| {
            Row::new(format!("{title}  {}", shortened(&name, LONGEST)), format!("{metric}.{name}"), show)
        };
        numbers.observables(metric).into_iter().map(row).collect::<Vec<_>>()
    };
    rows.extend(each("χ²/NDF", "chi2_ndf", Show::Score));
    rows.push(Row::new("χ²/NDF  mean", "chi2_ndf_mean", Show::Score));
    rows.push(Row::new("χ²/NDF  mean in tail", "in_tail_chi2_ndf_mean", Show::Score));
    rows.extend(each("KS    ", "ks", Show::Distance));
    rows.push(Row::new("AUC     all events", "auc", Show::Area));
    rows.push(Row::new("AUC     in tail", "auc_tail", Show::Area));
    rows.push(Row::new("tail    mass ratio", "tail_mass_ratio", Show::Ratio));
    rows.extend(with_interval("tail    W1".into(), "tail_w1", Show::Distance));
    rows.push(Row::new("tail    χ²/NDF", "tail_chi2_ndf", Show::Score));
    let shares = [("top 1e-2", "0.01"), ("top 1e-3", "0.001"), ("top 1e-4", "0.0001")];
    let deviation = |(top, u)| with_interval(format!("Q-Q     {top}"), &format!("qq_{u}"), Show::Deviation);
    rows.extend(shares.into_iter().flat_map(deviation));
    rows.push(Row::new("truth   χ²/NDF", "truth_chi2_ndf", Show::Score));
    rows.extend(with_interval("truth   W1".into(), "truth_w1", Show::Distance));
    let truth = |(top, u)| Row::new(format!("truth   {top}"), format!("truth_quantile_ratio_{u}"), Show::Ratio);
    rows.extend(shares.map(truth));
    // Of a study every number has its interval in its own cell.
    rows.retain(|row| !numbers.is_study() || !row.is_interval());
    rows
}

/// A number, and below it its bootstrap interval.
fn with_interval(label: String, metric: &str, show: Show) -> [Row; 2] {
    let interval = Show::Interval { per_cent: show == Show::Deviation };
    [Row::new(label, metric, show), Row::new("          95 %", format!("{metric}_low"), interval)]
}

/// A name that fits its column: both ends of a long one, since names of a family often differ at their end.
pub(super) fn shortened(name: &str, longest: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= longest {
        return name.to_owned();
    }
    let tail = (longest - 1) / 2;
    let head = longest - 1 - tail;
    letters[..head].iter().chain(&['…']).chain(&letters[letters.len() - tail..]).collect()
}

/// Renders the metrics of an evaluation as a table of at most 100 columns, then says in a sentence whether the last model
/// beats the first one in the tail.
///
/// `metrics` are named by position, `names` are the models' names in that order. The best model of a row is marked `*`; many
/// models are set below each other in several tables.
pub fn summary(metrics: &BTreeMap<String, f64>, names: &[String]) -> String {
    let mut lines = body(metrics, names);
    lines.extend(wrapped(&conclusion(metrics, names)));
    lines.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

/// Whether the last model beats the first one in the tail; of a sweep, what to do with the best of many.
pub(super) fn conclusion(metrics: &BTreeMap<String, f64>, names: &[String]) -> String {
    if sweep::is_sweep(names) { sweep::ADVICE.to_owned() } else { verdict(Numbers(metrics), names) }
}

/// The table and what its numbers are made of.
pub(super) fn body(metrics: &BTreeMap<String, f64>, names: &[String]) -> Vec<String> {
    let numbers = Numbers(metrics);
    let mut lines = if sweep::is_sweep(names) { sweep::table(numbers, names) } else { side_by_side(numbers, names) };
    let size = |name: &str| metrics.get(name).copied();
    if let (Some(test), Some(generated), Some(floor)) =
        (size("events.test"), size("events.generated"), size("events.floor"))
    {
        lines.push(format!(
            "{test:.0} test events; {generated:.0} generated by each model; real vs real with {floor:.0}"
        ));
    }
    lines
}

/// Models in columns, several tables below each other where one is too wide.
fn side_by_side(numbers: Numbers<'_>, names: &[String]) -> Vec<String> {
    let rows: Vec<Row> = rows(numbers).into_iter().filter(|row| has_number(row, numbers, names.len())).collect();
    let label = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
    let headers: Vec<String> = names.iter().map(|name| shortened(name, LONGEST)).collect();

    let mut lines = Vec::new();
    let mut first = 0;
    while first < names.len() {
        let shown = fitting(&rows, numbers, &headers, label, first);
        lines.extend(table(&rows, numbers, &headers, label, first..first + shown));
        lines.push(String::new());
        first += shown;
    }
    if rows.iter().any(|row| row.best(numbers, names.len()).is_some()) {
        lines.push("* nearest to the ideal in its row, be it by chance".to_owned());
    }
    lines
}

pub(super) fn has_number(row: &Row, numbers: Numbers<'_>, models: usize) -> bool {
    (0..models).map(Column::Model).chain([Column::Floor]).any(|column| numbers.get(column, &row.metric).is_some())
}

pub(super) const FLOOR: &str = "real vs real";

/// The width of a column: its header and its cells, with a place for the mark.
fn width(rows: &[Row], numbers: Numbers<'_>, column: Column, header: &str) -> usize {
    let cells = rows.iter().filter_map(|row| row.cell(numbers, column)).map(|cell| cell.chars().count());
    cells.chain([header.chars().count()]).max().unwrap_or(0) + 1
}

/// How many models from `first` on fit into a line; at least one.
fn fitting(rows: &[Row], numbers: Numbers<'_>, headers: &[String], label: usize, first: usize) -> usize {
    let mut used = label + GAP + width(rows, numbers, Column::Floor, FLOOR);
    let fits = |(index, header): (usize, &String)| {
        used += GAP + width(rows, numbers, Column::Model(index), header);
        used <= WIDTH
    };
    headers.iter().enumerate().skip(first).map(fits).take_while(|&fits| fits).count().max(1)
}

fn table(
    rows: &[Row],
    numbers: Numbers<'_>,
    headers: &[String],
    label: usize,
    models: std::ops::Range<usize>,
) -> Vec<String> {
    let columns: Vec<(Column, &str)> = std::iter::once((Column::Floor, FLOOR))
        .chain(models.map(|index| (Column::Model(index), headers[index].as_str())))
        .collect();
    let widths: Vec<usize> = columns.iter().map(|(column, header)| width(rows, numbers, *column, header)).collect();
    let line = |start: &str, cells: Vec<String>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{:GAP$}{cell:>width$}", ""));
        format!("{start:<label$}{}", cells.collect::<String>())
    };
    let mut lines = vec![line("", columns.iter().map(|(_, header)| format!("{header} ")).collect())];
    for row in rows {
        let best = row.best(numbers, headers.len());
        let cell = |&(column, _): &(Column, &str)| {
            let marked = matches!(column, Column::Model(index) if Some(index) == best);
            format!("{}{}", row.cell(numbers, column).unwrap_or_else(|| "–".into()), if marked { '*' } else { ' ' })
        };
        lines.push(line(&row.label, columns.iter().map(cell).collect()));
    }
    lines
}

/// Breaks a text between words.
pub(super) fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= WIDTH) {
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(models: usize) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::from([
            ("events.test".into(), 6000.0),
            ("events.generated".into(), 60_000.0),
            ("events.floor".into(), 6000.0),
        ]);
        let columns = (0..models).map(|index| format!("models[{index}]")).chain(["floor".to_owned()]);
        for (column, better) in columns.zip(1..) {
            for (name, value) in [
                ("chi2_ndf.jj_M", 120.0),
                ("chi2_ndf.ljet1_pt", 3.0),
                ("chi2_ndf_mean", 12.0),
                ("ks.jj_M", 0.02),
                ("tail_w1", 0.01),
                ("tail_chi2_ndf", 4.0),
                ("tail_w1_low", 0.008),
                ("tail_w1_high", 0.012),
                ("auc", 0.6),
                ("auc_tail", 0.49),
                ("in_tail_chi2_ndf_mean", 2.0),
                ("truth_chi2_ndf", 5.0),
                ("qq_0.01", -0.05),
                ("qq_0.01_low", -0.08),
                ("qq_0.01_high", 0.004),
            ] {
                metrics.insert(format!("{column}.{name}"), value / f64::from(better));
            }
            metrics.insert(format!("{column}.tail_mass_ratio"), 1.0 - 0.2 / f64::from(better));
            metrics.insert(format!("{column}.tail_mass_ratio_sigma"), 0.025);
        }
        metrics
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_table_sets_models_beside_the_floor_and_marks_the_best() {
        insta::assert_snapshot!(summary(&metrics(2), &names(&["frozen", "boosted"])), @r"
                               real vs real          frozen         boosted
        χ²/NDF  jj_M                   40.0             120            60.0*
        χ²/NDF  ljet1_pt               1.00            3.00            1.50*
        χ²/NDF  mean                   4.00            12.0            6.00*
        χ²/NDF  mean in tail           0.67            2.00            1.00*
        KS      jj_M                 0.0067          0.0200          0.0100*
        AUC     all events            0.200           0.600           0.300*
        AUC     in tail               0.163           0.490           0.245
        tail    mass ratio      0.93 ± 0.02     0.80 ± 0.02     0.90 ± 0.02*
        tail    W1                   0.0033          0.0100          0.0050*
                  95 %        0.0027…0.0040   0.0080…0.0120   0.0040…0.0060
        tail    χ²/NDF                 1.33            4.00            2.00*
        Q-Q     top 1e-2             −1.7 %          −5.0 %          −2.5 %*
                  95 %          −2.7…+0.1 %     −8.0…+0.4 %     −4.0…+0.2 %
        truth   χ²/NDF                 1.67            5.00            2.50*

        * nearest to the ideal in its row, be it by chance
        6000 test events; 60000 generated by each model; real vs real with 6000
        `boosted` beats `frozen` in the tail by W1 and mass ratio: W1 0.0100 → 0.0050 (real vs real 0.0033),
        mass ratio 0.80 ± 0.02 → 0.90 ± 0.02. One seed: a direction, not a result.
        ");
    }

    #[test]
    fn no_line_is_wider_than_a_hundred_columns_however_many_and_long_the_names() {
        let long: Vec<String> = (0..9).map(|i| format!("a-rather-long-name-of-model-{i}")).collect();
        let text = summary(&metrics(9), &long);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(
            text.lines().filter(|line| line.trim().starts_with(FLOOR)).count(),
            5,
            "two models a table:\n{text}"
        );
        assert!((0..9).all(|i| text.contains(&format!("…of-model-{i}"))), "{text}");
    }

    #[test]
    fn a_number_that_is_missing_is_a_dash_and_a_row_without_numbers_is_left_out() {
        let mut metrics = metrics(2);
        metrics.remove("models[0].ks.jj_M");
        metrics.retain(|name, _| !name.ends_with("tail_chi2_ndf"));
        let text = summary(&metrics, &names(&["a", "b"]));
        let row = text.lines().find(|line| line.starts_with("KS")).unwrap();
        assert!(row.contains('–'), "{text}");
        assert!(!text.contains("tail    χ²/NDF"), "{text}");
    }

    #[test]
    fn models_that_tie_are_not_marked() {
        let metrics = BTreeMap::from([("models[0].tail_w1".into(), 0.5), ("models[1].tail_w1".into(), 0.5)]);
        let text = summary(&metrics, &names(&["a", "b"]));
        assert!(!text.contains('*'), "{text}");
    }

    #[test]
    fn numbers_keep_about_three_digits() {
        assert_eq!([0.996, 9.996, 99.96, 1247.8].map(score), ["1.00", "10.0", "100", "1248"]);
        assert_eq!([0.0, 2.5e-5, 0.0123, 31.25].map(distance), ["0", "2.5e-5", "0.0123", "31.2"]);
        assert_eq!(mass_ratio(0.98765, Some(0.001)), "0.988 ± 0.001");
        assert_eq!(mass_ratio(0.0, None), "0.00");
    }
}
