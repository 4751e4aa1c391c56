//! `diskcast offer`: deployments that people at the targets may start themselves.

use super::deploy_options::{End, template_request};
use super::share::{ShareArgs, image_path, lies_on_share};
use super::table::{Align, Columns, clean, or_dash};
use super::words::start_time;
use super::{Context, image_check, template_file};
use api::{
    ApiError, CheckRequest, DeployRequest, Offer, OfferAction, OfferList, OfferRequest,
    SCHEMA_VERSION, StartRule,
};
use clap::{Args, Subcommand};
use client::segment;
use facts::disk_rule::DiskRule;
use facts::order::Grow;
use std::path::PathBuf;
use terminal::exit::{Ended, Exit};

/// `diskcast offer ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Publish a deployment for people at the targets
    ///
    /// The screen of each target that may take it shows the offer. Whoever
    /// sits there picks it and confirms the disk by model and serial number;
    /// the console checks every limit again and makes an ordinary job for that
    /// machine alone.
    #[command(
        after_help = "Examples:\n  diskcast offer add office --image office.dcimg --targets 'room-4-*' --end restart\n  diskcast offer add exam --image exam.dcimg --limit 20 --until 2026-06-01T18:00\n  diskcast offer add lab --template lab --targets 'lab-*'"
    )]
    Add(Box<AddArgs>),
    /// List offers
    List,
    /// Take an offer back; jobs that came of it go on
    Remove(NameArgs),
}

/// Options of `offer add`.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// Name in the menu: letters, digits, - _ and .
    name: String,
    /// Master image to deploy; it must not have a password
    #[arg(long, value_name = "FILE", required_unless_present = "template")]
    image: Option<PathBuf>,
    #[command(flatten)]
    share: ShareArgs,
    /// Saved template to offer; what the other options say wins over it
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Description shown at the target [default: the image's name]
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Targets that may take it
    #[arg(long, value_name = "SELECTOR", default_value = "all")]
    targets: String,
    /// Disk that is erased: first, largest, smallest, path:P or serial:S
    #[arg(long, value_name = "RULE")]
    disk: Option<DiskRule>,
    /// Grow this partition's entry into the free space: last or its number
    #[arg(long, value_name = "last|N")]
    grow: Option<Grow>,
    /// Action of each machine after its deployment
    /// [default: none; a template's own default is shutdown]
    #[arg(long, value_name = "ACTION")]
    end: Option<End>,
    /// Number of times it may be taken in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Until when
    #[arg(long, value_name = "TIME", value_parser = start_time)]
    until: Option<String>,
}

/// The offer a command is about.
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
    let offers = match command {
        Command::List => {
            let list: OfferList = client.get("/v1/offers").await?;
            if list.offers.is_empty() && !out.json() {
                out.note("no offers; `diskcast offer add` publishes one");
                return Ok(Exit::OK);
            }
            list.offers
        }
        Command::Add(args) => {
            let wanted = request(*args, context)?;
            let check = CheckRequest::of(&wanted.request);
            // Checked now, while a technician is present, and not when a person at a target takes
            // the offer.
            image_check::checked(&client, &check, out).await?;
            vec![client.post("/v1/offers", &wanted).await?]
        }
        Command::Remove(args) => {
            let path = format!("/v1/offers/{}/remove", segment(&args.name));
            vec![client.post(&path, &serde_json::json!({})).await?]
        }
    };
    if out.json() {
        out.result_json(&OfferList {
            schema_version: SCHEMA_VERSION,
            offers,
        });
    } else {
        out.line(offer_table(&offers));
    }
    Ok(Exit::OK)
}

fn request(args: AddArgs, context: &Context) -> Result<OfferRequest, ApiError> {
    let mut request = match &args.template {
        Some(name) => template_request(&template_file::load(context, name, &[])?, None)?,
        None => DeployRequest::default(),
    };
    if let Some(image) = &args.image {
        let image = image_path(image)?;
        request.image = image.to_string_lossy().into_owned();
    }
    args.share.check(&request.image)?;
    request.share = args.share.account()?.or(request.share);
    if args.image.is_some() && !lies_on_share(&request.image) {
        request.share = None;
    }
    request.targets = args.targets;
    request.disk = args.disk.or(request.disk);
    request.grow = args.grow.or(request.grow);
    request.start = StartRule::Now;
    request.end = args.end.map_or(request.end, Into::into);
    Ok(OfferRequest {
        name: args.name,
        note: args.note,
        request,
        limit: args.limit,
        until: args.until,
    })
}

fn offer_table(offers: &[Offer]) -> String {
    let mut columns = Columns::new(&[
        ("OFFER", Align::Left),
        ("TARGETS", Align::Left),
        ("TAKEN", Align::Left),
        ("UNTIL", Align::Left),
        ("DISK", Align::Left),
        ("IMAGE", Align::Left),
    ]);
    for offer in offers {
        let OfferAction::Deploy { request, .. } = &offer.action;
        let taken = match offer.limit {
            Some(limit) => format!("{} of {limit}", offer.taken),
            None => offer.taken.to_string(),
        };
        columns.row([
            offer.name.clone(),
            clean(&offer.targets),
            taken,
            or_dash(offer.until.as_deref()),
            clean(&request.disk.clone().unwrap_or_default().to_string()),
            clean(&request.image),
        ]);
    }
    columns.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list() {
        let offer: Offer = serde_json::from_value(serde_json::json!({
            "name": "exam", "targets": "lab-*", "limit": 20, "taken": 3, "created": "",
            "action": {"kind": "deploy", "root": "ab", "request": {"image": "/i/exam.dcimg", "targets": "lab-*"}}
        }))
        .unwrap();
        assert_eq!(
            offer_table(&[offer]),
            "OFFER  TARGETS  TAKEN    UNTIL  DISK   IMAGE\n\
             exam   lab-*    3 of 20  -      first  /i/exam.dcimg"
        );
    }
}
