//! `cargo xtask notices`: `THIRD-PARTY.txt`, which goes wherever the programs go.
//!
//! Almost every licence asks for its text and a copyright line to be passed on with the program.
//! The texts are those in the crates, each written once. A crate without one gets the text that its
//! manifest names, with its authors; only for MIT and Apache-2.0 is that done.

use super::graph::{Crate, Graph};
use super::policy::Policy;
use crate::shell::{Failure, output};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Programs that are passed on.
const PROGRAMS: [&str; 2] = ["diskcast", "diskcast-agent"];
/// Name of the file, beside the programs and in every export.
const NAME: &str = "THIRD-PARTY.txt";
/// Beginnings of the names of files with a licence, in capitals.
const NAMES: [&str; 6] = [
    "LICENSE",
    "LICENCE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
    "UNLICENSE",
];
/// Folders below a crate's in which parts of other people lie, such as zstd's and ring's.
const DEPTH: usize = 4;

/// Writes the file beside the release programs. `Ok(true)` when it is there.
pub(crate) fn run() -> Result<bool, Failure> {
    let folder = crate::agent::target_folder()?.join("release");
    let path = folder.join(NAME);
    let graph = Graph::read(&Policy::read()?.target)?;
    let text = text(&graph)?;
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, text))
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    println!("{}", path.display());
    Ok(true)
}

/// The licence texts so far, each under its number.
#[derive(Default)]
struct Texts {
    all: Vec<String>,
    /// Numbers by text without its line breaks: the same licence is wrapped in many ways.
    numbers: BTreeMap<String, usize>,
}

impl Texts {
    fn number(&mut self, text: String) -> usize {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        *self.numbers.entry(words).or_insert_with(|| {
            self.all.push(text);
            self.all.len()
        })
    }
}

fn text(graph: &Graph) -> Result<String, Failure> {
    let mut texts = Texts::default();
    let mut crates = String::new();
    for one in graph.behind(&PROGRAMS)? {
        // Ours has its licences beside the programs.
        if one.source.is_none() {
            continue;
        }
        let mut numbers: Vec<usize> = (licences(one)?.into_iter())
            .map(|text| texts.number(text))
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        let numbers: Vec<String> = numbers.iter().map(|number| format!("[{number}]")).collect();
        let _ = writeln!(
            crates,
            "{} {}\n    {}: {}\n    {}",
            one.name,
            one.version,
            one.license.as_deref().unwrap_or("as its file says"),
            numbers.join(" "),
            one.repository.as_deref().unwrap_or("no address given")
        );
    }
    let mut text = format!(
        "Third-party notices of diskcast {}\n\n{HEAD}\n{}\n\nCrates\n\n{crates}\nTexts\n",
        env!("CARGO_PKG_VERSION"),
        libraries()
    );
    for (index, licence) in texts.all.iter().enumerate() {
        let _ = write!(
            text,
            "\n[{}] {}\n{}\n",
            index + 1,
            "-".repeat(72),
            licence.trim_end()
        );
    }
    Ok(text)
}

const HEAD: &str = "\
diskcast is under the MIT licence or the Apache licence 2.0, as you choose: LICENSE-MIT and
LICENSE-APACHE. The programs diskcast, diskcast-agent and diskcast-agent-static contain the
crates below, of which those with `OR` may be used under either licence. Their texts follow,
each once, under the numbers behind the crates' names. Kernel, loaders and tools in an export
are no part of the programs: SOURCES.txt in the export is about them.
";

/// The libraries that are no crates.
fn libraries() -> String {
    let rust = output("rustc", &["--version"]).unwrap_or_default();
    let libc = output(
        "dpkg-query",
        &["-W", "-f", "${source:Package} ${Version}", "libc6-dev"],
    );
    format!(
        "Libraries that are no crates\n\n\
         Rust's standard library, of {}\n    \
         MIT OR Apache-2.0, in the words of diskcast's own licence files; its authors are named at\n    \
         https://www.rust-lang.org\n\
         The GNU C library{}, in diskcast-agent-static only\n    \
         LGPL-2.1-or-later; diskcast's source and `cargo xtask agent` link the agent with another one\n\
         diskcast-firstboot.exe has no crates: it has Rust's standard library, and the runtime of mingw-w64\n    \
         in the public domain and under the Zope licence 2.1, https://www.mingw-w64.org\n",
        rust.trim(),
        libc.map_or_else(|_| String::new(), |version| format!(" ({version})"))
    )
}

/// All licence texts of a crate, in order of their files.
fn licences(one: &Crate) -> Result<Vec<String>, Failure> {
    let mut files = Vec::new();
    find(&one.folder, DEPTH, &mut files);
    files.sort();
    let texts: Vec<String> = (files.iter())
        .filter_map(|path| std::fs::read(path).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect();
    if !texts.is_empty() {
        return Ok(texts);
    }
    standard(one)
}

fn find(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let is_text = match name.rsplit_once('.') {
            Some((_, ending)) => !["RS", "C", "H", "PY"].contains(&ending),
            None => true,
        };
        if path.is_dir() {
            if depth > 0 && !name.starts_with('.') {
                find(&path, depth - 1, files);
            }
        } else if is_text && NAMES.iter().any(|begin| name.starts_with(begin)) {
            files.push(path);
        }
    }
}

/// The text of the licence that a crate without a text names.
fn standard(one: &Crate) -> Result<Vec<String>, Failure> {
    let named = one.license.as_deref().unwrap_or_default();
    let expression = spdx::Expression::parse_mode(named, spdx::ParseMode::LAX).ok();
    let may = |licence: &str| {
        let mut expression = expression.iter();
        expression.any(|it| it.evaluate(|requirement| requirement.to_string() == licence))
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| {
        let path = root.join(name);
        std::fs::read_to_string(&path)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
    };
    if may("MIT") {
        let authors = one.authors.join(", ");
        let lines = read("LICENSE-MIT")?;
        let lines = lines
            .lines()
            .map(|line| match line.starts_with("Copyright") {
                true => format!("Copyright (c) {authors}"),
                false => line.to_owned(),
            });
        return Ok(vec![lines.collect::<Vec<_>>().join("\n")]);
    }
    if may("Apache-2.0") {
        return Ok(vec![read("LICENSE-APACHE")?]);
    }
    Err(Failure::new(format!(
        "{} {} has no file with its licence ({named})",
        one.name, one.version
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cargo's own list of what the programs are made of is the measure, not the graph.
    #[test]
    fn every_crate_of_the_programs_is_named_with_a_text() {
        let target = Policy::read().unwrap().target;
        let graph = Graph::read(&target).unwrap();
        let text = text(&graph).unwrap();
        let (crates, texts) = text.split_once("\nTexts\n").unwrap();
        let ours: Vec<&Crate> = (graph.crates.values())
            .filter(|one| one.source.is_none())
            .collect();
        let mut count = 0;
        let tree = [
            "tree",
            "--workspace",
            "--exclude=xtask",
            "--edges=normal",
            "--locked",
            "--offline",
            "--prefix=none",
            "--format={p}",
            "--target",
            &target,
        ];
        for line in output("cargo", &tree).unwrap().lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(version)) = (words.next(), words.next()) else {
                continue;
            };
            let version = version.trim_start_matches('v');
            if ours
                .iter()
                .any(|one| one.name == name && one.version.to_string() == version)
            {
                continue;
            }
            let head = format!("\n{name} {version}\n");
            let (_, rest) = crates
                .split_once(&head)
                .unwrap_or_else(|| panic!("{line} is missing"));
            let numbers = rest.lines().next().unwrap().split('[').skip(1);
            let numbers: Vec<&str> = numbers.filter_map(|it| it.split(']').next()).collect();
            assert!(!numbers.is_empty(), "{line} has no text");
            for number in numbers {
                assert!(
                    texts.contains(&format!("\n[{number}] ---")),
                    "{line}: [{number}]"
                );
            }
            count += 1;
        }
        assert!(count > 100, "{count}");
    }

    #[test]
    fn a_crate_without_a_text_gets_that_of_its_licence_with_its_authors() {
        let folder = tempfile();
        let one = |licence: &str| Crate {
            name: "a".to_owned(),
            version: semver::Version::new(1, 0, 0),
            license: Some(licence.to_owned()),
            source: None,
            authors: vec!["A. Author".to_owned()],
            repository: None,
            folder: folder.path().to_owned(),
            programs: Vec::new(),
        };
        let mit = licences(&one("MIT/Apache-2.0")).unwrap();
        assert!(mit[0].contains("Copyright (c) A. Author"), "{mit:?}");
        assert!(licences(&one("Apache-2.0")).unwrap()[0].contains("Apache License"));
        assert!(licences(&one("BSD-3-Clause")).is_err());
        std::fs::create_dir_all(folder.path().join("part")).unwrap();
        std::fs::write(folder.path().join("part/COPYING"), "theirs").unwrap();
        std::fs::write(folder.path().join("license.rs"), "no text").unwrap();
        assert_eq!(licences(&one("BSD-3-Clause")).unwrap(), ["theirs"]);
    }

    fn tempfile() -> crate::scratch::Scratch {
        crate::scratch::Scratch::new(&std::env::temp_dir(), "notices").unwrap()
    }
}
