//! A PC under QEMU: firmware, one disk, one network card on the room's switch, and the output of
//! its serial line.
//!
//! Always emulated (TCG): stock kernels do not run under every `/dev/kvm` that a test machine may
//! have.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::process::{bash, text};

/// The firmware of a machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Firmware {
    Bios,
    Uefi,
    SecureBoot,
}

/// The bus of the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bus {
    Virtio,
    Nvme,
    Sata,
}

/// The hardware of a machine.
pub(crate) struct Hardware<'a> {
    pub(crate) name: &'a str,
    pub(crate) firmware: Firmware,
    pub(crate) bus: Bus,
    /// QEMU's name of the card.
    pub(crate) card: &'a str,
    pub(crate) disk: &'a Path,
    /// A medium that starts before disk and network.
    pub(crate) medium: Option<Medium<'a>>,
}

/// A medium with the ISO.
#[derive(Clone, Copy)]
pub(crate) enum Medium<'a> {
    Cd(&'a Path),
    Usb(&'a Path),
}

/// A running PC; switched off when dropped.
pub(crate) struct Machine {
    child: Child,
    pub(crate) name: String,
    pub(crate) mac: String,
    serial: PathBuf,
    /// Bytes of the serial output that earlier waits have used up.
    read: usize,
    started: Instant,
    pub(crate) stages: Vec<(String, f64)>,
}

const OVMF: &str = "/usr/share/OVMF";

impl Machine {
    /// Powers it on, with its card on a port of its own of the switch `switch`, in whose namespace
    /// QEMU runs. Its MAC address is made from `number`.
    pub(crate) fn start(folder: &Path, switch: &str, number: u8, hardware: &Hardware<'_>) -> Self {
        let name = hardware.name.to_owned();
        let (tap, mac) = (
            format!("vm{number}"),
            format!("52:54:00:dc:00:{number:02x}"),
        );
        bash(&format!(
            "ip netns exec {switch} ip tuntap add dev {tap} mode tap
             ip -n {switch} link set {tap} master br0 up"
        ));
        let serial = folder.join(format!("{name}.serial"));
        let uuid = format!("dc000000-0000-4000-8000-0000000000{number:02x}");
        let mut words: Vec<String> = Vec::new();
        let mut add = |line: String| words.extend(line.split(' ').map(str::to_owned));
        let smm = if hardware.firmware == Firmware::SecureBoot {
            ",smm=on"
        } else {
            ""
        };
        add(format!(
            "-machine q35,graphics=off{smm} -accel tcg -cpu max -smp 1 -m 1024 -nodefaults -display none"
        ));
        add(format!("-uuid {uuid} -serial file:{}", text(&serial)));
        firmware(hardware.firmware, folder, &name, &mut add);
        add(format!(
            "-netdev tap,id=n0,ifname={tap},script=no,downscript=no -drive if=none,id=d0,format=raw,cache=unsafe,file={}",
            text(hardware.disk)
        ));
        // Without an option ROM the firmware's own PXE is tested; SeaBIOS has none of its own.
        let rom = if hardware.firmware == Firmware::Bios {
            ""
        } else {
            ",romfile="
        };
        add(format!(
            "-device {},netdev=n0,mac={mac},bootindex=2{rom}",
            hardware.card
        ));
        add(match hardware.bus {
            Bus::Virtio => "-device virtio-blk-pci,drive=d0,bootindex=3,serial=DC-DISK".to_owned(),
            Bus::Nvme => "-device nvme,drive=d0,bootindex=3,serial=DC-DISK".to_owned(),
            Bus::Sata => "-device ide-hd,drive=d0,bootindex=3,serial=DC-DISK".to_owned(),
        });
        match hardware.medium {
            None => {}
            Some(Medium::Cd(iso)) => add(format!(
                "-drive if=none,id=m0,format=raw,readonly=on,file={} -device ide-cd,drive=m0,bootindex=1",
                text(iso)
            )),
            Some(Medium::Usb(iso)) => add(format!(
                "-drive if=none,id=m0,format=raw,readonly=on,file={} -device qemu-xhci -device usb-storage,drive=m0,bootindex=1",
                text(iso)
            )),
        }
        let log = fs::File::create(folder.join(format!("{name}.qemu"))).expect("a log file");
        let child = Command::new("ip")
            .args(["netns", "exec", switch, "qemu-system-x86_64"])
            .args(&words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starting QEMU");
        Self {
            child,
            name,
            mac,
            serial,
            read: 0,
            started: Instant::now(),
            stages: Vec::new(),
        }
    }

    /// Its whole output so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.serial).unwrap_or_default()).into_owned()
    }

    /// Waits until its output has one of `words` after that of earlier waits; records the time as
    /// `stage`.
    #[track_caller]
    pub(crate) fn says(&mut self, stage: &str, words: &str, limit: Duration) {
        let start = Instant::now();
        loop {
            let said = self.said();
            let fresh = said.get(self.read..).unwrap_or_default();
            if let Some(at) = fresh.find(words) {
                self.read += at + words.len();
                self.stages
                    .push((stage.to_owned(), self.started.elapsed().as_secs_f64()));
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!(
                    "{} ended ({status}) before it said {words:?}\n{}",
                    self.name,
                    self.story()
                );
            }
            assert!(
                start.elapsed() < limit,
                "{} did not say {words:?} within {limit:?}\n{}",
                self.name,
                self.story()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until it has switched itself off.
    #[track_caller]
    pub(crate) fn is_off(&mut self, limit: Duration) {
        let start = Instant::now();
        while !matches!(self.child.try_wait(), Ok(Some(_))) {
            assert!(
                start.elapsed() < limit,
                "{} did not switch itself off\n{}",
                self.name,
                self.story()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        self.stages
            .push(("off".to_owned(), self.started.elapsed().as_secs_f64()));
    }

    /// The end of its serial output, for the message of a failing test.
    pub(crate) fn story(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        let from = lines.len().saturating_sub(60);
        let qemu = fs::read_to_string(self.serial.with_extension("qemu")).unwrap_or_default();
        format!(
            "--- {}: serial line, last lines\n{}\n{qemu}",
            self.name,
            lines[from..].join("\n")
        )
    }

    /// The stages with their times, in seconds since power on.
    pub(crate) fn times(&self) -> String {
        let stages: Vec<String> = self
            .stages
            .iter()
            .map(|(stage, at)| format!("{stage} {at:.1} s"))
            .collect();
        format!("{}: {}", self.name, stages.join(", "))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// OVMF's variables belong to the machine: each gets a copy.
fn firmware(firmware: Firmware, folder: &Path, name: &str, add: &mut impl FnMut(String)) {
    let (code, vars) = match firmware {
        Firmware::Bios => return,
        Firmware::Uefi => ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
        Firmware::SecureBoot => {
            add("-global driver=cfi.pflash01,property=secure,value=on".to_owned());
            ("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd")
        }
    };
    let own = folder.join(format!("{name}.vars"));
    fs::copy(Path::new(OVMF).join(vars), &own).expect("OVMF's variables");
    add(format!(
        "-drive if=pflash,format=raw,unit=0,readonly=on,file={OVMF}/{code} -drive if=pflash,format=raw,unit=1,file={}",
        text(&own)
    ));
}
