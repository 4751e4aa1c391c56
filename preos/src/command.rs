//! `diskcast-agent run`: the target side, on a booted machine or in a rehearsal.

use agent::desk::Desk;
use agent::{AgentError, AgentOptions, DiskOffer};
use api::{ApiError, ErrorCode};
use clap::{ArgAction, Args, Parser, Subcommand};
use facts::units;
use net::receiving::InjectedLoss;
use net::tls::Pin;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use terminal::exit::{EXIT_CODES_HELP, Ended, Exit, failed};
use terminal::interrupt;
use terminal::logging::{self, Usual};
use terminal::output::{Output, OutputOptions};
use terminal::program::{parse, told};

/// The target side of diskcast: offers this machine's disks to a console.
#[derive(Debug, Parser)]
#[command(name = "diskcast-agent", version, max_term_width = 80, arg_required_else_help = true, after_help = EXIT_CODES_HELP)]
struct AgentCli {
    #[command(flatten)]
    global: AgentGlobal,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command of the agent.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct AgentGlobal {
    /// Print an error as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Print warnings and errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Never colour the output
    #[arg(long, global = true)]
    no_color: bool,
}

/// The program `diskcast-agent`: parses the arguments, runs the command, shows an error, returns the
/// exit code.
pub fn diskcast_agent(arguments: &[OsString]) -> Exit {
    match parse::<AgentCli>(arguments) {
        Ok(AgentCli { global, command }) => {
            let out = Output::new(OutputOptions {
                json: global.json,
                quiet: global.quiet,
                verbose: global.verbose,
                no_color: global.no_color,
            });
            logging::start(&out, &Usual::Events);
            told(run(command, &out), &out)
        }
        Err(exit) => exit,
    }
}

/// `diskcast-agent ...`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Offer this machine to a console and do what it orders
    #[command(
        after_help = "Examples:\n  diskcast-agent run --console 10.0.0.1 --pin 3f6c...\n  diskcast-agent run --pin 3f6c... --disk room.img=8G --once --no-power"
    )]
    Run(RunArgs),
}

/// Options of `diskcast-agent run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The console, ADDRESS[:PORT] [default: found by its beacon]
    #[arg(
        long,
        value_name = "ADDR",
        env = "DISKCAST_CONSOLE",
        hide_env_values = true
    )]
    console: Option<String>,
    /// Fingerprint of the console that may give orders (`console show`)
    #[arg(
        long,
        value_name = "FINGERPRINT",
        env = "DISKCAST_PIN",
        hide_env_values = true
    )]
    pin: Pin,
    /// Offer this disk and no other: a device, or FILE=SIZE (may be repeated)
    #[arg(long, value_name = "PATH[=SIZE]", value_parser = offer)]
    disk: Vec<DiskOffer>,
    /// End after one job: 0 when it was done, 3 when not
    #[arg(long)]
    once: bool,
    /// Never restart or switch off this machine
    #[arg(long)]
    no_power: bool,
    /// Interface to listen on, by name or IPv4 address [default: the one
    /// towards the console]
    #[arg(long, value_name = "IF")]
    iface: Option<String>,
    /// Name to ask the console for
    #[arg(long)]
    name: Option<String>,
    /// Group and port of the console's second lane
    #[arg(long, value_name = "ADDR:PORT", default_value = "239.254.1.2:5004")]
    second: SocketAddrV4,
    /// Rehearsal: drop this share of session packets, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    inject_loss: f64,
    /// Rehearsal: drop so many packets at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    inject_burst: u32,
}

/// Default port of the control channel, used when `--console` names none.
const CONTROL_PORT: u16 = 5001;

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it.
pub fn run(command: Command, out: &Output) -> Ended {
    let Command::Run(args) = command;
    let options = args.options()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| failed("starting", error))?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = agent::run(options) => ended.map_err(agent_error),
            () = interrupt::wait() => Err(ApiError::new(ErrorCode::Interrupted, "interrupted")
                .hint("what was being written to a disk does not start as it is")),
        }
    });
    // Threads of a job may wait in a disk call; they end with the process.
    runtime.shutdown_background();
    match ended? {
        agent::Ended::Done => {
            out.note("done: the disk was read back and matches the master image");
            Ok(Exit::OK)
        }
        agent::Ended::Captured => {
            out.note("done: the disk was captured and the console has the image");
            Ok(Exit::OK)
        }
        agent::Ended::Failed => Ok(ErrorCode::TargetsFailed.into()),
    }
}

impl RunArgs {
    fn options(self) -> Result<AgentOptions, ApiError> {
        let console = self.console.map(|console| match console.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => console,
            _ => format!("{console}:{CONTROL_PORT}"),
        });
        let interface = self.iface.as_deref().map(interface).transpose()?;
        Ok(AgentOptions {
            console,
            pin: self.pin,
            disks: self.disk,
            once: self.once,
            power: !self.no_power,
            interface,
            name: self.name,
            second: self.second,
            inject: InjectedLoss {
                share: self.inject_loss,
                burst: self.inject_burst,
            },
            desk: Desk::default(),
            on_end: None,
        })
    }
}

fn agent_error(error: AgentError) -> ApiError {
    match error {
        AgentError::Disk(error) => error.into(),
        other => failed("starting the agent", other),
    }
}

/// Parses an interface: its name, or its own IPv4 address.
fn interface(text: &str) -> Result<Ipv4Addr, ApiError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .find_map(|interface| match interface.ip() {
            IpAddr::V4(address) if interface.name == text => Some(address),
            _ => None,
        })
        .ok_or_else(|| {
            ApiError::new(
                ErrorCode::Usage,
                format!("no interface {text} with an IPv4 address"),
            )
            .hint("`ip -4 addr` lists them")
        })
}

fn offer(text: &str) -> Result<DiskOffer, String> {
    match text.rsplit_once('=') {
        None => Ok(DiskOffer {
            path: text.into(),
            size: None,
        }),
        Some((path, size)) => {
            let size = units::parse_size(size).map_err(|error| error.to_string())?;
            if size == 0 || !size.is_multiple_of(512) {
                return Err(format!(
                    "a disk of {size} bytes: expected a multiple of 512"
                ));
            }
            Ok(DiskOffer {
                path: path.into(),
                size: Some(size),
            })
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a share between 0 and 1, such as 0.01".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_has_help_that_fits() {
        terminal::testing::check_help(AgentCli::command());
    }

    #[test]
    fn disks_on_offer_are_paths_with_or_without_a_size() {
        assert_eq!(
            offer("/dev/sda").unwrap(),
            DiskOffer {
                path: "/dev/sda".into(),
                size: None
            }
        );
        assert_eq!(
            offer("a=b.img=64M").unwrap(),
            DiskOffer {
                path: "a=b.img".into(),
                size: Some(64 << 20)
            }
        );
        assert!(offer("x=0").is_err());
        assert!(offer("x=1001").is_err());
        assert!(offer("x=lots").is_err());
    }

    #[test]
    fn a_share_is_between_nothing_and_everything() {
        assert_eq!(share("0.01"), Ok(0.01));
        assert!(share("1.5").is_err());
        assert!(share("-1").is_err());
        assert!(share("NaN").is_err());
    }
}
