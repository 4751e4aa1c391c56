//! `diskcast binding`: the names and addresses that templates handed out.

use super::Context;
use super::errors::PathError;
use super::table::{Align, Columns, clean, or_dash};
use api::{BindingList, ImportRequest};
use clap::{Args, Subcommand};
use client::segment;
use std::path::PathBuf;
use template::bind::Binding;
use terminal::exit::{Ended, Exit};

/// `diskcast binding ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List which machine has which name and address
    List,
    /// Set names and addresses from a list: mac or uuid, name, address
    ///
    /// Whatever a template would hand out, these win. All of the list is taken
    /// or nothing.
    Import(ImportArgs),
    /// Give a machine's name and address back
    Release(ReleaseArgs),
}

/// Options of `binding import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// File with comma-separated lines
    file: PathBuf,
}

/// The machine whose binding is released.
#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// Its MAC address, or the name it has
    machine: String,
}

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it.
pub(super) async fn run(command: Command, context: &Context) -> Ended {
    let (out, client) = (&context.out, context.client());
    let list: BindingList = match command {
        Command::List => client.get("/v1/bindings").await?,
        Command::Import(args) => {
            let text = std::fs::read_to_string(&args.file)
                .map_err(PathError::of("reading", &args.file))?;
            client
                .post("/v1/bindings/import", &ImportRequest { text })
                .await?
        }
        Command::Release(args) => {
            let path = format!("/v1/bindings/{}/release", segment(&args.machine));
            client.post(&path, &serde_json::json!({})).await?
        }
    };
    if out.json() {
        out.result_json(&list);
    } else if list.bindings.is_empty() {
        out.note("no names or addresses were handed out yet");
    } else {
        out.line(binding_table(&list.bindings));
    }
    Ok(Exit::OK)
}

fn binding_table(bindings: &[Binding]) -> String {
    let mut columns = Columns::new(&[
        ("NAME", Align::Left),
        ("ADDRESS", Align::Left),
        ("MAC", Align::Left),
        ("UUID", Align::Left),
        ("TEMPLATE", Align::Left),
    ]);
    for binding in bindings {
        columns.row([
            or_dash(binding.name.as_deref()),
            or_dash(binding.address.map(|a| a.to_string()).as_deref()),
            binding
                .macs
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            or_dash(binding.uuid.map(|uuid| uuid.to_string()).as_deref()),
            clean(&binding.template),
        ]);
    }
    columns.text()
}
