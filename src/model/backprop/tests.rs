use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{reference::Bound as Reference, *};
use crate::{
    model::{
        Weights, architecture,
        device::here,
        freeze::freeze,
        layer::{Convolution, Layer},
        noise,
        transfer::is_host,
    },
    train::config::{Architecture, DiscriminatorConfig, GeneratorConfig},
    value::Fraction,
};

/// More rows than a block has, and no multiple of it.
const ROWS: usize = host::BLOCK + 37;

const ARCHITECTURES: [Architecture; 3] = [Architecture::Mlp, Architecture::PreciseganFc, Architecture::PreciseganCnn];

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(8)
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-6f32, |scale, value| scale.max(value.abs()));
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 4e-5 * scale, "{a} is not {b} (scale {scale})");
    }
}

/// Fresh weights of these layers, with biases that are not 0.
fn weights(layers: Vec<Layer>) -> Weights {
    let mut weights = Weights::fresh(layers, &mut rng());
    weights.parameters.iter_mut().enumerate().for_each(|(i, w)| *w += 0.01 * (i as f32).sin());
    weights
}

fn generator(architecture: Architecture) -> Weights {
    let config = GeneratorConfig { architecture, ..GeneratorConfig::default() };
    weights(architecture::generator(&config, 7))
}

fn discriminator(architecture: Architecture, dropout: f64) -> Weights {
    let dropout = Fraction::try_from(dropout).unwrap();
    let config = DiscriminatorConfig { architecture, dropout, ..DiscriminatorConfig::default() };
    weights(architecture::discriminator(&config, 9))
}

/// Compares the passes on a device, in training or not, with those of autodiff.
fn compare(weights: &Weights, rows: usize, training: bool, device: &Device) {
    let (network, twin) = (Network::new(weights, device), Network::new(weights, &Device::flex()));
    let (mut one, mut other) = (rng(), rng());
    let [mut by_hand, mut by_autodiff] = if training {
        [Pass::training(&mut one), Pass::training(&mut other)]
    } else {
        [Pass::evaluation(), Pass::evaluation()]
    };
    let x = noise(rows * weights.inputs(), &mut rng());
    let (output, traced) = Traced::forward(&network, matrix(x.clone(), rows, device), &mut by_hand);

    let bound = Reference::new(&twin);
    let input = Tensor::from_inner(matrix(x.clone(), rows, &Device::flex())).require_grad();
    let (expected, _) = bound.forward(input.clone(), &mut by_autodiff);
    let values = numbers(output);
    close(&values, &numbers(expected.clone().inner()));
    if !training {
        let again = network.forward(matrix(x, rows, device), &mut Pass::evaluation());
        assert_eq!(numbers(again), values, "with and without a tape");
    }
    let slope = noise(values.len(), &mut rng());
    let gradients = (expected * Tensor::from_inner(matrix(slope.clone(), rows, &Device::flex()))).sum().backward();
    let slope = || matrix(slope.clone(), rows, device);
    let (parameters, to_input) = traced.both(slope());
    close(&numbers(parameters.clone()), &numbers(bound.gradient(&gradients)));
    close(&numbers(to_input.clone()), &numbers(input.grad(&gradients).unwrap()));
    assert_eq!(numbers(traced.parameters(slope())), numbers(parameters), "alone and with the other");
    assert_eq!(numbers(traced.input(slope())), numbers(to_input), "alone and with the other");

    let (mut one, mut other) = (network.clone(), twin.clone());
    one.absorb(by_hand);
    other.absorb(by_autodiff);
    close(&one.weights().unwrap().running, &other.weights().unwrap().running);
}

#[test]
fn passes_by_hand_are_those_of_autodiff_for_every_net() {
    for device in here() {
        for architecture in ARCHITECTURES {
            let convolutional = architecture == Architecture::PreciseganCnn;
            let rows = if convolutional { 21 } else { ROWS };
            // Dropout draws in the order of memory, where images have their channels last, and on libtorch's devices by theirs.
            let dropout = if convolutional || !is_host(&device) { 0.0 } else { 0.3 };
            for training in [false, true] {
                compare(&generator(architecture), rows, training, &device);
                compare(&discriminator(architecture, dropout), rows, training, &device);
            }
            compare(&freeze(&generator(architecture)), rows, false, &device);
        }
    }
}

#[test]
fn convolutions_of_any_shape_are_those_of_autodiff() {
    let shape =
        |inputs, outputs, side, kernel, padding, append| Convolution { inputs, outputs, side, kernel, padding, append };
    for (convolution, transposed) in [
        // A row of the kernel sees appended zeros alone.
        (shape(1, 2, 1, 3, 0, 2), false),
        (shape(3, 1, 1, 3, 0, 2), false),
        (shape(3, 1, 2, 3, 1, 1), false),
        (shape(2, 5, 4, 2, 2, 0), false),
        (shape(4, 2, 5, 4, 0, 1), false),
        (shape(4, 2, 3, 2, 1, 1), true),
        (shape(2, 3, 3, 3, 0, 2), true),
        (shape(3, 2, 5, 1, 1, 0), true),
    ] {
        let layer = if transposed { Layer::ConvTranspose(convolution) } else { Layer::Conv(convolution) };
        let outputs = convolution.inputs * convolution.side * convolution.side;
        let layers = vec![Layer::Linear { inputs: 3, outputs }, Layer::LeakyRelu, layer, Layer::LeakyRelu];
        assert!(layer::chained(&layers, 3).is_some(), "{layer:?}");
        for device in here() {
            compare(&weights(layers.clone()), 11, false, &device);
        }
    }
}

#[test]
fn dropout_goes_back_through_the_mask_that_it_drew() {
    for device in here() {
        for architecture in ARCHITECTURES {
            let weights = discriminator(architecture, 0.3);
            let x = || matrix(noise(8 * weights.inputs(), &mut rng()), 8, &device);
            let sum = |parameters: &[f32]| {
                let network = Network::new(&Weights { parameters: parameters.to_vec(), ..weights.clone() }, &device);
                let (logits, traced) = Traced::forward(&network, x(), &mut Pass::training(&mut rng()));
                (numbers(logits.sum())[0], numbers(traced.parameters(matrix(vec![1.0; 8], 8, &device))))
            };
            let (undisturbed, gradient) = sum(&weights.parameters);
            assert_eq!(sum(&weights.parameters).0, undisturbed, "the same stream, the same mask");
            let largest = (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs())).unwrap();
            let shifted = |by: f32| {
                let mut moved = weights.parameters.clone();
                moved[largest] += by;
                sum(&moved).0
            };
            let difference = (shifted(1e-3) - shifted(-1e-3)) / 2e-3;
            assert!((difference / gradient[largest] - 1.0).abs() < 2e-2, "{difference} is not {}", gradient[largest]);
        }
    }
}

#[test]
fn a_net_that_is_no_chain_of_masks_has_no_penalty() {
    for device in here() {
        let weights = generator(Architecture::PreciseganFc);
        let network = Network::new(&weights, &device);
        let x = matrix(noise(4 * weights.inputs(), &mut rng()), 4, &device);
        let (made, traced) = Traced::forward(&network, x, &mut Pass::evaluation());
        assert!(traced.penalised(made, Penalty::One(1.0)).is_none());
    }
}

#[test]
fn a_frozen_generator_computes_what_it_did_in_evaluation_mode() {
    for architecture in ARCHITECTURES {
        let weights = generator(architecture);
        let rows = |count: usize| matrix(noise(count * weights.inputs(), &mut rng()), count, &Device::flex());
        let mut net = Network::new(&weights, &Device::flex());
        for _ in 0..3 {
            let mut dropout = rng();
            let mut pass = Pass::training(&mut dropout);
            net.forward(rows(32), &mut pass);
            net.absorb(pass);
        }
        let trained = net.weights().unwrap();
        let frozen = freeze(&trained);
        assert!(frozen.running.is_empty());
        let evaluate = |weights: &Weights| {
            numbers(Network::new(weights, &Device::flex()).forward(rows(6), &mut Pass::evaluation()))
        };
        close(&evaluate(&frozen), &evaluate(&trained));
        assert_eq!(freeze(&frozen), frozen, "freezing twice changes nothing");
    }
}
