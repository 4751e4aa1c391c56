//! The command line: arguments, output and exit codes.
//!
//! Owns words and tables (bars, output and exit codes are those of `terminal`); decides nothing
//! about disks or sessions: each command asks the running console (crate `client`), or calls the
//! module that does the work.
//!
//! ```text
//! arguments -> Cli -> command::run(args, Context) -> Exit or ApiError -> exit code
//!                          |            |
//!                       client          Output (stdout: results, stderr: notes and bars)
//! ```

mod ask;
mod binding;
mod capture_target;
mod console;
mod demo;
mod deploy;
mod deploy_options;
mod doctor;
mod errors;
mod export;
mod follow;
pub mod image;
mod image_check;
mod image_info;
mod image_rebuild;
mod image_restore;
mod image_verify;
mod image_words;
mod job;
mod job_add;
mod job_text;
mod live;
mod newcomers;
mod offer;
pub mod paths;
mod plan_text;
mod pxe;
pub mod secret;
mod share;
mod signing_key;
mod simulate;
mod table;
mod target;
mod template;
mod template_file;
mod template_named;
mod template_new;
mod vault;
mod words;

use api::ApiError;
use clap::{ArgAction, Args, Parser, Subcommand};
use client::Client;
use paths::{Config, Surroundings};
use std::ffi::OsString;
use std::path::PathBuf;
use terminal::exit::{EXIT_CODES_HELP, Ended, Exit, failed};
use terminal::logging::{self, Usual};
use terminal::output::{Output, OutputOptions};
use terminal::program::{parse, told};

/// Put one master disk image on a room full of machines at once, proven.
#[derive(Debug, Parser)]
#[command(name = "diskcast", version, max_term_width = 80, arg_required_else_help = true, after_help = EXIT_CODES_HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// Print JSON: a document, or an object a line for long commands
    #[arg(long, global = true)]
    json: bool,
    /// Print results, warnings and errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// The console's data directory [default: /var/lib/diskcast, or the user's
    /// own without root]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "DISKCAST_DATA_DIR",
        hide_env_values = true
    )]
    data_dir: Option<PathBuf>,
    /// Never colour the output
    #[arg(long, global = true)]
    no_color: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole main job on this machine, without privileges
    Demo(demo::DemoArgs),
    /// The service: control, sessions, store, API
    #[command(subcommand)]
    Console(console::Command),
    /// The machines the console knows
    #[command(subcommand)]
    Target(target::Command),
    /// Master images: capture, look at, check, restore
    #[command(subcommand)]
    Image(image::Command),
    /// Put an image on targets
    Deploy(deploy_options::DeployArgs),
    /// Saved deployments, and what makes each machine itself
    #[command(subcommand)]
    Template(template::Command),
    /// Names and addresses that templates handed out
    #[command(subcommand)]
    Binding(binding::Command),
    /// Passwords that templates refer to, and keys that sign images
    #[command(subcommand)]
    Secret(vault::Command),
    /// The pre-OS for other boot servers, media and machines
    #[command(subcommand)]
    Export(export::Command),
    /// Deployments that people at the targets may start themselves
    #[command(subcommand)]
    Offer(offer::Command),
    /// Running and past deployments and captures
    #[command(subcommand)]
    Job(job::Command),
    /// Check the room before a deployment: multicast, loss, links, disks
    Doctor(doctor::DoctorArgs),
    /// Network boot: serve it, see who asked
    #[command(subcommand)]
    Pxe(pxe::Command),
    /// The target side, as `diskcast-agent` has it
    #[command(subcommand, hide = true)]
    Agent(preos::command::Command),
}

impl Command {
    /// True for commands that run until a signal ends them; their log is their output.
    fn is_service(&self) -> bool {
        match self {
            Self::Agent(_) => true,
            Self::Console(command) => command.is_service(),
            Self::Pxe(command) => command.is_service(),
            _ => false,
        }
    }
}

/// The context of a command.
pub(crate) struct Context {
    /// Output for results and notes.
    pub(crate) out: Output,
    /// The console's data directory, absolute.
    pub(crate) data_dir: PathBuf,
    /// Settings of the configuration files.
    pub(crate) config: Config,
}

impl Context {
    fn new(out: Output, global: &Global) -> Result<Self, ApiError> {
        let surroundings = Surroundings::of_process();
        let config = Config::load(&surroundings)?;
        let data_dir = paths::data_dir(global.data_dir.as_deref(), &config, &surroundings)?;
        Ok(Self {
            out,
            data_dir,
            config,
        })
    }

    fn client(&self) -> Client {
        Client::new(&self.data_dir)
    }
}

impl Global {
    fn output(&self) -> Output {
        Output::new(OutputOptions {
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
            no_color: self.no_color,
        })
    }
}

/// The program `diskcast`: parses the arguments, runs the command, shows an error, returns the exit
/// code.
pub fn diskcast(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match parse::<Cli>(&arguments) {
        Ok(cli) => {
            let out = cli.global.output();
            told(run(cli, &out), &out)
        }
        Err(exit) => exit,
    }
}

fn run(cli: Cli, out: &Output) -> Ended {
    let usual = if cli.command.is_service() {
        Usual::Events
    } else {
        Usual::Warnings
    };
    logging::start(out, &usual);
    // Made only when needed: commands on images work without a console, so they need no data
    // directory.
    let context = || Context::new(out.clone(), &cli.global);
    match cli.command {
        Command::Image(command) => match command.remote() {
            Some(args) => block_on(capture_target::run(args, &context()?)),
            None => image::run(command, out, &context).map(|()| Exit::OK),
        },
        Command::Offer(command) => block_on(offer::run(command, &context()?)),
        Command::Demo(args) => demo::run(args, out),
        Command::Console(command) => console::run(command, &context()?),
        Command::Target(command) => block_on(target::run(command, &context()?)),
        Command::Deploy(args) => block_on(deploy::run(args, &context()?)),
        Command::Template(command) => block_on(template::run(command, &context()?)),
        Command::Binding(command) => block_on(binding::run(command, &context()?)),
        Command::Secret(command) => block_on(vault::run(command, &context()?)),
        Command::Export(command) => block_on(export::run(command, &context()?)),
        Command::Job(command) => block_on(job::run(command, &context()?)),
        Command::Doctor(args) => block_on(doctor::run(args, &context()?)),
        Command::Pxe(command) => pxe::run(command, &context()?),
        Command::Agent(command) => preos::command::run(command, out),
    }
}

/// Runs a command that only talks to the console, on one thread.
fn block_on<T>(work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("starting", error))?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, FromArgMatches};

    #[test]
    fn every_command_has_help_that_fits() {
        let commands = terminal::testing::check_help(Cli::command());
        assert!(commands > 20, "{commands}");
    }

    #[test]
    fn a_usage_error_in_json_keeps_the_tip() {
        let error = Cli::command()
            .try_get_matches_from(["diskcast", "--json", "job", "watc", "7"])
            .unwrap_err();
        let error = terminal::program::usage_error(&error);
        assert_eq!(error.message, "unrecognized subcommand 'watc'");
        assert!(error.hint.unwrap().contains("watch"));
    }

    #[test]
    fn options_are_taken_before_and_after_the_command() {
        for arguments in [
            ["diskcast", "--json", "job", "list"],
            ["diskcast", "job", "list", "--json"],
        ] {
            let matches = Cli::command().try_get_matches_from(arguments).unwrap();
            assert!(Cli::from_arg_matches(&matches).unwrap().global.json);
        }
    }
}
