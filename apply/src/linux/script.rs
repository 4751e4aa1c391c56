//! The shell script of first boot: a job in, text out.
//!
//! What always holds of the script: a step that was done is not done again after a restart; one that was cut off is begun
//! again at most [`ATTEMPTS`] times; what is left behind is a log and what came of it, never the job itself.

use std::fmt::Write as _;
use template::step::{FirstBootAction, FirstBootEnd, FirstBootJob, OnError};

/// Folder of the job on the machine.
pub(super) const FOLDER: &str = "/var/lib/diskcast";

/// The script.
pub(super) const SCRIPT: &str = "/var/lib/diskcast/firstboot.sh";

/// What it says.
pub(super) const LOG: &str = "/var/log/diskcast-firstboot.log";

/// Its unit.
pub(super) const UNIT: &str = "diskcast-firstboot.service";

/// How often a step is begun that the machine did not come back from.
const ATTEMPTS: u32 = 3;

/// The script of a job.
pub(super) fn script(job: &FirstBootJob) -> Result<String, String> {
    let mut text = head();
    for (number, step) in (1_u32..).zip(&job.steps) {
        check_id(&step.id)?;
        let marker = format!("{number:03}.{}", step.id);
        match &step.action {
            FirstBootAction::Run {
                command,
                timeout_seconds,
                ok_codes,
                reboot_codes,
                on_error,
            } => {
                let on_error = match on_error {
                    OnError::Stop => "stop",
                    OnError::Continue => "continue",
                };
                let _ = writeln!(
                    text,
                    "run {marker} {timeout_seconds} {on_error} '{}' '{}' {}",
                    codes(ok_codes),
                    codes(reboot_codes),
                    quoted(command)?
                );
            }
            FirstBootAction::Network(_)
            | FirstBootAction::User(_)
            | FirstBootAction::Join { .. }
            | FirstBootAction::InstallDrivers => {
                return Err(format!("first-boot step {} is for Windows", step.id));
            }
        }
    }
    let end = match job.end {
        FirstBootEnd::None => "",
        FirstBootEnd::Restart => "systemctl --no-block reboot\n",
        FirstBootEnd::Shutdown => "systemctl --no-block poweroff\n",
    };
    let _ = write!(text, "\nnote 'first boot is over'\nclean_up\n{end}exit 0\n");
    Ok(text)
}

/// What every script begins with.
fn head() -> String {
    format!(
        r#"#!/bin/sh
# Written by diskcast: what this machine finishes by itself after its first start.
folder={FOLDER}
umask 077
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root
mkdir -p "$folder/done" "$folder/begun" || exit 1
exec </dev/null >>{LOG} 2>&1

note() {{
    printf '%s %s\n' "$(date -u '+%Y-%m-%dT%H:%M:%SZ')" "$1"
}}

clean_up() {{
    rm -f /etc/systemd/system/multi-user.target.wants/{UNIT} /etc/systemd/system/{UNIT}
    rm -rf "$folder/begun" "$folder/secrets" "$folder/firstboot.sh"
    sync
}}

give_up() {{
    note "$1; the steps after it are left out"
    printf '%s\n' "$1" >"$folder/failed"
    clean_up
    exit 1
}}

# run MARKER SECONDS stop|continue OK_CODES REBOOT_CODES COMMAND
run() {{
    if [ -e "$folder/done/$1" ]; then
        return 0
    fi
    count=$(wc -l 2>/dev/null <"$folder/begun/$1" || echo 0)
    if [ "$count" -ge {ATTEMPTS} ]; then
        code='none: it never ended'
    else
        echo begun >>"$folder/begun/$1"
        sync
        note "$1 begins"
        timeout -k 30 "$2" /bin/sh -c "$6"
        code=$?
        case "$5" in
        *" $code "*)
            note "$1 is done, exit code $code: restarting"
            : >"$folder/done/$1"
            sync
            systemctl --no-block reboot
            exit 0
            ;;
        esac
        case "$4" in
        *" $code "*)
            note "$1 is done, exit code $code"
            : >"$folder/done/$1"
            sync
            return 0
            ;;
        esac
    fi
    if [ "$3" = stop ]; then
        give_up "$1 failed, exit code $code"
    fi
    note "$1 failed, exit code $code: going on"
    printf '%s\n' "$1 failed, exit code $code" >>"$folder/failed"
    : >"$folder/done/$1"
}}

note 'first boot goes to work'
"#
    )
}

/// The unit that runs it. `simple`, so that the boot and its login prompt do not wait for an hour of installation.
pub(super) fn unit() -> String {
    format!(
        "# Written by diskcast. Goes when its work is done.\n\
         [Unit]\n\
         Description=diskcast first boot\n\
         ConditionPathExists={SCRIPT}\n\
         Wants=network-online.target\n\
         After=network-online.target ssh.service sshd.service\n\
         \n\
         [Service]\n\
         Type=simple\n\
         ExecStart=/bin/sh {SCRIPT}\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// Exit codes between blanks, so that ` 1 ` is not found in ` 10 `.
fn codes(codes: &[i32]) -> String {
    let mut text = String::from(" ");
    for code in codes {
        let _ = write!(text, "{code} ");
    }
    text
}

/// One word of the shell, whatever it holds.
fn quoted(text: &str) -> Result<String, String> {
    if text.contains('\0') {
        return Err("a command holds a zero byte".into());
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

fn check_id(id: &str) -> Result<(), String> {
    let plain = id.bytes().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-')
    });
    if id.is_empty() || id.len() > 64 || !plain {
        return Err(format!("{id:?} cannot be the id of a first-boot step"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use template::step::FirstBootStep;

    fn run(command: &str) -> FirstBootAction {
        FirstBootAction::Run {
            command: command.into(),
            timeout_seconds: 5,
            ok_codes: vec![0],
            reboot_codes: vec![],
            on_error: OnError::Stop,
        }
    }

    fn job(id: &str, action: FirstBootAction) -> FirstBootJob {
        FirstBootJob {
            steps: vec![FirstBootStep {
                id: id.into(),
                action,
            }],
            end: FirstBootEnd::None,
            report: false,
        }
    }

    /// A machine that is a folder: its script, a `systemctl` that notes what it was asked for, and what is left.
    struct Machine {
        folder: tempfile::TempDir,
        text: String,
    }

    impl Machine {
        fn new(job: &FirstBootJob) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let at = folder.path().display().to_string();
            let text = script(job)
                .unwrap()
                .replace("/var/log", &at)
                .replace(FOLDER, &at)
                .replace("/etc/systemd/system", &at)
                .replace("PATH=/usr/local/sbin", &format!("PATH={at}/bin"));
            let this = Self { folder, text };
            std::fs::create_dir(this.path("bin")).unwrap();
            let systemctl = format!("#!/bin/sh\necho \"$*\" >>{at}/asked\n");
            std::fs::write(this.path("bin/systemctl"), systemctl).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(this.path("bin/systemctl"), mode).unwrap();
            std::fs::write(this.path("firstboot.sh"), &this.text).unwrap();
            std::fs::write(this.path(UNIT), "unit").unwrap();
            this
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.folder.path().join(name)
        }

        fn text_of(&self, name: &str) -> String {
            std::fs::read_to_string(self.path(name)).unwrap_or_default()
        }

        /// One start of the machine.
        fn start(&self) -> Option<i32> {
            let path = self.path("firstboot.sh").display().to_string();
            crate::program::run("sh", &[&path], crate::program::SHORT)
                .unwrap()
                .code
        }

        fn over(&self) -> bool {
            !self.path("firstboot.sh").exists() && !self.path(UNIT).exists()
        }
    }

    fn step(id: &str, command: &str, on_error: OnError) -> FirstBootStep {
        FirstBootStep {
            id: id.into(),
            action: FirstBootAction::Run {
                command: command.into(),
                timeout_seconds: if command.contains("sleep") { 1 } else { 60 },
                ok_codes: vec![0, 5],
                reboot_codes: vec![9],
                on_error,
            },
        }
    }

    #[test]
    fn steps_run_once_restarts_go_on_and_the_end_comes_last() {
        let job = FirstBootJob {
            steps: vec![
                step("one", "echo \"one's\"; exit 5", OnError::Stop),
                step("two", "echo two; exit 9", OnError::Stop),
                step("three", "echo three", OnError::Stop),
            ],
            end: FirstBootEnd::Shutdown,
            report: false,
        };
        let machine = Machine::new(&job);
        let code = machine.start();
        assert_eq!(
            code,
            Some(0),
            "{}",
            machine.text_of("diskcast-firstboot.log")
        );
        assert_eq!(machine.text_of("asked"), "--no-block reboot\n");
        assert!(!machine.over());
        assert_eq!(machine.start(), Some(0));
        assert_eq!(
            machine.text_of("asked"),
            "--no-block reboot\n--no-block poweroff\n"
        );
        assert!(machine.over());
        let log = machine.text_of("diskcast-firstboot.log");
        for said in ["one's", "two", "three"] {
            assert_eq!(log.lines().filter(|line| *line == said).count(), 1, "{log}");
        }
        assert!(!machine.path("failed").exists());
    }

    #[test]
    fn a_failure_stops_or_is_passed_over_and_leaves_no_job_behind() {
        let job = |on_error| FirstBootJob {
            steps: vec![
                step("bad", "exit 1", on_error),
                step("next", "echo next", OnError::Stop),
            ],
            end: FirstBootEnd::Restart,
            report: false,
        };
        let machine = Machine::new(&job(OnError::Stop));
        assert_eq!(machine.start(), Some(1));
        assert!(machine.over());
        assert_eq!(machine.text_of("asked"), "");
        assert_eq!(machine.text_of("failed"), "001.bad failed, exit code 1\n");
        assert!(
            !machine
                .text_of("diskcast-firstboot.log")
                .contains("\nnext\n")
        );
        let machine = Machine::new(&job(OnError::Continue));
        assert_eq!(machine.start(), Some(0));
        assert_eq!(machine.text_of("asked"), "--no-block reboot\n");
        assert!(
            machine
                .text_of("diskcast-firstboot.log")
                .contains("\nnext\n")
        );
        assert!(machine.over());
    }

    #[test]
    fn what_hangs_is_ended_and_what_never_comes_back_is_given_up() {
        let machine = Machine::new(&FirstBootJob {
            steps: vec![step("hangs", "exec sleep 600", OnError::Stop)],
            end: FirstBootEnd::None,
            report: false,
        });
        assert_eq!(machine.start(), Some(1));
        assert_eq!(
            machine.text_of("failed"),
            "001.hangs failed, exit code 124\n"
        );
        // A step that takes the machine down with it, before its end.
        let machine = Machine::new(&FirstBootJob {
            steps: vec![step(
                "dies",
                "kill -9 $PPID $(ps -o ppid= -p $PPID)",
                OnError::Stop,
            )],
            end: FirstBootEnd::None,
            report: false,
        });
        for _ in 0..ATTEMPTS {
            assert_eq!(machine.start(), None);
            assert!(!machine.over());
        }
        assert_eq!(machine.start(), Some(1));
        assert!(machine.text_of("failed").contains("it never ended"));
        assert!(machine.over());
    }

    #[test]
    fn a_command_is_one_word_whatever_it_holds() {
        let text = script(&job("run.1", run("echo 'a b' \"$HOME\"\nexit 3"))).unwrap();
        assert!(
            text.contains(
                "run 001.run.1 5 stop ' 0 ' ' ' 'echo '\\''a b'\\'' \"$HOME\"\nexit 3'\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_is_for_windows_or_no_id_is_refused() {
        assert!(script(&job("a", FirstBootAction::InstallDrivers)).is_err());
        assert!(script(&job("a;b", run("true"))).is_err());
        assert!(script(&job("a", run("a\0b"))).is_err());
    }
}
