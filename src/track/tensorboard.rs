//! Event files of TensorBoard: scalars over steps, parameters as text and as hyperparameters.
//!
//! A file is a list of records: the length as eight bytes, little-endian, its checksum, the bytes of an `Event`, their checksum. The
//! messages are those of TensorFlow's `event.proto`, `summary.proto` and `tensor.proto` and of the plugin's `plugin_data.proto`.

use std::fmt::Write;

use prost::Message;
use serde_json::Value;

use super::Tracked;
use proto::{Event, HParams, Metadata, Plugin, Session, SessionEnd, Summary, Tensor, TensorShape, summary, value};

mod proto;

/// The name of the file in the folder of a run.
pub const FILE: &str = "events.out.tfevents.pgan-pipe";

/// The event file of a stage that has run. The same stage gives the same bytes.
pub fn events(tracked: &Tracked) -> Vec<u8> {
    let mut file = Vec::new();
    let mut write = |event: Event| frame(&mut file, &event.encode_to_vec());
    let (begin, last) = (tracked.started(), tracked.last_step());
    write(Event { wall_time: begin, file_version: Some("brain.Event:2".to_owned()), ..Event::default() });
    let about =
        vec![text("parameters", &parameters(tracked)), text("provenance", &provenance(tracked)), start(tracked)];
    write(Event { wall_time: begin, step: 0, summary: Some(Summary { value: about }), file_version: None });
    for point in tracked.points() {
        let value = point.values().map(|(name, value)| scalar(name, value)).collect();
        let wall_time = tracked.time_of(point.step);
        write(Event { wall_time, step: point.step as i64, summary: Some(Summary { value }), file_version: None });
    }
    let metrics = tracked.metrics.iter().map(|(name, &value)| scalar(format!("metrics/{name}"), value));
    let value = metrics.chain([end(tracked)]).collect();
    let wall_time = tracked.time_of(last);
    write(Event { wall_time, step: last as i64, summary: Some(Summary { value }), file_version: None });
    file
}

fn scalar(tag: String, value: f64) -> summary::Value {
    summary::Value { tag, scalar: Some(value as f32), ..summary::Value::default() }
}

/// Markdown.
fn text(tag: &str, text: &str) -> summary::Value {
    let tensor =
        Tensor { dtype: Tensor::STRING, shape: Some(TensorShape {}), string_val: vec![text.as_bytes().to_vec()] };
    summary::Value {
        tag: tag.to_owned(),
        metadata: Some(Metadata::of("text", Vec::new())),
        tensor: Some(tensor),
        ..summary::Value::default()
    }
}

fn parameters(tracked: &Tracked) -> String {
    let rows = tracked.parameters().into_iter().map(|(name, value)| match value {
        Value::String(text) => (name, text),
        value => (name, value.to_string()),
    });
    table(rows)
}

fn provenance(tracked: &Tracked) -> String {
    let how = &tracked.record.provenance;
    let rows = [
        ("key", tracked.record.key.to_string()),
        ("kind", tracked.record.material.kind.clone()),
        ("pipeline", tracked.pipeline.clone()),
        ("version", how.version.clone()),
        ("device", how.device.clone()),
        ("host", how.host.clone()),
        ("started", how.started.clone()),
        ("seconds", how.seconds.to_string()),
    ];
    let rows = rows.map(|(name, value)| (name.to_owned(), value));
    let notices = tracked.record.notices.iter().map(|notice| ("notice".to_owned(), notice.clone()));
    table(rows.into_iter().chain(notices))
}

/// A table of Markdown. A stroke would end a cell.
fn table(rows: impl Iterator<Item = (String, String)>) -> String {
    rows.fold("| | |\n|---|---|\n".to_owned(), |mut text, (name, value)| {
        let _ = writeln!(text, "| {} | {} |", name.replace('|', "\\|"), value.replace('|', "\\|").replace('\n', " "));
        text
    })
}

/// What the table of hyperparameters shows of a run.
fn start(tracked: &Tracked) -> summary::Value {
    let value = |value: Value| match value {
        Value::Number(number) => value::Kind::Number(number.as_f64().unwrap_or_default()),
        Value::Bool(truth) => value::Kind::Bool(truth),
        Value::String(text) => value::Kind::Text(text),
        other => value::Kind::Text(other.to_string()),
    };
    let kind = ("kind".to_owned(), Value::from(tracked.record.material.kind.as_str()));
    let hparams = tracked.parameters().into_iter().chain([kind]);
    let hparams = hparams.map(|(name, of)| (name, proto::Value { kind: Some(value(of)) })).collect();
    let session = Session { hparams, group_name: tracked.name.clone(), start_time_secs: tracked.started() };
    hyperparameters("_hparams_/session_start_info", &HParams { session: Some(session), ..HParams::default() })
}

fn end(tracked: &Tracked) -> summary::Value {
    let end_time_secs = tracked.started() + tracked.record.provenance.seconds;
    let end = SessionEnd { status: SessionEnd::SUCCESS, end_time_secs };
    hyperparameters("_hparams_/session_end_info", &HParams { end: Some(end), ..HParams::default() })
}

fn hyperparameters(tag: &str, content: &HParams) -> summary::Value {
    summary::Value {
        tag: tag.to_owned(),
        metadata: Some(Metadata::of("hparams", content.encode_to_vec())),
        // The plugin looks at the metadata alone, but a summary without a value is passed over.
        tensor: Some(Tensor { dtype: Tensor::FLOAT, shape: Some(TensorShape {}), string_val: Vec::new() }),
        ..summary::Value::default()
    }
}

impl Metadata {
    fn of(plugin_name: &str, content: Vec<u8>) -> Self {
        Self { plugin_data: Some(Plugin { plugin_name: plugin_name.to_owned(), content }) }
    }
}

/// Appends a record.
fn frame(file: &mut Vec<u8>, record: &[u8]) {
    let length = (record.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length).to_le_bytes());
    file.extend(record);
    file.extend(masked(record).to_le_bytes());
}

/// A checksum that may itself stand among the bytes of another one.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected: RFC 3720, appendix B.4.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut rest = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                rest = if rest & 1 == 1 { (rest >> 1) ^ 0x82f6_3b78 } else { rest >> 1 };
                bit += 1;
            }
            table[byte] = rest;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(u32::MAX, |crc, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::{super::tests::tracked, *};

    /// The events of a file whose checksums are right.
    fn read(mut file: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !file.is_empty() {
            let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            let record = &file[12..12 + length];
            assert_eq!(file[8..12], masked(&file[..8]).to_le_bytes());
            assert_eq!(file[12 + length..16 + length], masked(record).to_le_bytes());
            events.push(Event::decode(record).unwrap());
            file = &file[16 + length..];
        }
        events
    }

    #[test]
    fn checksums_are_those_of_the_standard() {
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
        // The length 24 of the first record of every file that TensorFlow writes.
        assert_eq!(masked(&24_u64.to_le_bytes()), 0x224b_7fa3);
    }

    #[test]
    fn an_event_file_holds_the_curves_the_metrics_and_the_parameters() {
        let tracked = tracked();
        let bytes = events(&tracked);
        assert_eq!(bytes, events(&tracked));
        let events = read(&bytes);
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        let mut scalars = Vec::new();
        let mut others = Vec::new();
        for event in &events[1..] {
            for value in &event.summary.as_ref().unwrap().value {
                match value.scalar {
                    Some(scalar) => scalars.push((value.tag.as_str(), event.step, scalar)),
                    None => others.push(value.tag.as_str()),
                }
            }
        }
        assert_eq!(
            scalars,
            [
                ("ratio/loss", 50, 1.5),
                ("ratio/held_out", 100, 1.375),
                ("ratio/loss", 100, 1.25),
                ("gan/d_loss", 50, 0.75),
                ("gan/d_loss", 90, 0.5),
                ("metrics/frozen.tail_w1", 100, 0.25),
                ("metrics/strata[0].real", 100, 0.5),
            ]
        );
        assert_eq!(others, ["parameters", "provenance", "_hparams_/session_start_info", "_hparams_/session_end_info"]);
        let about = events[1].encode_to_vec();
        let holds = |text: &str| about.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(holds("| loss.kind | relativistic |") && holds("| notice | a \\| b |") && holds("hparams"));
    }
}
