//! Names for other programs and for files, which do not take every character: replacing some must not make one name of two.

use std::collections::{HashMap, HashSet};

use crate::digest::Digest;

/// The most bytes of the name of a file: with an extension and the like it stays below the 255 of file systems.
const LONGEST: usize = 200;

/// A name in the characters that `keep` allows and of at most so many bytes. One that is not so already ends in eight digits of its digest: the same
/// name always becomes the same, and two names hardly ever become one.
pub fn cleaned(name: &str, keep: impl Fn(char) -> bool, filler: char, most: usize) -> String {
    let clean: String = name.chars().map(|c| if keep(c) { c } else { filler }).collect();
    if clean == name && clean.len() <= most && !clean.is_empty() {
        return clean;
    }
    marked(&clean, name, filler, most)
}

/// A clean name with the digest of what it stands for, cut to its length.
fn marked(clean: &str, name: &str, filler: char, most: usize) -> String {
    let mark = format!("{filler}{}", Digest::of(name.as_bytes()).short());
    format!("{}{mark}", &clean[..clean.floor_char_boundary(most.saturating_sub(mark.len()))])
}

/// Names of files for these names, in their order: all different, also where upper and lower case are one. Those that meet in that carry
/// their digests.
pub fn file_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let keep = |c: char| c.is_alphanumeric() || "-_.@=,+".contains(c);
    let clean = |name: &str| {
        // A dot at the start would hide the file.
        let clean = cleaned(name, keep, '-', LONGEST);
        if clean.starts_with('.') { marked(&clean.replacen('.', "-", 1), name, '-', LONGEST) } else { clean }
    };
    let names: Vec<(&str, String)> = names.into_iter().map(|name| (name, clean(name))).collect();
    let mut times: HashMap<String, usize> = HashMap::new();
    for (_, clean) in &names {
        *times.entry(clean.to_lowercase()).or_default() += 1;
    }
    let mut taken = HashSet::new();
    let distinct = |(name, clean): (&str, String)| {
        let meets = times.get(&clean.to_lowercase()).is_some_and(|times| *times > 1);
        let clean = if meets && clean == name { marked(&clean, name, '-', LONGEST) } else { clean };
        let numbered = (2..).map(|nth| format!("{clean}-{nth}"));
        let mut candidates = std::iter::once(clean.clone()).chain(numbered);
        candidates.find(|candidate| taken.insert(candidate.to_lowercase())).unwrap_or(clean)
    };
    names.into_iter().map(distinct).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_fit_for_files_stay_and_others_are_told_apart_by_their_digests() {
        let columns = ["jj_M", "e+", "e-", "jet.pt", "pt [GeV]", "pt (GeV)", "pt/GeV", "masse_é"];
        let names = file_names(columns);
        assert_eq!((&names[..4], &*names[7]), (&columns.map(str::to_owned)[..4], "masse_é"));
        assert_eq!(names[4], format!("pt--GeV--{}", Digest::of(b"pt [GeV]").short()));
        assert!(names[5].starts_with("pt--GeV--") && names[6].starts_with("pt-GeV-"), "{names:?}");
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        // Whatever else there is.
        assert_eq!(file_names(["pt [GeV]"]), names[4..5]);
    }

    #[test]
    fn names_that_differ_in_case_alone_or_not_at_all_are_told_apart() {
        let names = file_names(["PT", "pt", "eta", "pt", "", ".."]);
        assert!(names[0].starts_with("PT-") && names[1].starts_with("pt-") && names[2] == "eta", "{names:?}");
        assert_eq!(names[3], format!("{}-2", names[1]));
        assert!(names[4].starts_with('-') && names[5].starts_with("-.-"), "{names:?}");
        let folded: HashSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
        assert_eq!(folded.len(), names.len());
    }

    #[test]
    fn names_of_any_length_fit_and_are_cut_between_characters() {
        let long = |end: &str| format!("{}{end}", "é€".repeat(300));
        let (one, other) = (long("a"), long("b"));
        let names = file_names([&*one, &*other]);
        assert!(names.iter().all(|name| name.len() <= LONGEST) && names[0] != names[1], "{names:?}");
        let folder = tempfile::tempdir().unwrap();
        for name in &names {
            std::fs::write(folder.path().join(format!("{name}.svg")), "").unwrap();
        }
    }
}
