//! What a run may use of its machine at once, and what its stages take of that.

use std::{collections::BTreeMap, fs, path::Path, thread};

use crate::{
    device::DeviceName,
    pipeline::{ByteSize, Declared},
    stage::{ArtifactKind, Stage},
    value::{GpuShare, ThreadCount},
};

/// What a run may use at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Stages at once; 0 counts as 1.
    pub jobs: usize,
    /// Threads of all stages together; 0 counts as 1.
    pub threads: usize,
    /// Memory that stages may ask for together, in bytes.
    pub memory: u64,
    /// GPUs, numbered from 0, that stages on `libtorch-cuda` spread over.
    pub gpus: usize,
}

impl Capacity {
    /// All that this process may use.
    pub fn of_this_machine() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self { jobs: threads, threads, memory: memory(), gpus: gpus() }
    }
}

/// The memory that this process may use, in bytes: the machine's, or that of its control group. Without limit if neither is known.
fn memory() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.strip_suffix("kB"))?;
        line.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
        let group = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
        fs::read_to_string(Path::new("/sys/fs/cgroup").join(group).join("memory.max")).ok()?.trim().parse().ok()
    });
    total.into_iter().chain(group).min().unwrap_or(u64::MAX)
}

/// The NVIDIA GPUs that this process may see.
fn gpus() -> usize {
    match std::env::var("CUDA_VISIBLE_DEVICES") {
        // CUDA's own rule: the first that is no device hides those after it.
        Ok(list) => list.split(',').take_while(|name| !name.trim().is_empty() && name.trim() != "-1").count(),
        Err(_) => fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count),
    }
}

/// A share of a GPU in thousandths: sums of them are exact.
const WHOLE_GPU: u32 = 1000;

/// The share of a stage that names none: small nets leave most of a GPU idle.
const USUAL_SHARE: f64 = 0.125;

/// What a stage needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    device: DeviceName,
    /// `None`: as many as it gets, but one at least.
    threads: Option<usize>,
    memory: u64,
    gpu: u32,
}

impl Demand {
    /// That of a stage, in a run on this device, where `auto` means that one.
    pub(crate) fn of(declared: &Declared, device: DeviceName, auto: DeviceName) -> Self {
        let resources = &declared.execution.resources;
        let gpu = resources.gpu.map_or(if computes(&declared.stage) { USUAL_SHARE } else { 0.0 }, GpuShare::get);
        let device = declared.execution.device.unwrap_or(device);
        let device = match if device == DeviceName::Auto { auto } else { device } {
            DeviceName::LibtorchCuda(_) if gpu == 0.0 => DeviceName::Libtorch,
            device => device,
        };
        Self {
            device,
            // One for a training: more gain nothing on small nets.
            threads: resources.threads.map(ThreadCount::get).or(trains(&declared.stage).then_some(1)),
            memory: resources.memory.map_or(0, ByteSize::get),
            gpu: if matches!(device, DeviceName::LibtorchCuda(_)) {
                (gpu * f64::from(WHOLE_GPU)).floor().max(1.0) as u32
            } else {
                0
            },
        }
    }

    /// Whether it leaves some of a GPU to others.
    pub(super) fn shares_gpu(&self) -> bool {
        self.gpu > 0 && self.gpu < WHOLE_GPU
    }

    /// The threads that a job of its own is given.
    pub(crate) fn threads(&self) -> usize {
        self.threads.unwrap_or(1)
    }

    /// The GPUs that a job of its own is given: a share is rounded up, and `auto` counts as one if the stage asks for some.
    pub(crate) fn gpus(&self, declared: &Declared) -> u32 {
        let asks = declared.execution.resources.gpu.is_some_and(|gpu| gpu.get() > 0.0);
        u32::from(self.gpu > 0 || (self.device == DeviceName::Auto && asks))
    }
}

fn trains(stage: &Stage) -> bool {
    matches!(stage.produces(), ArtifactKind::Model | ArtifactKind::Candidate | ArtifactKind::Proposal)
}

/// Whether a stage has tensors: it trains, or takes a model.
fn computes(stage: &Stage) -> bool {
    let models = [ArtifactKind::Model, ArtifactKind::FrozenModel, ArtifactKind::Candidate];
    trains(stage) || stage.ports().iter().any(|port| port.accepts.iter().any(|kind| models.contains(kind)))
}

/// What a stage was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) device: DeviceName,
    pub(super) threads: usize,
    memory: u64,
    gpu: Option<(usize, u32)>,
}

/// What of a run's capacity is free.
#[derive(Debug)]
pub(super) struct Budget {
    capacity: Capacity,
    jobs: usize,
    threads: usize,
    memory: u64,
    /// What is taken of each GPU.
    gpus: BTreeMap<usize, u32>,
}

impl Budget {
    pub(super) fn new(capacity: Capacity) -> Self {
        let capacity = Capacity { jobs: capacity.jobs.max(1), threads: capacity.threads.max(1), ..capacity };
        let Capacity { jobs, threads, memory, .. } = capacity;
        Self { capacity, jobs, threads, memory, gpus: BTreeMap::new() }
    }

    /// Takes what a stage needs, if it is free. A stage that takes as many threads as it gets leaves some to the others that
    /// could start, `ready` with itself. What is more than the whole machine has counts as the whole machine.
    pub(super) fn take(&mut self, demand: &Demand, ready: usize) -> Option<Grant> {
        let threads = match demand.threads {
            Some(threads) => threads.min(self.capacity.threads),
            None => (self.threads / ready.max(1)).max(1),
        };
        let memory = demand.memory.min(self.capacity.memory);
        if self.jobs == 0 || threads > self.threads || memory > self.memory {
            return None;
        }
        let gpu = match demand.device {
            DeviceName::LibtorchCuda(Some(index)) => Some(self.free_gpu(index..=index, demand.gpu)?),
            DeviceName::LibtorchCuda(None) => {
                Some(self.free_gpu(0..=self.capacity.gpus.saturating_sub(1), demand.gpu)?)
            }
            DeviceName::Cpu | DeviceName::Libtorch | DeviceName::Auto => None,
        };
        let device = gpu.map_or(demand.device, |index| DeviceName::LibtorchCuda(Some(index)));
        self.jobs -= 1;
        self.threads -= threads;
        self.memory -= memory;
        let gpu = gpu.map(|index| (index, demand.gpu));
        if let Some((index, share)) = gpu {
            *self.gpus.entry(index).or_default() += share;
        }
        Some(Grant { device, threads, memory, gpu })
    }

    /// The GPU with the most room, if this share of it is free.
    fn free_gpu(&self, mut among: std::ops::RangeInclusive<usize>, share: u32) -> Option<usize> {
        let taken = |index: usize| self.gpus.get(&index).copied().unwrap_or(0);
        let first = among.next()?;
        let index = among.fold(first, |best, index| if taken(index) < taken(best) { index } else { best });
        (taken(index) + share <= WHOLE_GPU).then_some(index)
    }

    pub(super) fn give_back(&mut self, grant: Grant) {
        self.jobs += 1;
        self.threads += grant.threads;
        self.memory += grant.memory;
        if let Some((index, share)) = grant.gpu
            && let Some(taken) = self.gpus.get_mut(&index)
        {
            *taken -= share;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MACHINE: Capacity = Capacity { jobs: 8, threads: 4, memory: 1000, gpus: 2 };

    fn demand(threads: Option<usize>, memory: u64) -> Demand {
        Demand { device: DeviceName::Cpu, threads, memory, gpu: 0 }
    }

    fn on_gpu(index: Option<usize>, gpu: u32) -> Demand {
        Demand { device: DeviceName::LibtorchCuda(index), threads: Some(1), memory: 0, gpu }
    }

    #[test]
    fn stages_wait_for_threads_and_memory() {
        let mut budget = Budget::new(MACHINE);
        let first = budget.take(&demand(Some(3), 600), 1).unwrap();
        assert_eq!(budget.take(&demand(Some(2), 0), 1), None);
        assert_eq!(budget.take(&demand(Some(1), 500), 1), None);
        assert!(budget.take(&demand(Some(1), 400), 1).is_some());
        budget.give_back(first);
        assert!(budget.take(&demand(Some(3), 600), 1).is_some());
    }

    #[test]
    fn more_than_the_machine_has_is_the_whole_machine() {
        let mut budget = Budget::new(MACHINE);
        assert_eq!(budget.take(&demand(Some(64), 0), 1).unwrap().threads, 4);
        assert_eq!(budget.take(&demand(Some(1), 0), 1), None);
    }

    #[test]
    fn a_stage_that_takes_what_it_gets_leaves_threads_to_the_others() {
        let mut budget = Budget::new(MACHINE);
        let shares: Vec<usize> =
            (1..=3).rev().map(|ready| budget.take(&demand(None, 0), ready).unwrap().threads).collect();
        assert_eq!(shares, [1, 1, 2]);
        assert_eq!(Budget::new(MACHINE).take(&demand(None, 0), 1).unwrap().threads, 4);
    }

    #[test]
    fn stages_spread_over_gpus_and_share_them() {
        let mut budget = Budget::new(MACHINE);
        let mut take = |demand| budget.take(&demand, 1).map(|grant| grant.device.to_string());
        assert_eq!(take(on_gpu(None, 500)).as_deref(), Some("libtorch-cuda:0"));
        assert_eq!(take(on_gpu(None, 1000)).as_deref(), Some("libtorch-cuda:1"));
        assert_eq!(take(on_gpu(None, 1000)), None);
        assert_eq!(take(on_gpu(None, 500)).as_deref(), Some("libtorch-cuda:0"));
        assert_eq!(take(on_gpu(Some(5), 1)).as_deref(), Some("libtorch-cuda:5"), "the worker knows whether it exists");
        assert_eq!(take(on_gpu(Some(5), 1000)), None);
    }

    #[test]
    fn where_no_gpu_is_known_the_first_is_asked_for() {
        let mut budget = Budget::new(Capacity { gpus: 0, ..MACHINE });
        let grant = budget.take(&on_gpu(None, 1000), 1).unwrap();
        assert_eq!(grant.device, DeviceName::LibtorchCuda(Some(0)));
    }

    proptest! {
        /// However stages come and go, no more is in use than there is, and a lone stage can always start.
        #[test]
        fn nothing_is_given_twice(
            steps in proptest::collection::vec((any::<bool>(), 0usize..9, 0u64..2000, 0u32..1500, 1usize..5), 1..60)
        ) {
            let mut budget = Budget::new(MACHINE);
            let mut given: Vec<Grant> = Vec::new();
            for (back, threads, memory, gpu, ready) in steps {
                if back && !given.is_empty() {
                    budget.give_back(given.remove(threads % given.len()));
                    continue;
                }
                let device = if gpu > 0 && gpu <= 1000 { DeviceName::LibtorchCuda(None) } else { DeviceName::Cpu };
                let demand = Demand { device, threads: (threads > 0).then_some(threads), memory, gpu };
                let taken = budget.take(&demand, ready);
                prop_assert!(taken.is_some() || !given.is_empty());
                given.extend(taken);
                prop_assert!(given.len() <= MACHINE.jobs);
                prop_assert!(given.iter().map(|grant| grant.threads).sum::<usize>() <= MACHINE.threads);
                prop_assert!(given.iter().map(|grant| grant.memory).sum::<u64>() <= MACHINE.memory);
                for gpu in 0..MACHINE.gpus {
                    let shares = given.iter().filter_map(|grant| grant.gpu).filter(|(index, _)| *index == gpu);
                    prop_assert!(shares.map(|(_, share)| share).sum::<u32>() <= WHOLE_GPU);
                }
            }
        }
    }
}
