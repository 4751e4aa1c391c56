//! `diskcast pxe`: network boot in a process of its own, and the machines it has seen.

use super::Context;
use super::table::{Align, Columns, clean, count, or_dash};
use api::{ApiError, BootReport, ConsoleInfo, ErrorCode, MachineView};
use clap::{Args, Subcommand, ValueEnum};
use console::boot::orders::FromConsole;
use console::boot::service::{self, BootOptions};
use console::interface;
use pxe::decide::UefiLoader;
use pxe::lease::{BadRange, Range};
use pxe::serve::Ports;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use terminal::exit::{Ended, Exit, failed};
use terminal::interrupt;

/// Interval between two exchanges with the console.
const SYNC: Duration = Duration::from_secs(1);
/// Number of failed exchanges after which the console's last answer no longer counts.
const STALE_SYNCS: u32 = 10;

/// `diskcast pxe ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve network boot beside a running console, until Ctrl-C
    ///
    /// The same services as `console run --pxe` has inside: ProxyDHCP beside
    /// your DHCP server, TFTP and HTTP. The console says which machine gets
    /// the agent; all others boot their own disk.
    #[command(after_help = "\
Examples:
  diskcast pxe serve --iface eth0
  diskcast pxe serve --iface eth1 --dhcp 10.0.0.100-10.0.0.200 --once")]
    Serve(ServeArgs),
    /// Show who asked for a boot, how far they came, and who else answers
    #[command(after_help = "\
Examples:
  diskcast pxe check
  diskcast pxe check --json | jq -r '.machines[].stage'")]
    Check,
}

/// Options of network boot, here and in `console run`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network boot")]
pub(super) struct BootArgs {
    /// Hand out addresses too, such as 10.0.0.100-10.0.0.200: only on a switch
    /// without a DHCP server
    #[arg(long, value_name = "RANGE", value_parser = range, env = "DISKCAST_DHCP", hide_env_values = true)]
    dhcp: Option<Range>,
    /// First program of UEFI machines [default: shim with --dhcp, else ipxe]
    ///
    /// Debian's signed GRUB asks the DHCP server of its lease for the rest, not
    /// us: shim works where that server is this one, or names this one as its
    /// next server.
    #[arg(
        long,
        value_name = "LOADER",
        env = "DISKCAST_UEFI",
        hide_env_values = true
    )]
    uefi: Option<Uefi>,
    /// Folder of boot files [default: boot in the data directory, made of
    /// Debian packages when it is not there]
    #[arg(
        long,
        value_name = "DIR",
        env = "DISKCAST_BOOT_FILES",
        hide_env_values = true
    )]
    boot_files: Option<PathBuf>,
    /// TCP port of HTTP boot
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 5080,
        env = "DISKCAST_HTTP_PORT",
        hide_env_values = true
    )]
    http_port: u16,
}

/// `--uefi`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Uefi {
    /// Signed shim and GRUB: works with Secure Boot
    Shim,
    /// iPXE, then HTTP: Secure Boot has to be off
    Ipxe,
}

/// Options of `pxe serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Interface to serve: name or IPv4 address [default: that of the default
    /// route]
    #[arg(
        long,
        value_name = "IF",
        env = "DISKCAST_IFACE",
        hide_env_values = true
    )]
    iface: Option<String>,
    #[command(flatten)]
    boot: BootArgs,
    /// End when every target that was wanted is over
    #[arg(long)]
    once: bool,
}

impl BootArgs {
    /// Makes the boot folder if it is the default one and does not exist. A folder given by option
    /// has to exist.
    pub(super) fn prepare(&self, context: &Context) -> Result<(), ApiError> {
        match self.boot_files {
            Some(_) => Ok(()),
            None => super::export::ensure_boot_folder(
                &context.data_dir.join(service::BOOT_FOLDER),
                context,
            ),
        }
    }

    /// The options in the form the services take.
    pub(super) fn options(self) -> BootOptions {
        BootOptions {
            uefi: match (self.uefi, self.dhcp) {
                (Some(Uefi::Shim), _) | (None, Some(_)) => UefiLoader::Shim,
                (Some(Uefi::Ipxe), _) | (None, None) => UefiLoader::Ipxe,
            },
            dhcp: self.dhcp,
            files: self.boot_files,
            ports: Ports {
                http: self.http_port,
                ..Ports::default()
            },
        }
    }
}

impl Command {
    /// True for the command that runs until a signal ends it.
    pub(super) fn is_service(&self) -> bool {
        matches!(self, Self::Serve(_))
    }
}

fn range(text: &str) -> Result<Range, BadRange> {
    text.parse()
}

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it.
pub(super) fn run(command: Command, context: &Context) -> Ended {
    match command {
        Command::Serve(args) => {
            args.boot.prepare(context)?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .map_err(|error| failed("starting", error))?;
            runtime.block_on(serve(args, context))
        }
        Command::Check => super::block_on(async {
            let report: BootReport = context.client().post("/v1/boot/check", &json!({})).await?;
            if context.out.json() {
                context.out.result_json(&report);
            } else {
                context.out.line(report_text(&report));
            }
            Ok(Exit::OK)
        }),
    }
}

async fn serve(args: ServeArgs, context: &Context) -> Ended {
    let client = context.client();
    let console: ConsoleInfo = client.get("/v1/console").await?;
    let report: BootReport = client.get("/v1/boot").await?;
    if let Some(other) = report.service {
        return Err(ApiError::new(
            ErrorCode::Refused,
            format!(
                "network boot is already served on {} (pid {})",
                other.interface, other.pid
            ),
        ));
    }
    let asked = args.iface.or_else(|| context.config.iface.clone());
    let chosen = interface::choose(asked.as_deref())?;
    let policy = Arc::new(FromConsole::default());
    policy.sync(&client).await?;
    let (_service, view) = service::start(
        args.boot.options(),
        (&chosen.name, chosen.address),
        &context.data_dir,
        Arc::clone(&policy) as Arc<dyn pxe::machine::Policy>,
    )
    .await?;
    if context.out.json() {
        context
            .out
            .result_json(&json!({"type": "ready", "service": view, "console": console.control}));
    } else {
        context.out.line(format!(
            "network boot ready at http://{} for the console at {}",
            view.http, console.control
        ));
    }
    policy.set_service(view);
    let mut silent = 0;
    let mut told_to_end = std::pin::pin!(interrupt::wait());
    loop {
        match policy.sync(&client).await {
            Ok(()) => silent = 0,
            Err(error) => {
                silent += 1;
                if silent == STALE_SYNCS {
                    tracing::warn!(%error, "the console does not answer: every machine is sent to its own disk until it does");
                    policy.forget();
                }
            }
        }
        if args.once && policy.all_over() {
            context.out.note("every target that was wanted is over");
            return Ok(Exit::OK);
        }
        tokio::select! {
            () = tokio::time::sleep(SYNC) => {}
            _ = &mut told_to_end => return Ok(Exit::OK),
        }
    }
}

/// A table of machines.
pub(super) fn machine_table(machines: &[MachineView]) -> String {
    let mut columns = Columns::new(&[
        ("MAC", Align::Left),
        ("FIRMWARE", Align::Left),
        ("STAGE", Align::Left),
        ("SEEN", Align::Left),
        ("ADDRESS", Align::Left),
        ("ABOUT", Align::Left),
    ]);
    for machine in machines {
        columns.row([
            machine.mac.clone(),
            or_dash(machine.firmware.as_deref()),
            machine.stage.to_string(),
            machine.time.clone(),
            or_dash(machine.address.as_deref()),
            about(machine),
        ]);
    }
    columns.text()
}

/// The error of a machine, else more about its stage.
pub(super) fn about(machine: &MachineView) -> String {
    match (&machine.error, &machine.detail) {
        (Some(error), _) => format!("failed: {}", clean(error)),
        (None, detail) => or_dash(detail.as_deref()),
    }
}

fn report_text(report: &BootReport) -> String {
    let mut lines = Vec::new();
    let mut line = |label: &str, value: String| {
        lines.push(
            format!("{label:<10} {}", clean(&value))
                .trim_end()
                .to_owned(),
        )
    };
    line("agent for", format!("{} machines", report.policy.as_str()));
    match &report.service {
        Some(service) => {
            line(
                "serves",
                format!(
                    "{} on {}, from {}",
                    service.http, service.interface, service.boot_files
                ),
            );
            if let Some(range) = &service.dhcp {
                line("addresses", range.clone());
            }
            if !service.missing.is_empty() {
                line(
                    "missing",
                    format!(
                        "{}: machines that need them do not boot; see `diskcast export pxe --help`",
                        service.missing.join(" ")
                    ),
                );
            }
        }
        None => line(
            "serves",
            "nothing; start it with `diskcast console run --pxe` or `diskcast pxe serve`"
                .to_owned(),
        ),
    }
    if !report.address_servers.is_empty() {
        line(
            "DHCP",
            format!(
                "machines take addresses from {}",
                report.address_servers.join(", ")
            ),
        );
    }
    for rival in &report.rivals {
        line("heard", rival.clone());
    }
    for unchecked in &report.not_checked {
        line("unchecked", unchecked.clone());
    }
    let mut text = lines.join("\n");
    if report.machines.is_empty() {
        text.push_str("\n\nno machine has asked yet");
    } else {
        text.push_str(&format!(
            "\n\n{}\n{}",
            machine_table(&report.machines),
            count(report.machines.len(), "machine")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_technician_needs_to_know_is_there() {
        let report: BootReport = serde_json::from_value(json!({
            "schema_version": 1, "policy": "wanted",
            "service": {"interface": "eth0", "http": "10.0.0.1:5080", "boot_files": "/var/lib/diskcast/boot", "missing": ["shimx64.efi"], "pid": 7},
            "machines": [
                {"mac": "52:54:00:00:00:01", "firmware": "UEFI", "stage": "asked", "time": "2030-01-01T00:00:00Z",
                 "error": "shimx64.efi is not in the boot folder"},
                {"mac": "52:54:00:00:00:02", "firmware": "BIOS", "address": "10.0.0.9", "stage": "kernel", "time": "t", "detail": "vmlinuz"}],
            "rivals": ["10.0.0.3 hands out addresses"]
        }))
        .unwrap();
        let text = report_text(&report);
        for words in [
            "agent for  wanted machines",
            "missing    shimx64.efi",
            "heard      10.0.0.3 hands out addresses",
            "failed: shimx64.efi is not in the boot folder",
            "52:54:00:00:00:02  BIOS      kernel",
            "2 machines",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
    }
}
