//! Axes of a figure: where a value lies in pixels, and which ticks carry which label.

/// A linear or logarithmic scale between two pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) log: bool,
    /// The pixel of `low`.
    pub(super) from: i32,
    /// The pixel of `high`.
    pub(super) to: i32,
}

/// A tick; one without a label is a minor one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: Option<String>,
}

impl Axis {
    /// The pixel of a value; values outside the axis lie on its end, and what has no place on a log axis on its low end.
    pub(super) fn at(&self, value: f64) -> i32 {
        let scale = |value: f64| if self.log { value.ln() } else { value };
        let share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low));
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self.from + (share * f64::from(self.to - self.from)).round() as i32
    }

    /// Whether a value lies within the axis.
    pub(super) fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Ticks in ascending order. About `wanted` of them are labelled on a linear axis.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<Tick> {
        let ticks = if self.log { self.log_ticks() } else { self.linear_ticks(wanted) };
        ticks.into_iter().filter(|tick| self.holds(tick.value)).collect()
    }

    /// Decades as powers of ten with minor ticks between; plain 1, 2, 5 where the axis spans less than two decades.
    fn log_ticks(&self) -> Vec<Tick> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let short = self.high < 100.0 * self.low;
        // Labels at every k-th decade only, and no minor ticks, where there are very many.
        let every = 1 + (last - first) / 9;
        let digits = 1..if last - first > 9 { 2 } else { 10 };
        let tick = |decade: i32, digit: i32| {
            let label = match digit {
                1 | 2 | 5 if short => Some(plain(f64::from(digit) * 10f64.powi(decade), (-decade).max(0) as usize)),
                1 if !short && decade % every == 0 => Some(power_of_ten(decade)),
                _ => None,
            };
            Tick { value: f64::from(digit) * 10f64.powi(decade), label }
        };
        (first..=last).flat_map(|decade| digits.clone().map(move |digit| tick(decade, digit))).collect()
    }

    fn linear_ticks(&self, wanted: usize) -> Vec<Tick> {
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let decade = rough.log10().floor() as i32;
        let unit = 10f64.powi(decade);
        let step = [1, 2, 5, 10].into_iter().find(|&step| f64::from(step) * unit >= 0.999 * rough).unwrap_or(10);
        let parts = if step == 2 { 4 } else { 5 };
        let minor = f64::from(step) * unit / parts as f64;
        let decimals = if step == 10 { -decade - 1 } else { -decade }.max(0) as usize;
        let (first, last) = ((self.low / minor - 1e-9).ceil() as i64, (self.high / minor + 1e-9).floor() as i64);
        let tick = |i: i64| {
            let value = (i as f64 * minor).clamp(self.low, self.high);
            Tick { value, label: (i % parts == 0).then(|| plain(i as f64 * minor, decimals)) }
        };
        (first..=last).map(tick).collect()
    }
}

/// `10³` and the like.
pub(super) fn power_of_ten(exponent: i32) -> String {
    let superscript = |c| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        '9' => '⁹',
        _ => '⁰',
    };
    std::iter::once("10".to_owned()).chain(exponent.to_string().chars().map(|c| superscript(c).to_string())).collect()
}

/// A number with a true minus sign, and without one for zero.
fn plain(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(low: f64, high: f64, log: bool) -> Axis {
        Axis { low, high, log, from: 0, to: 100 }
    }

    fn labels(axis: Axis, wanted: usize) -> Vec<String> {
        axis.ticks(wanted).into_iter().filter_map(|tick| tick.label).collect()
    }

    #[test]
    fn values_map_to_pixels_and_never_leave_the_axis() {
        assert_eq!([1.0, 10.0, 100.0, 1e9, 0.0, -1.0].map(|v| axis(1.0, 100.0, true).at(v)), [0, 50, 100, 100, 0, 0]);
        assert_eq!([0.0, 5.0, 11.0].map(|v| axis(0.0, 10.0, false).at(v)), [0, 50, 100]);
    }

    #[test]
    fn decades_are_powers_of_ten() {
        assert_eq!(labels(axis(0.05, 2e3, true), 5), ["10⁻¹", "10⁰", "10¹", "10²", "10³"]);
        assert_eq!(axis(1.0, 100.0, true).ticks(5).len(), 19);
    }

    #[test]
    fn a_short_log_axis_has_plain_numbers() {
        assert_eq!(labels(axis(450.0, 9000.0, true), 5), ["500", "1000", "2000", "5000"]);
        assert_eq!(labels(axis(0.04, 0.3, true), 5), ["0.05", "0.1", "0.2"]);
    }

    #[test]
    fn a_linear_axis_has_round_numbers() {
        assert_eq!(labels(axis(-2.5, 2.5, false), 5), ["−2", "−1", "0", "1", "2"]);
        assert_eq!(labels(axis(0.5, 1.5, false), 4), ["0.5", "1.0", "1.5"]);
        assert_eq!(labels(axis(0.0, 2000.0, false), 5), ["0", "500", "1000", "1500", "2000"]);
    }
}
