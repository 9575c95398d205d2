//! Opens the tensor device of a name, and says which are there.

use burn::tensor::Device;

use crate::device::{DeviceError, DeviceName};

#[cfg(feature = "libtorch")]
mod nvidia;

/// A device with what was found out about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name for `--device`.
    pub device: DeviceName,
    /// What it is, or why it is not available and what to do.
    pub status: Result<String, String>,
}

/// All devices that a build could have, each with its state on this machine.
pub fn devices() -> Vec<Found> {
    let cpu = Found { device: DeviceName::Cpu, status: Ok("pure-Rust CPU (burn flex)".to_owned()) };
    let mut found = vec![cpu, Found { device: DeviceName::Libtorch, status: libtorch() }];
    let gpus = cuda_devices();
    if gpus == 0 {
        found.push(Found { device: DeviceName::LibtorchCuda(Some(0)), status: cuda(0) });
    }
    found.extend((0..gpus).map(|i| Found { device: DeviceName::LibtorchCuda(Some(i)), status: cuda(i) }));
    found
}

/// Opens a device, without autodiff. With libtorch, one thread unless `OMP_NUM_THREADS` says otherwise: more gain nothing on small
/// nets.
pub fn open(device: DeviceName) -> Result<Device, DeviceError> {
    let unavailable = |reason| DeviceError::Unavailable { device, reason };
    match device {
        DeviceName::Auto => {
            let works = devices().into_iter().filter(|found| found.status.is_ok());
            open(DeviceName::best(works.map(|found| found.device)))
        }
        DeviceName::Cpu => Ok(Device::flex()),
        DeviceName::Libtorch => libtorch().map_err(unavailable).and_then(|_| torch_device(device)),
        DeviceName::LibtorchCuda(index) => {
            cuda(index.unwrap_or(0)).map_err(unavailable).and_then(|_| torch_device(device))
        }
    }
}

#[cfg(not(feature = "libtorch"))]
mod torch {
    use super::{Device, DeviceError, DeviceName};

    const MISSING: &str =
        "this program was built without libtorch; run `scripts/libtorch`, then build with `--features libtorch`";

    pub(super) fn libtorch() -> Result<String, String> {
        Err(MISSING.to_owned())
    }

    pub(super) fn cuda_devices() -> usize {
        0
    }

    pub(super) fn cuda(_index: usize) -> Result<String, String> {
        Err(MISSING.to_owned())
    }

    pub(super) fn torch_device(device: DeviceName) -> Result<Device, DeviceError> {
        Err(DeviceError::Unavailable { device, reason: MISSING.to_owned() })
    }
}

#[cfg(feature = "libtorch")]
mod torch {
    use super::{
        Device, DeviceError, DeviceName,
        nvidia::{self, Gpu},
    };

    /// `libtorch 2.9.0`, as far as the build could tell.
    fn name() -> String {
        option_env!("PGAN_LIBTORCH_VERSION").map_or("libtorch".to_owned(), |version| format!("libtorch {version}"))
    }

    #[expect(clippy::unnecessary_wraps, reason = "the build without libtorch fails here")]
    pub(super) fn libtorch() -> Result<String, String> {
        // What OpenMP is told, a stage's `resources.threads` among it, and else one.
        let threads = std::env::var("OMP_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
        // The functions on libtorch's threads return nothing and cannot fail.
        let threads = threads.filter(|threads| (1..=1024).contains(threads)).unwrap_or(1);
        tch::set_num_threads(threads);
        Ok(format!("{} on the CPU, {threads} thread{}", name(), if threads == 1 { "" } else { "s" }))
    }

    pub(super) fn cuda_devices() -> usize {
        if tch::Cuda::is_available() { usize::try_from(tch::Cuda::device_count()).unwrap_or(0) } else { 0 }
    }

    pub(super) fn cuda(index: usize) -> Result<String, String> {
        match cuda_devices() {
            0 => {
                Err(why_no_gpu(tch::utils::has_cudart(), nvidia::driver(), std::env::var("CUDA_VISIBLE_DEVICES").ok()))
            }
            n if index >= n => Err(format!("there are {n} CUDA devices, numbered from 0")),
            _ => Ok(match nvidia::gpus().get(index) {
                Some(gpu) => describe(gpu),
                None => format!("{} on an NVIDIA GPU", name()),
            }),
        }
    }

    fn describe(Gpu { name: gpu, total, free, .. }: &Gpu) -> String {
        let gib = |mib: &u64| *mib as f64 / 1024.0;
        let driver = nvidia::driver().map(|version| format!(", driver {version}")).unwrap_or_default();
        format!("{} on {gpu}, {:.1} of {:.1} GiB free{driver}", name(), gib(free), gib(total))
    }

    /// What keeps libtorch from a GPU, the nearest cause first.
    fn why_no_gpu(cuda: bool, driver: Option<String>, visible: Option<String>) -> String {
        match (cuda, driver, visible) {
            (false, ..) => {
                format!("{} of this program knows no CUDA; run `scripts/libtorch cuda`, then build again", name())
            }
            (true, None, _) => {
                "no NVIDIA driver is loaded (there is no /proc/driver/nvidia/version); install the driver of the GPU, or run on `cpu`"
                    .to_owned()
            }
            (true, Some(_), Some(list)) => {
                format!("CUDA_VISIBLE_DEVICES is `{list}`, which leaves no GPU; unset it or name one")
            }
            (true, Some(driver), None) => format!(
                "the NVIDIA driver {driver} is loaded, but {} finds no GPU with it; `nvidia-smi` must list one, and a driver that \
                 is older than libtorch's CUDA must be renewed",
                name()
            ),
        }
    }

    #[expect(deprecated, reason = "burn 0.22 still supports its libtorch devices")]
    #[expect(clippy::unnecessary_wraps, reason = "the build without libtorch fails here")]
    pub(super) fn torch_device(device: DeviceName) -> Result<Device, DeviceError> {
        Ok(match device {
            DeviceName::LibtorchCuda(index) => Device::libtorch_cuda(index.unwrap_or(0)),
            DeviceName::Libtorch | DeviceName::Cpu | DeviceName::Auto => Device::libtorch(),
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_missing_gpu_is_explained_by_its_nearest_cause() {
            let why = |cuda, driver: Option<&str>, visible: Option<&str>| {
                why_no_gpu(cuda, driver.map(str::to_owned), visible.map(str::to_owned))
            };
            assert!(why(false, Some("580.1"), None).contains("scripts/libtorch cuda"));
            assert!(why(true, None, Some("")).contains("no NVIDIA driver"));
            assert!(why(true, Some("580.1"), Some("-1")).contains("CUDA_VISIBLE_DEVICES is `-1`"));
            assert!(why(true, Some("390.1"), None).contains("driver 390.1"));
        }
    }
}

use torch::{cuda, cuda_devices, libtorch, torch_device};

/// The devices that this build has on any machine, for tests that hold on each.
#[cfg(test)]
pub(crate) fn names_here() -> impl Iterator<Item = DeviceName> {
    [DeviceName::Cpu, DeviceName::Libtorch].into_iter().filter(|device| open(*device).is_ok())
}

/// As [`names_here`], opened.
#[cfg(test)]
pub(crate) fn here() -> Vec<Device> {
    names_here().filter_map(|device| open(device).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there() {
        assert!(open(DeviceName::Cpu).is_ok());
        assert!(devices().iter().any(|found| found.device == DeviceName::Cpu && found.status.is_ok()));
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_that_says_what_to_do() {
        let error = open(DeviceName::LibtorchCuda(Some(99))).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("device `libtorch-cuda:99` is not available: "), "{error}");
    }
}
