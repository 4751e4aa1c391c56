//! Windows' own hives: they validate as they are, and still do after edits.

mod support;

use hive::FileTime;
use support::{HIVES, folder, open, unpack};

const NOW: FileTime = FileTime(133_000_000_000_000_000);

#[test]
fn hives_that_windows_wrote_are_sound_and_come_back_as_they_were() {
    let Some(folder) = folder() else { return };
    for (name, _) in HIVES {
        let hive = open(&folder, name);
        let census = hive
            .validate()
            .unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        assert!(census.keys > 0, "{name}");
        if !hive.is_changed() {
            assert!(hive.into_bytes(NOW) == unpack(&folder, name), "{name}");
        }
    }
}
