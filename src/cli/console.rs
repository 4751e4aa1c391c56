//! `diskcast console`: run the service, and show the running one.

use super::Context;
use super::pxe::BootArgs;
use super::words::query_interval;
use api::{ConsoleInfo, ErrorCode};
use clap::{Args, Subcommand, ValueEnum};
use console::serve::{self, ConsoleOptions};
use disk::signing;
use serde::Serialize;
use std::net::{IpAddr, SocketAddrV4};
use std::time::Duration;
use terminal::exit::{Ended, Exit, failed};
use terminal::interrupt;

/// `diskcast console ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the console until Ctrl-C
    ///
    /// Prints one line with its address and its pin once agents can connect.
    /// The pin is the fingerprint of its identity, made on the first run;
    /// agents are given it and follow no other console.
    #[command(after_help = "\
Examples:
  diskcast console run --iface eth0
  diskcast console run --iface 10.0.0.1 --approval manual
  diskcast console run --iface eth0 --querier
  diskcast console run --iface eth0 --pxe
  diskcast console run --iface eth1 --pxe --dhcp 10.0.0.100-10.0.0.200
  diskcast --data-dir /srv/diskcast console run --json >console.ndjson")]
    Run(RunArgs),
    /// Show the running console: address, pin, groups
    #[command(after_help = "\
Examples:
  diskcast console show
  diskcast console show --json | jq -r .pin")]
    Show,
}

/// Options of `console run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Interface multicast leaves by: name or IPv4 address [default: that of
    /// the default route]
    #[arg(
        long,
        value_name = "IF",
        env = "DISKCAST_IFACE",
        hide_env_values = true
    )]
    iface: Option<String>,
    /// Address the TCP ports are opened on
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0",
        env = "DISKCAST_LISTEN",
        hide_env_values = true
    )]
    listen: IpAddr,
    /// TCP port agents connect to; 0 takes a free one
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 5001,
        env = "DISKCAST_CONTROL_PORT",
        hide_env_values = true
    )]
    control_port: u16,
    /// TCP port of repair and of targets without multicast; 0 takes a free one
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 5003,
        env = "DISKCAST_BULK_PORT",
        hide_env_values = true
    )]
    bulk_port: u16,
    /// Group and port of the main lane
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "239.254.1.1:5002",
        env = "DISKCAST_MAIN",
        hide_env_values = true
    )]
    main: SocketAddrV4,
    /// Group and port of the second lane
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "239.254.1.2:5004",
        env = "DISKCAST_SECOND",
        hide_env_values = true
    )]
    second: SocketAddrV4,
    /// Routers multicast may pass; 1 keeps it on this network
    #[arg(long, value_name = "HOPS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=255), env = "DISKCAST_TTL", hide_env_values = true)]
    ttl: u32,
    /// Ask for IGMP memberships where no switch or router does (needs root)
    ///
    /// Without a querier a switch with IGMP snooping forgets who wants the
    /// image after 260 s. Stops while one with a lower address is heard.
    #[arg(long, env = "DISKCAST_QUERIER", hide_env_values = true)]
    querier: bool,
    /// Between two queries of --querier
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = query_interval, env = "DISKCAST_QUERY_INTERVAL", hide_env_values = true)]
    query_interval: Duration,
    /// Agents that may take part
    #[arg(
        long,
        value_name = "WHO",
        default_value = "auto",
        env = "DISKCAST_APPROVAL",
        hide_env_values = true
    )]
    approval: Approval,
    /// Deploy only images signed by one of these public keys: a key, or a file
    /// with one (may be repeated)
    #[arg(
        long,
        value_name = "KEY",
        value_delimiter = ',',
        env = "DISKCAST_SIGNED_BY",
        hide_env_values = true
    )]
    signed_by: Vec<String>,
    /// Serve network boot too: machines need no other server (needs root)
    #[arg(long, env = "DISKCAST_PXE", hide_env_values = true)]
    pxe: bool,
    /// Machines that get the agent by network boot; all others boot their own disk
    #[arg(
        long,
        value_name = "WHO",
        default_value = "unknown",
        env = "DISKCAST_BOOT",
        hide_env_values = true
    )]
    boot: BootPolicy,
    #[command(flatten)]
    network: BootArgs,
}

/// `--boot`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum BootPolicy {
    /// Machines never seen before, and those a job or `target wake` wants
    Unknown,
    /// Machines that a job or `target wake` wants
    Wanted,
    /// Everyone
    Always,
}

/// `--approval`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Approval {
    /// Every agent that knows the pin
    Auto,
    /// Agents let in with `target approve`
    Manual,
}

/// The line that announces a ready console, under `--json`.
#[derive(Serialize)]
struct Ready<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    info: &'a ConsoleInfo,
}

impl Command {
    /// True for the command that runs until a signal ends it.
    pub(super) fn is_service(&self) -> bool {
        matches!(self, Self::Run(_))
    }
}

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it.
pub(super) fn run(command: Command, context: &Context) -> Ended {
    match command {
        Command::Run(args) => serve(args, context),
        Command::Show => super::block_on(async {
            let info: ConsoleInfo = context.client().get("/v1/console").await?;
            if context.out.json() {
                context.out.result_json(&info);
            } else {
                context.out.line(info_text(&info));
            }
            Ok(Exit::OK)
        }),
    }
}

fn serve(args: RunArgs, context: &Context) -> Ended {
    if args.pxe {
        args.network.prepare(context)?;
    }
    let keys = args.signed_by.iter().map(|text| signing::public_key(text));
    let signed_by = keys.collect::<Result<_, _>>()?;
    let out = context.out.clone();
    let options = ConsoleOptions {
        data_dir: context.data_dir.clone(),
        iface: args.iface.or_else(|| context.config.iface.clone()),
        listen: args.listen,
        control_port: args.control_port,
        bulk_port: args.bulk_port,
        main: args.main,
        second: args.second,
        ttl: args.ttl,
        querier: args.querier.then_some(args.query_interval),
        approval: match args.approval {
            Approval::Auto => serve::Approval::Auto,
            Approval::Manual => serve::Approval::Manual,
        },
        signed_by,
        boot_policy: match args.boot {
            BootPolicy::Unknown => api::BootPolicy::Unknown,
            BootPolicy::Wanted => api::BootPolicy::Wanted,
            BootPolicy::Always => api::BootPolicy::Always,
        },
        pxe: args.pxe.then(|| args.network.options()),
        on_ready: Some(Box::new(move |info| {
            if out.json() {
                out.result_json(&Ready {
                    r#type: "ready",
                    info,
                });
            } else {
                out.line(format!(
                    "console ready at {} pin {}",
                    info.control, info.pin
                ));
            }
        })),
        ..ConsoleOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("starting", error))?;
    let ended = runtime.block_on(serve::run(options, told_to_end()));
    // A read of an image on a share that hangs must not keep the process alive.
    runtime.shutdown_background();
    ended.map(|()| Exit::OK)
}

/// Returns at the first Ctrl-C or SIGTERM. A second signal ends the process at once.
async fn told_to_end() {
    interrupt::wait().await;
    tokio::spawn(async {
        interrupt::wait().await;
        std::process::exit(i32::from(ErrorCode::Interrupted.exit_code()));
    });
}

fn info_text(info: &ConsoleInfo) -> String {
    let mut lines = [
        ("version", info.version.clone()),
        ("control", info.control.clone()),
        ("pin", info.pin.clone()),
        ("bulk", format!("TCP {}", info.bulk_port)),
        ("main", info.main.clone()),
        ("second", info.second.clone()),
        ("interface", info.interface.clone()),
        ("data", info.data_dir.clone()),
        ("process", info.pid.to_string()),
    ]
    .map(|(label, value)| format!("{label:<10} {value}"))
    .to_vec();
    let keys = info.signed_by.iter();
    lines.extend(keys.map(|key| format!("{:<10} images signed by {key}", "deploys")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_needs_is_there() {
        let info: ConsoleInfo = serde_json::from_value(serde_json::json!({
            "schema_version": 1, "version": "0.1.0", "pin": "ab12", "control": "10.0.0.1:5001", "bulk_port": 5003, "main": "239.254.1.1:5002",
            "second": "239.254.1.2:5004", "interface": "10.0.0.1", "data_dir": "/var/lib/diskcast", "pid": 42
        }))
        .unwrap();
        let text = info_text(&info);
        assert!(
            text.contains("control    10.0.0.1:5001\npin        ab12\nbulk       TCP 5003\n"),
            "{text}"
        );
    }
}
