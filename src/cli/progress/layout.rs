//! Lines of the live display, laid out for the width of the terminal.

use std::collections::BTreeMap;

use console::measure_text_width;
use pgan_pipe::printable::printable;

use crate::cli::{output::Styled, text::seconds};

/// What one looks at while a training runs, in this order, and what it is called where there is little room.
const MAIN: [(&str, &str); 6] =
    [("d_loss", "D"), ("g_loss", "G"), ("e_loss", "E"), ("loss", "loss"), ("held_out", "held out"), ("q", "q")];
/// The widths of a bar.
const BAR: std::ops::RangeInclusive<usize> = 8..=24;

/// A training at a step.
pub(super) struct Training<'a> {
    pub(super) name: &'a str,
    pub(super) step: u64,
    pub(super) steps: u64,
    /// Steps a second and seconds left, if that is known.
    pub(super) pace: Option<(f64, f64)>,
    pub(super) values: &'a BTreeMap<String, f64>,
}

/// The values that one looks at, in words: `d_loss 0.693`, or, `briefly`, `D 0.693`.
pub(super) fn main_values(values: &BTreeMap<String, f64>, briefly: bool) -> Vec<String> {
    let word = |&(name, brief)| {
        let value = values.get(name)?;
        Some(format!("{} {}", if briefly { brief } else { name }, short(*value)))
    };
    MAIN.iter().filter_map(word).collect()
}

/// A time in whole seconds, or in two units.
pub(super) fn whole(time: f64) -> String {
    if time < 59.5 { format!("{time:.0} s") } else { seconds(time) }
}

/// The text, printable, or its beginning and its end with an ellipsis between: points of a sweep differ at the end.
pub(super) fn fit(text: &str, width: usize) -> String {
    let text = &*printable(text);
    let chars: Vec<char> = text.chars().collect();
    if measure_text_width(text) <= width {
        return text.to_owned() + &" ".repeat(width - measure_text_width(text));
    }
    let kept = width.saturating_sub(1).min(chars.len());
    let (head, tail) = (kept - kept / 2, kept / 2);
    chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
}

/// A bar with what fits beside it: first values go, from the last, then the rate, then the bar.
pub(super) fn training(at: &Training<'_>, names: usize, width: usize, color: bool) -> Styled {
    let count = at.steps.to_string();
    let steps = format!("{:>width$}/{count}", at.step, width = count.len());
    let rate = at.pace.map(|(rate, _)| format!("{rate:.*}/s", usize::from(rate < 10.0)));
    let left =
        at.pace.map(|(_, left)| if left > 0.0 { format!("{} left", whole(left.ceil())) } else { "ending".to_owned() });
    let values = main_values(at.values, true);
    let name = fit(at.name, names);
    let beside = |values: &[String], rate: Option<&String>| {
        let pieces = std::iter::once(&steps).chain(rate).chain(&left).chain(values);
        pieces.fold(String::new(), |text, piece| text + "  " + piece)
    };
    let choices = (0..=values.len()).rev().map(|shown| beside(&values[..shown], rate.as_ref()));
    for text in choices.chain([beside(&[], None)]) {
        let room = width.saturating_sub(measure_text_width(&name) + 2 + measure_text_width(&text));
        if room >= *BAR.start() {
            let bar = bar(at.step, at.steps, room.min(*BAR.end()), color);
            return Styled::plain(&name) + "  " + bar + text.as_str();
        }
    }
    Styled::plain(&name) + beside(&[], None).as_str()
}

fn bar(step: u64, steps: u64, width: usize, color: bool) -> Styled {
    let done = (width as u64 * step.min(steps) / steps.max(1)) as usize;
    Styled::painted(&"━".repeat(done), 36, color) + Styled::painted(&"─".repeat(width - done), 2, color)
}

/// A number with three digits.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-3..1e3).contains(&size) => {
            format!("{value:.*}", (2.0 - size.log10().floor()).clamp(0.0, 5.0) as usize)
        }
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(width: usize) -> String {
        let values = [("d_loss", 0.695_147), ("g_loss", 12.34), ("q", 0.004_567), ("d_fake", -1.0)];
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let pace = Some((146.2, 18.8));
        training(&Training { name: "boosted", step: 1250, steps: 4000, pace, values: &values }, 10, width, false)
            .into_string()
    }

    #[test]
    fn a_line_shows_what_fits_into_the_terminal() {
        let lines = [120, 100, 80, 60, 40, 20].map(at);
        for (line, width) in lines.iter().zip([120, 100, 80, 60, 40, 99]) {
            assert!(measure_text_width(line) <= width, "{line}");
        }
        insta::assert_snapshot!(lines.join("\n"), @r"
        boosted     ━━━━━━━─────────────────  1250/4000  146/s  19 s left  D 0.695  G 12.3  q 0.00457
        boosted     ━━━━━━━─────────────────  1250/4000  146/s  19 s left  D 0.695  G 12.3  q 0.00457
        boosted     ━━━────────  1250/4000  146/s  19 s left  D 0.695  G 12.3  q 0.00457
        boosted     ━━━───────  1250/4000  146/s  19 s left  D 0.695
        boosted     1250/4000  19 s left
        boosted     1250/4000  19 s left
        ");
    }

    #[test]
    fn names_are_cut_in_the_middle() {
        assert_eq!(fit("base", 6), "base  ");
        assert_eq!(fit("base@lr=0.001,width=32", 15), "base@lr…idth=32");
        assert_eq!(fit("base", 0), "…");
    }

    #[test]
    fn numbers_have_three_digits() {
        let numbers = [0.695_147, 12.345, 123.4, -0.0457, 0.001_23, 12_345.0, 1e-5, 0.0].map(short);
        assert_eq!(numbers, ["0.695", "12.3", "123", "-0.0457", "0.00123", "1.2e4", "1.0e-5", "0"]);
    }
}
