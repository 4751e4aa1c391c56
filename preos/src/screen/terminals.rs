//! The devices: the screen, its keyboard, the serial consoles.
//!
//! Owns open terminals. The kernel decides which consoles exist (`console=`):
//! `/sys/class/tty/console/active` lists them. A device that cannot be opened is left out.

use super::keys::{self, Key};
use rustix::termios::{self, LocalModes, OptionalActions};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::sync::mpsc::{SyncSender, sync_channel};

/// The terminal of the screen.
const SCREEN: &str = "/dev/tty1";
/// Most lines that wait for a slow serial port; further ones are lost. At 115200 baud this is a few
/// seconds of text.
const QUEUE: usize = 256;
/// Columns and lines of terminals that do not report their size.
const USUAL: (usize, usize) = (80, 25);

/// Names of the kernel's consoles other than the screen.
fn serial_names() -> Vec<String> {
    fs::read_to_string("/sys/class/tty/console/active")
        .unwrap_or_default()
        .split_whitespace()
        .filter(|name| {
            !name.starts_with("tty") || name.starts_with("ttyS") || name.starts_with("ttyA")
        })
        .map(str::to_owned)
        .collect()
}

fn open(path: &str) -> Option<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| tracing::debug!(path, %error, "not opened"))
        .ok()
}

/// Sets a terminal to deliver keys one by one without echo; output is unchanged.
fn take_keys(terminal: &File) {
    let Ok(mut modes) = termios::tcgetattr(terminal) else {
        return;
    };
    // No signals: Ctrl-C must not end anything here.
    modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
    if let Err(error) = termios::tcsetattr(terminal, OptionalActions::Now, &modes) {
        tracing::debug!(%error, "the terminal keeps its modes");
    }
}

/// The screen.
pub struct Screen(File);

impl Screen {
    /// Opens it; `None` when this machine has none.
    pub fn open() -> Option<Self> {
        let file = open(SCREEN)?;
        termios::isatty(&file).then_some(Self(file))
    }

    /// Its size in columns and lines.
    pub fn size(&self) -> (usize, usize) {
        match termios::tcgetwinsize(&self.0) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => USUAL,
        }
    }

    /// Writes to the screen. An error is ignored, because the serial console shows the same.
    pub fn paint(&self, text: &str) {
        let _ = (&self.0).write_all(text.as_bytes());
    }
}

/// Sends lines, and the log, to every serial console.
#[derive(Clone)]
pub struct Serials(Option<SyncSender<String>>);

impl Serials {
    /// Opens the consoles and starts the thread that writes.
    pub fn start() -> Self {
        let mut files: Vec<File> = serial_names()
            .iter()
            .filter_map(|name| open(&format!("/dev/{name}")))
            .collect();
        if files.is_empty() && !fs::exists(SCREEN).unwrap_or(false) {
            files.extend(open("/dev/console"));
        }
        if files.is_empty() {
            return Self(None);
        }
        let (lines, queue) = sync_channel::<String>(QUEUE);
        let spawned = std::thread::Builder::new()
            .name("serial".into())
            .spawn(move || {
                while let Ok(line) = queue.recv() {
                    for file in &mut files {
                        let _ = file.write_all(line.as_bytes());
                    }
                }
            });
        Self(spawned.is_ok().then_some(lines))
    }

    /// Queues a line, unless the queue is full.
    pub fn say(&self, line: &str) {
        if let Some(lines) = &self.0 {
            let clean: String = line
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            let _ = lines.try_send(format!("diskcast: {clean}\n"));
        }
    }
}

/// For lines of the log, which have their own line end.
impl Write for &Serials {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(lines) = &self.0 {
            let _ = lines.try_send(String::from_utf8_lossy(bytes).into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A terminal with a keyboard.
pub struct Keyboard(File);

/// The screen's keyboard, and the serial consoles as keyboards.
pub fn keyboards() -> Vec<Keyboard> {
    let serial = serial_names()
        .into_iter()
        .map(|name| format!("/dev/{name}"));
    std::iter::once(SCREEN.to_owned())
        .chain(serial)
        .filter_map(|path| open(&path))
        .filter(|file| termios::isatty(file))
        .map(Keyboard)
        .collect()
}

impl Keyboard {
    /// Calls `press` for each key, on a thread of its own, until the terminal closes.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn follow(mut self, press: impl Fn(Key) + Send + 'static) -> std::io::Result<()> {
        take_keys(&self.0);
        std::thread::Builder::new()
            .name("keys".into())
            .spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(len @ 1..) = self.0.read(&mut buffer) {
                    for key in keys::keys(buffer.get(..len).unwrap_or_default()) {
                        press(key);
                    }
                }
            })
            .map(drop)
    }
}
