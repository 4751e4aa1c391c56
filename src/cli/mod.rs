//! The command line: arguments, output and exit codes.
//!
//! The only user of clap and indicatif. Owns words, tables, bars and exit codes; decides nothing
//! about disks or sessions: each command asks the running console (crate `client`), or calls the
//! module that does the work.
//!
//! ```text
//! arguments -> Cli -> command::run(args, Context) -> Exit or ApiError -> exit code
//!                          |            |
//!                       client          Output (stdout: results, stderr: notes and bars)
//! ```

mod agent;
mod ask;
mod binding;
mod capture_target;
mod console;
mod demo;
mod deploy;
mod deploy_options;
mod doctor;
pub mod exit;
mod export;
mod follow;
pub mod image;
mod image_check;
mod image_info;
mod image_rebuild;
mod image_restore;
mod image_verify;
mod image_words;
pub mod interrupt;
mod job;
mod job_add;
mod job_text;
mod live;
mod logging;
mod newcomers;
mod offer;
pub mod output;
pub mod paths;
mod plan_text;
pub mod progress;
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

use api::ApiError;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use client::Client;
use exit::{EXIT_CODES_HELP, Ended, Exit, usage};
use logging::Usual;
use output::{Output, OutputOptions};
use paths::{Config, Surroundings};
use std::ffi::OsString;
use std::path::PathBuf;

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
    Agent(agent::Command),
}

/// The target side of diskcast: offers this machine's disks to a console.
#[derive(Debug, Parser)]
#[command(name = "diskcast-agent", version, max_term_width = 80, arg_required_else_help = true, after_help = EXIT_CODES_HELP)]
struct AgentCli {
    #[command(flatten)]
    global: AgentGlobal,
    #[command(subcommand)]
    command: agent::Command,
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

/// The program `diskcast-agent`.
pub fn diskcast_agent(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match parse::<AgentCli>(&arguments) {
        Ok(AgentCli {
            global:
                AgentGlobal {
                    json,
                    quiet,
                    verbose,
                    no_color,
                },
            command,
        }) => {
            let out = Output::new(OutputOptions {
                json,
                quiet,
                verbose,
                no_color,
            });
            logging::start(&out, &Usual::Events);
            told(agent::run(command, &out), &out)
        }
        Err(exit) => exit,
    }
}

/// Parses the arguments. Help, version and usage errors are printed here; then the result is the
/// exit code.
fn parse<C: CommandFactory + FromArgMatches>(arguments: &[OsString]) -> Result<C, Exit> {
    let parsed = C::command()
        .try_get_matches_from(arguments)
        .and_then(|mut matches| C::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| {
        let json = arguments.iter().any(|argument| argument == "--json");
        if json && error.use_stderr() {
            let out = Output::new(OutputOptions {
                json: true,
                ..Default::default()
            });
            return told(Err(usage_error(&error)), &out);
        }
        // A closed pipe while help is printed is no failure.
        let _ = error.print();
        if error.use_stderr() {
            api::ErrorCode::Usage.into()
        } else {
            Exit::OK
        }
    })
}

/// clap's message as one line: the mistake, then its tip.
fn usage_error(error: &clap::Error) -> ApiError {
    let text = error.render().to_string();
    let wrong = text
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .trim_end_matches('.')
        .to_owned();
    let tip = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("tip: "))
        .unwrap_or("try --help");
    usage(wrong).hint(tip)
}

fn told(ended: Ended, out: &Output) -> Exit {
    ended.unwrap_or_else(|error| {
        out.error(&error);
        error.code.into()
    })
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
        Command::Agent(command) => agent::run(command, out),
    }
}

/// Runs a command that only talks to the console, on one thread.
fn block_on<T>(work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| exit::failed("starting", error))?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_command(
        command: &clap::Command,
        path: &str,
        see: &mut impl FnMut(&str, &clap::Command),
    ) {
        see(path, command);
        for sub in command.get_subcommands() {
            each_command(sub, &format!("{path} {}", sub.get_name()), see);
        }
    }

    #[test]
    fn the_trees_are_sound() {
        Cli::command().debug_assert();
        AgentCli::command().debug_assert();
    }

    /// Calls `see` for every command of both programs, with its full name.
    fn all_commands(see: &mut impl FnMut(&str, &clap::Command)) {
        for (name, mut root) in [
            ("diskcast", Cli::command()),
            ("diskcast-agent", AgentCli::command()),
        ] {
            root.build();
            each_command(&root, name, see);
        }
    }

    #[test]
    fn help_fits_eighty_columns() {
        let mut seen = 0;
        all_commands(&mut |path, command| {
            seen += 1;
            for help in [
                command.clone().render_help(),
                command.clone().render_long_help(),
            ] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{path}: {line}");
                }
            }
        });
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn every_command_and_option_says_what_it_is() {
        all_commands(&mut |path, command| {
            assert!(command.get_about().is_some(), "{path}");
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{path} {}",
                    argument.get_id()
                );
            }
        });
    }

    #[test]
    fn a_usage_error_in_json_keeps_the_tip() {
        let error = Cli::command()
            .try_get_matches_from(["diskcast", "--json", "job", "watc", "7"])
            .unwrap_err();
        let error = usage_error(&error);
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
