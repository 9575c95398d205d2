//! Archives: the whole state of a training loop by name, tensors as they are and all else as JSON, in one safetensors file.
//!
//! A [`State`] visits its parts in an [`Archive`] once, and by that is both written and read: the two cannot disagree.

use std::collections::{BTreeMap, HashMap};

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::history::Curves;
use crate::model::{Network, Weights};

/// The version of this layout.
const FORMAT: &str = "1";

/// Something that a loop changes.
pub(super) trait State {
    /// Visits all of it under this name.
    fn visit(&mut self, name: &str, archive: &mut Archive<'_>) -> Result<(), ArchiveError>;
}

/// Says which fields of a struct are its state.
macro_rules! state {
    ($type:ty { $($field:ident),+ $(,)? }) => {
        impl $crate::train::archive::State for $type {
            fn visit(
                &mut self,
                name: &str,
                archive: &mut $crate::train::archive::Archive<'_>,
            ) -> Result<(), $crate::train::archive::ArchiveError> {
                $($crate::train::archive::State::visit(&mut self.$field, &format!("{name}.{}", stringify!($field)), archive)?;)+
                Ok(())
            }
        }
    };
}
pub(super) use state;

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// It is no archive, or one of another version.
    #[error("it is not readable ({0})")]
    Unreadable(String),
    /// It lacks something, or has it in another form.
    #[error("its `{0}` does not fit")]
    Misfit(String),
}

/// What an archive holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Contents {
    tensors: BTreeMap<String, Vec<f32>>,
    values: Map<String, Value>,
}

/// An archive on the way: state goes into it, or comes out of it onto a device.
pub(super) enum Archive<'a> {
    Write(&'a mut Contents),
    Read(&'a Contents, &'a Device),
}

impl Contents {
    /// All of a state.
    pub(super) fn of(state: &mut dyn State) -> Result<Self, ArchiveError> {
        let mut contents = Self::default();
        state.visit("", &mut Archive::Write(&mut contents))?;
        Ok(contents)
    }

    /// Puts a state back to what it was. After an error it may be in part what it was.
    pub(super) fn restore(&self, state: &mut dyn State, device: &Device) -> Result<(), ArchiveError> {
        state.visit("", &mut Archive::Read(self, device))
    }

    /// The bytes of a safetensors file.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, ArchiveError> {
        let unreadable = |error: &dyn std::fmt::Display| ArchiveError::Unreadable(error.to_string());
        let bytes: BTreeMap<&str, Vec<u8>> = self
            .tensors
            .iter()
            .map(|(name, values)| (name.as_str(), values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let view = |(name, bytes): (&&'_ str, &'_ Vec<u8>)| (name.to_string(), bytes.len() / 4);
        let shapes: Vec<(String, usize)> = bytes.iter().map(view).collect();
        let views = shapes
            .iter()
            .zip(bytes.values())
            .map(|((name, count), bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, vec![*count], bytes)?)));
        let views: Vec<_> =
            views.collect::<Result<_, safetensors::SafeTensorError>>().map_err(|error| unreadable(&error))?;
        let values = serde_json::to_string(&self.values).map_err(|error| unreadable(&error))?;
        let metadata = HashMap::from([("format".to_owned(), FORMAT.to_owned()), ("values".to_owned(), values)]);
        safetensors::serialize(views, Some(metadata)).map_err(|error| unreadable(&error))
    }

    /// Reads the bytes of a safetensors file.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let unreadable = |error: &dyn std::fmt::Display| ArchiveError::Unreadable(error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| unreadable(&error))?;
        let metadata = header.metadata().as_ref().ok_or_else(|| unreadable(&"it has no metadata"))?;
        if metadata.get("format").map(String::as_str) != Some(FORMAT) {
            return Err(unreadable(&"it is of another version"));
        }
        let values = metadata.get("values").map_or("", String::as_str);
        let values = serde_json::from_str(values).map_err(|error| unreadable(&error))?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| unreadable(&error))?;
        let numbers = |view: &TensorView<'_>| {
            let (chunks, _) = view.data().as_chunks::<4>();
            chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        let tensors = file.iter().map(|(name, view)| (name.to_owned(), numbers(&view))).collect();
        Ok(Self { tensors, values })
    }
}

impl Archive<'_> {
    /// Numbers of 32 bits.
    fn floats(&mut self, name: &str, floats: &mut Vec<f32>) -> Result<(), ArchiveError> {
        match self {
            Self::Write(contents) => {
                contents.tensors.insert(name.to_owned(), floats.clone());
            }
            Self::Read(contents, _) => {
                let found = contents.tensors.get(name).filter(|found| found.len() == floats.len());
                floats.clone_from(found.ok_or_else(|| ArchiveError::Misfit(name.to_owned()))?);
            }
        }
        Ok(())
    }

    /// Anything small.
    fn json<T: Serialize + DeserializeOwned>(&mut self, name: &str, value: &mut T) -> Result<(), ArchiveError> {
        let misfit = || ArchiveError::Misfit(name.to_owned());
        match self {
            Self::Write(contents) => {
                let json = serde_json::to_value(&*value).map_err(|_| misfit())?;
                contents.values.insert(name.to_owned(), json);
            }
            Self::Read(contents, _) => {
                let json = contents.values.get(name).ok_or_else(misfit)?;
                *value = T::deserialize(json).map_err(|_| misfit())?;
            }
        }
        Ok(())
    }
}

/// Implements the state of what is small enough for JSON.
macro_rules! by_json {
    ($($type:ty),+) => {
        $(impl State for $type {
            fn visit(&mut self, name: &str, archive: &mut Archive<'_>) -> Result<(), ArchiveError> {
                archive.json(name, self)
            }
        })+
    };
}

by_json!(u64, f64, (f64, f64), ChaCha8Rng, Curves);

impl State for Vec<f32> {
    fn visit(&mut self, name: &str, archive: &mut Archive<'_>) -> Result<(), ArchiveError> {
        archive.floats(name, self)
    }
}

impl<const D: usize> State for Tensor<D> {
    fn visit(&mut self, name: &str, archive: &mut Archive<'_>) -> Result<(), ArchiveError> {
        let mut floats = host(self, name)?;
        archive.floats(name, &mut floats)?;
        if let Archive::Read(_, device) = archive {
            *self = Self::from_data(TensorData::new(floats, self.dims()), *device);
        }
        Ok(())
    }
}

/// What may not be there yet, of any length: an optimiser's moments.
impl State for Option<Tensor<1>> {
    fn visit(&mut self, name: &str, archive: &mut Archive<'_>) -> Result<(), ArchiveError> {
        match (archive, &self) {
            (Archive::Write(_), None) => {}
            (Archive::Write(contents), Some(tensor)) => {
                contents.tensors.insert(name.to_owned(), host(tensor, name)?);
            }
            (Archive::Read(contents, device), _) => {
                let tensor =
                    |floats: &Vec<f32>| Tensor::from_data(TensorData::new(floats.clone(), [floats.len()]), *device);
                *self = contents.tensors.get(name).map(tensor);
            }
        }
        Ok(())
    }
}

impl State for Network {
    fn visit(&mut self, name: &str, archive: &mut Archive<'_>) -> Result<(), ArchiveError> {
        let (parameters, running) = self.state_mut();
        parameters.visit(&format!("{name}.parameters"), archive)?;
        for (index, statistic) in running.enumerate() {
            statistic.visit(&format!("{name}.running.{index}"), archive)?;
        }
        Ok(())
    }
}

state!(Weights { parameters, running });

impl<S: State, const N: usize> State for [S; N] {
    fn visit(&mut self, name: &str, archive: &mut Archive<'_>) -> Result<(), ArchiveError> {
        self.iter_mut().enumerate().try_for_each(|(index, state)| state.visit(&format!("{name}.{index}"), archive))
    }
}

/// What is not there in any run of a stage with these options has no state.
macro_rules! optional {
    ($($type:ty),+ $(,)?) => {
        $(impl $crate::train::archive::State for Option<$type> {
            fn visit(
                &mut self,
                name: &str,
                archive: &mut $crate::train::archive::Archive<'_>,
            ) -> Result<(), $crate::train::archive::ArchiveError> {
                self.as_mut().map_or(Ok(()), |state| state.visit(name, archive))
            }
        })+
    };
}
pub(super) use optional;

fn host<const D: usize>(tensor: &Tensor<D>, name: &str) -> Result<Vec<f32>, ArchiveError> {
    tensor.clone().try_into_vec_as::<f32>().map_err(|_| ArchiveError::Misfit(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::{
        model::architecture::mlp,
        train::{config::OptimizerConfig, optimizer::Optimizer},
    };

    struct Toy {
        net: Network,
        optimizer: Optimizer,
        rng: ChaCha8Rng,
        running: (f64, f64),
        step: u64,
    }

    state!(Toy { net, optimizer, rng, running, step });

    fn toy(seed: u64) -> Toy {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let net = Network::new(&Weights::fresh(mlp(3, &[4], 1), &mut rng), &Device::flex());
        Toy {
            net,
            optimizer: Optimizer::new(&OptimizerConfig::default(), 10),
            rng,
            running: (0.1 + 0.2, -1e-300),
            step: u64::MAX,
        }
    }

    fn move_on(toy: &mut Toy) {
        let gradient = toy.net.parameters() * 0.3 + 0.1;
        toy.optimizer.update(&mut toy.net, gradient);
        toy.rng.next_u64();
    }

    #[test]
    fn a_state_comes_back_to_the_bit_and_goes_on_as_if_nothing_had_been() {
        let mut toy = toy(1);
        (0..3).for_each(|_| move_on(&mut toy));
        let bytes = Contents::of(&mut toy).unwrap().to_bytes().unwrap();
        let mut other = self::toy(2);
        Contents::from_bytes(&bytes).unwrap().restore(&mut other, &Device::flex()).unwrap();
        move_on(&mut toy);
        move_on(&mut other);
        assert_eq!(Contents::of(&mut toy).unwrap(), Contents::of(&mut other).unwrap());
        assert_eq!(toy.rng.next_u64(), other.rng.next_u64());
    }

    #[test]
    fn an_archive_of_something_else_is_refused_by_name() {
        let contents = Contents::of(&mut toy(1)).unwrap();
        let mut wider = toy(1);
        wider.net = Network::new(&Weights::fresh(mlp(3, &[5], 1), &mut wider.rng), &Device::flex());
        let error = contents.restore(&mut wider, &Device::flex()).unwrap_err();
        assert_eq!(error.to_string(), "its `.net.parameters` does not fit");
        assert!(Contents::from_bytes(b"nonsense").is_err() && Contents::from_bytes(&[]).is_err());
    }
}
