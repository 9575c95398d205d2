//! How fast a stage gets on, and how long it will take.

use std::time::{Duration, Instant};

/// Rates are those of the last one or two of these: what came long before says little of what is to come.
const WINDOW: Duration = Duration::from_secs(30);

/// The steps of a stage over time.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Where the rate is counted from, and where it will be from next.
    from: Option<[(Instant, u64); 2]>,
}

impl Pace {
    /// Steps a second, and seconds until the end; nothing can be said of the first step.
    pub(super) fn at(&mut self, now: Instant, step: u64, steps: u64) -> Option<(f64, f64)> {
        let [from, next] = self.from.get_or_insert([(now, step); 2]);
        if now - next.0 >= WINDOW {
            (*from, *next) = (*next, (now, step));
        }
        let rate = step.saturating_sub(from.1) as f64 / (now - from.0).as_secs_f64();
        (rate.is_finite() && rate > 0.0).then(|| (rate, steps.saturating_sub(step) as f64 / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        let mut at = |seconds, step| pace.at(start + Duration::from_secs(seconds), step, 10_000);
        assert_eq!(at(0, 100), None, "one that goes on does not count what was done before");
        assert_eq!(at(10, 200), Some((10.0, 980.0)));
        at(30, 400);
        at(60, 700);
        let (rate, left) = at(61, 800).unwrap();
        assert!((rate - 400.0 / 31.0).abs() < 1e-9 && (left - 9200.0 / rate).abs() < 1e-9, "{rate}");
    }
}
