//! A pipeline as a Snakefile.

use std::{collections::HashSet, fmt::Write, path::Path};

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
    let mut taken = HashSet::from(["all".to_owned()]);
    // A name that Python takes stays, whatever the others become.
    let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    taken.extend(stages.iter().map(|declared| declared.name.clone()).filter(|name| is_plain(name)));
    let rule = |declared: &Declared| {
        let name = &declared.name;
        if is_plain(name) && name != "all" {
            return name.clone();
        }
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let numbered = (2..).map(|nth| format!("stage_{plain}_{nth}"));
        let mut candidates = std::iter::once(plain.clone()).chain(numbered);
        candidates.find(|candidate| taken.insert(candidate.clone())).unwrap_or(plain)
    };
    stages.iter().map(rule).collect()
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
    fn rules_of_stages_whose_names_are_alike_are_told_apart() {
        let stage = |name| format!("  {name}: {{ kind: dataset, synthetic: {{ density: normal, events: 10 }} }}\n");
        let names = ["a-b", "a_b", "stage_a_b_2", "a--b", "all", "stage_all_2"];
        let text = "stages:\n".to_owned() + &names.map(stage).concat();
        let pipeline = Pipeline::parse(text.as_bytes(), Path::new("p.yaml"), &[]).unwrap();
        let rules = rule_names(&pipeline.stages);
        assert_eq!(rules, ["stage_a_b_3", "a_b", "stage_a_b_2", "a__b", "stage_all_3", "stage_all_2"]);
    }

    #[test]
    fn strings_of_python_are_escaped() {
        assert_eq!(python("a \"b\" \\ \u{1}"), "\"a \\\"b\\\" \\\\ \\u0001\"");
    }
}
