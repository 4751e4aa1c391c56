//! Files that are named as a template and are none.

use crate::common::process::{diskcast, text, tool};
use crate::common::scratch;

/// A file that is no template is named by its kind; a FIFO is not waited for.
#[test]
fn files_that_are_no_templates_are_named() {
    let folder = scratch();
    let data = folder.path().join("data");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("folder.toml")).expect("a folder");
    tool(&["mkfifo", text(&at("fifo.toml"))]).ok();
    let notepad: Vec<u8> = "\u{feff}schema = 1\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    std::fs::write(at("notepad.toml"), notepad).expect("a file");
    std::fs::write(at("huge.toml"), vec![b'#'; 2 << 20]).expect("a file");
    std::fs::write(at("empty.toml"), "").expect("a file");
    for (name, code, want) in [
        ("folder.toml", 5, "it is no file"),
        ("fifo.toml", 5, "it is no file"),
        ("notepad.toml", 2, "save it as UTF-8"),
        ("huge.toml", 2, "it has 2097152 bytes"),
        ("empty.toml", 2, "schema: is missing"),
        ("nothing.toml", 5, "No such file"),
    ] {
        diskcast([
            "--data-dir",
            text(&data),
            "template",
            "check",
            text(&at(name)),
        ])
        .code(code)
        .says(&[name, want]);
    }
}
