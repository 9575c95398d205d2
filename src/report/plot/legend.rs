//! The legend: what each mark means, in a corner where it covers no data.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

use super::{super::table::shortened, Area, Axis, BAND, DASHES, Drawn, text};

const SIZE: i32 = 20;
const LINE: i32 = 31;
const MARK: i32 = 36;
const MARGIN: i32 = 26;
/// Longer names lose their middle.
const LONGEST: usize = 34;
/// Most times that an axis grows to make room.
const MOST_GROWTH: usize = 120;

/// How an entry is drawn.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    Points,
    Line(ShapeStyle),
    Dashes,
    Band,
}

/// A mark and its meaning.
pub(super) struct Entry {
    words: String,
    mark: Mark,
}

impl Entry {
    pub(super) fn new(words: &str, mark: Mark) -> Self {
        Self { words: shortened(words, LONGEST), mark }
    }
}

/// A legend in its place.
pub(super) struct Legend {
    entries: Vec<Entry>,
    left: i32,
    top: i32,
}

impl Legend {
    /// Puts the legend into the upper corner of a panel that needs less room above the data, and gives the axis of heights that room.
    ///
    /// `x` are the pixels of the panel's sides, `y` is the axis as the data alone need it, and `highest` gives the highest value
    /// between two pixels.
    pub(super) fn place(
        entries: Vec<Entry>,
        x: (i32, i32),
        y: Axis,
        highest: impl Fn(i32, i32) -> f64,
    ) -> (Axis, Self) {
        // Text in a browser is not measured here: 0.62 em a letter is generous.
        let letters = entries.iter().map(|entry| entry.words.chars().count()).max().unwrap_or(0);
        let width = MARK + 12 + (0.62 * f64::from(SIZE) * letters as f64) as i32;
        let height = entries.iter().map(|_| LINE).sum::<i32>() + 26;
        let corner = |left: i32| {
            let highest = highest(left - 12, left + width);
            let mut y = y;
            // Grows the axis until what lies under the legend is below it.
            for _ in 0..MOST_GROWTH {
                if y.at(highest) >= y.to + height {
                    break;
                }
                y.high = if y.log { 1.25 * y.high } else { y.high + 0.05 * (y.high - y.low) };
            }
            (y, left)
        };
        let (right, left) = (corner(x.1 - MARGIN - width), corner(x.0 + MARGIN));
        let (y, left) = if left.0.high < right.0.high { left } else { right };
        (y, Self { entries, left, top: y.to })
    }

    pub(super) fn draw(&self, root: &Area<'_>) -> Drawn {
        for (entry, row) in self.entries.iter().zip(0..) {
            let middle = self.top + 30 + LINE * row;
            let (from, to) = (self.left, self.left + MARK);
            let stroke =
                |from: i32, to: i32, style: ShapeStyle| PathElement::new(vec![(from, middle), (to, middle)], style);
            match entry.mark {
                Mark::Points => {
                    let at = i32::midpoint(from, to);
                    root.draw(&PathElement::new(vec![(at, middle - 11), (at, middle + 11)], BLACK.stroke_width(2)))?;
                    root.draw(&Circle::new((at, middle), 4, BLACK.filled()))?;
                }
                Mark::Line(line) => root.draw(&stroke(from, to, line))?,
                Mark::Band => {
                    root.draw(&Rectangle::new([(from, middle - 9), (to, middle + 9)], BAND.filled()))?;
                }
                Mark::Dashes => {
                    for start in (from..to).step_by(14) {
                        root.draw(&stroke(start, (start + 8).min(to), DASHES.stroke_width(2)))?;
                    }
                }
            }
            text(root, &entry.words, SIZE, (to + 12, middle), HPos::Left, VPos::Center)?;
        }
        Ok(())
    }
}
