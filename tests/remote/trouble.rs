//! Remotes that are down or hang, bodies that are cut off, and mistakes in settings.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use pgan_pipe::digest::Digest;

use crate::{
    checkout, error, files, made, objects,
    program::Folder,
    web::{Answer, Web},
};

#[test]
fn a_body_that_is_cut_off_is_asked_for_again() {
    let source = made();
    let web = Web::of(&source.path("cache"));
    let cut = AtomicUsize::new(0);
    web.says(move |path, bytes| {
        let first = cut.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        if path.contains("objects") && first {
            Answer::Body { bytes: bytes[..bytes.len() / 2].to_vec(), length: bytes.len() }
        } else {
            Answer::Honest
        }
    });
    let folder = checkout();
    folder.print(&["cache", "pull", "pipeline.yaml", "--remote", &web.url()]);
    assert_eq!(objects(&folder), objects(&source));
}

#[test]
fn a_remote_that_hangs_or_is_down_costs_a_run_its_timeout_once() {
    let (folder, web) = (checkout(), Web::of(Path::new("/nowhere")));
    web.says(|_, _| Answer::Silence);
    fs::write(folder.path("pgan.toml"), format!("[remote]\nurl = \"{}\"\ntimeout = 1\n", web.url())).unwrap();
    let since = Instant::now();
    let output = folder.run(&["run", "pipeline.yaml", "--json"]);
    assert!(output.status.success() && since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told.matches("no answer for 1 s; the run goes on without the remote").count(), 1, "{told}");
    assert_eq!(web.requests(), 1, "it is asked once");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"event\":\"remote_trouble\""));

    let plan = folder.run(&["plan", "pipeline.yaml", "--set", "base.steps=21"]);
    assert!(plan.status.success() && String::from_utf8_lossy(&plan.stderr).starts_with("warning: cannot read http://"));
    // Nothing is asked where nothing is missing.
    let before = web.requests();
    folder.print(&["run", "pipeline.yaml"]);
    folder.print(&["run", "pipeline.yaml", "--no-remote", "--set", "base.steps=21"]);
    assert_eq!(web.requests(), before);

    let nowhere = checkout();
    let told = error(&nowhere, 0, &["run", "pipeline.yaml", "-q", "--remote", "/nowhere/at/all"]);
    assert!(told.contains("warning: cannot use /nowhere/at/all: there is no such folder; is it mounted?"), "{told}");
    assert!(told.contains("warning: 3 results are not pushed to /nowhere/at/all"), "{told}");
    let told = error(&nowhere, 6, &["cache", "push", "pipeline.yaml", "--remote", "/nowhere/at/all"]);
    assert!(told.contains("make it with `mkdir`"), "{told}");
}

#[test]
fn what_has_rotted_here_is_not_given_away() {
    let (folder, remote) = (made(), Folder::new());
    let (name, mut bytes) = objects(&folder).into_iter().next().unwrap();
    let object = folder.path("cache/v1/objects").join(name);
    bytes[0] ^= 1;
    fs::remove_file(&object).unwrap();
    fs::write(&object, bytes).unwrap();
    let path = remote.path(".");
    let told = error(&folder, 5, &["cache", "push", "pipeline.yaml", "--remote", path.to_str().unwrap()]);
    assert!(told.contains("is corrupted in the cache and cannot be sent; run again"), "{told}");
    let there = files(&path);
    assert!(there.iter().filter(|(path, _)| path.starts_with("v1/objects")).all(|(path, bytes)| {
        let name: String = path.iter().skip(2).map(|part| part.to_string_lossy().into_owned()).collect();
        Digest::of(bytes).to_string() == name
    }));
}

#[test]
fn mistakes_in_addresses_and_settings_are_shown_without_what_is_secret() {
    let folder = checkout();
    let pull = ["cache", "pull", "pipeline.yaml"];
    assert!(error(&folder, 2, &pull).contains("no remote is named: give `--remote URL|DIR`"));
    for (text, said) in [
        (
            "[remote]\nurl = \"s3://bucket\"\nsecret_access_key = \"hush\"\n",
            "pgan.toml:3:1: `secret_access_key` looks like a credential",
        ),
        (
            "[remote]\nurl = \"https://me:hush@host/a\"\n",
            "pgan.toml:2:7: this `https://` address holds a user name or password",
        ),
        (
            "[remote]\nurl = \"s3://bucket\"\nendpoint = \"http://me:hush@host\"\n",
            "pgan.toml:3:12: `endpoint` holds a user name or password",
        ),
        ("[remote]\nulr = \"s3://bucket\"\n", "pgan.toml:2:1: `ulr` is no setting; did you mean `url`?"),
        ("[remote]\nurl = \"s3://bucket\"\npush = \"hush\"\n", "pgan.toml:3:8: `push` is true or false"),
        ("[remote]\nurl = \"s3://bucket\"\ntimeout = 0\n", "pgan.toml:3:11: `timeout` is a number of seconds"),
        ("[remtoe]\nurl = \"s3://bucket\"\n", "pgan.toml:1:2: `remtoe` is no setting; did you mean `remote`?"),
        ("[remote]\nurl = \"hush\n", "pgan.toml:2:"),
        ("remote = 1\n", "pgan.toml:1:1: `remote` is a table: write [remote]"),
    ] {
        fs::write(folder.path("pgan.toml"), text).unwrap();
        let told = error(&folder, 2, &pull);
        assert!(told.contains(said) && !told.contains("hush"), "{told}");
        assert_eq!(error(&folder, 2, &["run", "pipeline.yaml"]), told);
    }
    fs::remove_file(folder.path("pgan.toml")).unwrap();
    let told = error(&folder, 2, &["run", "pipeline.yaml", "--remote", "s3://me:hush@bucket"]);
    assert!(told.contains("credentials are taken from the environment") && !told.contains("hush"), "{told}");
    assert!(files(&folder.path("cache")).values().all(|text| !String::from_utf8_lossy(text).contains("hush")));
    assert!(error(&folder, 2, &[&pull[..], &["--remote", "ftp://host"]].concat()).contains("write a folder, s3://"));
    let keyless = folder
        .command(&[&pull[..], &["--remote", "s3://bucket"]].concat())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", folder.path("home"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&keyless.stderr).into_owned();
    assert_eq!(keyless.status.code(), Some(6), "{told}");
    assert!(told.contains("no credentials were found: set AWS_ACCESS_KEY_ID"), "{told}");
    assert!(
        error(&folder, 2, &["cache", "push", "pipeline.yaml", "--remote", "http://127.0.0.1:1"]).contains("read-only")
    );
    assert!(
        error(&folder, 6, &[&pull[..], &["--remote", "http://127.0.0.1:1"]].concat()).contains("Connection refused")
    );
}
