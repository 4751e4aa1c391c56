//! `diskcast secret`: the secrets that templates refer to as `ref:NAME`.

use super::table::{Align, Columns, clean};
use super::{Context, ask, secret};
use api::{SCHEMA_VERSION, SecretList, SecretRequest, SecretView};
use clap::{Args, Subcommand};
use client::segment;
use std::path::PathBuf;
use terminal::exit::{Ended, Exit};

/// `diskcast secret ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Set a secret that templates refer to as ref:NAME
    ///
    /// Asked for at the terminal, or read from a file. The console keeps it
    /// encrypted; it is never shown again, and travels only inside the
    /// encrypted connection of a machine that needs it.
    #[command(
        after_help = "Examples:\n  diskcast secret set labadmin\n  diskcast secret set labadmin --file - <password.txt"
    )]
    Set(SetArgs),
    /// List secrets, without their values
    List,
    /// Forget a secret
    Remove(NameArgs),
}

/// Options of `secret set`.
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// Name: letters, digits, - _ and .
    name: String,
    /// File with the value, one line; - is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// The secret a command is about.
#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// Name
    name: String,
}

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it.
pub(super) async fn run(command: Command, context: &Context) -> Ended {
    let (out, client) = (&context.out, context.client());
    match command {
        Command::List => {
            let list: SecretList = client.get("/v1/secrets").await?;
            if out.json() {
                out.result_json(&list);
            } else if list.secrets.is_empty() {
                out.note("no secrets; `diskcast secret set NAME` keeps one");
            } else {
                out.line(secret_table(&list));
            }
        }
        Command::Set(args) => {
            let value = match &args.file {
                Some(file) => secret::read_password(file)?,
                None => ask::secret(out, &format!("value of {}", clean(&args.name)))?,
            };
            let request = SecretRequest {
                name: args.name,
                value: value.to_string(),
            };
            let view: SecretView = client.post("/v1/secrets", &request).await?;
            if out.json() {
                out.result_json(&SecretList {
                    schema_version: SCHEMA_VERSION,
                    secrets: vec![view],
                });
            } else {
                out.note(format!(
                    "templates refer to it as ref:{}",
                    clean(&view.name)
                ));
            }
        }
        Command::Remove(args) => {
            let path = format!("/v1/secrets/{}/remove", segment(&args.name));
            let _: serde_json::Value = client.post(&path, &serde_json::json!({})).await?;
        }
    }
    Ok(Exit::OK)
}

fn secret_table(list: &SecretList) -> String {
    let mut columns = Columns::new(&[("SECRET", Align::Left), ("SET", Align::Left)]);
    for secret in &list.secrets {
        columns.row([clean(&secret.name), clean(&secret.changed)]);
    }
    columns.text()
}
