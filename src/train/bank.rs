//! Events of a frozen model, made in bulk ahead of the steps that take them.

use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;

use super::{TrainError, archive::state};
use crate::model::{
    Model,
    transfer::{is_host, rows},
};

/// Events that are made at once where they come from another device: the host waits once for many steps.
const EVENTS: usize = 1 << 14;

/// Encoded events in stock, `[events, width]`, on the training's device.
pub(super) struct Bank<'a> {
    model: &'a Model,
    device: &'a Device,
    /// Events in a withdrawal, and withdrawals from one stock.
    batch: usize,
    batches: u64,
    /// The stream as it was before the stock was made: from it a resumed training makes the same.
    before: ChaCha8Rng,
    /// Withdrawals from the stock.
    taken: u64,
    /// The stock, and the stream as it was after it was made.
    stock: Option<(Tensor<2>, ChaCha8Rng)>,
}

state!(Bank<'_> { before, taken });

impl<'a> Bank<'a> {
    pub(super) fn new(model: &'a Model, batch: usize, stream: ChaCha8Rng, device: &'a Device) -> Self {
        // On the host nobody waits, and the stream goes on from batch to batch.
        let batches = if is_host(device) { 1 } else { (EVENTS / batch.max(1)).max(1) as u64 };
        Self { model, device, batch, batches, before: stream, taken: 0, stock: None }
    }

    /// The next events, `[batch, width]`.
    pub(super) fn take(&mut self) -> Result<Tensor<2>, TrainError> {
        let (stock, after) = if let Some(stocked) = self.stock.take() {
            stocked
        } else {
            let mut stream = self.before.clone();
            let made = self.model.sample_encoded(self.batch * self.batches as usize, &mut stream)?;
            (rows(made, self.model.description().coordinates.width(), self.device), stream)
        };
        let start = self.taken as usize * self.batch;
        let taken = stock.clone().slice(start..start + self.batch);
        self.taken += 1;
        if self.taken < self.batches {
            self.stock = Some((stock, after));
        } else {
            (self.before, self.taken) = (after, 0);
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::{super::archive::Contents, *};
    use crate::{
        data::{Coordinates, Description, Observables, coordinates::ColumnMap},
        model::{
            Component, StoredModel, Weights,
            architecture::mlp,
            backprop::numbers,
            device::{names_here, open},
        },
    };

    /// A model of two normal columns.
    fn toy() -> StoredModel {
        let standard = ColumnMap::Standard { mean: 0.0, deviation: 1.0 };
        let generator = Weights::fresh(mlp(3, &[4], 2), &mut ChaCha8Rng::seed_from_u64(1));
        StoredModel {
            description: Description {
                features: vec!["x".to_owned(), "y".to_owned()],
                coordinates: Coordinates::Columns(vec![standard; 2]),
                observables: Observables::None,
                symmetries: Vec::new(),
                tail: None,
                truth: None,
            },
            components: vec![Component { weight: 1.0, generator, windows: Vec::new() }],
            discriminator: None,
            ratios: Vec::new(),
        }
    }

    #[test]
    fn a_bank_that_comes_out_of_an_archive_goes_on_as_it_would_have() {
        for name in names_here() {
            let (model, device) = (Model::new(&toy(), name).unwrap(), open(name).unwrap());
            let bank = || Bank::new(&model, 6000, ChaCha8Rng::seed_from_u64(5), &device);
            let mut whole = bank();
            let all: Vec<Vec<f32>> = (0..7).map(|_| numbers(whole.take().unwrap())).collect();
            assert!((1..7).all(|i| all[i] != all[i - 1]));
            for kept in 0..7 {
                let mut first = bank();
                (0..kept).for_each(|_| drop(first.take().unwrap()));
                let contents = Contents::of(&mut first).unwrap();
                let mut second = bank();
                contents.restore(&mut second, &device).unwrap();
                let rest: Vec<Vec<f32>> = (kept..7).map(|_| numbers(second.take().unwrap())).collect();
                assert!(rest == all[kept..], "after {kept}");
            }
        }
    }
}
