//! libtorch's own tensors behind burn's, for operations that burn has not or makes of several.

#![expect(deprecated, reason = "burn 0.22 still supports libtorch")]

use std::{
    ops::Deref,
    sync::{Mutex, PoisonError},
};

use burn::{
    backend::{BackendTypes, DispatchDevice, LibTorch},
    tensor::{Device, Int, Tensor},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::Tensor as Torch;

/// A libtorch tensor that burn knows of. burn works in place only where it sees no other holder of the memory, so this stays as it is for
/// as long as it is held.
#[derive(Clone)]
pub(super) struct Loan(<LibTorch as BackendTypes>::FloatTensorPrimitive);

impl Loan {
    /// Of a tensor whose memory nobody else holds.
    pub(super) fn of(tensor: Torch) -> Self {
        Self(<LibTorch as BackendTypes>::FloatTensorPrimitive::new(tensor))
    }
}

impl Deref for Loan {
    type Target = Torch;

    fn deref(&self) -> &Torch {
        &self.0.tensor
    }
}

/// The libtorch tensor of a tensor on a libtorch device, outside of autodiff.
pub(super) fn lend<const D: usize>(tensor: Tensor<D>) -> Loan {
    match tensor.try_into_primitive::<LibTorch>() {
        Ok(tensor) => Loan(tensor),
        Err(_) => unreachable!("only tensors on libtorch devices come here"),
    }
}

/// A tensor of burn, from a loan.
pub(super) fn give<const D: usize>(loan: Loan) -> Tensor<D> {
    Tensor::from_primitive::<LibTorch>(loan.0)
}

/// A tensor of burn, from one whose memory nobody else holds.
pub(super) fn own<const D: usize>(tensor: Torch) -> Tensor<D> {
    give(Loan::of(tensor))
}

/// a + (b − a) · `weight`, in one operation.
pub(crate) fn lerp<const D: usize>(a: Tensor<D>, b: Tensor<D>, weight: f64) -> Tensor<D> {
    own(lend(a).lerp(&lend(b), weight))
}

/// a + b / c, in one operation.
pub(crate) fn add_quotient(a: Tensor<1>, b: Tensor<1>, c: Tensor<1>) -> Tensor<1> {
    own(lend(a).addcdiv(&lend(b), &lend(c)))
}

/// libtorch's generators are the process's: whoever seeds one draws from it before another seeds it.
static GENERATORS: Mutex<()> = Mutex::new(());

/// Draws on a device, by libtorch's generator with a seed from `rng`: the numbers are a function of the stream and the device, and
/// nothing passes between host and device.
fn draw(rng: &mut ChaCha8Rng, of: impl FnOnce() -> Torch) -> Torch {
    let _guard = GENERATORS.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(rng.random());
    of()
}

/// libtorch's name of a device.
fn place(device: &Device) -> tch::Device {
    match device.as_dispatch() {
        DispatchDevice::LibTorch(device) => (*device).into(),
        _ => unreachable!("only libtorch's devices come here"),
    }
}

/// Standard normal numbers.
pub(super) fn normal([rows, columns]: [usize; 2], rng: &mut ChaCha8Rng, device: &Device) -> Tensor<2> {
    let (size, options) = ([rows as i64, columns as i64], (tch::Kind::Float, place(device)));
    own(draw(rng, || Torch::randn(size, options)))
}

/// The whole numbers below `count` in a random order.
pub(super) fn permutation(count: usize, rng: &mut ChaCha8Rng, device: &Device) -> Tensor<1, Int> {
    let options = (tch::Kind::Int64, place(device));
    Tensor::from_primitive::<LibTorch>(Loan::of(draw(rng, || Torch::randperm(count as i64, options))).0)
}

/// Inverted dropout's factors for each number of a tensor: 0 for this share of them, 1/(1 − share) for the others.
pub(super) fn mask(x: &Torch, share: f64, rng: &mut ChaCha8Rng) -> Torch {
    let keep = 1.0 - share;
    draw(rng, || x.empty_like().bernoulli_float_(keep)) / keep
}

/// Numbers of the host on a device. To a GPU they go by pinned memory, and the host does not wait for it.
pub(super) fn upload<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    let values = Torch::from_slice(values).view(shape.map(|size| size as i64).as_slice());
    own(match place(device) {
        device @ tch::Device::Cuda(_) => values.pin_memory(device).internal_to_copy((tch::Kind::Float, device), true),
        _ => values,
    })
}
