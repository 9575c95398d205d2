//! Slurm, by its programs: `sbatch`, `squeue`, `sacct` where accounting is kept, `scancel` and `scontrol`.
//!
//! Everything a job needs stands in `sbatch`'s arguments, which need no quoting; the script is one quoted line, and where machines share no files the places before it. Nothing is relied on of
//! the environment that the job finds.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use super::{
    call::{Answer, call},
    engine::{Apart, Engine, EngineError, EngineName, JobRequest, JobState},
};
use crate::shell::quote;

/// Slurm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slurm;

/// Jobs that are asked for or cancelled in one call.
const AT_ONCE: usize = 500;

/// So long before its time is up a job is told: by a signal of its own, so that it can tell this end from a cancellation.
const WARNING: &str = "--signal=B:USR1@60";

impl Engine for Slurm {
    fn show(&self, job: &JobRequest) -> String {
        let words: Vec<String> = arguments(job).iter().map(|argument| quote(argument)).collect();
        format!("sbatch {} <<'END'\n{}END", words.join(" "), script(job))
    }

    fn submit(&self, job: &JobRequest) -> Result<String, EngineError> {
        let answer = ask("sbatch", &arguments(job), &script(job))?;
        if !answer.succeeded {
            return Err(refused("sbatch", &answer));
        }
        job_id(&answer.out).ok_or_else(|| EngineError::Unusable {
            engine: EngineName::Slurm,
            program: "sbatch",
            reason: format!("it gave no number of a job but {:?}", answer.out.chars().take(200).collect::<String>()),
        })
    }

    fn states(&self, ids: &[String]) -> Result<BTreeMap<String, JobState>, EngineError> {
        let mut states = BTreeMap::new();
        for ids in ids.chunks(AT_ONCE) {
            let jobs = format!("--jobs={}", ids.join(","));
            let answer = ask("squeue", &["--noheader", "--states=all", "--format=%i|%T|%r|%N", &jobs], "")?;
            // It says so if it knows none of them.
            if !answer.succeeded && !answer.err.contains("Invalid job id") {
                return Err(refused("squeue", &answer));
            }
            states.extend(answer.out.lines().filter_map(in_queue));
            let gone: Vec<&str> = ids.iter().map(String::as_str).filter(|id| !states.contains_key(*id)).collect();
            if !gone.is_empty() {
                states.extend(accounted(&gone));
            }
        }
        Ok(states)
    }

    fn cancel(&self, ids: &[String]) -> Result<(), EngineError> {
        for some in ids.chunks(AT_ONCE) {
            let answer = ask("scancel", some, "")?;
            // It complains of those that have ended by themselves.
            if !answer.succeeded && self.states(some)?.values().any(JobState::in_flight) {
                return Err(refused("scancel", &answer));
            }
        }
        Ok(())
    }

    fn this_job(&self) -> Option<String> {
        std::env::var("SLURM_JOB_ID").ok()
    }

    fn requeue(&self, id: &str) -> Result<(), EngineError> {
        let answer = ask("scontrol", &["requeue", id], "")?;
        if answer.succeeded { Ok(()) } else { Err(refused("scontrol", &answer)) }
    }
}

/// Calls a program of Slurm, away from settings that would change what it answers.
fn ask(program: &'static str, arguments: &[impl AsRef<str>], input: &str) -> Result<Answer, EngineError> {
    let mut command = Command::new(program);
    command.args(arguments.iter().map(AsRef::as_ref));
    for (name, _) in std::env::vars_os() {
        let filters = ["SQUEUE_", "SACCT_", "SCANCEL_"];
        if name.to_str().is_some_and(|name| filters.iter().any(|filter| name.starts_with(filter))) {
            command.env_remove(name);
        }
    }
    call(EngineName::Slurm, program, command.env("LC_ALL", "C"), input)
}

fn refused(program: &'static str, answer: &Answer) -> EngineError {
    EngineError::Refused { engine: EngineName::Slurm, program, said: answer.complaint() }
}

/// The arguments of `sbatch`; of two alike it heeds the later one.
fn arguments(job: &JobRequest) -> Vec<String> {
    let (folder, log) = match job.apart {
        // The script knows where its log is.
        Some(_) => ("/".into(), Path::new("/dev/null")),
        None => (job.log.parent().unwrap_or(Path::new("/")).to_string_lossy(), &*job.log),
    };
    let mut arguments = vec!["--parsable".to_owned(), format!("--job-name={}", job.name)];
    arguments.extend([format!("--chdir={folder}"), format!("--output={}", literal(log))]);
    arguments.extend(["--open-mode=append", "--requeue", WARNING, "--nodes=1", "--ntasks=1"].map(str::to_owned));
    arguments.extend(job.options.iter().cloned());
    arguments.push(format!("--cpus-per-task={}", job.threads));
    arguments.extend(job.memory.map(|bytes| format!("--mem={}M", bytes.div_ceil(1 << 20))));
    arguments.extend((job.gpus > 0).then(|| format!("--gres=gpu:{}", job.gpus)));
    arguments.extend(job.time.map(|time| format!("--time={}", clock(time))));
    arguments.extend(job.own_options.iter().cloned());
    if !job.after.is_empty() {
        arguments.push(format!("--dependency=afterok:{}", job.after.join(":")));
        arguments.push("--kill-on-invalid-dep=yes".to_owned());
    }
    arguments
}

fn script(job: &JobRequest) -> String {
    let words: Vec<String> = job.command.iter().map(|word| quote(word)).collect();
    let call = format!("exec {} --threads \"${{SLURM_CPUS_PER_TASK:-{}}}\"", words.join(" "), job.threads);
    let Some(Apart { cache, log }) = &job.apart else { return format!("#!/bin/sh\n{call}\n") };
    let (cache, log) = (expanding(cache), quote(log));
    format!(
        "#!/bin/sh\ncache={cache}\nlog=\"$cache\"/{log}\n(umask 077; mkdir -p \"$cache\") && mkdir -p \"${{log%/*}}\" || exit\n\
         exec >> \"$log\" 2>&1\n{call} --cache \"$cache\" --log \"$log\"\n"
    )
}

/// A text as one word of a shell, which puts in the values of variables.
fn expanding(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"").replace('`', r"\`"))
}

/// A path in which Slurm finds no pattern: `%%` stands for a percent sign, unless there is a backslash, which ends all patterns and is
/// itself written twice.
fn literal(path: &Path) -> String {
    let path = path.to_string_lossy();
    if path.contains('\\') { path.replace('\\', r"\\") } else { path.replace('%', "%%") }
}

/// A time limit in whole minutes, which is what Slurm counts in: `1-02:03:00`.
fn clock(time: Duration) -> String {
    let minutes = time.as_secs().div_ceil(60).max(1);
    format!("{}-{:02}:{:02}:00", minutes / 1440, minutes / 60 % 24, minutes % 60)
}

/// The number of a job in what `sbatch --parsable` says: `NUMBER` or `NUMBER;CLUSTER`, maybe after remarks of the site.
fn job_id(out: &str) -> Option<String> {
    let last = out.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let number = last.split(';').next()?.trim();
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| number.to_owned())
}

/// A line of `squeue`.
fn in_queue(line: &str) -> Option<(String, JobState)> {
    let mut fields = line.trim().splitn(4, '|').map(str::trim);
    let (id, state, reason, node) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some((id.to_owned(), state_of(state, reason, node)))
}

/// What accounting knows of jobs that have left the queue: nothing where none is kept.
fn accounted(ids: &[&str]) -> Vec<(String, JobState)> {
    let jobs = format!("--jobs={}", ids.join(","));
    let what = ["--noheader", "--parsable2", "--allocations", "--format=JobIDRaw,State,ExitCode,NodeList", &jobs];
    let Some(answer) = ask("sacct", &what, "").ok().filter(|answer| answer.succeeded) else { return Vec::new() };
    answer
        .out
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split('|').map(str::trim);
            let (id, state, code, node) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            ids.contains(&id).then(|| (id.to_owned(), state_of(state, &format!("exit code {code}"), node)))
        })
        .collect()
}

/// What Slurm's word for a state means. One that is not known is none that a job ends in.
fn state_of(state: &str, reason: &str, node: &str) -> JobState {
    let word = state.split([' ', '+']).next().unwrap_or(state);
    match word {
        "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => {
            JobState::Pending { reason: reason.to_owned() }
        }
        "SUSPENDED" | "STOPPED" => JobState::Pending { reason: word.to_lowercase() },
        "COMPLETED" => JobState::Completed,
        "CANCELLED" | "REVOKED" => JobState::Cancelled,
        "FAILED" => JobState::Failed { reason: reason.to_owned() },
        "BOOT_FAIL" | "DEADLINE" | "NODE_FAIL" | "OUT_OF_MEMORY" | "PREEMPTED" | "TIMEOUT" => {
            JobState::Failed { reason: word.to_lowercase().replace('_', " ") }
        }
        _ => JobState::Running { node: node.to_owned() },
    }
}

#[cfg(test)]
mod tests;
