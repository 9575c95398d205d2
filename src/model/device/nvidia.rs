//! What the NVIDIA driver says of its GPUs, by the program `nvidia-smi` that comes with it.

use std::{env, fs, process::Command};

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gpu {
    uuid: String,
    pub(super) name: String,
    /// In MiB.
    pub(super) total: u64,
    /// In MiB.
    pub(super) free: u64,
}

/// The driver's version, where one is loaded.
pub(super) fn driver() -> Option<String> {
    let text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    Some(version(&text).unwrap_or("of an unknown version").to_owned())
}

/// `580.65.06` in `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build …`.
fn version(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
    line.split_whitespace().find(|word| {
        word.contains('.') && word.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// The GPUs that this process sees, in CUDA's order; none where the driver does not answer.
pub(super) fn gpus() -> Vec<Gpu> {
    let query = ["--query-gpu=uuid,memory.total,memory.free,name", "--format=csv,noheader,nounits"];
    let Ok(output) = Command::new("nvidia-smi").args(query).output() else { return Vec::new() };
    let all = if output.status.success() { parse(&String::from_utf8_lossy(&output.stdout)) } else { Vec::new() };
    match env::var("CUDA_VISIBLE_DEVICES") {
        Ok(list) => visible(&all, &list),
        Err(_) => all,
    }
}

fn parse(text: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let mut fields = line.splitn(4, ',').map(str::trim);
        let (uuid, total, free) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Gpu { uuid: uuid.to_owned(), name: fields.next()?.to_owned(), total, free })
    };
    text.lines().filter_map(gpu).collect()
}

/// Those of a list of numbers or identifiers, up to the first that is no device.
fn visible(all: &[Gpu], list: &str) -> Vec<Gpu> {
    let named = |name: &str| match name.trim().parse::<usize>() {
        Ok(index) => all.get(index).cloned(),
        Err(_) => all.iter().find(|gpu| !name.trim().is_empty() && gpu.uuid.starts_with(name.trim())).cloned(),
    };
    list.split(',').map_while(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_read_and_hidden_as_cuda_hides_them() {
        let all = parse(
            "GPU-1a, 81559, 81037, NVIDIA H100 80GB HBM3\nGPU-2b, 143771, [N/A], odd\nGPU-3c, 143771, 1024, NVIDIA H200, PCIe\n",
        );
        assert_eq!(all.len(), 2, "a line that is no GPU is left out");
        assert_eq!((all[1].total, all[1].free, &*all[1].name), (143_771, 1024, "NVIDIA H200, PCIe"));
        let names = |list: &str| visible(&all, list).into_iter().map(|gpu| gpu.uuid).collect::<Vec<_>>();
        assert_eq!(names("1,0"), ["GPU-3c", "GPU-1a"]);
        assert_eq!(names("GPU-3"), ["GPU-3c"]);
        assert_eq!(names("0,-1,1"), ["GPU-1a"]);
        assert!(names("").is_empty());
    }

    #[test]
    fn the_driver_tells_its_version() {
        let text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs@x)\nGCC version: 12.3.0";
        assert_eq!(version(text), Some("580.65.06"));
        assert_eq!(version("nothing"), None);
    }
}
