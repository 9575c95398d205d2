//! The worker: runs one stage and reports to the executor that started it.

use std::{
    any::Any,
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, Instant},
};

use super::protocol::{Failure, Job, Message};
use crate::{
    data::Scratch,
    files,
    rng::Streams,
    stage::{Context, Metrics, Progress, Stage},
    store::{Stat, is_full},
    train::{
        checkpoint::Checkpoints,
        history::{History, Recorder},
    },
};

/// Deep graphs of gradients are walked recursively.
const STACK: usize = 64 << 20;

/// So many collections of numbers a stage may hold in memory at once, and more go to files. Most stages hold two or three, and need memory
/// for other things, too.
const COLLECTIONS: u64 = 8;

/// Steps are reported this often at most; a person cannot read faster.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// The stage is done: exit code 0.
    Finished,
    /// The stage failed, and the executor was told why: exit code 1.
    Failed,
    /// The executor is gone; the process must end at once, for the stage may still be at work: exit code 1.
    Orphaned,
}

/// The body of `pgan-pipe worker`: reads a job from `stdin`, runs its stage, and reports in JSON lines on `stdout`.
/// Return from `main` at once afterwards: that ends what is left of the stage.
pub fn worker(stdin: impl Read + Send + 'static, stdout: impl Write + Send + 'static) -> WorkerEnd {
    let mut stdin = BufReader::new(stdin);
    let mut line = String::new();
    if !matches!(stdin.read_line(&mut line), Ok(1..)) {
        return WorkerEnd::Orphaned;
    }
    let (ends, end) = channel();
    let lifeline = ends.clone();
    thread::spawn(move || {
        let mut rest = [0; 256];
        while matches!(stdin.read(&mut rest), Ok(1..)) {}
        lifeline.send(WorkerEnd::Orphaned)
    });
    let voice = Voice { stdout, orphaned: ends.clone() };
    let stage = thread::Builder::new().stack_size(STACK).spawn(move || {
        let end = perform(&line, voice);
        ends.send(end)
    });
    match stage {
        Ok(_) => end.recv().unwrap_or(WorkerEnd::Failed),
        Err(_) => WorkerEnd::Failed,
    }
}

/// Tells the executor, or the process that there is none any more.
struct Voice<W> {
    stdout: W,
    orphaned: Sender<WorkerEnd>,
}

impl<W: Write> Voice<W> {
    fn say(&mut self, message: &Message) {
        let said = serde_json::to_string(message)
            .map_err(std::io::Error::from)
            .and_then(|line| self.stdout.write_all((line + "\n").as_bytes()))
            .and_then(|()| self.stdout.flush());
        if said.is_err() {
            // If nobody listens, then the process is about to end.
            let _ = self.orphaned.send(WorkerEnd::Orphaned);
        }
    }
}

fn perform(line: &str, mut voice: Voice<impl Write>) -> WorkerEnd {
    let done = read_job(line).map_err(|message| (message, Failure::Protocol)).and_then(|(job, stage)| {
        let out = job.out.clone();
        catch_unwind(AssertUnwindSafe(|| run_stage(job, &stage, &mut voice)))
            .unwrap_or_else(|panic| Err(said_in_panic(panic.as_ref())))
            .map(|metrics| (metrics, declared(&stage, &out)))
    });
    match done {
        Ok((metrics, files)) => {
            voice.say(&Message::Finished { metrics, files: Some(files) });
            WorkerEnd::Finished
        }
        Err((message, kind)) => {
            voice.say(&Message::Failed { message, kind });
            WorkerEnd::Failed
        }
    }
}

fn read_job(line: &str) -> Result<(Job, Stage), String> {
    let job: Job = serde_json::from_str(line).map_err(|error| format!("the worker cannot read its job: {error}"))?;
    let other_build = |what: &str, ours: &str, theirs: &str| {
        format!("the worker is of another build: its {what} is {ours}, the job's {theirs}; update `--worker`")
    };
    if job.protocol != Job::PROTOCOL {
        return Err(other_build("protocol", &Job::PROTOCOL.to_string(), &job.protocol.to_string()));
    }
    let stage = match Stage::deserialize(&job.kind, &job.stage) {
        Some(stage) => stage.map_err(|error| format!("the worker cannot read its stage: {error}"))?,
        None => return Err(other_build("list of kinds", &Stage::KINDS.join(", "), &job.kind)),
    };
    if stage.version() != job.version {
        let what = format!("version of `{}`", job.kind);
        return Err(other_build(&what, &stage.version().to_string(), &job.version.to_string()));
    }
    Ok((job, stage))
}

/// Holds on to the sources: the stage reads the files that the executor has looked at, and no others that come to lie there.
fn pin_sources(states: &BTreeMap<PathBuf, Stat>) -> Result<(), (String, Failure)> {
    for (path, state) in states {
        let changed = |what: String| (format!("the source file {} {what}", path.display()), Failure::Stage);
        let metadata = files::pin(path).map_err(|error| changed(format!("cannot be read any more ({error})")))?;
        if Stat::in_metadata(&metadata) != *state {
            return Err(changed("changed before the stage read it: nothing is stored; run again".to_owned()));
        }
    }
    Ok(())
}

fn run_stage(job: Job, stage: &Stage, voice: &mut Voice<impl Write>) -> Result<Metrics, (String, Failure)> {
    pin_sources(&job.states)?;
    let mut reported: Option<Instant> = None;
    let mut progress = |progress: Progress| match progress {
        Progress::Step { step, steps, values } => {
            if step >= steps || reported.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY) {
                reported = Some(Instant::now());
                voice.say(&Message::Progress { step, steps, values: finite(values) });
            }
        }
        Progress::Resumed { step, steps } => voice.say(&Message::Resumed { step, steps }),
        Progress::Notice { message } => voice.say(&Message::Notice { message }),
    };
    let every = Duration::try_from_secs_f64(job.checkpoint_seconds).unwrap_or(Duration::MAX);
    let device = job.device.to_string();
    let of_device = |folder: PathBuf| folder.join(&device);
    let mut context = Context {
        inputs: job.inputs,
        sources: job.sources,
        streams: Streams::new(job.seed, &job.kind),
        device: job.device,
        scratch: Scratch::new(&job.out, job.memory / COLLECTIONS),
        out: job.out,
        // Another device computes other bytes: what it began, it alone ends.
        checkpoints: Checkpoints::at(of_device(job.checkpoints), every, job.trajectory.map(of_device)),
        recorder: Recorder::default(),
        progress: &mut progress,
    };
    let metrics = stage.run(&mut context).map_err(|error| {
        let kind = match error.io_cause() {
            Some(cause) if is_full(cause) => Failure::Full,
            Some(_) => Failure::Io,
            None => Failure::Stage,
        };
        (error.to_string(), kind)
    })?;
    Ok(finite(metrics))
}

/// The files that a stage declares: those of its kind of artifact, and the curves of its training if there are any.
fn declared(stage: &Stage, out: &Path) -> Vec<String> {
    let curves = out.join(History::FILE).exists().then_some(History::FILE);
    stage.produces().files().iter().copied().chain(curves).map(str::to_owned).collect()
}

/// JSON has no other numbers.
fn finite(values: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    values.into_iter().filter(|(_, value)| value.is_finite()).collect()
}

/// The text that a panic comes with.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a word")
}

/// What a panic says, and what has failed: libtorch has no other way to say that a GPU has.
fn said_in_panic<'a>(panic: &'a (dyn Any + Send)) -> (String, Failure) {
    let text = panic_text(panic);
    let about_cuda = |line: &'a str| {
        let start = line.find("CUDA out of memory").or_else(|| line.find("CUDA error"))?;
        Some(line[start..].trim())
    };
    let Some(line) = text.lines().flat_map(|line| line.split("\\n")).find_map(about_cuda) else {
        return (format!("the stage panicked: {text}; this is a defect of the program"), Failure::Panic);
    };
    let message = if line.contains("out of memory") {
        format!(
            "the GPU has too little memory: {line}; lower `batch`, or let fewer stages share the GPU (`resources: {{ gpu: 1 }}`)"
        )
    } else {
        format!("the GPU failed: {line}; `pgan-pipe devices` says what works, and `retries: 2` tries a stage again")
    };
    (message, Failure::Device)
}

#[cfg(test)]
mod tests {
    use std::io::{self, PipeReader, PipeWriter};

    use serde_json::{Value, json};

    use super::*;
    use crate::device::DeviceName;

    #[test]
    fn a_gpu_that_is_too_small_is_no_defect_of_the_program() {
        let text = "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried to allocate 2.00 GiB.\\nException\")";
        let (said, kind) = said_in_panic(&text.to_owned());
        assert!(
            said.starts_with("the GPU has too little memory: CUDA out of memory. Tried to allocate 2.00 GiB.;"),
            "{said}"
        );
        assert_eq!(kind, Failure::Device);
        let (said, kind) =
            said_in_panic(&"Torch(\"CUDA error: the MPS server is not ready\\nCUDA kernel errors might be\")");
        assert!(said.starts_with("the GPU failed: CUDA error: the MPS server is not ready;"), "{said}");
        assert_eq!(kind, Failure::Device);
        let (said, kind) = said_in_panic(&"index out of bounds");
        assert!(said.contains("defect") && kind == Failure::Panic);
    }

    fn job(kind: &str, stage: Value, out: &Path) -> Job {
        Job {
            protocol: Job::PROTOCOL,
            kind: kind.to_owned(),
            version: 1,
            stage,
            seed: 1,
            device: DeviceName::Cpu,
            inputs: BTreeMap::new(),
            sources: BTreeMap::new(),
            states: BTreeMap::new(),
            out: out.to_owned(),
            memory: 1 << 30,
            checkpoints: out.to_owned(),
            checkpoint_seconds: 60.0,
            trajectory: None,
        }
    }

    fn tell(stdin: &mut PipeWriter, job: &Job) {
        stdin.write_all((serde_json::to_string(job).unwrap() + "\n").as_bytes()).unwrap();
    }

    fn first_message(stdout: PipeReader) -> Message {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn answer(job: &Job) -> (WorkerEnd, Message) {
        let ((stdin, mut to_worker), (from_worker, stdout)) = (io::pipe().unwrap(), io::pipe().unwrap());
        tell(&mut to_worker, job);
        let end = worker(stdin, stdout);
        (end, first_message(from_worker))
    }

    #[test]
    fn a_stage_that_fails_says_why() {
        let freeze = job("freeze", json!({"model": "base"}), Path::new("nowhere"));
        let (end, message) = answer(&freeze);
        assert_eq!(end, WorkerEnd::Failed);
        let Message::Failed { message, .. } = message else { panic!("{message:?}") };
        assert!(message.contains("no input for the role `model`"), "{message}");
    }

    #[test]
    fn a_worker_of_another_build_refuses() {
        let fields = json!({"model": "base"});
        let cases = [
            Job { version: 99, ..job("freeze", fields.clone(), Path::new("x")) },
            Job { protocol: 99, ..job("freeze", fields.clone(), Path::new("x")) },
            job("unheard_of", fields, Path::new("x")),
        ];
        for case in cases {
            let (end, message) = answer(&case);
            assert_eq!(end, WorkerEnd::Failed);
            let Message::Failed { message, kind: Failure::Protocol } = message else { panic!("{message:?}") };
            assert!(message.contains("another build"), "{message}");
        }
    }

    #[test]
    fn a_worker_that_nobody_gives_a_job_ends() {
        assert_eq!(worker(io::empty(), io::sink()), WorkerEnd::Orphaned);
    }

    #[test]
    fn a_worker_that_nobody_hears_ends() {
        let ((stdin, mut to_worker), (from_worker, stdout)) = (io::pipe().unwrap(), io::pipe().unwrap());
        drop(from_worker);
        tell(&mut to_worker, &job("freeze", json!({"model": "base"}), Path::new("nowhere")));
        assert_eq!(worker(stdin, stdout), WorkerEnd::Orphaned);
    }
}
