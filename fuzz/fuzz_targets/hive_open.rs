//! Fuzz target: any hive with any logs. Opening, reading and validating never panics and always
//! ends; without applied log entries the output bytes equal the input. Hives are made by a script
//! and then damaged, with checksums corrected; an input that begins with `regf` is used directly,
//! its checksum corrected.

#![no_main]

use hive::Hive;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../../hive/tests/support/script.rs"]
mod script;

use script::{NOW, Script, build, edit, make_dirty, new_log, old_log, read_all, seal, seal_log};

fn damage(script: &mut Script<'_>, bytes: &mut [u8]) {
    for _ in 0..script.byte() % 8 {
        let at = script.below(bytes.len());
        bytes[at] = script.byte();
    }
}

fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"regf") {
        let mut bytes = data.to_vec();
        seal(&mut bytes);
        return open(bytes, &[]);
    }
    let mut script = Script(data);
    let mut hive = build(&mut script);
    let mut bytes = hive.clone().into_bytes(NOW);
    let mut logs = Vec::new();
    if script.byte() % 2 == 0 {
        let first = bytes.clone();
        let number = make_dirty(&mut bytes);
        for _ in 0..script.byte() % 8 {
            let _ = edit(&mut hive, &mut script);
        }
        let second = hive.into_bytes(NOW);
        logs.push(match script.byte() % 3 {
            0 => old_log(&first, &second, number),
            _ => new_log(&[&first, &second, &first], number),
        });
        logs.push(new_log(&[&first, &second], number + 2));
        for log in &mut logs {
            damage(&mut script, log);
            seal_log(log);
        }
    }
    damage(&mut script, &mut bytes);
    seal(&mut bytes);
    open(bytes, &logs);
});

fn open(bytes: Vec<u8>, logs: &[Vec<u8>]) {
    let logs: Vec<&[u8]> = logs.iter().map(Vec::as_slice).collect();
    let most = bytes.len() + logs.iter().map(|log| log.len()).sum::<usize>();
    let Ok((hive, recovery)) = Hive::open(bytes.clone(), &logs) else {
        return;
    };
    let keys = read_all(&hive, most);
    if let Ok(census) = hive.validate() {
        assert_eq!(
            usize::try_from(census.keys).unwrap(),
            keys,
            "all that is sound can be read"
        );
    }
    assert_eq!(hive.is_changed(), recovery.entries > 0);
    if !hive.is_changed() {
        assert!(hive.into_bytes(NOW) == bytes);
    }
}
