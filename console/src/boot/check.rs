//! Search for other servers that answer machines on network boot, for `pxe check`.

use crate::context::Console;
use crate::doctor_self::ask_dhcp;
use api::BootReport;
use net::probe_dhcp::DhcpServer;
use std::net::Ipv4Addr;

impl Console {
    /// Returns the report of network boot with the other servers that answer now. Takes as long as
    /// the servers may need to answer.
    pub async fn check_boot(&self) -> BootReport {
        let (name, own) = (
            self.settings.interface.clone(),
            self.settings.interface_address,
        );
        let asked = tokio::task::spawn_blocking(move || ask_dhcp(&name, own.is_loopback())).await;
        match asked {
            Ok(Ok(servers)) => self.boot_report(rivals(&servers, own), Vec::new()),
            Ok(Err(why)) => self.boot_report(
                Vec::new(),
                vec![format!("other DHCP and PXE servers: {why}")],
            ),
            Err(error) => self.boot_report(
                Vec::new(),
                vec![format!("other DHCP and PXE servers: {error}")],
            ),
        }
    }
}

/// Describes each server except this console in one line.
fn rivals(servers: &[DhcpServer], own: Ipv4Addr) -> Vec<String> {
    let others = servers.iter().filter(|server| server.address != own);
    others
        .map(|server| {
            let what = match (server.leases, server.boots) {
                (true, true) => "hands out addresses and boots machines",
                (true, false) => "hands out addresses",
                (false, _) => "boots machines (another PXE service, perhaps another console)",
            };
            format!("{} {what}", server.address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_but_this_one_is_named() {
        let server = |last: u8, leases: bool, boots: bool| DhcpServer {
            address: Ipv4Addr::new(10, 0, 0, last),
            leases,
            boots,
        };
        let lines = rivals(
            &[
                server(1, true, false),
                server(2, false, true),
                server(3, false, true),
            ],
            Ipv4Addr::new(10, 0, 0, 2),
        );
        assert_eq!(
            lines,
            [
                "10.0.0.1 hands out addresses",
                "10.0.0.3 boots machines (another PXE service, perhaps another console)"
            ]
        );
    }
}
