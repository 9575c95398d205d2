//! Convolutions of stride 1 as products of matrices, on images with their channels last.
//!
//! The pixels under the kernel are gathered, a row for each position of the output (im2col); a transposed convolution is one with
//! the kernel turned about. Channels last, both sides of the product are dense, and a row's pixels are runs of memory. The way back to
//! the input is a convolution, too, where that gathers less; else what belongs to the pixels is added up.

use super::product::{Into, Matrix, product};
use crate::model::{layer::Convolution, wide::wide};

/// Numbers that are gathered at once, so that they stay in the cache until they are used.
const GATHERED: usize = 1 << 17;

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
    runs: Vec<Run>,
    /// The convolution that takes slopes back, where it has fewer channels to gather.
    back: Option<Box<Self>>,
}

/// Pixels of one row of the kernel over one position.
#[derive(Clone, Copy)]
struct Run {
    /// Where they start in what is gathered from an image.
    gathered: usize,
    /// Where they start in the image.
    image: usize,
    /// Their numbers.
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

    /// Pixels under the kernel, with their channels.
    fn under(&self) -> usize {
        self.size * self.size * self.inputs
    }

    /// Numbers in the weight.
    pub(super) fn weights(&self) -> usize {
        self.weight.len()
    }

    fn weight(&self) -> Matrix<'_> {
        Matrix::new(&self.weight, self.under(), self.outputs)
    }

    /// Images that go through together, of this many: first, and number.
    fn batches(&self, images: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let step = (GATHERED / (self.under() * self.positions())).max(1);
        (0..images).step_by(step).map(move |start| (start, step.min(images - start)))
    }

    /// `out` = x W, `[images, side², inputs]` to `[images, positions, outputs]`.
    pub(super) fn apply(&self, out: &mut [f32], x: &[f32], images: usize, scratch: &mut Vec<f32>) {
        for (start, count) in self.batches(images) {
            let rows = count * self.positions();
            let gathered = self.gather(&x[start * self.pixels()..][..count * self.pixels()], scratch);
            let out = &mut out[start * self.positions() * self.outputs..][..rows * self.outputs];
            product(out, Matrix::new(gathered, rows, self.under()), self.weight(), Into::Replace);
        }
    }

    /// `out` = δ Wᵀ.
    pub(super) fn transposed(&self, out: &mut [f32], delta: &[f32], images: usize, scratch: &mut Vec<f32>) {
        if let Some(back) = &self.back {
            return back.apply(out, delta, images, scratch);
        }
        out[..images * self.pixels()].fill(0.0);
        for (start, count) in self.batches(images) {
            let rows = count * self.positions();
            let under = room(scratch, rows * self.under());
            let delta = &delta[start * self.positions() * self.outputs..][..rows * self.outputs];
            product(under, Matrix::new(delta, rows, self.outputs), self.weight().transposed(), Into::Replace);
            self.scatter(&mut out[start * self.pixels()..][..count * self.pixels()], under);
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
        for (start, count) in self.batches(images) {
            let rows = count * self.positions();
            let gathered = self.gather(&x[start * self.pixels()..][..count * self.pixels()], scratch);
            let delta = &delta[start * self.positions() * self.outputs..][..rows * self.outputs];
            let gathered = Matrix::new(gathered, rows, self.under()).transposed();
            product(gradient, gathered, Matrix::new(delta, rows, self.outputs), Into::Add);
        }
    }

    /// Numbers in an image that comes in.
    fn pixels(&self) -> usize {
        self.side * self.side * self.inputs
    }

    /// The pixels under the kernel at every position that are in the image; the others are 0.
    fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let (side, channels) = (self.side as isize, self.inputs);
        (0..self.positions() * self.size).filter_map(move |index| {
            let (position, row) = (index / self.size, index % self.size);
            let y = (position / self.image + row) as isize - self.offset;
            let x = (position % self.image) as isize - self.offset;
            let (first, last) = (x.max(0), (x + self.size as isize).min(side));
            ((0..side).contains(&y) && first < last).then(|| Run {
                gathered: position * self.under() + (row * self.size + (first - x) as usize) * channels,
                image: (y * side + first) as usize * channels,
                count: (last - first) as usize * channels,
            })
        })
    }

    /// The pixels under the kernel at every position, `[images × positions, under]`.
    fn gather<'s>(&self, x: &[f32], scratch: &'s mut Vec<f32>) -> &'s [f32] {
        let (pixels, under) = (self.pixels(), self.positions() * self.under());
        let gathered = room(scratch, x.len() / pixels * under);
        gathered.fill(0.0);
        for (image, gathered) in x.chunks_exact(pixels).zip(gathered.chunks_exact_mut(under)) {
            for run in &self.runs {
                gathered[run.gathered..][..run.count].copy_from_slice(&image[run.image..][..run.count]);
            }
        }
        gathered
    }

    /// Adds what belongs to the pixels under the kernel to the pixels.
    fn scatter(&self, out: &mut [f32], under: &[f32]) {
        let width = self.positions() * self.under();
        for (image, under) in out.chunks_exact_mut(self.pixels()).zip(under.chunks_exact(width)) {
            add_runs(image, under, &self.runs);
        }
    }
}

wide! {
    fn add_runs(image: &mut [f32], gathered: &[f32], runs: &[Run]) {
        for run in runs {
            let pixels = image[run.image..][..run.count].iter_mut();
            pixels.zip(&gathered[run.gathered..][..run.count]).for_each(|(pixel, value)| *pixel += value);
        }
    }
}

/// The start of a vector, made long enough.
fn room(scratch: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if scratch.len() < length {
        scratch.resize(length, 0.0);
    }
    &mut scratch[..length]
}
