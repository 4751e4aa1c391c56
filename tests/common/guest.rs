//! A small machine under QEMU with Debian's kernel, operated by its serial line: for file systems
//! that this kernel may not have.
//!
//! Always emulated (TCG), like the machines that boot over the network. It has no disk and no
//! network card.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::process::{Run, run_within, text};

/// Longest wait for a command, far beyond its duration even on a busy machine: it only ends a hang.
const LIMIT: Duration = Duration::from_mins(10);
/// Byte that ends an answer, before the exit code.
const MARK: u8 = 0x1e;

/// A running machine; switched off when dropped.
pub(crate) struct Guest {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<u8>,
    console: PathBuf,
}

impl Guest {
    /// Starts a machine with these programs; its errors and kernel messages go to `folder`.
    #[track_caller]
    pub(crate) fn start(folder: &Path, programs: &[&str]) -> Self {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
        fs::create_dir_all(&kept).expect("a folder for what is kept");
        let script = kept.join("guest.sh");
        fs::write(&script, include_str!("guest.sh")).expect("the script");
        let mut made = Command::new("bash");
        made.args([text(&script), text(&kept)]).args(programs);
        run_within(&mut made, LIMIT).ok();
        let console = folder.join("guest.console");
        let mut child = Command::new("qemu-system-x86_64")
            .args("-machine q35 -accel tcg -cpu max -smp 1 -m 1536 -nodefaults -display none -no-reboot -nic none".split(' '))
            .args(["-kernel", text(&kept.join("vmlinuz")), "-initrd", text(&kept.join("root.cpio"))])
            .args(["-append", "console=ttyS0 panic=-1 quiet random.trust_cpu=on"])
            .args(["-serial", &format!("file:{}", text(&console)), "-serial", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting QEMU");
        let commands = child.stdin.take().expect("its serial line");
        let said = child.stdout.take().expect("its serial line");
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for byte in BufReader::new(said).bytes().map_while(Result::ok) {
                if sender.send(byte).is_err() {
                    return;
                }
            }
        });
        let guest = Self {
            child,
            commands,
            answers,
            console,
        };
        assert_eq!(guest.answer("start").1, "ready");
        guest
    }

    /// Runs one line of shell to its end; output and errors come as one.
    #[track_caller]
    pub(crate) fn run(&mut self, line: &str) -> Run {
        let start = Instant::now();
        assert!(!line.contains('\n'), "one line: {line}");
        self.commands
            .write_all(format!("{line}\n").as_bytes())
            .expect("a line of the machine");
        let (stdout, code) = self.answer(line);
        Run {
            command: line.to_owned(),
            code: code.parse().ok(),
            // `Run::says` looks for errors in stderr.
            stderr: stdout.clone(),
            stdout,
            took: start.elapsed(),
        }
    }

    /// Repeats the line until it ends with 0.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, line: &str) -> Run {
        let start = Instant::now();
        loop {
            let run = self.run(line);
            if run.code == Some(0) {
                return run;
            }
            assert!(start.elapsed() < LIMIT, "{}", run.story());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The output up to the mark, and the word behind it.
    #[track_caller]
    fn answer(&self, line: &str) -> (String, String) {
        let until = |end: u8| {
            let mut bytes = Vec::new();
            loop {
                match self.answers.recv_timeout(LIMIT) {
                    Ok(byte) if byte == end => {
                        return String::from_utf8_lossy(&bytes).into_owned();
                    }
                    Ok(byte) => bytes.push(byte),
                    Err(error) => panic!(
                        "the machine does not answer {line:?}: {error}\n{}\n{}",
                        String::from_utf8_lossy(&bytes),
                        fs::read_to_string(&self.console).unwrap_or_default()
                    ),
                }
            }
        };
        (until(MARK), until(b'\n'))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
