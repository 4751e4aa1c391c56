//! Steps that are refused leave every hive as it was.

use super::*;

/// Content of every file below `System32\config` of a volume.
fn config(lab: &Lab) -> BTreeMap<String, Vec<u8>> {
    let volume = lab.volume();
    let listed = said(
        "ntfsls",
        &["-p", &format!("/{CONFIG}"), &volume.display().to_string()],
    );
    let names = listed
        .lines()
        .map(str::trim)
        .filter(|name| !name.is_empty() && !name.starts_with('.'));
    names
        .map(|name| {
            (
                name.to_owned(),
                lab.cat(&volume, &format!("{CONFIG}/{name}")),
            )
        })
        .collect()
}

/// Each refusal names the cause and leaves every hive unchanged, without even a copy beside it.
#[test]
fn what_cannot_be_done_leaves_every_hive_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let replace = |name: &'static str, bytes: Vec<u8>| {
        move |mounted: &Mounted| mounted.put(&format!("{CONFIG}/{name}"), &bytes)
    };
    let mut damaged = system(dir, "WinNT");
    let at = damaged.windows(2).rposition(|w| w == b"nk").unwrap();
    damaged[at..at + 2].copy_from_slice(b"??");
    let mut dirty = system(dir, "WinNT");
    dirty[4] += 1;
    let sum = dirty[..508].chunks_exact(4).fold(0, |sum, word| {
        sum ^ u32::from_le_bytes(word.try_into().unwrap())
    });
    dirty[508..512].copy_from_slice(&sum.to_le_bytes());
    let workgroup = Action::WindowsWorkgroup {
        partition: PARTITION,
        name: "LAB".into(),
    };
    let storage = Action::WindowsStorage {
        partition: PARTITION,
        services: vec!["vmd".into()],
        critical_devices: Vec::new(),
    };
    let interface = Action::WindowsTcpip {
        partition: PARTITION,
        interface: "{00000000-0000-0000-0000-000000000000}".into(),
        config: card().config,
    };
    let no_program = Action::FirstBoot {
        partition: PARTITION,
        job: FirstBootJob::default(),
        executable: None,
    };
    let nowhere = Action::FirstBoot {
        partition: PARTITION,
        job: FirstBootJob {
            report: true,
            ..FirstBootJob::default()
        },
        executable: Some(Payload {
            name: "diskcast-firstboot.exe".into(),
            blake3: "00".repeat(32),
            bytes: 1,
        }),
    };
    type Fill = Box<dyn FnOnce(&Mounted)>;
    let put = |name, bytes| Box::new(replace(name, bytes)) as Fill;
    let cases: [(Fill, Vec<(Action, &str)>); 7] = [
        (put("SYSTEM", damaged), vec![(name("x"), "damaged")]),
        (
            put("SYSTEM", dirty),
            vec![(name("x"), "logs do not complete it")],
        ),
        (
            put("SYSTEM", b"text".to_vec()),
            vec![(name("x"), "not a registry hive")],
        ),
        (
            put("SYSTEM", system(dir, "LanmanNT")),
            vec![(new_sid(OLD_SID), "domain controller")],
        ),
        (
            put("SECURITY", security(dir, true)),
            vec![(workgroup, "member of a domain")],
        ),
        (
            Box::new(full),
            vec![(name("x"), "bytes free"), (new_sid(OLD_SID), "bytes free")],
        ),
        (
            Box::new(|_| {}),
            vec![
                (new_sid("S-1-5-21-1-2-3"), "inspect the image again"),
                (new_sid("S-1-5-32-544"), "no machine SID"),
                (storage, "no service vmd"),
                (interface, "does not know the interface"),
                (no_program, "diskcast-firstboot.exe"),
                (nowhere, "its order does not say where"),
            ],
        ),
    ];
    for (fill, refusals) in cases {
        let mut lab = workstation(8, fill);
        let before = config(&lab);
        assert_eq!(before.len(), 5);
        for (action, why) in refusals {
            let error = lab.run(&[action]).unwrap_err();
            assert!(error.to_string().contains(why), "{why}: {error}");
        }
        assert!(config(&lab) == before, "something was written");
    }
}

/// Fills the volume until a copy of a hive no longer fits.
fn full(mounted: &Mounted) {
    let free = || {
        let free = rustix::fs::statvfs(mounted.path()).unwrap();
        free.f_bavail * free.f_frsize
    };
    let keep = 256 << 10;
    let bytes = usize::try_from(free().saturating_sub(keep)).unwrap();
    mounted.put("fill", &vec![1; bytes]);
    assert!(free() < 1 << 20);
}
