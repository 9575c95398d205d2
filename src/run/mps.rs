//! NVIDIA's Multi-Process Service for the time of a run. Without it processes that share a GPU take turns on it; with it their kernels run
//! side by side, and what each computes is the same.

use std::{
    env, fs,
    io::{self, BufRead, BufReader},
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{atomic::AtomicUsize, mpsc::channel},
    thread,
    time::{Duration, Instant},
};

use super::{
    Event, RunOptions,
    budget::Demand,
    process::{Environment, best_device},
};
use crate::device::DeviceName;

const CONTROL: &str = "nvidia-cuda-mps-control";

/// Where a service that is not ours listens, if nobody says otherwise.
const COMMON: &str = "/tmp/nvidia-mps/control";

/// The service may take this long to start, and to go.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts the service, says so, and lasts until its stdin ends: with whoever started it, however that ends.
const SCRIPT: &str = "\"$0\" -d >/dev/null 2>&1 || exit 1; echo up; cat >/dev/null; echo quit -t 5 | \"$0\" >/dev/null 2>&1; \
                      rm -rf \"$CUDA_MPS_PIPE_DIRECTORY\"";

/// A service for the workers of a run, until it is dropped.
pub(super) struct Service {
    guard: Child,
    folder: PathBuf,
}

impl Service {
    /// Starts one for stages that will share GPUs, if they need it and have none, and tells how they will share.
    pub(super) fn for_stages<'a>(
        demands: impl Iterator<Item = &'a Demand>,
        options: &RunOptions,
        tell: &mut dyn FnMut(&Event),
    ) -> Option<Self> {
        let sharing = demands.filter(|demand| demand.shares_gpu()).count();
        if sharing < 2 || options.capacity.jobs < 2 || options.capacity.gpus == 0 {
            return None;
        }
        let served = env::var_os("CUDA_MPS_PIPE_DIRECTORY").is_some() || Path::new(COMMON).exists();
        let (service, message) = if served {
            (None, "stages run side by side on a GPU, by the Multi-Process Service of this machine".to_owned())
        } else {
            match Self::start(Path::new(CONTROL), &options.worker, &options.stop) {
                Ok(service) => {
                    (Some(service), "stages run side by side on a GPU, by NVIDIA's Multi-Process Service".to_owned())
                }
                Err(why) => (None, format!("stages that share a GPU take turns on it: {why}")),
            }
        };
        tell(&Event::RunNotice { message });
        service
    }

    /// Starts one that the worker's GPUs work under.
    fn start(control: &Path, worker: &Path, stop: &AtomicUsize) -> Result<Self, String> {
        let folder = new_folder().map_err(|error| format!("no folder for {CONTROL}: {error}"))?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(SCRIPT).arg(control).envs(environment(&folder));
        // A group of its own: an interrupt from the terminal is for the run, which then ends it.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut guard = command.spawn().map_err(|error| {
            let _ = fs::remove_dir(&folder);
            format!("`sh` does not start: {error}")
        })?;
        let stdout = guard.stdout.take();
        let service = Self { guard, folder };
        if !says_something(stdout) {
            return Err(format!("`{CONTROL} -d` does not start here"));
        }
        match best_device(worker, &service.environment(), stop) {
            Ok(Some(DeviceName::LibtorchCuda(_))) => Ok(service),
            _ => Err("no GPU works under NVIDIA's Multi-Process Service here".to_owned()),
        }
    }

    /// What a process must have in its environment to be served.
    pub(super) fn environment(&self) -> Environment {
        environment(&self.folder)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let since = Instant::now();
        while matches!(self.guard.try_wait(), Ok(None)) && since.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
        // Left where the service did not start, or did not go in time.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn environment(folder: &Path) -> Environment {
    ["CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"].map(|name| (name, folder.to_owned())).into()
}

/// A folder for the user alone. Its path must be short, for it holds sockets.
fn new_folder() -> io::Result<PathBuf> {
    let folder = env::temp_dir().join(format!("pgan-mps-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

/// Whether a line comes before the end, in time.
fn says_something(from: Option<impl io::Read + Send + 'static>) -> bool {
    let Some(from) = from else { return false };
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut line = String::new();
        let came = BufReader::new(from).read_line(&mut line).is_ok_and(|bytes| bytes > 0);
        // Nobody may listen any more.
        let _ = sender.send(came);
    });
    receiver.recv_timeout(PATIENCE).unwrap_or(false)
}
