//! A pipeline as a Snakefile.

use std::{collections::HashMap, fmt::Write, path::Path};

use pgan_pipe::{
    device::DeviceName,
    pipeline::{Declared, Pipeline},
    printable::acts,
    shell::quote,
};

use super::PipelineArgs;

/// The Snakefile: a rule for each stage, which puts the stage's files into `folder`.
pub(super) fn snakefile(
    pipeline: &Pipeline,
    args: &PipelineArgs,
    cache: &Path,
    folder: &Path,
    device: DeviceName,
) -> String {
    let rules = rule_names(&pipeline.stages);
    let included: Vec<String> = pipeline.files().skip(1).map(|(path, _)| python(&path.to_string_lossy())).collect();
    let mut set = String::new();
    for (key, value) in &args.set {
        let _ = write!(set, " --set {}", quote(&format!("{key}={value}")));
    }
    let mut out =
        String::from("# The stages of a pgan-pipe pipeline, written by `pgan-pipe export --format snakemake`.\n\n");
    for (name, value) in [
        ("PIPELINE", args.file.to_string_lossy()),
        ("STAGES", folder.to_string_lossy()),
        ("CACHE", cache.to_string_lossy()),
        ("DEVICE", device.to_string().into()),
        ("SET", set.into()),
    ] {
        let _ = writeln!(out, "{name} = {}", python(&value));
    }
    if !included.is_empty() {
        let _ = writeln!(out, "INCLUDED = [{}]", included.join(", "));
    }
    // Braces in a value of `--set` would be Snakemake's own.
    out.push_str("RUN = \"pgan-pipe run {input.pipeline:q} --cache {CACHE:q} --device {DEVICE} --threads {threads} --quiet{SET}\"\n");
    out.push_str("GET = \"pgan-pipe cache get {input.pipeline:q} --cache {CACHE:q} --output {output:q}{SET}\"\n");
    let targets: Vec<&str> = pipeline.stages.iter().map(|declared| &*declared.name).collect();
    let _ = writeln!(out, "\n\nrule all:\n    default_target: True\n    input:");
    for name in targets {
        let _ = writeln!(out, "        STAGES + {},", python(&format!("/{name}")));
    }
    for (declared, rule) in pipeline.stages.iter().zip(&rules) {
        let name = &declared.name;
        let _ = writeln!(out, "\n\n# {}\nrule {rule}:\n    input:\n        pipeline=PIPELINE,", declared.stage.kind());
        if !included.is_empty() {
            out.push_str("        included=INCLUDED,\n");
        }
        for source in declared.stage.sources() {
            let path = pipeline.source(declared, &source);
            let _ = writeln!(out, "        {}={},", source.field, python(&path.to_string_lossy()));
        }
        for (role, references) in inputs(declared) {
            let folders: Vec<String> =
                references.iter().map(|reference| format!("STAGES + {}", python(&format!("/{reference}")))).collect();
            let value = if let [one] = &folders[..] { one.clone() } else { format!("[{}]", folders.join(", ")) };
            let _ = writeln!(out, "        {role}={value},");
        }
        let _ = writeln!(out, "    output:\n        directory(STAGES + {})", python(&format!("/{name}")));
        let resources = declared.execution.resources;
        let threads = resources.threads.map_or(1, pgan_pipe::value::ThreadCount::get);
        let _ = writeln!(out, "    threads: {threads}");
        let memory = resources.memory.map(|memory| format!("mem_mb={}", memory.get().div_ceil(1 << 20)));
        let gpu = resources.gpu.filter(|gpu| gpu.get() > 0.0).map(|_| "gpu=1".to_owned());
        let resources: Vec<String> = memory.into_iter().chain(gpu).collect();
        if !resources.is_empty() {
            let _ = writeln!(out, "    resources:\n        {}", resources.join(",\n        "));
        }
        let stage = quote(name);
        let _ = writeln!(
            out,
            "    shell:\n        RUN + {} + GET + {}",
            python(&format!(" {stage} && ")),
            python(&format!(" {stage}"))
        );
    }
    out
}

/// The stages that fill each role, in order.
fn inputs(declared: &Declared) -> Vec<(&'static str, Vec<String>)> {
    let mut inputs: Vec<(&'static str, Vec<String>)> = Vec::new();
    for port in declared.stage.ports() {
        match inputs.iter_mut().find(|(role, _)| *role == port.role) {
            Some((_, references)) => references.push(port.reference.to_owned()),
            None => inputs.push((port.role, vec![port.reference.to_owned()])),
        }
    }
    inputs
}

/// A name for each rule: Python's identifiers, all different.
fn rule_names(stages: &[Declared]) -> Vec<String> {
    let mut taken: HashMap<String, usize> = HashMap::from([("all".to_owned(), 1)]);
    let mut rules = Vec::with_capacity(stages.len());
    for declared in stages {
        let plain: String = declared.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let count = taken.entry(plain.clone()).or_default();
        *count += 1;
        rules.push(match *count {
            1 if !plain.starts_with(|c: char| c.is_ascii_digit()) => plain,
            count => format!("stage_{plain}_{count}"),
        });
    }
    rules
}

/// A string of Python.
fn python(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if acts(c) => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_python_are_escaped() {
        assert_eq!(python("a \"b\" \\ \u{1}"), "\"a \\\"b\\\" \\\\ \\u0001\"");
    }
}
