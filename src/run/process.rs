//! A worker process as the executor sees it: started, listened to, and killed when the run stops.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use super::protocol::{Job, Message};
use crate::{device::DeviceName, store::files};

/// How often a silent worker is looked at, and the stop flag with it.
const LOOK: Duration = Duration::from_millis(50);

/// How long the last word of a worker that has gone is waited for.
const LAST_WORD: Duration = Duration::from_secs(5);

/// A worker that has said its last word may take this long to go.
const FAREWELL: Duration = Duration::from_secs(10);

/// How far from its end the last lines of a log are looked for, in bytes.
const TAIL: u64 = 4096;

/// Variables that a process has beside those of the run.
pub(super) type Environment = Vec<(&'static str, PathBuf)>;

/// A running worker. Dropped, it is killed.
pub(super) struct Process {
    child: Child,
    /// Open for as long as somebody waits for the worker.
    lifeline: Option<ChildStdin>,
    messages: Receiver<Message>,
}

/// What a worker does next.
pub(super) enum Heard {
    /// It said something.
    Message(Message),
    /// Nothing for a moment.
    Silence,
    /// It went without a last word.
    Gone(ExitStatus),
}

impl Process {
    /// Starts `program worker` on a job, with this in its environment beside its own. Its stderr goes into `log`, its threads are limited.
    pub(super) fn start(
        program: &Path,
        job: &Job,
        log: File,
        threads: usize,
        environment: Environment,
    ) -> io::Result<Self> {
        let mut text = serde_json::to_vec(job)?;
        text.push(b'\n');
        let mut command = command(program);
        command.envs(environment);
        for pool in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(pool, threads.to_string());
        }
        if std::env::var_os("CUDA_DEVICE_ORDER").is_none() {
            // GPUs are numbered as `nvidia-smi` does, not by their speed.
            command.env("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        }
        // A group of its own: an interrupt from the terminal reaches the executor, which then ends its workers.
        let mut child =
            command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).process_group(0).spawn()?;
        let (mut lifeline, stdout) = (child.stdin.take(), child.stdout.take());
        if let Some(stdin) = &mut lifeline {
            // A worker that goes before it has its job is noticed by its exit.
            let _ = stdin.write_all(&text);
        }
        Ok(Self { child, lifeline, messages: listen(stdout) })
    }

    /// Waits a moment for something to happen.
    pub(super) fn hear(&mut self) -> io::Result<Heard> {
        match self.messages.recv_timeout(LOOK) {
            Ok(message) => Ok(Heard::Message(message)),
            Err(RecvTimeoutError::Disconnected) => Ok(Heard::Gone(self.child.wait()?)),
            Err(RecvTimeoutError::Timeout) => match self.child.try_wait()? {
                None => Ok(Heard::Silence),
                // Its last word may still be in the pipe. The wait is bounded, for a process that the worker left behind may
                // keep the pipe open.
                Some(status) => Ok(self.messages.recv_timeout(LAST_WORD).map_or(Heard::Gone(status), Heard::Message)),
            },
        }
    }

    /// Lets a worker go that has said its last word.
    pub(super) fn farewell(mut self) {
        self.lifeline = None;
        let since = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && since.elapsed() < FAREWELL {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The image that this process runs: it starts a worker of the same build although the program is reinstalled meanwhile.
pub fn this_image() -> io::Result<PathBuf> {
    let image = PathBuf::from(THIS_IMAGE);
    if image.exists() { Ok(image) } else { std::env::current_exe() }
}

const THIS_IMAGE: &str = "/proc/self/exe";

/// Calls a program, which goes by its own name where it is this image.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(name) = std::env::args_os().next().filter(|_| program == Path::new(THIS_IMAGE)) {
        command.arg0(name);
    }
    command
}

/// The best device of those that work in this program, which may be another build than ours, with this in its environment. `None` if the
/// run is stopped before the program answers.
pub(super) fn best_device(
    program: &Path,
    environment: &Environment,
    stop: &AtomicUsize,
) -> io::Result<Option<DeviceName>> {
    let mut command = command(program);
    command.args(["devices", "--json"]).envs(environment.clone());
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0).spawn()?;
    let stdout = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        // What has come before an error counts.
        let _ = stdout.map(|mut stdout| stdout.read_to_end(&mut text));
        text
    });
    while child.try_wait()?.is_none() {
        if stop.load(Ordering::Relaxed) != 0 {
            let _ = child.kill().and_then(|()| child.wait());
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(2));
    }
    let text = reader.join().unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n');
    let found = lines.filter_map(|line| serde_json::from_slice::<Available>(line).ok());
    Ok(Some(DeviceName::best(found.filter(|found| found.available).map(|found| found.device))))
}

/// A line of `devices --json`.
#[derive(Deserialize)]
struct Available {
    device: DeviceName,
    available: bool,
}

/// Reads messages on a thread of its own. What is no message was printed by some library: it is passed over.
fn listen(stdout: Option<ChildStdout>) -> Receiver<Message> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).split(b'\n')) {
            let Ok(line) = line else { break };
            if let Ok(message) = serde_json::from_slice(&line)
                && sender.send(message).is_err()
            {
                break;
            }
        }
    });
    receiver
}

/// Whether a worker was ended by a signal that asks it to stop.
pub(super) fn was_asked_to_stop(status: ExitStatus) -> bool {
    status.signal().is_some_and(|signal| [SIGINT, SIGTERM, SIGUSR1].contains(&signal))
}

/// What to tell of a worker that went without a last word.
pub(super) fn obituary(status: ExitStatus, log: &Path) -> String {
    let how = match (status.signal(), status.code()) {
        (Some(9), _) => "was killed by signal 9; perhaps the machine ran out of memory".to_owned(),
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (_, Some(code)) => format!("ended with exit code {code} before the stage was done"),
        _ => "vanished".to_owned(),
    };
    match last_lines(log) {
        Some(lines) => format!("the worker {how}; its log ends with\n{lines}"),
        None => format!("the worker {how}"),
    }
}

/// The last lines of a log, each indented, as far as they are near its end.
pub fn last_lines(log: &Path) -> Option<String> {
    let mut file = files::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(5)..];
    (!last.is_empty()).then(|| last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
}
