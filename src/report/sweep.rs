//! The table of a sweep: a model a row and the numbers that matter most, since twenty models do not stand beside each other.

use super::table::{Column, FLOOR, Numbers, Row, Show, has_number, shortened};

/// So many models still stand beside each other.
const FEW: usize = 4;
/// Longest name that is written out.
pub(super) const LONGEST: usize = 44;
/// Widest line, in characters.
const WIDTH: usize = 100;

/// What to do with the best of many.
pub(super) const ADVICE: &str = "One of many models is the best by chance, too: train it with other seeds (`replicas`) before you \
                                 believe in it. `pgan-pipe show` lists all numbers.";

/// The same where there are several seeds already.
pub(super) const ADVICE_OF_STUDY: &str = "One of many models is the best by chance, too: confirm it with seeds that had no part in \
                                          the choice. `pgan-pipe show` lists all numbers.";

/// Whether these models are many, and for the most part points of sweeps: their names tell it.
pub(super) fn is_sweep(names: &[String]) -> bool {
    let points = names.iter().filter(|name| name.contains('=')).count();
    names.len() > FEW && 2 * points > names.len()
}

/// As many of these as fit into a line, the first ones first.
fn numbers_of_interest() -> Vec<Row> {
    vec![
        Row::new("tail W1", "tail_w1", Show::Distance),
        Row::new("mass ratio", "tail_mass_ratio", Show::Ratio),
        Row::new("χ²/NDF mean", "chi2_ndf_mean", Show::Score),
        Row::new("AUC", "auc", Show::Area),
        Row::new("tail χ²/NDF", "tail_chi2_ndf", Show::Score),
        Row::new("truth W1", "truth_w1", Show::Distance),
        Row::new("AUC in tail", "auc_tail", Show::Area),
    ]
}

/// The lines of the table, with a mark at the best of each column.
pub(super) fn table(numbers: Numbers<'_>, names: &[String]) -> Vec<String> {
    let models = (0..names.len()).map(|index| (Column::Model(index), shortened(&names[index], LONGEST)));
    let rows: Vec<(Column, String)> = std::iter::once((Column::Floor, FLOOR.to_owned())).chain(models).collect();
    let label = rows.iter().map(|(_, name)| name.chars().count()).max().unwrap_or(0);
    let mut lines: Vec<String> = std::iter::once("")
        .chain(rows.iter().map(|(_, name)| name.as_str()))
        .map(|name| format!("{name:<label$}"))
        .collect();
    let (mut used, mut marked) = (label, false);
    for interest in numbers_of_interest().into_iter().filter(|row| has_number(row, numbers, names.len())) {
        let best = interest.best(numbers, names.len());
        let cell = |&(column, _): &(Column, String)| {
            let mark = if matches!(column, Column::Model(index) if Some(index) == best) { '*' } else { ' ' };
            format!("{}{mark}", interest.cell(numbers, column).unwrap_or_else(|| "–".into()))
        };
        let cells: Vec<String> = std::iter::once(format!("{} ", interest.label)).chain(rows.iter().map(cell)).collect();
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0) + 2;
        if used + width > WIDTH {
            break;
        }
        used += width;
        marked |= best.is_some();
        for (line, cell) in lines.iter_mut().zip(&cells) {
            line.extend([" ".repeat(width - cell.chars().count()).as_str(), cell.as_str()]);
        }
    }
    lines.push(String::new());
    if marked {
        lines.push("* nearest to the ideal in its column, be it by chance".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report;

    #[test]
    fn twenty_points_are_twenty_rows_of_a_table() {
        let names: Vec<String> = (0..20).map(|at| format!("boosted@lr=0.00{at},width={}", 64 + at)).collect();
        let mut metrics = BTreeMap::from([("floor.tail_w1".to_owned(), 0.003)]);
        for at in 0..20 {
            let off = f64::from(at) - 11.5;
            metrics.insert(format!("models[{at}].tail_w1"), 0.01 + off * off / 1e4);
            metrics.insert(format!("models[{at}].chi2_ndf_mean"), 2.0 + f64::from(at));
            metrics.insert(format!("models[{at}].ks.x"), 0.1);
        }
        let text = report::summary(&metrics, &names);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH) && text.lines().count() < 28, "{text}");
        insta::assert_snapshot!(text.lines().take(4).collect::<Vec<_>>().join("\n"), @r#"
                                    tail W1   χ²/NDF mean
        real vs real                 0.0030             –
        boosted@lr=0.000,width=64    0.0232          2.00*
        boosted@lr=0.001,width=65    0.0210          3.00
        "#);
        assert_eq!(text.matches('*').count(), 3, "{text}");
        assert!(!is_sweep(&names[..FEW]) && !is_sweep(&vec!["plain".to_owned(); 20]));
    }
}
