//! The legend: what each mark means, in a corner where it covers no data.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

use super::{
    super::{super::table::shortened, DASHES},
    Area, Axis, Content, Drawn, LEFT, RIGHT, TOP, text,
};

const SIZE: i32 = 20;
const LINE: i32 = 31;
const MARK: i32 = 36;
const MARGIN: i32 = 26;
/// Longer names lose their middle.
const LONGEST: usize = 34;

/// How an entry is drawn.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    Points,
    Line(ShapeStyle),
    Dashes,
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
}

impl Legend {
    /// Puts the legend into the upper corner that needs less room above the data, and gives the axis of heights that room.
    pub(super) fn place(entries: Vec<Entry>, content: &Content, panel: Axis) -> (Axis, Self) {
        // Text in a browser is not measured here: 0.62 em a letter is generous.
        let letters = entries.iter().map(|entry| entry.words.chars().count()).max().unwrap_or(0);
        let width = MARK + 12 + (0.62 * f64::from(SIZE) * letters as f64) as i32;
        let height = entries.iter().map(|_| LINE).sum::<i32>() + 26;
        let x = content.x(LEFT, RIGHT);
        let corner = |left: i32| {
            let covered = (0..content.bins()).filter(|&bin| {
                let [from, to] = content.span(x, bin);
                to > left - 12 && from < left + width
            });
            let highest = content.highest(&covered);
            let mut y = content.y(panel);
            // Grows the axis until what lies under the legend is below it.
            while y.at(highest) < panel.to + height && y.high < 1e12 * highest {
                y.high *= if y.log { 1.25 } else { 1.05 };
            }
            (y, left)
        };
        let (right, left) = (corner(RIGHT - MARGIN - width), corner(LEFT + MARGIN));
        let (y, left) = if left.0.high < right.0.high { left } else { right };
        (y, Self { entries, left })
    }

    pub(super) fn draw(&self, root: &Area<'_>) -> Drawn {
        for (entry, row) in self.entries.iter().zip(0..) {
            let middle = TOP + 30 + LINE * row;
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
