//! The shell script of first boot, made from a job.
//!
//! The script does not repeat a finished step after a restart. An interrupted step is begun again
//! at most [`ATTEMPTS`] times. The end action is taken once, even if no console receives a report.
//! A log and the result stay on the machine, never the job itself.

use super::report;
use crate::error::{Result, StepError};
use std::fmt::Write as _;
use template::first_start::FirstStart;
use template::step::{FirstBootAction, FirstBootEnd, FirstBootJob, OnError};

/// Folder of the job on the machine.
pub(super) const FOLDER: &str = "/var/lib/diskcast";

/// Path of the script.
pub(super) const SCRIPT: &str = "/var/lib/diskcast/firstboot.sh";

/// Log file of the script.
pub(super) const LOG: &str = "/var/log/diskcast-firstboot.log";

/// Name of the script's unit.
pub(super) const UNIT: &str = "diskcast-firstboot.service";

/// Stages of cloud-init that set name, addresses and accounts; the unit starts after them. The last
/// stage comes after `multi-user.target`, which comes after this unit, so the script waits for that
/// one itself. A unit that does not exist is not waited for.
const CLOUD_INIT: &str = "cloud-init.service cloud-init-network.service cloud-config.service";

/// Most attempts at a step during which the machine restarted.
const ATTEMPTS: u32 = 3;

/// Makes the script of a job. `first_start` has the address and key for the report, for a job that
/// reports.
pub(super) fn script(job: &FirstBootJob, first_start: Option<&FirstStart>) -> Result<String> {
    let mut text = head();
    let end = match job.end {
        FirstBootEnd::None => "    :\n",
        FirstBootEnd::Restart => "    systemctl --no-block reboot\n",
        FirstBootEnd::Shutdown => "    systemctl --no-block poweroff\n",
    };
    let _ = write!(text, "\nend_action() {{\n{end}}}\n");
    match (job.report, first_start) {
        (false, _) => text.push_str(SILENT),
        (true, Some(first_start)) => {
            text.push_str(&report::functions(first_start)?);
            text.push_str(&reporting());
        }
        (true, None) => {
            return Err(StepError::Order(
                "the job reports its first start, and its order does not say to which console: this order is not whole".into(),
            ));
        }
    }
    text.push_str("\nnote 'first boot goes to work'\n");
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
                return Err(StepError::Order(format!(
                    "first-boot step {} is for Windows",
                    step.id
                )));
            }
        }
    }
    text.push_str("\nnote 'first boot is over'\nover\n");
    Ok(text)
}

/// Shell function `over` of a job that does not report: removes everything, then takes the end
/// action.
const SILENT: &str = r#"
over() {
    clean_up
    end_action
    exit 0
}

stopped() {
    clean_up
    exit 1
}
"#;

/// Shell function `over` of a job that reports. Each decision is kept as a file of its own in the
/// folder `report` before it takes effect.
fn reporting() -> String {
    format!(
        r#"
# What came of it as lines of the message, and that it was stopped.
over() {{
    if [ -s "$folder/failed" ]; then
        read -r line <"$folder/failed"
        marker=${{line%% *}}
        reason=$(printf '%s' "${{line#* failed, }}" | LC_ALL=C tr -c ' -~' ' ' | cut -c1-200)
        printf 'result=failed
step=%s
reason=%s
' "${{marker#*.}}" "$reason"
    else
        printf 'result=done
'
    fi >"$folder/report/outcome.new"
    sync
    mv "$folder/report/outcome.new" "$folder/report/outcome"
    sync
    conclude
}}

stopped() {{
    sync
    : >"$folder/report/stopped"
    over
}}

# Reports; the end action does not wait for later starts, which only report.
conclude() {{
    count=$(wc -l 2>/dev/null <"$folder/report/starts" || echo 0)
    count=$((count + 1))
    echo start >>"$folder/report/starts"
    sync
    end=end_action
    if [ -e "$folder/report/ended" ]; then
        end=:
    fi
    code=0
    if [ -e "$folder/report/stopped" ]; then
        end=:
        code=1
    fi
    if [ "$count" -gt {STARTS} ] || report || [ "$count" -eq {STARTS} ]; then
        clean_up
    else
        : >"$folder/report/ended"
        sync
    fi
    $end
    exit $code
}}

mkdir -p "$folder/report" || exit 1
if [ -e "$folder/report/outcome" ]; then
    note 'first boot is over, and no console heard of it yet'
    conclude
fi
if [ -e "$folder/report/stopped" ]; then
    over
fi
"#,
        STARTS = report::STARTS
    )
}

/// Beginning of every script.
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

# The script first, which has all that is secret: a unit without it does nothing.
clean_up() {{
    rm -f "$folder/firstboot.sh"
    sync
    rm -rf "$folder/begun" "$folder/secrets" "$folder/report"
    rm -f /etc/systemd/system/multi-user.target.wants/{UNIT} /etc/systemd/system/{UNIT}
    sync
}}

give_up() {{
    note "$1; the steps after it are left out"
    printf '%s\n' "$1" >"$folder/failed"
    stopped
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
"#
    )
}

/// The unit that runs the script. Its type is `simple`, so the boot and its login prompt do not
/// wait for an hour of installation.
pub(super) fn unit() -> String {
    format!(
        "# Written by diskcast. Goes when its work is done.\n\
         [Unit]\n\
         Description=diskcast first boot\n\
         ConditionPathExists={SCRIPT}\n\
         Wants=network-online.target\n\
         After=network-online.target ssh.service sshd.service {CLOUD_INIT}\n\
         \n\
         [Service]\n\
         Type=simple\n\
         ExecStart=/bin/sh {SCRIPT}\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// Exit codes between spaces, so that ` 1 ` is not found in ` 10 `.
fn codes(codes: &[i32]) -> String {
    let mut text = String::from(" ");
    for code in codes {
        let _ = write!(text, "{code} ");
    }
    text
}

/// Quotes any text as one word of the shell.
pub(super) fn quoted(text: &str) -> Result<String> {
    if text.contains('\0') {
        return Err(StepError::Order("a command holds a zero byte".into()));
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

fn check_id(id: &str) -> Result<()> {
    let plain = id.bytes().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-')
    });
    if id.is_empty() || id.len() > 64 || !plain {
        return Err(StepError::Order(format!(
            "{id:?} cannot be the id of a first-boot step"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::test_machine::Machine;
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
        let machine = Machine::new(&job, None);
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
        let machine = Machine::new(&job(OnError::Stop), None);
        assert_eq!(machine.start(), Some(1));
        assert!(machine.over());
        assert_eq!(machine.text_of("asked"), "");
        assert_eq!(machine.text_of("failed"), "001.bad failed, exit code 1\n");
        assert!(
            !machine
                .text_of("diskcast-firstboot.log")
                .contains("\nnext\n")
        );
        let machine = Machine::new(&job(OnError::Continue), None);
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
        let machine = Machine::new(
            &FirstBootJob {
                steps: vec![step("hangs", "exec sleep 600", OnError::Stop)],
                end: FirstBootEnd::None,
                report: false,
            },
            None,
        );
        assert_eq!(machine.start(), Some(1));
        assert_eq!(
            machine.text_of("failed"),
            "001.hangs failed, exit code 124\n"
        );
        // A step that restarts the machine before the step ends.
        let machine = Machine::new(
            &FirstBootJob {
                steps: vec![step(
                    "dies",
                    "kill -9 $PPID $(ps -o ppid= -p $PPID)",
                    OnError::Stop,
                )],
                end: FirstBootEnd::None,
                report: false,
            },
            None,
        );
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
        let text = script(&job("run.1", run("echo 'a b' \"$HOME\"\nexit 3")), None).unwrap();
        assert!(
            text.contains(
                "run 001.run.1 5 stop ' 0 ' ' ' 'echo '\\''a b'\\'' \"$HOME\"\nexit 3'\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_is_for_windows_or_no_id_is_refused() {
        assert!(script(&job("a", FirstBootAction::InstallDrivers), None).is_err());
        assert!(script(&job("a;b", run("true")), None).is_err());
        assert!(script(&job("a", run("a\0b")), None).is_err());
    }
}
