//! Fuzz target: any edits of any hive. A hive that opened and validated is sound after each edit,
//! and unchanged by a refused one. The written hive can be opened again.

#![no_main]

use hive::Hive;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../../hive/tests/support/script.rs"]
mod script;

use script::{NOW, Script, build, edit, seal};

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let mut bytes = build(&mut script).into_bytes(NOW);
    for _ in 0..script.byte() % 8 {
        let at = script.below(bytes.len());
        bytes[at] = script.byte();
    }
    seal(&mut bytes);
    let Ok((mut hive, _)) = Hive::open(bytes, &[]) else {
        return;
    };
    if hive.validate().is_err() {
        assert!(hive.create_key(hive.root(), "new", NOW).is_err());
        return;
    }
    while !script.is_over() {
        let before = hive.clone();
        let result = edit(&mut hive, &mut script);
        if let Err(faults) = hive.validate() {
            panic!("{result:?} left {faults:?}");
        }
        if result.is_err() {
            assert!(hive.clone().into_bytes(NOW) == before.into_bytes(NOW));
        }
    }
    let (again, _) = Hive::open(hive.into_bytes(NOW), &[]).unwrap();
    again.validate().unwrap();
});
