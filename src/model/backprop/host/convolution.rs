//! Convolutions of stride 1 as products of matrices, on images with their channels last.
//!
//! The pixels under one row of the kernel are gathered, for each line of the image and each position along it. Lines come first, then
//! images: so the lines that a row of the kernel sees, of all images together, are a dense matrix, and a convolution is a sum of products,
//! one for each row of the kernel, that skips what lies above and below the image. A transposed convolution is one with the kernel turned
//! about, and so is the way back to the input, where that gathers less.

use super::product::{Into, Matrix, product};
use crate::model::{layer::Convolution, wide::wide};

/// Numbers that are gathered at once, so that they stay in the cache until they are used.
const GATHERED: usize = 1 << 16;

/// A convolution, or a transposed one, with its weight.
pub(super) struct Kernel {
    inputs: usize,
    outputs: usize,
    /// Sides of the image that comes in, the one that goes out, and the kernel.
    side: usize,
    image: usize,
    size: usize,
    /// How far the kernel's corner lies above and left of the position.
    offset: isize,
    transposed: bool,
    /// `[taps × inputs, outputs]`.
    weight: Vec<f32>,
    /// For each position along a line.
    runs: Vec<Run>,
    /// The convolution that takes slopes back, where it has fewer channels to gather.
    back: Option<Box<Self>>,
}

/// The pixels under a row of the kernel at one position along a line.
#[derive(Clone, Copy)]
struct Run {
    /// Where they start in what is gathered from a line.
    gathered: usize,
    /// Where they start in the line.
    line: usize,
    /// Their numbers.
    count: usize,
}

/// What a row of the kernel sees: lines of the image, and those of the output that they belong to.
#[derive(Clone, Copy)]
struct Lines {
    seen: usize,
    made: usize,
    count: usize,
}

impl Kernel {
    /// With the weight as a net stores it.
    pub(super) fn new(c: Convolution, transposed: bool, stored: &[f32]) -> Self {
        let size = c.kernel;
        let (image, offset) = if transposed {
            (c.side + c.append + size - 1 - 2 * c.padding, size as isize - 1 - c.padding as isize)
        } else {
            (c.side + c.append + 2 * c.padding + 1 - size, c.padding as isize)
        };
        let (inputs, outputs, side) = (c.inputs, c.outputs, c.side);
        let (weight, runs) = (Vec::new(), Vec::new());
        let mut kernel = Self { inputs, outputs, side, image, size, offset, transposed, weight, runs, back: None };
        kernel.weight = kernel.places().map(|place| stored[place]).collect();
        kernel.runs = kernel.runs().collect();
        kernel.back = (outputs < inputs).then(|| Box::new(kernel.adjoint()));
        kernel
    }

    /// The convolution from slopes in the output to those in the input: the kernel turned about, with its channels exchanged.
    fn adjoint(&self) -> Self {
        let Self { inputs, outputs, side, image, size, offset, transposed, .. } = *self;
        let taps = size * size;
        let weight = (0..taps * outputs * inputs).map(|index| {
            let (rest, input) = (index / inputs, index % inputs);
            let (tap, output) = (rest / outputs, rest % outputs);
            self.weight[((taps - 1 - tap) * inputs + input) * outputs + output]
        });
        let mut back = Self {
            inputs: outputs,
            outputs: inputs,
            side: image,
            image: side,
            size,
            offset: size as isize - 1 - offset,
            transposed: !transposed,
            weight: weight.collect(),
            runs: Vec::new(),
            back: None,
        };
        back.runs = back.runs().collect();
        back
    }

    /// Where the net stores each number of the weight.
    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let Self { inputs, outputs, size, transposed, .. } = *self;
        let taps = size * size;
        (0..taps * inputs * outputs).map(move |index| {
            let (rest, output) = (index / outputs, index % outputs);
            let (tap, input) = (rest / inputs, rest % inputs);
            if transposed {
                (input * outputs + output) * taps + taps - 1 - tap
            } else {
                (output * inputs + input) * taps + tap
            }
        })
    }

    /// Puts a gradient of the weight, given as the kernel has it, in the net's order.
    pub(super) fn restore(&self, gradient: &mut [f32]) {
        let own = gradient.to_vec();
        self.places().zip(own).for_each(|(place, value)| gradient[place] = value);
    }

    /// Positions of the image that goes out.
    pub(super) fn positions(&self) -> usize {
        self.image * self.image
    }

    /// Numbers under a row of the kernel.
    fn row(&self) -> usize {
        self.size * self.inputs
    }

    /// Numbers in the weight.
    pub(super) fn weights(&self) -> usize {
        self.weight.len()
    }

    /// Numbers in an image that comes in.
    fn pixels(&self) -> usize {
        self.side * self.side * self.inputs
    }

    /// Numbers in an image that goes out.
    fn made(&self) -> usize {
        self.positions() * self.outputs
    }

    /// Images that go through together, of this many: first, and number.
    fn batches(&self, images: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let step = (GATHERED / (self.side * self.image * self.row())).max(1);
        (0..images).step_by(step).map(move |start| (start, step.min(images - start)))
    }

    /// Each row of the kernel that sees some of the image, with what it sees; the one that sees most first.
    fn rows(&self) -> impl Iterator<Item = (usize, Lines)> + use<> {
        let (side, image, size) = (self.side as isize, self.image as isize, self.size);
        let lines = |row: usize| {
            let shift = row as isize - self.offset;
            let (first, last) = ((-shift).max(0), (side - shift).min(image));
            let count = (last - first).max(0) as usize;
            Lines { seen: (first + shift).max(0) as usize, made: first.max(0) as usize, count }
        };
        let rows = (0..size).map(|row| (row, lines(row))).filter(|(_, lines)| lines.count > 0);
        let mut rows: Vec<(usize, Lines)> = rows.collect();
        rows.sort_by_key(|(_, lines)| std::cmp::Reverse(lines.count));
        rows.into_iter()
    }

    /// The weight of a row of the kernel, `[size × inputs, outputs]`.
    fn weight(&self, row: usize) -> Matrix<'_> {
        let size = self.row() * self.outputs;
        Matrix::new(&self.weight[row * size..][..size], self.row(), self.outputs)
    }

    /// `out` = x W, `[images, side², inputs]` to `[images, positions, outputs]`.
    pub(super) fn apply(&self, out: &mut [f32], x: &[f32], images: usize, scratch: &mut Vec<f32>) {
        for (start, count) in self.batches(images) {
            let [gathered, made] = self.room(scratch, count);
            self.gather(gathered, &x[start * self.pixels()..][..count * self.pixels()]);
            let (of_seen, of_made) = (count * self.image * self.row(), count * self.image * self.outputs);
            let mut whole = Whole::of(made, self.image);
            for (row, Lines { seen, made: first, count: lines }) in self.rows() {
                let seen = Matrix::new(&gathered[seen * of_seen..], lines * count * self.image, self.row());
                let into = whole.take(lines);
                product(&mut whole.values[first * of_made..], seen, self.weight(row), into);
            }
            whole.finish();
            let out = &mut out[start * self.made()..][..count * self.made()];
            exchange(out, made, [self.image, count], self.image * self.outputs);
        }
    }

    /// `out` = δ Wᵀ.
    pub(super) fn transposed(&self, out: &mut [f32], delta: &[f32], images: usize, scratch: &mut Vec<f32>) {
        if let Some(back) = &self.back {
            return back.apply(out, delta, images, scratch);
        }
        out[..images * self.pixels()].fill(0.0);
        for (start, count) in self.batches(images) {
            let [gathered, made] = self.room(scratch, count);
            self.arrange(made, &delta[start * self.made()..][..count * self.made()]);
            let (of_seen, of_made) = (count * self.image * self.row(), count * self.image * self.outputs);
            let mut whole = Whole::of(gathered, self.side);
            for (row, Lines { seen, made: first, count: lines }) in self.rows() {
                let made = Matrix::new(&made[first * of_made..], lines * count * self.image, self.outputs);
                let into = whole.take(lines);
                product(&mut whole.values[seen * of_seen..], made, self.weight(row).transposed(), into);
            }
            whole.finish();
            self.scatter(&mut out[start * self.pixels()..][..count * self.pixels()], gathered);
        }
    }

    /// `gradient` += xᵀ δ.
    pub(super) fn accumulate(
        &self,
        gradient: &mut [f32],
        x: &[f32],
        delta: &[f32],
        images: usize,
        scratch: &mut Vec<f32>,
    ) {
        let size = self.row() * self.outputs;
        for (start, count) in self.batches(images) {
            let [gathered, made] = self.room(scratch, count);
            self.gather(gathered, &x[start * self.pixels()..][..count * self.pixels()]);
            self.arrange(made, &delta[start * self.made()..][..count * self.made()]);
            let (of_seen, of_made) = (count * self.image * self.row(), count * self.image * self.outputs);
            for (row, Lines { seen, made: first, count: lines }) in self.rows() {
                let rows = lines * count * self.image;
                let seen = Matrix::new(&gathered[seen * of_seen..], rows, self.row()).transposed();
                let made = Matrix::new(&made[first * of_made..], rows, self.outputs);
                product(&mut gradient[row * size..][..size], seen, made, Into::Add);
            }
        }
    }

    /// The pixels under a row of the kernel at every position along a line that are in the image; the others are 0.
    fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let (side, channels) = (self.side as isize, self.inputs);
        (0..self.image).filter_map(move |position| {
            let x = position as isize - self.offset;
            let (first, last) = (x.max(0), (x + self.size as isize).min(side));
            (first < last).then(|| Run {
                gathered: position * self.row() + (first - x) as usize * channels,
                line: first as usize * channels,
                count: (last - first) as usize * channels,
            })
        })
    }

    /// Room for what is gathered of so many images, `[side, images, image, row]`, and for what is made of it, `[image, images, image, outputs]`.
    fn room<'s>(&self, scratch: &'s mut Vec<f32>, images: usize) -> [&'s mut [f32]; 2] {
        let gathered = self.side * images * self.image * self.row();
        let both = gathered + images * self.made();
        if scratch.len() < both {
            scratch.resize(both, 0.0);
        }
        let (gathered, made) = scratch[..both].split_at_mut(gathered);
        [gathered, made]
    }

    /// The lines of images, and what is gathered of each.
    fn lines(&self, images: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (side, line, gathered) = (self.side, self.side * self.inputs, self.image * self.row());
        let places = (0..side).flat_map(move |y| (0..images).map(move |image| (image * side + y, y * images + image)));
        places.map(move |(from, to)| (from * line, to * gathered))
    }

    /// Slopes in images that go out, `[images, positions, outputs]`, with their lines before the images.
    fn arrange(&self, made: &mut [f32], delta: &[f32]) {
        exchange(made, delta, [delta.len() / self.made(), self.image], self.image * self.outputs);
    }

    fn gather(&self, gathered: &mut [f32], x: &[f32]) {
        let (line, all) = (self.side * self.inputs, self.image * self.row());
        for (from, to) in self.lines(x.len() / self.pixels()) {
            let (line, gathered) = (&x[from..][..line], &mut gathered[to..][..all]);
            let mut end = 0;
            for run in &self.runs {
                gathered[end..run.gathered].fill(0.0);
                end = run.gathered + run.count;
                gathered[run.gathered..end].copy_from_slice(&line[run.line..][..run.count]);
            }
            gathered[end..].fill(0.0);
        }
    }

    /// Adds what belongs to the pixels to them.
    fn scatter(&self, out: &mut [f32], gathered: &[f32]) {
        let (line, all) = (self.side * self.inputs, self.image * self.row());
        for (to, from) in self.lines(out.len() / self.pixels()) {
            add_runs(&mut out[to..][..line], &gathered[from..][..all], &self.runs);
        }
    }
}

/// A sum of products on its way: the first replaces what was there, if it covers all lines.
struct Whole<'a> {
    values: &'a mut [f32],
    lines: usize,
    begun: bool,
}

impl<'a> Whole<'a> {
    fn of(values: &'a mut [f32], lines: usize) -> Self {
        Self { values, lines, begun: false }
    }

    /// What becomes of the old content by a product that covers so many lines.
    fn take(&mut self, lines: usize) -> Into {
        if self.begun {
            return Into::Add;
        }
        self.begun = true;
        if lines == self.lines {
            return Into::Replace;
        }
        self.values.fill(0.0);
        Into::Add
    }

    /// A sum of nothing is 0.
    fn finish(self) {
        if !self.begun {
            self.values.fill(0.0);
        }
    }
}

/// Exchanges the first two dimensions: `[a, b, width]` to `[b, a, width]`.
fn exchange(out: &mut [f32], x: &[f32], [a, b]: [usize; 2], width: usize) {
    for (index, values) in x.chunks_exact(width).take(a * b).enumerate() {
        let (first, second) = (index / b, index % b);
        out[(second * a + first) * width..][..width].copy_from_slice(values);
    }
}

wide! {
    fn add_runs(line: &mut [f32], gathered: &[f32], runs: &[Run]) {
        for run in runs {
            let pixels = line[run.line..][..run.count].iter_mut();
            pixels.zip(&gathered[run.gathered..][..run.count]).for_each(|(pixel, value)| *pixel += value);
        }
    }
}
