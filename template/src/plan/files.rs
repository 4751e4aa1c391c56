//! Files copied to the machine, and programs that run on it at first boot.

use super::Draft;
use crate::machine::CopiedFile;
use crate::paths::{Shape, check_path};
use crate::schema::{Copy, ok_codes, reboot_codes};
use crate::step::{Action, FirstBootAction, OnError};
use crate::values::Timeout;
use std::collections::BTreeSet;

/// Length limit of a command line, in characters: the limit of `cmd.exe` less room for its wrapper.
const MAX_COMMAND: usize = 8000;

/// Plans a step for every file. All files are in place before any program runs, in any order of the
/// template.
pub(super) fn copies(draft: &mut Draft<'_>, shape: Shape, partition: u32) {
    let mut taken = BTreeSet::new();
    for (number, copy) in (1usize..).zip(&draft.template().copies) {
        match check_path(&copy.to) {
            Ok(found) if found == shape => {}
            Ok(found) => {
                draft.refuse(format!(
                    "copy {number}: {} is a path of {found}, and the image holds {shape}",
                    copy.to
                ));
                continue;
            }
            Err(error) => {
                draft.refuse(format!("copy {number}: {}: {error}", copy.to));
                continue;
            }
        }
        let files = draft
            .request
            .files
            .copies
            .get(number - 1)
            .map_or(&[][..], Vec::as_slice);
        if files.is_empty() {
            draft.refuse(format!(
                "copy {number}: {} has no file; check its path",
                copy.from
            ));
        }
        let folder = !matches!(files, [one] if one.relative.is_empty());
        for (part, file) in (1usize..).zip(files) {
            let to = destination(copy, file, shape);
            if let Err(error) = check_path(&to) {
                draft.refuse(format!("copy {number}: {to}: {error}"));
                continue;
            }
            let folded = match shape {
                Shape::Windows => to.to_lowercase(),
                Shape::Linux => to.clone(),
            };
            if !taken.insert(folded) {
                draft.refuse(format!(
                    "copy {number}: two files would be {to}; {} does not part names by their letters' case",
                    if shape == Shape::Windows { "Windows" } else { "the template" }
                ));
                continue;
            }
            let id = if folder {
                format!("copy.{number}.{part}")
            } else {
                format!("copy.{number}")
            };
            draft.offline(
                id,
                format!("{} lies at {to}", file.payload.name),
                Action::CopyFile {
                    partition,
                    payload: file.payload.clone(),
                    to,
                },
            );
        }
        if copy.execute && folder && !files.is_empty() {
            draft.refuse(format!(
                "copy {number}: {} is a folder and cannot be run; use [[run]] with the program in it",
                copy.from
            ));
        }
    }
}

/// Destination of a copied file, as the system writes the path.
fn destination(copy: &Copy, file: &CopiedFile, shape: Shape) -> String {
    let (separator, base) = match shape {
        Shape::Windows => ("\\", copy.to.replace('/', "\\")),
        Shape::Linux => ("/", copy.to.clone()),
    };
    if file.relative.is_empty() {
        return base;
    }
    format!(
        "{base}{separator}{}",
        file.relative.split('/').collect::<Vec<_>>().join(separator)
    )
}

/// Plans the programs of first boot: copied files with `execute`, in their order, then `[[run]]`
/// entries in theirs.
pub(super) fn programs(draft: &mut Draft<'_>, shape: Shape) {
    for (number, copy) in (1usize..).zip(&draft.template().copies) {
        if copy.execute {
            let command = match shape {
                Shape::Windows => windows_command(copy),
                Shape::Linux => linux_command(copy),
            };
            run(
                draft,
                format!("execute.{number}"),
                command,
                Timeout::default(),
                ok_codes(),
                reboot_codes(),
                OnError::Stop,
            );
        }
    }
    for (number, program) in (1usize..).zip(&draft.template().runs) {
        run(
            draft,
            format!("run.{number}"),
            program.command.clone(),
            program.timeout,
            program.ok_codes.clone(),
            program.reboot_codes.clone(),
            program.on_error,
        );
    }
}

fn run(
    draft: &mut Draft<'_>,
    id: String,
    command: String,
    timeout: Timeout,
    ok_codes: Vec<i32>,
    reboot_codes: Vec<i32>,
    on_error: OnError,
) {
    let length = command.chars().count();
    if length > MAX_COMMAND {
        draft.refuse(format!(
            "{id}: the command has {length} characters, {MAX_COMMAND} are the most; put it into a file that is copied and run"
        ));
    }
    draft.first_boot(
        id,
        FirstBootAction::Run {
            command,
            timeout_seconds: timeout.seconds(),
            ok_codes,
            reboot_codes,
            on_error,
        },
    );
}

/// The command that runs a copied file. It does what a double-click does, without windows and
/// questions where the file type has an option for that.
fn windows_command(copy: &Copy) -> String {
    let path = copy.to.replace('/', "\\");
    let extension = path
        .rsplit('.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let start = match extension.as_str() {
        "msi" => format!("msiexec.exe /i \"{path}\" /qn /norestart"),
        "msp" => format!("msiexec.exe /p \"{path}\" /qn /norestart"),
        "msu" => format!("wusa.exe \"{path}\" /quiet /norestart"),
        "reg" => format!("reg.exe import \"{path}\""),
        "ps1" => format!(
            "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -File \"{path}\""
        ),
        "vbs" | "js" | "wsf" => format!("cscript.exe //B //Nologo \"{path}\""),
        _ => format!("\"{path}\""),
    };
    with_arguments(start, copy)
}

/// The command that runs a copied file. It sets the permission to execute, which a console's file
/// system may not have.
fn linux_command(copy: &Copy) -> String {
    let path = format!("'{}'", copy.to.replace('\'', r"'\''"));
    with_arguments(format!("chmod 0755 {path} && exec {path}"), copy)
}

fn with_arguments(mut command: String, copy: &Copy) -> String {
    if !copy.arguments.is_empty() {
        command.push(' ');
        command.push_str(&copy.arguments);
    }
    command
}
