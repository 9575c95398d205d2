//! Faults: workers that die, files that rot, sources that change, signals, and runs that meet.

use std::{
    fs,
    process::Command,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use pgan_pipe::{
    device::DeviceName,
    plan::{Plan, PlanError, Reason, StageState},
    run::{Capacity, Event, RunError, RunOptions, run},
    store::{Found, Lookup, Mark, Work},
};

use crate::bench::{Bench, CAPACITY, HONEST, YAML, failures, wait_for};

#[test]
fn a_worker_that_crashes_is_reported_with_its_signal_and_the_end_of_its_log() {
    let bench = Bench::new(r#"echo "out of luck" >&2; kill -SEGV $$"#);
    let (summary, events) = bench.run(YAML);
    assert_eq!(summary.failed, ["events"]);
    let (_, message, log) = failures(&events)[0];
    assert_eq!(message, "the worker was killed by signal 11; its log ends with\n  out of luck");
    assert_eq!(fs::read_to_string(log.unwrap()).unwrap(), "out of luck\n");
}

#[test]
fn a_worker_that_ends_without_a_last_word_has_failed() {
    let bench = Bench::new("echo half > $out/model.json; exit 0");
    let (summary, events) = bench.run(YAML);
    assert_eq!(summary.failed, ["events"]);
    assert_eq!(failures(&events)[0].1, "the worker ended with exit code 0 before the stage was done");
    assert!(bench.store.list().unwrap().is_empty(), "half a result is no result");
}

#[test]
fn a_lost_worker_is_replaced_as_often_as_the_stage_may_be_tried_again() {
    let yaml = YAML.replace("file: events.csv", "file: events.csv, retries: 1");
    let bench = Bench::new(&format!(r#"[ -e "$here/died" ] || {{ touch "$here/died"; kill -9 $$; }}; {HONEST}"#));
    let (summary, events) = bench.run(&yaml);
    assert_eq!(summary.ran.len(), 5);
    let told =
        |event: &Event| matches!(event, Event::StageNotice { message, .. } if message.contains("attempt 1 of 1 more"));
    assert!(events.iter().any(told), "{events:#?}");

    let bench = Bench::new("kill -9 $$");
    assert_eq!(bench.run(&yaml).0.failed, ["events"]);
    assert_eq!(bench.worked().len(), 2);
}

#[test]
fn a_stage_that_takes_longer_than_it_may_is_ended() {
    let bench = Bench::new("sleep 60");
    let begun = Instant::now();
    let (summary, events) = bench.run(&YAML.replace("file: events.csv", "file: events.csv, timeout: 0.2s, retries: 3"));
    assert_eq!(summary.failed, ["events"]);
    assert_eq!(failures(&events)[0].1, "the stage took longer than its `timeout` of 0.2 s");
    assert!(begun.elapsed() < Duration::from_secs(30) && bench.worked().len() == 1, "and is not tried again");
}

#[test]
fn what_a_killed_attempt_has_written_is_no_part_of_the_next_ones_result() {
    let yaml = YAML.replace("file: events.csv", "file: events.csv, retries: 3");
    let bench = Bench::new(&format!(
        r#"[ -e "$here/died" ] || {{ touch "$here/died"; echo half > "$out/.tmpA1b2C3"; echo half > "$out/model.json"; kill -9 $$; }}
ls -A "$out" > "$here/found"; {HONEST}"#
    ));
    let (summary, _) = bench.run(&yaml);
    assert_eq!(summary.ran.len(), 5);
    assert_eq!(fs::read_to_string(bench.path("found")).unwrap(), "", "an attempt starts in an empty folder");
    let honest = Bench::new(HONEST);
    honest.run(YAML);
    for stage in ["events", "base", "evaluation"] {
        let (one, other) = (bench.record(&yaml, stage), honest.record(YAML, stage));
        assert_eq!((one.key, one.outputs), (other.key, other.outputs), "{stage}");
    }
}

#[test]
fn files_that_the_worker_does_not_declare_are_not_stored() {
    let bench = Bench::new(&format!(r#"echo x > "$out/.tmpA1b2C3"; mkdir "$out/scratch"; {HONEST}"#));
    assert_eq!(bench.run(YAML).0.ran.len(), 5);
    assert_eq!(bench.record(YAML, "base").outputs.keys().collect::<Vec<_>>(), ["model.json"]);
}

#[test]
fn a_worker_that_declares_nothing_leaves_all_that_lies_in_its_folder() {
    let bench =
        Bench::new(r#"echo x > "$out/one"; echo y > "$out/two"; echo '{"says":"finished","metrics":{}}'; exit 0"#);
    assert_eq!(bench.run(YAML).0.ran.len(), 5);
    assert_eq!(bench.record(YAML, "base").outputs.keys().collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn a_stage_that_declares_what_is_no_file_fails_alone() {
    let bench = Bench::new(&format!(
        r#"[ "$kind" = freeze ] && {{ mkdir "$out/model.json"; echo '{{"says":"finished","metrics":{{}},"files":["model.json"]}}'; exit 0; }}; {HONEST}"#
    ));
    let (summary, events) = bench.run_with(YAML, &RunOptions { keep_going: true, ..bench.options() });
    assert_eq!((summary.failed, summary.ran.len()), (vec!["frozen".to_owned()], 3));
    assert!(failures(&events)[0].1.contains("plain files only"), "{events:#?}");
}

#[test]
fn a_worker_that_prints_other_things_is_understood_all_the_same() {
    let bench = Bench::new(&format!("echo 'loading libtorch'; echo '{{}}'; printf '\\377\\n'; {HONEST}"));
    assert_eq!(bench.run(YAML).0.ran.len(), 5);
}

#[test]
fn a_worker_that_cannot_be_started_is_named() {
    let bench = Bench::new(HONEST);
    let options = RunOptions { worker: bench.path("nowhere"), ..bench.options() };
    let error = bench.try_run(YAML, &options).0.unwrap_err();
    assert!(matches!(error, RunError::Worker { .. }));
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn a_corrupted_input_is_noticed_set_aside_and_made_again() {
    let bench = Bench::new(HONEST);
    bench.run(YAML);
    let base = bench.record(YAML, "base");
    bench.flip_a_bit(&base);
    bench.worked();
    // Nothing reads `base` until something that takes it runs.
    assert_eq!(bench.run(YAML).0.cached.len(), 5);
    let options = RunOptions { force: vec!["frozen".to_owned()], ..bench.options() };
    let (summary, events) = bench.run_with(YAML, &options);
    assert_eq!(summary.ran, ["base", "frozen"]);
    let corrupted = [Reason::Corrupted { file: "model.json".to_owned() }];
    let rerun =
        |event: &Event| matches!(event, Event::StageStarted { stage, why, .. } if stage == "base" && *why == corrupted);
    assert!(events.iter().any(rerun), "{events:#?}");
    assert!(bench.store.verify().faults.is_empty());
}

#[test]
fn an_object_of_another_size_is_made_again_without_being_asked() {
    let bench = Bench::new(HONEST);
    bench.run(YAML);
    let object = bench.store.object(bench.record(YAML, "evaluation").outputs["model.json"].digest);
    fs::remove_file(&object).unwrap();
    fs::write(&object, "").unwrap();
    assert_eq!(bench.run(YAML).0.ran, ["evaluation"]);
    assert!(bench.store.verify().faults.is_empty());
}

#[test]
fn a_source_that_changes_while_it_is_read_is_not_committed() {
    let bench = Bench::new(&format!(r#"[ "$kind" = dataset ] && echo 11 >> "$here/events.csv"; {HONEST}"#));
    let (summary, events) = bench.run(YAML);
    assert_eq!(summary.failed, ["events"]);
    assert!(failures(&events)[0].1.contains("changed while the stage read it"), "{events:#?}");
    assert!(bench.store.list().unwrap().is_empty());
}

#[test]
fn a_source_that_is_changed_and_changed_back_while_it_is_read_is_not_committed() {
    // With the times of modification put back as well, as careful tools do.
    let bench = Bench::new(&format!(
        r#"[ "$kind" = dataset ] && {{ cp -p "$here/events.csv" "$here/a"; echo 11 >> "$here/events.csv"; cp "$here/events.csv" "$out/model.json"
cat "$here/a" > "$here/events.csv"; touch -r "$here/a" "$here/events.csv"
echo '{{"says":"finished","metrics":{{}},"files":["model.json"]}}'; exit 0; }}; {HONEST}"#
    ));
    let (summary, events) = bench.run(YAML);
    assert_eq!(summary.failed, ["events"]);
    assert!(failures(&events)[0].1.contains("changed while the stage read it"), "{events:#?}");
    assert!(bench.store.list().unwrap().is_empty());
}

#[test]
fn a_source_that_is_replaced_and_put_back_while_it_is_read_is_not_committed() {
    let bench = Bench::new(&format!(
        r#"[ "$kind" = dataset ] && {{ mv "$here/events.csv" "$here/a"; echo x > "$here/events.csv"; mv "$here/a" "$here/events.csv"; }}; {HONEST}"#
    ));
    assert_eq!(bench.run(YAML).0.failed, ["events"]);
    assert!(bench.store.list().unwrap().is_empty());
}

#[test]
fn a_source_that_changes_between_the_plan_and_its_stage_is_not_read() {
    let yaml = "
name: study
stages:
  first: { kind: dataset, file: events.csv }
  second: { kind: dataset, file: other.csv }
";
    let bench = Bench::new(&format!(r#"echo 11 >> "$here/other.csv"; {HONEST}"#));
    fs::write(bench.path("other.csv"), "y\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n").unwrap();
    let (summary, events) =
        bench.run_with(yaml, &RunOptions { capacity: Capacity { jobs: 1, ..CAPACITY }, ..bench.options() });
    assert_eq!((&*summary.ran, &*summary.failed), (&["first".to_owned()][..], &["second".to_owned()][..]));
    assert!(failures(&events)[0].1.contains("changed since the run was planned"), "{events:#?}");
    assert_eq!(bench.worked().len(), 1);
}

#[test]
fn a_failure_to_read_a_source_that_changes_is_told_as_such() {
    let bench = Bench::new(
        r#"echo x >> "$here/events.csv"; echo '{"says":"failed","message":"events.csv: line 198377 is torn","kind":"stage"}'; exit 1"#,
    );
    let (_, events) = bench.run(YAML);
    let message = failures(&events)[0].1;
    assert!(message.contains("changed while the stage read it") && !message.contains("198377"), "{message}");
}

#[test]
fn a_worker_that_cannot_write_for_the_disk_is_full_ends_the_run_with_advice() {
    let yaml = YAML.replace("file: events.csv", "file: events.csv, retries: 1");
    let bench = Bench::new(
        r#"echo '{"says":"failed","message":"out/x: No space left on device (os error 28)","kind":"full"}'; exit 1"#,
    );
    let error = bench.try_run(&yaml, &bench.options()).0.unwrap_err();
    assert!(matches!(&error, RunError::Full { stage, .. } if stage == "events"), "{error:?}");
    assert!(error.to_string().contains("cache gc"), "{error}");
    assert_eq!(bench.worked().len(), 2, "there may be room in a moment");
}

#[test]
fn an_object_that_cannot_be_read_is_made_again() {
    let bench = Bench::new(HONEST);
    bench.run(YAML);
    let object = bench.store.object(bench.record(YAML, "base").outputs["model.json"].digest);
    let in_its_place: [&dyn Fn(); 3] =
        [&|| fs::create_dir(&object).unwrap(), &|| std::os::unix::fs::symlink(&object, &object).unwrap(), &|| {
            assert!(Command::new("mkfifo").arg(&object).status().unwrap().success());
        }];
    for put in in_its_place {
        fs::remove_file(&object).unwrap();
        put();
        let options = RunOptions { force: vec!["frozen".to_owned()], ..bench.options() };
        assert_eq!(bench.run_with(YAML, &options).0.ran, ["base", "frozen"]);
        assert!(bench.store.verify().faults.is_empty());
    }
}

#[test]
fn a_run_that_waits_for_a_collection_says_so_and_ends_at_a_signal() {
    let bench = Bench::new(HONEST);
    bench.run(YAML);
    let lock = fs::File::open(bench.path("cache/v1/collection.lock")).unwrap();
    lock.lock().unwrap();
    let stop = Arc::clone(&bench.stop);
    let mut notices = Vec::new();
    let result = run(&bench.pipeline(YAML), &bench.store, &bench.options(), &mut |event| {
        if let Event::RunNotice { message } = event {
            notices.push(message.clone());
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(200));
                stop.store(2, Ordering::Relaxed);
            });
        }
    });
    assert!(matches!(result, Err(RunError::Stopped(2))), "{result:?}");
    assert!(matches!(&*notices, [notice] if notice.contains("waits for a collection")), "once: {notices:?}");
    drop(lock);
    bench.stop.store(0, Ordering::Relaxed);
    assert_eq!(bench.run(YAML).0.cached.len(), 5);
}

#[test]
fn a_program_that_does_not_say_its_devices_does_not_keep_a_run_from_ending() {
    let bench = Bench::new(HONEST);
    fs::write(bench.path("worker"), "#!/bin/sh\ntouch \"$(dirname \"$0\")/asked\"; exec sleep 60").unwrap();
    let (stop, asked) = (Arc::clone(&bench.stop), bench.path("asked"));
    let signaller = thread::spawn(move || {
        wait_for(&asked);
        stop.store(15, Ordering::Relaxed);
    });
    let begun = Instant::now();
    let (result, _) = bench.try_run(YAML, &RunOptions { device: DeviceName::Auto, ..bench.options() });
    signaller.join().unwrap();
    assert!(matches!(result, Err(RunError::Stopped(15))), "{result:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_run_of_its_targets_alone_makes_nothing_that_they_need() {
    let bench = Bench::new(HONEST);
    let options = RunOptions { targets: vec!["frozen".to_owned()], only_targets: true, ..bench.options() };
    let (result, _) = bench.try_run(YAML, &options);
    assert!(matches!(&result, Err(RunError::NotReady { stages }) if *stages == ["events", "base"]), "{result:?}");
    bench.run_with(YAML, &RunOptions { targets: vec!["base".to_owned()], ..bench.options() });
    bench.worked();
    bench.flip_a_bit(&bench.record(YAML, "base"));
    let (summary, events) = bench.run_with(YAML, &options);
    assert_eq!((&summary.failed[..], &summary.cancelled[..]), (&["base".to_owned()][..], &["frozen".to_owned()][..]));
    let told =
        |event: &Event| matches!(event, Event::StageFailed { message, .. } if message.contains("must run again"));
    assert!(events.iter().any(told), "{events:?}");
    assert!(bench.worked().is_empty());
}

#[test]
fn a_worker_that_is_stopped_with_its_run_has_not_failed() {
    let bench = Bench::new(
        r#"[ "$kind" = train_gan ] && { echo '{"says":"progress","step":7,"steps":2000,"values":{}}'; touch "$here/training"; kill -TERM $$; }
finish x"#,
    );
    let (stop, training) = (Arc::clone(&bench.stop), bench.path("training"));
    let signaller = thread::spawn(move || {
        wait_for(&training);
        thread::sleep(Duration::from_millis(100));
        stop.store(15, Ordering::Relaxed);
    });
    let (result, events) = bench.try_run(YAML, &bench.options());
    signaller.join().unwrap();
    assert!(matches!(result, Err(RunError::Stopped(15))), "{result:?}");
    assert!(!events.iter().any(|event| matches!(event, Event::StageFailed { .. })), "{events:?}");
    bench.behave("kill -TERM $$");
    bench.stop.store(0, Ordering::Relaxed);
    let (summary, _) = bench.run(YAML);
    assert!(!summary.failed.is_empty(), "one that is stopped by itself has failed");
}

#[test]
fn a_signal_stops_the_run_keeps_what_is_finished_and_notes_the_step() {
    let bench = Bench::new(
        r#"[ "$kind" = train_gan ] && { echo '{"says":"progress","step":7,"steps":2000,"values":{"loss":1.0}}'; touch "$here/training"; sleep 60; }
finish x"#,
    );
    let (stop, training) = (Arc::clone(&bench.stop), bench.path("training"));
    let signaller = thread::spawn(move || {
        wait_for(&training);
        stop.store(15, Ordering::Relaxed);
    });
    let since = Instant::now();
    let (result, events) =
        bench.try_run(YAML, &RunOptions { capacity: Capacity { jobs: 1, ..CAPACITY }, ..bench.options() });
    signaller.join().unwrap();
    assert!(matches!(result, Err(RunError::Stopped(15))), "{result:?}");
    assert!(since.elapsed() < Duration::from_secs(20), "the worker was not killed");
    let key = events.iter().find_map(|event| match event {
        Event::StageStarted { stage, key, .. } if stage == "base" => Some(*key),
        _ => None,
    });
    let mark = Mark { step: 7, steps: 2000 };
    assert_eq!(bench.store.work(key.unwrap()).unwrap(), Work::Interrupted(mark));

    bench.stop.store(0, Ordering::Relaxed);
    bench.behave(HONEST);
    let (summary, _) = bench.run(YAML);
    assert_eq!(summary.cached, ["events"]);
    assert_eq!(summary.ran.len(), 4);
    assert_eq!(bench.store.work(key.unwrap()).unwrap(), Work::Idle);
}

#[test]
fn a_second_run_waits_names_the_holder_and_takes_the_result() {
    let bench = Bench::new(
        r#"[ "$kind" = train_gan ] && { touch "$here/training"; while [ ! -e "$here/go" ]; do sleep 0.05; done; }
finish "$kind $steps""#,
    );
    let options = RunOptions { targets: vec!["base".to_owned()], ..bench.options() };
    thread::scope(|scope| {
        let first = scope.spawn(|| bench.run_with(YAML, &options).0);
        wait_for(&bench.path("training"));
        let mut holders = Vec::new();
        let second = run(&bench.pipeline(YAML), &bench.store, &options, &mut |event| {
            if let Event::StageWaiting { stage, holder } = event {
                assert_eq!(stage, "base");
                holders.push(holder.clone());
                fs::write(bench.path("go"), "").unwrap();
            }
        });
        assert_eq!(first.join().unwrap().ran, ["events", "base"]);
        assert_eq!(second.unwrap().cached, ["events", "base"]);
        assert!(holders[0].starts_with(&format!("process {} on ", std::process::id())), "{holders:?}");
    });
    assert_eq!(bench.worked(), ["dataset", "train_gan"]);
}

#[test]
fn a_lock_that_nobody_holds_does_not_stop_a_run() {
    let bench = Bench::new(HONEST);
    let plan = Plan::make(&bench.pipeline(YAML), &bench.store, &[], &[]).unwrap();
    let StageState::Run { key, .. } = &plan.stages[0].state else { panic!("a first stage runs") };
    let Lookup::Miss(slot) = bench.store.lookup(*key).unwrap() else { panic!("nothing is stored") };
    drop(slot);
    assert!(matches!(bench.store.find(*key).unwrap(), Found::Absent));
    assert_eq!(bench.run(YAML).0.ran.len(), 5);
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_of_the_store() {
    let bench = Bench::new(HONEST);
    fs::write(bench.path("cache"), "a file where a folder should be").unwrap();
    let error = bench.try_run(YAML, &bench.options()).0.unwrap_err();
    assert!(matches!(error, RunError::Store(_) | RunError::Plan(PlanError::Store(_))), "{error:?}");
    assert!(error.to_string().contains("cache"), "{error}");
}
