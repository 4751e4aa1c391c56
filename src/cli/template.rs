//! `diskcast template`: saved deployments, including the personal steps of each machine.

use super::table::{Align, Columns, clean, count};
use super::template_file::{
    Found, checks, folder, load, names, path_of, refused, save, set_folder,
};
use super::template_named::{Looked, look};
use super::words::key_value;
use super::{Context, template_new};
use api::{ApiError, ErrorCode, SecretList};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;
use template::schema::{Template, json_schema, parse_with, summary, to_toml};
use template::values::SecretRef;
use terminal::exit::{Ended, Exit, usage};

/// `diskcast template ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a template, asked step by step
    ///
    /// At a terminal every choice is asked for, with what is usual; without
    /// one, --set says what differs from that.
    #[command(
        after_help = "Examples:\n  diskcast template new lab\n  diskcast template new lab --set image=/srv/lab.dcimg \\\n      --set 'identity.hostname=LAB-{nn}' --set network.mode=dhcp"
    )]
    New(NewArgs),
    /// Show what a template does, on one page
    Show(NameArgs),
    /// Look for mistakes, and for files and secrets that are not there
    Check(NameArgs),
    /// List the templates
    List,
    /// Show or set the folder templates lie in
    Path(PathArgs),
    /// Print the JSON Schema of template files, for editors
    Schema,
}

/// Options of `template new`.
#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// Name, or path of the file
    name: String,
    /// Set a key instead of being asked
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Write over a template of that name
    #[arg(long)]
    replace: bool,
}

/// The template a command is about.
#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// Name, or path of the file
    name: String,
    /// Set a key as if the file said so
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

/// Options of `template path`.
#[derive(Debug, Args)]
pub(super) struct PathArgs {
    /// New folder
    folder: Option<PathBuf>,
}

/// A template in the form of `--json`.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<&'a Template>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mistakes: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it.
pub(super) async fn run(command: Command, context: &Context) -> Ended {
    let out = &context.out;
    match command {
        Command::New(args) => new(args, context)?,
        Command::Show(args) => {
            let found = load(context, &args.name, &args.set)?;
            show(&found, &args.name, context)?;
        }
        Command::Check(args) => {
            let found = load(context, &args.name, &args.set)?;
            check_named(&found, context).await?;
            if out.json() {
                shown(&found, &args.name, context)?;
            } else {
                out.line(format!("{}: no mistakes", clean(&found.name)));
            }
        }
        Command::List => list(context)?,
        Command::Path(args) => {
            let folder = match &args.folder {
                Some(new) => set_folder(context, new)?,
                None => folder(context)?,
            };
            if out.json() {
                out.result_json(&serde_json::json!({"schema_version": 1, "folder": folder}));
            } else {
                out.line(folder.display().to_string());
            }
        }
        Command::Schema => out.line(format!("{:#}", json_schema())),
    }
    Ok(Exit::OK)
}

/// Refuses a template that names files or secrets which are not there or cannot be used. What could not be looked at is said.
async fn check_named(found: &Found, context: &Context) -> Result<(), ApiError> {
    let template = &found.template;
    let references = template
        .secrets()
        .into_iter()
        .map(|wanted| wanted.reference);
    let mut stored = None;
    if references
        .chain(&template.share_password)
        .any(|reference| matches!(reference, SecretRef::Ref(_)))
    {
        match context.client().get::<SecretList>("/v1/secrets").await {
            Ok(list) => {
                stored = Some(
                    list.secrets
                        .into_iter()
                        .map(|secret| secret.name)
                        .collect::<Vec<_>>(),
                )
            }
            Err(error)
                if matches!(
                    error.code,
                    ErrorCode::Unreachable | ErrorCode::NotAuthorised
                ) => {}
            Err(error) => return Err(error),
        }
    }
    let Looked { missing, unseen } = look(found, stored.as_deref());
    for line in unseen {
        context.out.note(format!("not looked at: {}", clean(&line)));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = missing.iter().map(|line| format!("  {line}")).collect();
    let text = format!(
        "template {} names what is not there, or cannot be used\n{}",
        clean(&found.name),
        lines.join("\n")
    );
    Err(ApiError::new(ErrorCode::Refused, text)
        .hint("paths begin beside the template unless they are absolute"))
}

fn new(args: NewArgs, context: &Context) -> Result<(), ApiError> {
    let out = &context.out;
    let path = path_of(context, &args.name)?;
    if path.exists() && !args.replace {
        return Err(
            usage(format!("there is a template {} already", path.display()))
                .hint("take another name, or write over it with --replace"),
        );
    }
    let mut text = to_toml(&Template::default());
    if args.set.is_empty() {
        text = to_toml(
            &template_new::ask_all(out).map_err(|error| match error.hint {
                None => error.hint("--set KEY=VALUE makes a template without questions"),
                Some(_) => error,
            })?,
        );
    }
    let template =
        parse_with(&text, &args.set, &checks()).map_err(|mistakes| refused(&path, &mistakes))?;
    let path = save(context, &args.name, &template, args.replace)?;
    out.note(format!("written to {}", path.display()));
    let found = load(context, &args.name, &[])?;
    show(&found, &args.name, context)
}

fn show(found: &Found, name: &str, context: &Context) -> Result<(), ApiError> {
    if context.out.json() {
        return shown(found, name, context);
    }
    context.out.line(summary_text(found));
    Ok(())
}

fn shown(found: &Found, name: &str, context: &Context) -> Result<(), ApiError> {
    context.out.result_json(&Shown {
        name: &found.name,
        path: path_of(context, name)?.display().to_string(),
        template: Some(&found.template),
        mistakes: None,
    });
    Ok(())
}

/// The text of the summary page.
pub(super) fn summary_text(found: &Found) -> String {
    let lines = summary(&found.template);
    let width = lines
        .iter()
        .map(|line| line.what.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = vec![format!("template {}", clean(&found.name))];
    for line in &lines {
        let mut label = format!("{:width$}", line.what);
        for part in line.value.lines() {
            text.push(format!("  {label}  {}", clean(part)));
            label = " ".repeat(width);
        }
    }
    text.join("\n")
}

fn list(context: &Context) -> Result<(), ApiError> {
    let out = &context.out;
    let names = names(context)?;
    let loaded: Vec<(String, Result<Found, ApiError>)> = names
        .into_iter()
        .map(|name| {
            let found = load(context, &name, &[]);
            (name, found)
        })
        .collect();
    let folder = folder(context)?;
    if out.json() {
        let shown = |(name, found): &'_ (String, Result<Found, ApiError>)| -> serde_json::Value {
            serde_json::json!(Shown {
                name,
                path: folder.join(format!("{name}.toml")).display().to_string(),
                template: found.as_ref().ok().map(|found| &found.template),
                mistakes: found.as_ref().err().map(|error| error.message.clone()),
            })
        };
        out.result_json(&serde_json::json!({
            "schema_version": 1, "folder": folder, "templates": loaded.iter().map(shown).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    if loaded.is_empty() {
        out.note(format!(
            "no templates in {}; `diskcast template new NAME` makes one",
            folder.display()
        ));
        return Ok(());
    }
    let mut columns = Columns::new(&[
        ("TEMPLATE", Align::Left),
        ("IMAGE", Align::Left),
        ("MACHINES BECOME", Align::Left),
    ]);
    for (name, found) in &loaded {
        match found {
            Ok(found) => columns.row([
                clean(name),
                clean(found.template.image.as_deref().unwrap_or("-")),
                becomes(&found.template),
            ]),
            Err(error) => {
                let mistakes = error.message.lines().count().saturating_sub(1).max(1);
                columns.row([clean(name), "-".to_owned(), count(mistakes, "mistake")]);
            }
        }
    }
    out.line(columns.text());
    Ok(())
}

/// One line for names, addresses and further steps.
fn becomes(template: &Template) -> String {
    let mut parts = Vec::new();
    match (&template.identity.hostname, &template.identity.list) {
        (Some(pattern), _) => parts.push(pattern.to_string()),
        (None, Some(list)) => parts.push(format!("names of {}", clean(list))),
        (None, None) => {}
    }
    if let Some(range) = &template.network.range {
        parts.push(range.to_string());
    }
    for (number, noun) in [
        (template.users.len(), "user"),
        (template.drivers.len(), "driver"),
        (template.copies.len(), "file"),
        (template.runs.len(), "program"),
    ] {
        if number > 0 {
            parts.push(count(number, noun));
        }
    }
    if parts.is_empty() {
        "as the image is".to_owned()
    } else {
        parts.join(", ")
    }
}
