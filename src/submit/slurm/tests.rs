use super::*;

fn job() -> JobRequest {
    JobRequest {
        name: "pgan:p:base@2".to_owned(),
        command: ["/my tools/pgan-pipe", "job", "1", "base@lr='1'"].map(str::to_owned).to_vec(),
        after: vec!["7".to_owned(), "8".to_owned()],
        threads: 2,
        memory: Some((1 << 30) + 1),
        gpus: 1,
        time: Some(Duration::from_secs(90_061)),
        options: vec!["--partition=gpu".to_owned()],
        own_options: vec!["--mem=9G".to_owned()],
        log: "/a %j\\ b's/logs/001-base.log".into(),
        apart: None,
    }
}

#[test]
fn a_job_is_a_call_of_sbatch_with_a_script_of_one_line() {
    let script = concat!(
        r"sbatch --parsable --job-name=pgan:p:base@2 '--chdir=/a %j\ b'\''s/logs' ",
        r"'--output=/a %j\\ b'\''s/logs/001-base.log' --open-mode=append --requeue --signal=B:USR1@60 --nodes=1 --ntasks=1 ",
        "--partition=gpu --cpus-per-task=2 --mem=1025M --gres=gpu:1 --time=1-01:02:00 --mem=9G --dependency=afterok:7:8 ",
        "--kill-on-invalid-dep=yes <<'END'\n#!/bin/sh\n",
        r"exec '/my tools/pgan-pipe' job 1 'base@lr='\''1'\''' ",
        "--threads \"${SLURM_CPUS_PER_TASK:-2}\"\nEND",
    );
    assert_eq!(Slurm.show(&job()), script);
}

#[test]
fn where_machines_share_nothing_the_script_finds_places_and_the_variables_are_of_the_machine() {
    let apart = Apart { cache: "$SCRATCH/it's \"mine\"`".to_owned(), log: "v1/s/001 base.log".to_owned() };
    let job = JobRequest { apart: Some(apart), ..job() };
    assert_eq!(
        script(&job),
        r#"#!/bin/sh
cache="$SCRATCH/it's \"mine\"\`"
log="$cache"/'v1/s/001 base.log'
(umask 077; mkdir -p "$cache") && mkdir -p "${log%/*}" || exit
exec >> "$log" 2>&1
exec '/my tools/pgan-pipe' job 1 'base@lr='\''1'\''' --threads "${SLURM_CPUS_PER_TASK:-2}" --cache "$cache" --log "$log"
"#
    );
    let arguments = arguments(&job).join(" ");
    assert!(arguments.contains("--chdir=/ --output=/dev/null --open-mode=append"), "{arguments}");
}

#[test]
fn what_is_not_asked_for_is_left_to_slurm() {
    let job = JobRequest {
        after: Vec::new(),
        memory: None,
        gpus: 0,
        time: None,
        options: Vec::new(),
        own_options: Vec::new(),
        ..job()
    };
    let arguments = arguments(&job).join(" ");
    for option in ["--mem", "--gres", "--time", "--dependency", "--kill-on-invalid-dep"] {
        assert!(!arguments.contains(option), "{arguments}");
    }
}

#[test]
fn no_path_is_taken_for_a_pattern() {
    for (path, written) in [("/a/b.log", "/a/b.log"), ("/a %j/b", "/a %%j/b"), (r"/a\ %j/b", r"/a\\ %j/b")] {
        assert_eq!(literal(Path::new(path)), written);
    }
}

#[test]
fn the_number_of_a_job_is_found_whatever_a_site_adds() {
    for (said, id) in [
        ("12\n", Some("12")),
        ("12;cluster\n", Some("12")),
        ("Welcome!\n\n 12 \n\n", Some("12")),
        ("Submitted batch job 12\n", None),
        ("", None),
        (";\n", None),
    ] {
        assert_eq!(job_id(said).as_deref(), id, "{said:?}");
    }
}

#[test]
fn times_are_whole_minutes_and_one_at_least() {
    for (seconds, text) in [(1, "0-00:01:00"), (60, "0-00:01:00"), (61, "0-00:02:00"), (90_061, "1-01:02:00")] {
        assert_eq!(clock(Duration::from_secs(seconds)), text);
    }
}

#[test]
fn lines_of_the_queue_are_understood_and_others_passed_over() {
    let pending = |reason: &str| JobState::Pending { reason: reason.to_owned() };
    for (line, state) in [
        ("7|PENDING|Dependency|", Some(pending("Dependency"))),
        ("7|RUNNING|None|node1", Some(JobState::Running { node: "node1".to_owned() })),
        ("7|COMPLETING|None|node1", Some(JobState::Running { node: "node1".to_owned() })),
        ("7|A_NEW_STATE|None|", Some(JobState::Running { node: String::new() })),
        ("7|COMPLETED|None|node1", Some(JobState::Completed)),
        ("7|FAILED|NonZeroExitCode|node1", Some(JobState::Failed { reason: "NonZeroExitCode".to_owned() })),
        ("7|OUT_OF_MEMORY|OutOfMemory|node1", Some(JobState::Failed { reason: "out of memory".to_owned() })),
        ("7|CANCELLED|DependencyNeverSatisfied|", Some(JobState::Cancelled)),
        ("7|SUSPENDED|None|node1", Some(pending("suspended"))),
        ("slurm_load_jobs error", None),
        ("", None),
    ] {
        assert_eq!(in_queue(line).map(|(_, state)| state), state, "{line}");
    }
    assert_eq!(state_of("CANCELLED by 1000", "", ""), JobState::Cancelled);
}
