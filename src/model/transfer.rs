//! Numbers on their way between host and device, and random ones that a device makes itself where it can.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::noise;

/// Whether a device is the host itself.
pub fn is_host(device: &Device) -> bool {
    *device == Device::flex()
}

/// Numbers of the host on a device, without a wait for what it does. `values` has as many as the shape.
pub fn upload<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    #[cfg(feature = "libtorch")]
    if !is_host(device) {
        return super::torch::upload(&values, shape, device);
    }
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Rows of so many numbers on a device.
pub(crate) fn rows(values: Vec<f32>, width: usize, device: &Device) -> Tensor<2> {
    let rows = values.len() / width.max(1);
    upload(values, [rows, width], device)
}

/// a + (b − a) · `weight`.
pub(crate) fn lerp<const D: usize>(a: Tensor<D>, b: Tensor<D>, weight: f64) -> Tensor<D> {
    #[cfg(feature = "libtorch")]
    if !is_host(&a.device()) {
        return super::torch::lerp(a, b, weight);
    }
    a * (1.0 - weight) + b * weight
}

/// Standard normal numbers on a device, outside of autodiff. libtorch makes them, of a seed from the stream; on the CPU they are the
/// stream's own.
pub fn normal([rows, columns]: [usize; 2], rng: &mut ChaCha8Rng, device: &Device) -> Tensor<2> {
    #[cfg(feature = "libtorch")]
    if !is_host(device) {
        return super::torch::normal([rows, columns], rng, device);
    }
    upload(noise(rows * columns, rng), [rows, columns], device)
}

/// The whole numbers below `count` in a random order.
pub fn permutation(count: usize, rng: &mut ChaCha8Rng, device: &Device) -> Tensor<1, Int> {
    #[cfg(feature = "libtorch")]
    if !is_host(device) {
        return super::torch::permutation(count, rng, device);
    }
    let mut order: Vec<i32> = (0..count as i32).collect();
    for last in (1..count).rev() {
        order.swap(last, rng.random_range(0..=last));
    }
    Tensor::from_data(TensorData::new(order, [count]), device)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::model::{backprop::numbers, device::here};

    #[test]
    fn what_a_device_draws_is_a_function_of_the_stream_and_goes_on() {
        for device in here() {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let mut twin = rng.clone();
            let draw = |rng: &mut ChaCha8Rng| {
                let values = numbers(normal([500, 20], rng, &device));
                let order = permutation(1000, rng, &device).try_into_vec_as::<i64>().unwrap();
                (values, order)
            };
            let (values, order) = draw(&mut rng);
            assert_eq!((values.clone(), order.clone()), draw(&mut twin));
            assert_ne!((values.clone(), order.clone()), draw(&mut rng));
            let moment = |power: i32| values.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / 1e4;
            assert!(moment(1).abs() < 0.05 && (moment(2) - 1.0).abs() < 0.1 && (moment(4) - 3.0).abs() < 0.5);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted == (0..1000).collect::<Vec<_>>() && order != sorted);
        }
    }

    #[test]
    fn numbers_arrive_as_they_were() {
        for device in here() {
            let values = vec![1.0, -2.5, f32::MIN_POSITIVE, 3e38, 0.0, -7.0];
            let there = upload(values.clone(), [2, 3], &device);
            assert_eq!(there.dims(), [2, 3]);
            assert_eq!(numbers(there), values);
        }
    }
}
