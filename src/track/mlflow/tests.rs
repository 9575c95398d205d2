use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    thread,
};

use super::{super::tests::tracked, *};

/// A server that gives these answers, one a request; afterwards it tells what it was asked.
fn server(answers: Vec<(u16, Value)>) -> (String, thread::JoinHandle<Vec<(String, Value)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/below", listener.local_addr().unwrap());
    let serve = move || {
        let mut asked = Vec::new();
        for (status, answer) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).unwrap();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            asked.push((first.trim().to_owned(), serde_json::from_slice(&body).unwrap_or(Value::Null)));
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
            stream.write_all((head + &answer).as_bytes()).unwrap();
        }
        asked
    };
    (address, thread::spawn(serve))
}

#[test]
fn a_run_is_made_once_with_all_that_was_recorded() {
    let not_there = json!({ "error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no" });
    let unfinished = json!({ "runs": [{ "info": { "run_id": "old", "status": "RUNNING" } }] });
    let (address, asked) = server(vec![
        (404, not_there),
        (200, json!({ "experiment_id": "7" })),
        (200, unfinished),
        (200, json!({})),
        (200, json!({ "run": { "info": { "run_id": "r" } } })),
        (200, json!({})),
        (200, json!({})),
        (200, json!({})),
        (200, json!({ "runs": [{ "info": { "run_id": "r", "status": "FINISHED" } }] })),
    ]);
    let server = Server::at(&address, Login::None).unwrap();
    let experiment = server.experiment("my study").unwrap();
    assert_eq!(server.log(&experiment, &tracked()).unwrap(), Logged::New);
    assert_eq!(server.log(&experiment, &tracked()).unwrap(), Logged::There);
    let asked = asked.join().unwrap();
    let lines: Vec<&str> = asked.iter().map(|(line, _)| line.trim_end_matches(" HTTP/1.1")).collect();
    let calls = [
        "GET /below/api/2.0/mlflow/experiments/get-by-name?experiment_name=my+study",
        "POST /below/api/2.0/mlflow/experiments/create",
        "POST /below/api/2.0/mlflow/runs/search",
        "POST /below/api/2.0/mlflow/runs/delete",
        "POST /below/api/2.0/mlflow/runs/create",
        "POST /below/api/2.0/mlflow/runs/log-batch",
        "POST /below/api/2.0/mlflow/runs/log-batch",
        "POST /below/api/2.0/mlflow/runs/update",
        "POST /below/api/2.0/mlflow/runs/search",
    ];
    assert_eq!(lines, calls);
    assert_eq!(asked[4].1["start_time"], 1_767_323_045_500_i64);
    assert_eq!(asked[5].1["params"][1], json!({ "key": "layers", "value": "[8,8]" }));
    let metrics = asked[6].1["metrics"].as_array().unwrap();
    assert_eq!(metrics.len(), 7);
    assert!(
        metrics
            .contains(&json!({ "key": "ratio/loss", "value": 1.25, "timestamp": 1_767_323_055_500_i64, "step": 100 }))
    );
    let strata: Vec<&str> =
        metrics.iter().filter_map(|metric| metric["key"].as_str()).filter(|key| key.contains("strata")).collect();
    assert_eq!(strata, [key_of("metrics/strata[0].real")]);
    assert_eq!(asked[7].1, json!({ "run_id": "r", "status": "FINISHED", "end_time": 1_767_323_055_500_i64 }));
}

#[test]
fn names_that_a_server_does_not_take_are_told_apart() {
    let keys = ["tail.pt [GeV]", "tail.pt (GeV)", "tail.pt_GeV", "tail.e+", "tail.e*"].map(key_of);
    assert!(keys[0].starts_with("tail.pt _GeV__") && keys[2] == "tail.pt_GeV", "{keys:?}");
    assert_eq!(keys.iter().collect::<std::collections::HashSet<_>>().len(), keys.len());
    assert!(key_of(&"é".repeat(300)).len() <= 250);
}

#[test]
fn trouble_says_where_and_what_to_do() {
    let said = |answer: (u16, Value)| {
        let (address, asked) = server(vec![answer]);
        let error =
            Server::at(&address, Login::Token("secret".into())).unwrap().experiment("x").unwrap_err().to_string();
        asked.join().unwrap();
        assert!(!error.contains("secret"), "{error}");
        error
    };
    assert!(said((401, json!({}))).contains("MLFLOW_TRACKING_TOKEN"));
    assert!(said((500, json!({ "message": "the disk is full" }))).contains("the disk is full"));
    assert!(said((200, json!("<html>"))).contains("no answer of an MLflow server"));
    assert!(said((404, json!("<html>"))).contains("no answer of an MLflow server"));
    let deleted = json!({ "experiment": { "experiment_id": "1", "lifecycle_stage": "deleted" } });
    assert!(said((200, deleted)).contains("restore it"));
    let refused = |address: &str| Server::at(address, Login::None).err().unwrap().to_string();
    assert!(refused("sqlite:///mlflow.db").contains("http://"));
    assert!(refused("mlruns").contains("no address"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = Server::at(&format!("http://me:secret@{port}"), Login::None).unwrap().experiment("x").unwrap_err();
    assert!(gone.to_string().contains("does not answer") && !gone.to_string().contains("secret"), "{gone}");
}
