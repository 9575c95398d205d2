//! What included files bring in, and how mistakes in them are told.

use super::{super::Pipeline, *};

/// Reads the first of these files; the others can be included.
fn read_with(files: &[(&str, &str)], set: &[(&str, &str)]) -> Result<Pipeline, String> {
    let memory: BTreeMap<PathBuf, Vec<u8>> =
        files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect();
    let set: Vec<(String, String)> = set.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    let (path, text) = files[0];
    Pipeline::parse_from(Files::Memory(&memory), text.as_bytes(), Path::new(path), &set)
        .map_err(|error| error.to_string())
}

fn read(files: &[(&str, &str)]) -> Result<Pipeline, String> {
    read_with(files, &[])
}

fn refused(files: &[(&str, &str)]) -> String {
    read(files).map(|_| ()).unwrap_err()
}

const EVENTS: (&str, &str) = (
    "lib/events.yaml",
    "params: { steps: 7, file: events.csv }
stages:
  events: { kind: dataset, file: \"${params.file}\", test_file: data/test.csv }
",
);

const BASE: (&str, &str) = (
    "lib/base.yaml",
    "name: base
seed: 48
include: ./events.yaml
params: { width: 8 }
stages:
  base: { kind: train_gan, data: events, steps: \"${params.steps}\", generator: { layers: [\"${params.width}\"] } }
",
);

const TOP: &str = "include: lib/base.yaml\nparams: { steps: 9 }\nstages:\n  frozen: { kind: freeze, model: base }\n";

fn sources(pipeline: &Pipeline) -> Vec<PathBuf> {
    let events = pipeline.stages.iter().find(|declared| declared.name == "events").unwrap();
    events.stage.sources().iter().map(|source| pipeline.source(events, source)).collect()
}

#[test]
fn stages_and_params_come_in_and_those_of_the_including_file_hold() {
    let pipeline = read(&[("top.yaml", TOP), BASE, EVENTS]).unwrap();
    let names: Vec<&str> = pipeline.stages.iter().map(|declared| declared.name.as_str()).collect();
    assert_eq!(names, ["events", "base", "frozen"]);
    assert_eq!((pipeline.name.as_str(), pipeline.stages[1].seed), ("top", 48));
    let crate::stage::Stage::TrainGan(base) = &pipeline.stages[1].stage else { panic!("a training") };
    assert_eq!((base.steps.get(), base.generator.layers[0].get()), (9, 8));
    let files: Vec<&Path> = pipeline.files().map(|(path, _)| path).collect();
    assert_eq!(files, ["top.yaml", "lib/base.yaml", "lib/events.yaml"].map(Path::new));
}

#[test]
fn a_path_is_relative_to_the_file_that_it_is_written_in() {
    let of = |top: &str, set: &[(&str, &str)]| sources(&read_with(&[("top.yaml", top), BASE, EVENTS], set).unwrap());
    let paths = |first: &str| [first, "lib/data/test.csv"].map(PathBuf::from);
    assert_eq!(of(TOP, &[]), paths("lib/events.csv"));
    assert_eq!(of(&TOP.replace("steps: 9", "file: my.csv"), &[]), paths("my.csv"));
    assert_eq!(of(TOP, &[("file", "set.csv")]), paths("set.csv"));
    assert_eq!(of(TOP, &[("events.file", "/abs.csv")]), paths("/abs.csv"));
    let pasted =
        ("lib/events.yaml", "params: { n: 1 }\nstages:\n  events: { kind: dataset, file: 'e${params.n}.csv' }\n");
    let top = "include: lib/events.yaml\nparams: { n: 2 }\n";
    assert_eq!(sources(&read(&[("top.yaml", top), pasted]).unwrap()), [PathBuf::from("lib/e2.csv")]);
}

#[test]
fn set_reaches_included_params_and_stages() {
    let pipeline = read_with(&[("top.yaml", TOP), BASE, EVENTS], &[("width", "3"), ("base.batch", "5"), ("seed", "1")]);
    let pipeline = pipeline.unwrap();
    let crate::stage::Stage::TrainGan(base) = &pipeline.stages[1].stage else { panic!("a training") };
    assert_eq!((base.batch.get(), base.generator.layers[0].get(), pipeline.stages[1].seed), (5, 3, 1));
}

#[test]
fn a_file_that_is_reached_in_two_ways_is_read_once() {
    let top = "include: [lib/base.yaml, lib/../lib/events.yaml]\n";
    assert_eq!(read(&[("top.yaml", top), BASE, EVENTS]).unwrap().stages.len(), 2);
}

#[test]
fn included_files_may_not_contradict_each_other_unless_the_including_one_decides() {
    let one = ("a.yaml", "seed: 1\nparams: { steps: 5, same: 2 }\nstages:\n  e: { kind: dataset, file: a.csv }\n");
    let other = ("b.yaml", "seed: 2\nparams: { steps: 6, same: 2 }\n");
    let message = refused(&[("top.yaml", "include: [a.yaml, b.yaml]\n"), one, other]);
    insta::assert_snapshot!(message, @r#"
    error: two included files give `seed`
     --> b.yaml:1:1
      |
    1 | seed: 2
      | ^^^^ again here
      |
     ::: a.yaml:1:1
      |
    1 | seed: 1
      | ---- first here
      |
      = help: give it in the file that includes both: its own value holds

    error: two included files give `steps`
     --> b.yaml:2:11
      |
    2 | params: { steps: 6, same: 2 }
      |           ^^^^^ again here
      |
     ::: a.yaml:2:11
      |
    2 | params: { steps: 5, same: 2 }
      |           ----- first here
      |
      = help: give it in the file that includes both: its own value holds

    top.yaml: 2 problems
    "#);
    let decided = "include: [a.yaml, b.yaml]\nseed: 3\nparams: { steps: 7 }\n";
    assert_eq!(read(&[("top.yaml", decided), one, other]).unwrap().stages[0].seed, 3);
}

#[test]
fn a_stage_that_is_defined_twice_is_shown_in_both_files() {
    let top = "include: lib/base.yaml\nstages:\n  base: { kind: freeze, model: base }\n";
    insta::assert_snapshot!(refused(&[("top.yaml", top), BASE, EVENTS]), @r#"
    error: the stage `base` is defined twice
     --> top.yaml:3:3
      |
    3 |   base: { kind: freeze, model: base }
      |   ^^^^ again here
      |
     ::: lib/base.yaml:6:3
      |
    6 |   base: { kind: train_gan, data: events, steps: "${params.steps}", generator: { layers: ["${params.width}"] } }
      |   ---- first here
      |
      = help: rename one of them; `--set STAGE.FIELD=VALUE` changes a field of an included stage
    "#);
}

#[test]
fn a_mistake_in_an_included_file_is_shown_there_with_the_value_that_comes_from_elsewhere() {
    let top = TOP.replace("steps: 9", "steps: few").replace("model: base", "model: bse");
    insta::assert_snapshot!(refused(&[("top.yaml", &top), BASE, EVENTS]), @r#"
    error: there is no stage `bse`
     --> top.yaml:4:34
      |
    4 |   frozen: { kind: freeze, model: bse }
      |                                  ^^^ `model` takes a trained model
      |
      = help: did you mean `base`?

    error: `steps`: expected a whole number, found the text `few`
     --> lib/base.yaml:6:49
      |
    6 |   base: { kind: train_gan, data: events, steps: "${params.steps}", generator: { layers: ["${params.width}"] } }
      |                                                 ^^^^^^^^^^^^^^^^^
      |
     ::: top.yaml:2:18
      |
    2 | params: { steps: few }
      |                  --- the value comes from here

    top.yaml: 2 problems
    "#);
}

#[test]
fn what_cannot_be_included_is_told_at_its_line() {
    let list = "include: [none.yaml, 7, \"${params.x}\", empty.yaml, list.yaml, bytes.yaml, broken.yaml]\n";
    let others = [("empty.yaml", "# nothing\n"), ("list.yaml", "- a\n"), ("broken.yaml", "params: { a: 1\n")];
    let mut memory: BTreeMap<PathBuf, Vec<u8>> =
        others.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect();
    memory.insert("bytes.yaml".into(), b"a: 1\nb: \xff\n".to_vec());
    let read = Pipeline::parse_from(Files::Memory(&memory), list.as_bytes(), Path::new("top.yaml"), &[]);
    insta::assert_snapshot!(read.unwrap_err(), @r#"
    error: cannot read the included file none.yaml: entity not found
     --> top.yaml:1:11
      |
    1 | include: [none.yaml, 7, "${params.x}", empty.yaml, list.yaml, bytes.yaml, broken.yaml]
      |           ^^^^^^^^^
      |
      = help: a path is relative to the file that it is written in

    error: `include` takes the names of files, not `7`
     --> top.yaml:1:22
      |
    1 | include: [none.yaml, 7, "${params.x}", empty.yaml, list.yaml, bytes.yaml, broken.yaml]
      |                      ^
      |
      = help: write `include: other.yaml`, or a list of files

    error: a parameter cannot stand in `include`: files are included before parameters are known
     --> top.yaml:1:25
      |
    1 | include: [none.yaml, 7, "${params.x}", empty.yaml, list.yaml, bytes.yaml, broken.yaml]
      |                         ^^^^^^^^^^^^^
      |
      = help: write the file's name

    error: the included file `empty.yaml` is empty
     --> top.yaml:1:40
      |
    1 | include: [none.yaml, 7, "${params.x}", empty.yaml, list.yaml, bytes.yaml, broken.yaml]
      |                                        ^^^^^^^^^^
      |
      = help: write `params:` or `stages:` into it

    error: the included file `bytes.yaml` is not UTF-8 text: line 2 holds other bytes
     --> top.yaml:1:63
      |
    1 | include: [none.yaml, 7, "${params.x}", empty.yaml, list.yaml, bytes.yaml, broken.yaml]
      |                                                               ^^^^^^^^^^
      |
      = help: save it as UTF-8

    error: an included file is a map with `params:` or `stages:`, not a list
     --> list.yaml:1:1
      |
    1 | - a
      | ^^^
      |
      = help: give its entries names

    error: the file is not valid YAML
     --> broken.yaml:1:9
      |
    1 | params: { a: 1
      |         ^
      |         |
      |         unclosed bracket '{'
      |         still open
      |
      = help: close every bracket, and put a `,` between values

    top.yaml: 7 problems
    "#);
}

#[test]
fn a_cycle_of_files_is_shown_as_a_path() {
    let files =
        [("a.yaml", "include: x/b.yaml\n"), ("x/b.yaml", "include: c.yaml\n"), ("x/c.yaml", "include: [../a.yaml]\n")];
    let message = refused(&files);
    assert!(message.contains("the files include each other: a.yaml → x/b.yaml → x/c.yaml → x/../a.yaml"), "{message}");
    assert!(message.contains("--> x/c.yaml:1:11"), "{message}");
    let message = refused(&[("a.yaml", "include: a.yaml\n")]);
    assert!(message.contains("the files include each other: a.yaml → a.yaml"), "{message}");
}

#[test]
fn files_include_each_other_sixteen_deep_and_no_deeper() {
    let chain = |depth: usize| -> Vec<(String, String)> {
        let text = |at| match at {
            at if at == depth => "stages:\n  e: { kind: dataset, file: e.csv }\n".to_owned(),
            at => format!("include: f{}.yaml\n", at + 1),
        };
        (1..=depth).map(|at| (format!("f{at}.yaml"), text(at))).collect()
    };
    let read_chain = |depth| {
        let chain = chain(depth);
        read(&chain.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect::<Vec<_>>())
    };
    assert_eq!(read_chain(MAX_DEPTH).unwrap().stages.len(), 1);
    let message = read_chain(MAX_DEPTH + 1).unwrap_err();
    assert!(message.contains("`f17.yaml` is one file too many") && message.contains("--> f16.yaml:1:10"), "{message}");
}

#[test]
fn files_together_are_bounded_like_one() {
    let half = format!("# {}\nparams: {{ a: 1 }}\n", "x".repeat(9 << 20));
    let message = refused(&[("top.yaml", "include: [a.yaml, b.yaml]\n"), ("a.yaml", &half), ("b.yaml", &half)]);
    assert!(message.contains("with the included file `b.yaml` the pipeline is larger than 16 MiB"), "{message}");
    assert!(message.contains("--> top.yaml:1:19"), "{message}");
    let many = |name: &str| format!("params:\n  {name}: [{}]\n", "1,".repeat(120_000));
    let (one, other) = (many("a"), many("b"));
    let message = refused(&[("top.yaml", "include: [a.yaml, b.yaml]\n"), ("a.yaml", &one), ("b.yaml", &other)]);
    assert!(message.contains("holds too much for a pipeline") && message.contains("--> b.yaml:2"), "{message}");
}

#[test]
fn a_pipe_or_a_folder_is_no_file_to_include() {
    let message = Pipeline::parse(b"include: src\n", Path::new("top.yaml"), &[]).unwrap_err().to_string();
    assert!(message.contains("cannot read the included file src: it is a folder, not a regular file"), "{message}");
}
