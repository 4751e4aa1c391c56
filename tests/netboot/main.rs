//! Real firmware, real kernels, real disks: a PC boots over the network into the agent, gets a
//! master image, and starts from its own disk, with nothing stopped by hand.
//!
//! Everything runs under QEMU's emulation in network namespaces. The proof is the output that a
//! person at the PC would see, on the serial line. The cases beyond the first three run with `cargo
//! xtask test --full`.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests are the edge: they open files, wait and tell what they saw"
)]

#[path = "../common/mod.rs"]
mod common;
mod machine;
mod scene;

use std::time::Duration;

use serde_json::Value;

use common::process::text;
use common::windows;
use machine::{Bus, Firmware, Machine, Medium};
use scene::{Addresses, Scene, export, master_disk, prepare};

/// Longest wait for a boot, which takes half a minute here and many times that on a busy machine.
/// It only ends a hang.
const BOOT: Duration = Duration::from_mins(10);

/// Lines of the agent on the serial line, and lines of the master system.
const JOINED: &str = "joined the console";
const OWN_DISK: &str = "GRUB of the master disk";
const LOGIN: &str = "master login:";

fn own_disk_to_login(machine: &mut Machine) {
    machine.says("own disk", OWN_DISK, BOOT);
    machine.says("login", LOGIN, BOOT);
    eprintln!("netboot: {}", machine.times());
}

/// Prefix of the lines of a first start.
const ITSELF: &str = "first boot: ";

fn own_disk_to_itself(machine: &mut Machine) {
    machine.says("own disk", OWN_DISK, BOOT);
    machine.says("first start", ITSELF, BOOT);
    machine.is_off(BOOT);
    // Before or after the first boot's lines: systemd decides.
    let said = machine.said();
    let prompt = said.lines().find(|line| line.starts_with("room-0"));
    assert!(
        prompt.is_some_and(|line| line.contains("login:")),
        "no login prompt under its new name\n{}",
        machine.story()
    );
    eprintln!("netboot: {}", machine.times());
}

/// Watches two machines at once, so that each has times of its own.
fn both(one: &mut Machine, other: &mut Machine, watch: impl Fn(&mut Machine) + Sync) {
    std::thread::scope(|scope| {
        scope.spawn(|| watch(one));
        watch(other);
    });
}

/// The template with each machine's personal steps. Its first start proves them on the serial line,
/// waits for the login prompt, and switches the machine off.
const TEMPLATE: &str = r#"
schema = 1
end = "shutdown"
[identity]
hostname = "ROOM-{nn}"
case = "lower"
[network]
mode = "static"
range = "10.77.9.1-10.77.9.9"
prefix = 16
[linux]
[[user]]
name = "kim"
groups = ["administrators"]
[[run]]
command = 'echo "first boot: $(hostname) $(hostname -I) $(id -Gn kim) $(test -s /etc/machine-id && echo own-id)" >/dev/ttyS0'
[[run]]
command = 'timeout 120 sh -c "until grep -qs agetty /proc/[0-9]*/comm; do sleep 1; done"; sleep 4'
"#;

/// Cases 1, 2 and 6: BIOS with virtio and UEFI with NVMe at once, beside another DHCP server, from
/// one session.
#[test]
fn two_machines_over_pxe_come_up_from_their_own_disks() {
    let (boot, _) = prepare("vm");
    let scene = Scene::new(
        "nb",
        Addresses::Theirs,
        &["--pxe", "--boot-files", text(&boot)],
    );
    let mut bios = scene.power_on(
        1,
        "bios",
        Firmware::Bios,
        Bus::Virtio,
        "virtio-net-pci",
        None,
    );
    let mut uefi = scene.power_on(2, "uefi", Firmware::Uefi, Bus::Nvme, "virtio-net-pci", None);
    both(&mut bios, &mut uefi, |machine| {
        machine.says("agent joined", JOINED, BOOT)
    });
    let ready = scene.wait_ready(2, &[&bios, &uefi], BOOT);
    let firmware = |word: &str| ready.iter().any(|t| t["facts"]["firmware"] == word);
    assert!(firmware("bios") && firmware("uefi"), "{ready:#?}");
    let summary = scene.deploy_template(TEMPLATE, &[&bios, &uefi]);
    eprintln!("netboot: both deployed in {} s", summary["seconds"]);
    both(&mut bios, &mut uefi, own_disk_to_itself);
    // Each is another machine now, and reports that itself.
    let said = [&bios, &uefi].map(|machine| {
        let said = machine.said();
        let at = said.rfind(ITSELF).unwrap_or_default();
        let line = said.get(at..).unwrap_or_default();
        let line = line.lines().next().unwrap_or_default();
        // `hostname -I` ends with a space.
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    for number in 1..=2 {
        let own = format!("{ITSELF}room-0{number} 10.77.9.{number} kim sudo");
        let fits = |line: &String| line.starts_with(&own) && line.contains("own-id");
        assert!(said.iter().any(fits), "{own}: {said:#?}");
    }
    // Each reported to the console before it switched itself off.
    let number = summary["job"].as_str().expect("a number");
    let show = |words: &[&str]| {
        let words = [&["job", "show", number], words].concat();
        scene.console.cli(&words).ok()
    };
    let job = show(&["--json"]).json();
    let rows = job["targets"].as_array().expect("targets");
    for number in 1..=2 {
        let name = format!("room-0{number}");
        let row = rows.iter().find(|row| row["first_start"]["name"] == *name);
        let row = row.unwrap_or_else(|| panic!("{name} did not report: {job:#}"));
        let first_start = &row["first_start"];
        assert_eq!(first_start["state"], "started", "{job:#}");
        let id = first_start["machine_id"].as_str().unwrap_or_default();
        assert_eq!(id.len(), 32, "{job:#}");
        let addresses = first_start["addresses"].as_array().expect("addresses");
        let end = format!(" 10.77.9.{number}/16");
        let own = |address: &Value| address.as_str().is_some_and(|text| text.ends_with(&end));
        assert!(addresses.iter().any(own), "{job:#}");
    }
    let shown = show(&[]).stdout;
    for name in ["room-01", "room-02"] {
        assert!(shown.contains(&format!("started as {name}")), "{shown}");
    }
    // They did so while PXE was still being served.
    let check = scene.console.cli(&["pxe", "check", "--json"]).json();
    let machines = check["machines"].as_array().expect("machines");
    assert_eq!(machines.len(), 2, "{check:#}");
    let stage_of = |mac: &str| {
        machines
            .iter()
            .find(|m| m["mac"] == mac)
            .unwrap_or_else(|| panic!("no {mac} in {check:#}"))["stage"]
            .clone()
    };
    assert_eq!(
        stage_of(&bios.mac),
        "local",
        "the server sent it to its disk"
    );
}

/// Case 4: one ISO, as a CD under BIOS and as a USB stick under UEFI; the console is found by its
/// beacon.
#[test]
fn one_iso_starts_the_agent_under_bios_and_uefi() {
    // Needs no master image: the other case makes it meanwhile.
    let scene = Scene::new("ni", Addresses::Theirs, &[]);
    let iso = scene.folder.path().join("diskcast.iso");
    export(&[
        "iso",
        text(&iso),
        "--profile",
        "vm",
        "--pin",
        &scene.console.pin,
    ]);
    let mut bios = scene.power_on(
        1,
        "cd",
        Firmware::Bios,
        Bus::Virtio,
        "virtio-net-pci",
        Some(Medium::Cd(&iso)),
    );
    let mut uefi = scene.power_on(
        2,
        "usb",
        Firmware::Uefi,
        Bus::Virtio,
        "virtio-net-pci",
        Some(Medium::Usb(&iso)),
    );
    both(&mut bios, &mut uefi, |machine| {
        machine.says("agent joined", JOINED, BOOT)
    });
    scene.wait_ready(2, &[&bios, &uefi], BOOT);
    eprintln!("netboot: {}; {}", bios.times(), uefi.times());
}

/// Case 3, on a switch of its own: Debian's signed GRUB asks the DHCP server of its lease for the
/// rest, so that server has to be ours.
#[test]
fn under_secure_boot_the_whole_way_is_signed() {
    if !common::full() {
        return eprintln!("netboot: Secure Boot runs with --full");
    }
    let (boot, _) = prepare("vm");
    let words = [
        "--pxe",
        "--dhcp",
        "10.77.3.1-10.77.3.200",
        "--boot-files",
        text(&boot),
    ];
    let scene = Scene::new("ns", Addresses::Ours, &words);
    let mut machine = scene.power_on(
        1,
        "secure",
        Firmware::SecureBoot,
        Bus::Virtio,
        "virtio-net-pci",
        None,
    );
    machine.says("agent joined", JOINED, BOOT);
    scene.wait_ready(1, &[&machine], BOOT);
    scene.deploy(&[&machine]);
    own_disk_to_login(&mut machine);
}

/// Case 5: common hardware of PCs, with the kernel for PCs. The master's own kernel is the small
/// one without SATA, so GRUB from the disk is the proof.
#[test]
fn sata_and_e1000e_with_the_kernel_for_pcs() {
    if !common::full() {
        return eprintln!("netboot: SATA and e1000e run with --full");
    }
    let (boot, _) = prepare("full");
    let scene = Scene::new(
        "np",
        Addresses::Theirs,
        &["--pxe", "--boot-files", text(&boot)],
    );
    let mut machine = scene.power_on(1, "pc", Firmware::Bios, Bus::Sata, "e1000e", None);
    machine.says("agent joined", JOINED, BOOT);
    scene.wait_ready(1, &[&machine], BOOT);
    scene.deploy(&[&machine]);
    machine.says("own disk", OWN_DISK, BOOT);
    eprintln!("netboot: {}", machine.times());
}

/// Case 7: a master machine is booted over the network and captured, and its image makes another
/// machine that boots.
#[test]
fn what_is_captured_from_a_booted_machine_boots_elsewhere() {
    if !common::full() {
        return eprintln!("netboot: capture from a booted machine runs with --full");
    }
    let (boot, _) = prepare("vm");
    let scene = Scene::new(
        "nc",
        Addresses::Theirs,
        &["--pxe", "--boot-files", text(&boot)],
    );
    std::fs::copy(master_disk(), scene.disk("master")).expect("the master's disk");
    let mut master = scene.power_on(
        1,
        "master",
        Firmware::Bios,
        Bus::Virtio,
        "virtio-net-pci",
        None,
    );
    master.says("agent joined", JOINED, BOOT);
    scene.wait_ready(1, &[&master], BOOT);
    let words = [
        "image", "capture", "--target", "all", "--disk", "first", "--name", "golden",
    ];
    let run = scene.console.cli_within(&words, Duration::from_mins(15));
    assert_eq!(run.code, Some(0), "{}\n{}", run.story(), master.story());
    drop(master);
    let image = scene.console.data_dir.join("images/golden.dcimg");
    let mut copy = scene.power_on(
        2,
        "copy",
        Firmware::Uefi,
        Bus::Virtio,
        "virtio-net-pci",
        None,
    );
    copy.says("agent joined", JOINED, BOOT);
    scene.wait_ready(1, &[&copy], BOOT);
    scene.deploy_image(&image, &[&copy]);
    own_disk_to_login(&mut copy);
}

/// A Windows of real hives on a machine whose disk has a controller that the master never had: the
/// agent changes NTFS with the tools of the pre-OS. The start of Windows itself is not tested here.
#[test]
fn a_windows_is_made_itself_by_the_booted_agent() {
    if !common::full() {
        return eprintln!("netboot: Windows on a booted machine runs with --full");
    }
    let Some(hives) = windows::hives::real() else {
        return;
    };
    let (boot, _) = prepare("vm");
    let scene = Scene::new(
        "nw",
        Addresses::Theirs,
        &["--pxe", "--boot-files", text(&boot)],
    );
    let folder = scene.folder.path();
    windows::TEN.capture(folder, &hives);
    let ids = [r"PCI\VEN_1AF4&DEV_1001", r"PCI\VEN_1AF4&DEV_1042"];
    windows::driver(&folder.join("viostor"), &ids, Some("viostor"));
    let mut machine = scene.power_on(
        1,
        "windows",
        Firmware::Bios,
        Bus::Virtio,
        "virtio-net-pci",
        None,
    );
    machine.says("agent joined", JOINED, BOOT);
    scene.wait_ready(1, &[&machine], BOOT);
    let template = |driver: &str| {
        format!(
            "schema = 1\nimage = \"master.dcimg\"\nend = \"none\"\n[identity]\nhostname = \"ROOM-{{nn}}\"\n[windows]\n\
             sid = \"rewrite\"\n{driver}"
        )
    };
    // The machine itself reports the controller of its disk.
    let refused = scene.refuse_template(&template(""));
    assert!(refused.contains("virtio disk 1af4:"), "{refused}");
    let driver = "[[driver]]\npath = \"viostor\"\nboot_critical = true\n";
    scene.deploy_template_alone(&template(driver), &[&machine]);
    drop(machine);
    let system = windows::hive(&scene.disk("windows"), "SYSTEM", folder);
    let get = |key: &str, value: &str| {
        let said = common::process::tool(&["hivexget", text(&system), key, value]).ok();
        said.stdout.trim().to_owned()
    };
    let set = "ControlSet001";
    let name = get(
        &format!(r"{set}\Control\ComputerName\ComputerName"),
        "ComputerName",
    );
    assert_eq!(name, "ROOM-01");
    let image = get(&format!(r"{set}\Services\viostor"), "ImagePath");
    assert!(image.ends_with(r"drivers\test.sys"), "{image}");
}
