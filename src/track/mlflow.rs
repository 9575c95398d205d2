//! Runs on an MLflow server, by its REST API (version 2.0).
//!
//! A run is known by the stage's key, which is a tag of it: what the server has in full is not sent again, and what an interruption
//! has left there is replaced.

use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::Tracked;
use crate::{credentials::cut, names::cleaned};

/// The tag that holds the stage's key.
const KEY: &str = "pgan_pipe.key";
/// What a server takes at once.
const METRICS_AT_ONCE: usize = 1000;
const PARAMETERS_AT_ONCE: usize = 100;
/// The longest value of a parameter or tag.
const LONGEST: usize = 5000;
/// No answer that is looked at is as long.
const LONGEST_ANSWER: usize = 4 << 20;
const TIMEOUT: Duration = Duration::from_mins(1);

/// How one logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Not at all.
    None,
    /// With a token.
    Token(String),
    /// With a name and a password.
    Password(String, Option<String>),
}

/// An MLflow server.
pub struct Server {
    runtime: Runtime,
    client: reqwest::Client,
    address: Url,
    login: Login,
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    /// It is on the server now.
    New,
    /// It was there before.
    There,
}

/// Why a run is not on the server.
#[derive(Debug, thiserror::Error)]
pub enum MlflowError {
    /// This is no address of a server.
    #[error("`{address}` is no address of an MLflow server: {reason}")]
    Address {
        /// The given text, without secrets.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The server does not answer.
    #[error("{address} does not answer: {reason}; is the server running, and is the address right?")]
    Silent {
        /// The server.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The server answers otherwise than an MLflow server that accepts.
    #[error("{address} refuses `{call}`: {reason}")]
    Refused {
        /// The server.
        address: String,
        /// What it was asked for.
        call: &'static str,
        /// What it said, and what to do.
        reason: String,
    },
}

impl Server {
    /// The server at `http://…` or `https://…`; nothing is asked of it yet.
    pub fn at(address: &str, login: Login) -> Result<Self, MlflowError> {
        let wrong =
            |reason: &dyn std::fmt::Display| MlflowError::Address { address: cut(address), reason: reason.to_string() };
        let mut url: Url = address.parse().map_err(|error| wrong(&error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(&"it does not begin with http:// or https://"));
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        // Fails only if there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(TIMEOUT).connect_timeout(Duration::from_secs(5)).build();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| wrong(&error))?;
        Ok(Self { runtime, client: client.map_err(|error| wrong(&error))?, address: url, login })
    }

    /// The identity of the experiment of this name, which is made if it is not there.
    pub fn experiment(&self, name: &str) -> Result<String, MlflowError> {
        let query = [("experiment_name", name)];
        match self.call(Method::GET, "experiments/get-by-name", &query, None)? {
            Answer::Yes(answer) if answer["experiment"]["lifecycle_stage"] == "deleted" => {
                let reason = format!(
                    "the experiment `{name}` is deleted there; restore it, or let the server forget it (`mlflow gc`)"
                );
                Err(self.refused("experiments/get-by-name", reason))
            }
            Answer::Yes(answer) => self.text(&answer["experiment"]["experiment_id"], "experiments/get-by-name"),
            Answer::NotThere => {
                let made = self.post("experiments/create", &json!({ "name": name }))?;
                self.text(&made["experiment_id"], "experiments/create")
            }
        }
    }

    /// Logs a stage as a run of an experiment, unless it is there.
    pub fn log(&self, experiment: &str, tracked: &Tracked) -> Result<Logged, MlflowError> {
        let filter = format!("tags.`{KEY}` = '{}'", tracked.record.key);
        let found =
            self.post("runs/search", &json!({ "experiment_ids": [experiment], "filter": filter, "max_results": 1 }))?;
        let before = &found["runs"][0]["info"];
        if before["status"] == "FINISHED" {
            return Ok(Logged::There);
        }
        if let Some(left) = before["run_id"].as_str() {
            self.post("runs/delete", &json!({ "run_id": left }))?;
        }
        let start = milliseconds(tracked.started());
        let tags: Vec<Value> = tags(tracked).into_iter().map(|(key, value)| pair(&key, &value)).collect();
        let run = json!({ "experiment_id": experiment, "run_name": tracked.name, "start_time": start, "tags": tags });
        let run = self.text(&self.post("runs/create", &run)?["run"]["info"]["run_id"], "runs/create")?;
        let parameters: Vec<Value> =
            tracked.parameters().iter().map(|(name, value)| pair(&key_of(name), &in_words(value))).collect();
        for some in parameters.chunks(PARAMETERS_AT_ONCE) {
            self.post("runs/log-batch", &json!({ "run_id": run, "params": some }))?;
        }
        for some in metrics(tracked).chunks(METRICS_AT_ONCE) {
            self.post("runs/log-batch", &json!({ "run_id": run, "metrics": some }))?;
        }
        let end = milliseconds(tracked.started() + tracked.record.provenance.seconds);
        self.post("runs/update", &json!({ "run_id": run, "status": "FINISHED", "end_time": end }))?;
        Ok(Logged::New)
    }

    fn post(&self, call: &'static str, body: &Value) -> Result<Value, MlflowError> {
        match self.call(Method::POST, call, &[], Some(body))? {
            Answer::Yes(answer) => Ok(answer),
            Answer::NotThere => Err(self.refused(call, "there is nothing of this kind".to_owned())),
        }
    }

    fn call(
        &self,
        method: Method,
        call: &'static str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, MlflowError> {
        let mut url = self.address.clone();
        url.set_path(&format!("{}api/2.0/mlflow/{call}", self.address.path()));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.request(method, url);
        request = match &self.login {
            Login::None => request,
            Login::Token(token) => request.bearer_auth(token),
            Login::Password(name, password) => request.basic_auth(name, password.as_ref()),
        };
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let silent = |error: reqwest::Error| {
            let error = error.without_url();
            let mut cause: &dyn std::error::Error = &error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            MlflowError::Silent { address: self.shown(), reason: cause.to_string() }
        };
        let (status, text) = self
            .runtime
            .block_on(async {
                let mut response = request.send().await?;
                let mut text = Vec::new();
                while let Some(chunk) = response.chunk().await? {
                    text.extend_from_slice(&chunk);
                    if text.len() > LONGEST_ANSWER {
                        break;
                    }
                }
                Ok((response.status(), text))
            })
            .map_err(silent)?;
        let answer: Value = serde_json::from_slice(&text).unwrap_or(Value::Null);
        match status {
            status if status.is_success() && answer.is_object() => Ok(Answer::Yes(answer)),
            StatusCode::NOT_FOUND if answer["error_code"] == "RESOURCE_DOES_NOT_EXIST" => Ok(Answer::NotThere),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let advice = "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD";
                Err(self.refused(call, format!("{status}; {advice}")))
            }
            status => {
                let said = answer["message"].as_str().map(|said| said.chars().take(300).collect());
                let said: String = said.unwrap_or_else(|| "that is no answer of an MLflow server".to_owned());
                Err(self.refused(call, format!("{status}: {said}")))
            }
        }
    }

    fn text(&self, value: &Value, call: &'static str) -> Result<String, MlflowError> {
        let lacking = || self.refused(call, "its answer is not that of an MLflow server".to_owned());
        value.as_str().map(str::to_owned).ok_or_else(lacking)
    }

    fn refused(&self, call: &'static str, reason: String) -> MlflowError {
        MlflowError::Refused { address: self.shown(), call, reason }
    }

    fn shown(&self) -> String {
        cut(self.address.as_str())
    }
}

/// What a server says.
enum Answer {
    Yes(Value),
    NotThere,
}

fn pair(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": value.chars().take(LONGEST).collect::<String>() })
}

fn in_words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1e3).round() as i64
}

/// A name that the server takes for a metric or parameter: letters, digits, and few signs.
fn key_of(name: &str) -> String {
    cleaned(name, |c| c.is_ascii_alphanumeric() || "_-. :/".contains(c), '_', 250)
}

/// How a run came about; its notices are the description.
fn tags(tracked: &Tracked) -> Vec<(String, String)> {
    let how = &tracked.record.provenance;
    let tags = [
        (KEY, tracked.record.key.to_string()),
        ("pgan_pipe.kind", tracked.record.material.kind.clone()),
        ("pgan_pipe.pipeline", tracked.pipeline.clone()),
        ("pgan_pipe.version", how.version.clone()),
        ("pgan_pipe.device", how.device.clone()),
        ("pgan_pipe.host", how.host.clone()),
        ("mlflow.source.name", how.argv.join(" ")),
        ("mlflow.source.type", "LOCAL".to_owned()),
    ];
    let notices = (!tracked.record.notices.is_empty()).then(|| tracked.record.notices.join("\n\n"));
    let note = notices.map(|notices| ("mlflow.note.content", notices));
    tags.into_iter().chain(note).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The curves, and the metrics as `metrics/NAME` at the last step.
fn metrics(tracked: &Tracked) -> Vec<Value> {
    let metric = |name: &str, value: f64, step: u64| {
        let time = milliseconds(tracked.time_of(step));
        json!({ "key": key_of(name), "value": value, "timestamp": time, "step": step })
    };
    let curves = tracked.points().flat_map(|point| point.values().map(move |(name, value)| (name, value, point.step)));
    let last = tracked.last_step();
    let metrics = tracked.metrics.iter().map(|(name, &value)| (format!("metrics/{name}"), value, last));
    curves.chain(metrics).map(|(name, value, step)| metric(&name, value, step)).collect()
}

#[cfg(test)]
mod tests;
