//! Settings that no client can use: each is named and not repeated, and costs a run its remote alone.

use std::fs;

use crate::{checkout, error, program::Folder};

/// Variables of the environment with their values.
type Variables = &'static [(&'static str, &'static str)];

const S3: Variables =
    &[("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "key"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];
const S3_ROLE: Variables = &[
    ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
    ("AWS_ENDPOINT_URL_STS", "https://127.0.0.1:1"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "pipeline.yaml"),
    ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x"),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "pipeline.yaml"),
];
const GCS: Variables = &[("GOOGLE_BASE_URL", "http://127.0.0.1:1"), ("GOOGLE_BEARER_TOKEN", "token")];
const AZURE: Variables = &[
    ("AZURE_STORAGE_ACCOUNT_NAME", "account"),
    ("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:1"),
    ("AZURE_AUTHORITY_HOST", "https://127.0.0.1:1"),
    ("AZURE_TENANT_ID", "tenant"),
    ("AZURE_CLIENT_ID", "client"),
    ("AZURE_CLIENT_SECRET", "secret"),
];

/// No addresses of a server.
const SERVERS: &[&str] = &[
    "hush",
    "hush.example:9000",
    "http://",
    "://hush",
    "ftp://hush",
    "data:hush",
    "http://ho st/hush",
    "http://hush:99999",
    "http://[::1/hush",
    "http://127.0.0.1:1/hush\n",
    "http://me:hush@127.0.0.1:1",
];
/// No words of a header.
const WORDS: &[&str] = &["hush\n", "hu\nsh", "hu sh", "hüsh", "hush\u{7f}", "hush\t"];
const FLAGS: &[&str] = &["hush", "hush\n"];

/// Services with what they are set to, the variable under test, and values that it cannot have.
const REFUSED: &[(&str, Variables, &str, &[&str])] = &[
    ("s3://bucket", S3, "AWS_ENDPOINT_URL", SERVERS),
    ("s3://bucket", S3, "AWS_ENDPOINT_URL_S3", SERVERS),
    ("s3://bucket", S3, "AWS_ENDPOINT", SERVERS),
    ("s3://bucket", S3, "AWS_ACCESS_KEY_ID", WORDS),
    ("s3://bucket", S3, "AWS_SECRET_ACCESS_KEY", &["hush\n"]),
    ("s3://bucket", S3, "AWS_SESSION_TOKEN", WORDS),
    ("s3://bucket", S3, "AWS_REGION", WORDS),
    ("s3://bucket", S3, "AWS_DEFAULT_REGION", WORDS),
    ("s3://bucket", S3, "AWS_SKIP_SIGNATURE", FLAGS),
    ("s3://bucket", S3, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST", FLAGS),
    ("s3://bucket", S3_ROLE, "AWS_METADATA_ENDPOINT", SERVERS),
    ("s3://bucket", S3_ROLE, "AWS_ENDPOINT_URL_STS", SERVERS),
    ("s3://bucket", S3_ROLE, "AWS_ROLE_ARN", WORDS),
    ("s3://bucket", S3_ROLE, "AWS_CONTAINER_CREDENTIALS_FULL_URI", SERVERS),
    ("s3://bucket", S3_ROLE, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", &["hush", "/hu sh", "/hush\n"]),
    ("gs://bucket", GCS, "GOOGLE_BASE_URL", SERVERS),
    ("gs://bucket", GCS, "GOOGLE_BEARER_TOKEN", WORDS),
    ("gs://bucket", GCS, "GOOGLE_SERVICE_ACCOUNT_KEY", &["hush", "[\"hush\"]", "{\"hush\":"]),
    ("gs://bucket", GCS, "GCE_METADATA_HOST", &["http://hush", "hu sh", "hush/x", "hush:99999"]),
    ("az://container", AZURE, "AZURE_STORAGE_ENDPOINT", SERVERS),
    ("az://container", AZURE, "AZURE_AUTHORITY_HOST", SERVERS),
    ("az://container", AZURE, "AZURE_MSI_ENDPOINT", SERVERS),
    ("az://container", AZURE, "IDENTITY_ENDPOINT", SERVERS),
    ("az://container", AZURE, "IDENTITY_HEADER", WORDS),
    ("az://container", AZURE, "AZURITE_BLOB_STORAGE_URL", SERVERS),
    ("az://container", AZURE, "AZURE_STORAGE_ACCOUNT_NAME", WORDS),
    ("az://container", AZURE, "AZURE_STORAGE_TOKEN", WORDS),
    ("az://container", AZURE, "AZURE_TENANT_ID", WORDS),
];

/// Runs a verb with these variables, and gives the exit code and what was said.
fn said(folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let home = folder.path("home");
    let mut command = folder.command(arguments);
    let output = command.env("HOME", home).envs(variables.iter().copied()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_setting_that_no_client_can_use_is_named_and_not_repeated() {
    let folder = checkout();
    for (remote, base, name, values) in REFUSED {
        for value in *values {
            let variables = [base, &[(*name, *value)][..]].concat();
            let (code, told) = said(&folder, &["cache", "pull", "pipeline.yaml", "--remote", remote], &variables);
            assert_eq!(code, Some(2), "{name}={value:?}: {told}");
            assert!(told.starts_with(&format!("error: {name} ")) && !told.contains("hush"), "{name}={value:?}: {told}");
        }
    }
}

#[test]
fn a_variable_that_is_set_to_nothing_is_none() {
    let folder = checkout();
    for (remote, base, name, _) in REFUSED.iter().filter(|(_, base, name, _)| !base.iter().any(|(set, _)| set == name))
    {
        let variables = [base, &[(*name, "")][..]].concat();
        // It comes to a server on loopback, which is not there.
        let (code, told) = said(&folder, &["plan", "pipeline.yaml", "--remote", remote], &variables);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains("Connection refused") && !told.contains(name), "{name}: {told}");
    }
}

#[test]
fn settings_of_files_are_named_with_their_place() {
    let folder = checkout();
    let pull = ["cache", "pull", "pipeline.yaml"];
    for (text, place) in [
        ("region = \"hu sh\"", "pgan.toml:3:10: `region` is no name"),
        ("region = \"hush\\n\"", "pgan.toml:3:10: `region` holds a line break"),
        ("endpoint = \"hush\"", "pgan.toml:3:12: `endpoint` is no address of a server"),
        (
            "endpoint = \"http://hush:99999\"",
            "pgan.toml:3:12: `endpoint` is no address of a server: invalid port number",
        ),
        ("endpoint = \"http://h/?hush\"", "pgan.toml:3:12: `endpoint` has a part after `?`"),
    ] {
        fs::write(folder.path("pgan.toml"), format!("[remote]\nurl = \"s3://bucket\"\n{text}\n")).unwrap();
        let told = error(&folder, 2, &pull);
        assert!(told.contains(place) && !told.contains("hush"), "{told}");
    }
    fs::write(folder.path("pgan.toml"), "[remote]\nurl = \"s3://bucket\"\nprofile = \"lab\"\n").unwrap();
    fs::create_dir_all(folder.path("home/.aws")).unwrap();
    for (file, section, line, fault) in [
        ("credentials", "lab", "aws_access_key_id = hu sh", "`aws_access_key_id` of the profile `lab`"),
        ("credentials", "lab", "endpoint_url = hush", "`endpoint_url` of the profile `lab`"),
        ("config", "profile lab", "region = hu sh", "`region` of the profile `lab`"),
    ] {
        let path = folder.path("home/.aws").join(file);
        fs::write(&path, format!("[{section}]\n{line}\n")).unwrap();
        let (code, told) = said(&folder, &pull, &[]);
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains(fault) && told.contains(&format!(".aws/{file} ")) && !told.contains("hush"), "{told}");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_run_goes_on_without_a_remote_whose_settings_are_of_no_use_and_says_so_once() {
    let folder = checkout();
    // A server of the key file's own, which nobody looks at before the client does.
    let key = r#"{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true, "gcs_base_url": "hu sh"}"#;
    fs::write(folder.path("key.json"), key).unwrap();
    let file: Variables = &[("GOOGLE_SERVICE_ACCOUNT", "key.json")];
    let endpoint: Variables = &[("AWS_ENDPOINT_URL", "hush")];
    for (remote, variables, code) in [("gs://bucket", file, 6), ("s3://bucket", endpoint, 2)] {
        let run = ["run", "pipeline.yaml", "--remote", remote, "--cache", &remote[..2]];
        let (ended, told) = said(&folder, &run, variables);
        assert_eq!(ended, Some(0), "{told}");
        assert_eq!(told.matches("the run goes on without the remote").count(), 1, "{told}");
        assert!(told.contains("3 stages ran") && !told.contains("panicked"), "{told}");
        for verb in ["pull", "push"] {
            let moved =
                ["cache", verb, "pipeline.yaml", "--remote", remote, "--cache", &remote[..2], "--set", "seed=2"];
            let all = if verb == "push" { &moved[..7] } else { &moved[..] };
            let (ended, told) = said(&folder, all, variables);
            assert_eq!(ended, Some(code), "{verb}: {told}");
            assert!(!told.contains("panicked") && !told.contains("hu sh"), "{told}");
        }
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_of_credentials_is_refused_and_not_waited_for() {
    let folder = checkout();
    let pipe = folder.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = pipe.to_str().unwrap();
    for (remote, base, name) in [
        ("gs://bucket", GCS, "GOOGLE_SERVICE_ACCOUNT"),
        ("gs://bucket", GCS, "GOOGLE_APPLICATION_CREDENTIALS"),
        ("s3://bucket", S3_ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE"),
        ("az://container", AZURE, "AZURE_FEDERATED_TOKEN_FILE"),
        ("https://127.0.0.1:1/x", &[], "SSL_CERT_FILE"),
    ] {
        let variables = [base, &[(name, pipe)][..]].concat();
        let (code, told) = said(&folder, &["plan", "pipeline.yaml", "--remote", remote], &variables);
        assert!(told.contains(name) && told.contains("is no regular file"), "{name}: {code:?} {told}");
    }
}

#[test]
fn a_file_of_a_folder_that_cannot_be_read_costs_its_stage_alone() {
    let folder = checkout();
    folder.print(&["run", "pipeline.yaml", "-q", "--cache", "shared"]);
    let show = folder.print(&["show", "pipeline.yaml", "--json", "--cache", "shared"]);
    let first: serde_json::Value = serde_json::from_str(show.lines().next().unwrap()).unwrap();
    let key = first["key"].as_str().unwrap();
    let record = folder.path("shared/v1/records").join(&key[..2]).join(format!("{key}.json"));
    fs::remove_file(&record).unwrap();
    std::os::unix::fs::symlink(&record, &record).unwrap();
    let told = error(&folder, 0, &["run", "pipeline.yaml", "--remote", "shared", "--cache", "new"]);
    assert!(told.contains("events: its result cannot be pulled and is made here: cannot read"), "{told}");
    assert!(!told.contains("goes on without the remote"), "{told}");
    let listed = folder.print(&["cache", "runs", "--json", "--cache", "new"]);
    let run: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!(run["ran"], 1, "the rest came from the remote: {run}");
}

#[test]
fn a_folder_that_takes_nothing_is_told_once_and_still_read() {
    // Not even the superuser makes a folder there.
    let closed = "/sys/kernel";
    let folder = checkout();
    let told = error(&folder, 0, &["run", "pipeline.yaml", "--remote", closed]);
    assert_eq!(told.matches("cannot write to /sys/kernel").count(), 1, "{told}");
    assert!(told.contains("`push = false` under [remote] in pgan.toml") && !told.contains("--cache"), "{told}");
    assert!(!told.contains("not pushed"), "{told}");
    let told = error(&folder, 6, &["cache", "push", "pipeline.yaml", "--remote", closed]);
    assert_eq!(told.matches("cannot write to /sys/kernel").count(), 1, "{told}");
    fs::write(folder.path("pgan.toml"), format!("[remote]\nurl = \"{closed}\"\npush = false\n")).unwrap();
    let told = error(&folder, 0, &["run", "pipeline.yaml", "--force", "frozen"]);
    assert!(!told.contains("warning"), "{told}");
}

#[test]
fn what_looks_like_an_address_is_no_folder_and_no_secret_is_kept() {
    let folder = checkout();
    for remote in ["https:/me:hush@host/x", "me:hush@host/x", "https:me:hush@host", "//me:hush@host/x"] {
        for verb in [&["run", "pipeline.yaml"][..], &["cache", "pull", "pipeline.yaml"], &["plan", "pipeline.yaml"]] {
            let told = error(&folder, 2, &[verb, &["--remote", remote]].concat());
            assert!(told.contains("a folder of such a name is written with `./` before it"), "{told}");
            assert!(!told.contains("hush"), "{told}");
        }
    }
    for option in ["--cache", "--cachee"] {
        let told = error(&folder, 2, &["run", "pipeline.yaml", &format!("{option}=https://me:hush@host/x")]);
        assert!(!told.contains("hush"), "{told}");
    }
    assert!(!error(&folder, 2, &["check", "pipeline.yaml", "https://me:hush@host"]).contains("hush"));
    for option in ["--device", "--memory", "--force"] {
        let told = error(&folder, 2, &["run", "pipeline.yaml", option, "https://me:hush@host/x?sig=hush"]);
        assert!(!told.contains("hush"), "{option}: {told}");
    }
    assert!(!error(&folder, 2, &["run", "https://me:hush@host/x"]).contains("hush"));
    // A folder of such a name is one, and what is kept of the command line is the address without the secret.
    fs::create_dir_all(folder.path("https:/me:hush@host/x")).unwrap();
    folder.print(&["run", "pipeline.yaml", "--remote", "./https:/me:hush@host/x", "-q"]);
    let cache = crate::files(&folder.path("cache"));
    let holds = |text: &str| cache.iter().find(|(_, bytes)| String::from_utf8_lossy(bytes).contains(text));
    assert!(holds("https:/***@host/x").is_some());
    assert_eq!(holds("hush"), None);
    assert!(folder.print(&["cache", "runs"]).contains("--remote ./https:/***@host/x"));
}
