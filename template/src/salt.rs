//! Settings of a Salt minion, as far as they hold its id.
//!
//! Pure.

/// The main file of settings.
pub const MAIN: &str = "/etc/salt/minion";

/// Folder of further settings: files whose names end in `.conf`.
pub const FOLDER: &str = "/etc/salt/minion.d";

/// The settings with every top-level `id` commented out, so that the minion takes its id from the name of the machine; `None`
/// if they set no id.
pub fn without_id(settings: &str) -> Option<String> {
    // A value may stand on lines of its own, indented below the key.
    let mut in_id = false;
    let mut found = false;
    let mut text = String::new();
    for line in settings.split_inclusive('\n') {
        in_id = is_id(line) || (in_id && line.starts_with([' ', '\t']));
        found |= in_id;
        if in_id {
            text.push_str("# ");
        }
        text.push_str(line);
    }
    found.then_some(text)
}

/// True for a line that begins the key `id`, in any of YAML's quotes.
fn is_id(line: &str) -> bool {
    let key = line.split(':').next().unwrap_or_default().trim_end();
    line.contains(':') && matches!(key, "id" | "'id'" | "\"id\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_top_level_id_is_commented_out() {
        let text =
            "master: salt\nid: master-pc\nmine_functions:\n  id: x\nid_function: y\n# id: z\n";
        assert_eq!(
            without_id(text).as_deref(),
            Some(
                "master: salt\n# id: master-pc\nmine_functions:\n  id: x\nid_function: y\n# id: z\n"
            )
        );
        assert_eq!(
            without_id("\"id\" : a\nid:\n  master-pc\nmaster: b").as_deref(),
            Some("# \"id\" : a\n# id:\n#   master-pc\nmaster: b")
        );
        for none in ["", "master: salt\n", "#id: x\n", "  id: x\n", "id\n"] {
            assert_eq!(without_id(none), None, "{none}");
        }
    }
}
