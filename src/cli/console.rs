//! `diskcast console`: run the service, and show the one that runs.

use super::Context;
use super::exit::{Ended, Exit};
use crate::console::api::ConsoleInfo;
use clap::Subcommand;

/// `diskcast console ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the running console: address, pin, groups
    #[command(
        after_help = "Examples:\n  diskcast console show\n  diskcast console show --json | jq -r .pin"
    )]
    Show,
}

/// Runs the command.
///
/// # Errors
/// As the exit codes say.
pub(super) async fn run(command: Command, context: &Context) -> Ended {
    match command {
        Command::Show => {
            let info: ConsoleInfo = context.client().get("/v1/console").await?;
            if context.out.json() {
                context.out.result_json(&info);
            } else {
                context.out.line(info_text(&info));
            }
            Ok(Exit::OK)
        }
    }
}

fn info_text(info: &ConsoleInfo) -> String {
    [
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
    .join("\n")
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
