//! NTFS volumes through the engine: a hibernated one is not touched, a grown one is written,
//! ntfs-3g's own tools read it back.
#![allow(
    clippy::disallowed_methods,
    reason = "the edge: tests make files and run programs"
)]

mod ext_disk;

use apply::Outcome;
use ext_disk::{Attached, Disk, Files, may_mount, tool};
use std::fs;
use template::secrets::Secrets;
use template::step::{Action, FileSystem};

/// A disk with one NTFS volume of 24 MiB, and 40 MiB of space to grow.
fn ntfs() -> Disk {
    let disk = Disk::new(&[64]);
    let volume = Attached::new(&disk, 1);
    tool("mkntfs", &["-q", "-F", "-f", &volume.0, "49152"]);
    disk
}

#[test]
fn a_hibernated_volume_is_left_alone_unless_the_plan_gives_the_session_up() {
    if !may_mount() || !std::path::Path::new("/dev/fuse").exists() {
        return;
    }
    let disk = ntfs();
    let session = disk.folder.path().join("hiberfil");
    let mut content = vec![0_u8; 8192];
    content[..4].copy_from_slice(b"HIBR");
    fs::write(&session, content).unwrap();
    let from = session.display().to_string();
    tool(
        "ntfscp",
        &["-q", &Attached::new(&disk, 1).0, &from, "hiberfil.sys"],
    );
    let mut files = Files::default();
    let payload = files.add("app.msi", b"an installer");
    let copy = Action::CopyFile {
        partition: 1,
        payload,
        to: "C:\\Deploy\\app.msi".into(),
    };
    let before = disk.hash();
    let error = disk
        .run(vec![copy.clone()], &Secrets::default(), &files)
        .unwrap_err();
    assert!(
        error.to_string().contains("Windows is hibernated"),
        "{error}"
    );
    assert_eq!(disk.hash(), before, "a hibernated volume was changed");

    let steps = vec![Action::WindowsDiscardHibernation { partition: 1 }, copy];
    disk.run(steps, &Secrets::default(), &files).unwrap();
    let volume = Attached::new(&disk, 1);
    assert_eq!(
        tool("ntfscat", &[&volume.0, "Deploy/app.msi"]),
        "an installer"
    );
    assert!(!volume.run("ntfsls", &[]).contains("hiberfil.sys"));
}

#[test]
fn a_volume_that_was_just_grown_is_written_to_and_a_second_run_changes_nothing() {
    if !may_mount() || !std::path::Path::new("/dev/fuse").exists() {
        return;
    }
    let disk = ntfs();
    let mut files = Files::default();
    // More than the free space of the volume before it grew.
    let payload = files.add("app.msi", &vec![7_u8; 30 << 20]);
    let steps = vec![
        Action::GrowFileSystem {
            partition: 1,
            file_system: FileSystem::Ntfs,
        },
        Action::CopyFile {
            partition: 1,
            payload,
            to: "c:\\deploy\\app.msi".into(),
        },
    ];
    disk.run(steps.clone(), &Secrets::default(), &files)
        .unwrap();
    let before = disk.hash();
    let report = disk.run(steps, &Secrets::default(), &files).unwrap();
    assert!(
        report.steps.iter().all(|step| step.1 == Outcome::Unchanged),
        "{report:?}"
    );
    assert_eq!(disk.hash(), before);
}
