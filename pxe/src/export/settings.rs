//! Settings for boot servers that are not ours. Pure text.

use super::words::Words;
use std::path::Path;

/// Builds `dnsmasq.conf`: ProxyDHCP and TFTP beside an existing DHCP server.
///
/// iPXE in BIOS machines takes the script only from `pxe-service`, iPXE in UEFI machines from
/// either, other clients from `pxe-service`: both forms are needed (measured with dnsmasq 2.90).
pub fn dnsmasq(folder: &Path, words: &Words) -> String {
    let network = words
        .console_ip()
        .map_or_else(|| "192.0.2.0".to_owned(), |ip| ip.to_string());
    format!(
        "# diskcast's boot folder served by dnsmasq, beside the DHCP server that is there.\n\
         #\n\
         #   dnsmasq --no-daemon --conf-file={folder}/dnsmasq.conf\n\
         #\n\
         # Look at the lines marked CHECK.\n\
         \n\
         port=0                          # no DNS\n\
         log-dhcp\n\
         enable-tftp\n\
         tftp-root={folder}              # CHECK: this folder; GRUB wants it to be the root\n\
         dhcp-range={network},proxy      # CHECK: any address of the network the targets are in\n\
         \n\
         dhcp-match=set:ipxe,175\n\
         dhcp-match=set:bios,option:client-arch,0\n\
         dhcp-match=set:uefi,option:client-arch,7\n\
         dhcp-match=set:uefi,option:client-arch,9\n\
         \n\
         # iPXE gets the script. Both forms are needed: some iPXE read only the one, some only the other.\n\
         dhcp-boot=tag:ipxe,boot.ipxe\n\
         pxe-service=tag:ipxe,x86PC,\"diskcast\",boot.ipxe\n\
         pxe-service=tag:ipxe,X86-64_EFI,\"diskcast\",boot.ipxe\n\
         pxe-service=tag:ipxe,BC_EFI,\"diskcast\",boot.ipxe\n\
         \n\
         # Firmware gets a loader: iPXE. It is not signed: Secure Boot has to be off.\n\
         # For Secure Boot put shimx64.efi for snponly.efi, and make the DHCP server that is there name this machine as\n\
         # next server (siaddr): Debian's signed GRUB asks the server of its lease for everything, whatever a ProxyDHCP\n\
         # says. Where dnsmasq is the DHCP server itself (last line), it does.\n\
         dhcp-boot=tag:!ipxe,tag:bios,undionly.kpxe\n\
         dhcp-boot=tag:!ipxe,tag:uefi,snponly.efi\n\
         pxe-service=tag:!ipxe,x86PC,\"diskcast\",undionly.kpxe\n\
         pxe-service=tag:!ipxe,X86-64_EFI,\"diskcast\",snponly.efi\n\
         pxe-service=tag:!ipxe,BC_EFI,\"diskcast\",snponly.efi\n\
         \n\
         # On a switch of its own, without another DHCP server: instead of the `proxy` line above\n\
         # dhcp-range=10.0.0.100,10.0.0.199,1h\n",
        folder = folder.display(),
    )
}

/// Builds `tftpd.txt`, for Tftpd64 on Windows.
pub fn tftpd() -> String {
    "diskcast's boot folder served by Tftpd64 (Windows)\n\
     \n\
     Use Tftpd64 4.6 or newer, on a machine in the targets' network.\n\
     \n\
     Settings, TFTP\n\
         Base Directory        this folder; GRUB wants it to be the root\n\
         TFTP Security         Read Only\n\
         Option negotiation    on\n\
         PXE Compatibility     on\n\
         Allow '\\' as virtual root   on\n\
         Anticipation window of      off\n\
     \n\
     The DHCP server that is there names this machine and the first file (windows-dhcp.txt says how for Windows):\n\
         66  TFTP server name  address of this machine\n\
         67  boot file         undionly.kpxe  for BIOS (architecture 0)\n\
                               shimx64.efi    for UEFI (architectures 7 and 9)\n\
     \n\
     BIOS machines load iPXE, and iPXE asks DHCP again: it has to be given boot.ipxe instead (user class iPXE), or it\n\
     loads itself for ever. Tftpd64's own DHCP server cannot tell them apart; without a DHCP server that can, use\n\
     `diskcast pxe serve`, which needs no settings anywhere, or dnsmasq.conf.\n\
     \n\
     Without another DHCP server, for UEFI machines only: Settings, DHCP: Boot File shimx64.efi; the pool as you like.\n\
     \n\
     Firewall: UDP 69 in, and UDP 67 and 4011 where Tftpd64 does DHCP.\n"
        .replace('\n', "\r\n")
}

/// Builds `windows-dhcp.txt`, for the DHCP server of Windows Server 2012 and newer.
pub fn windows_dhcp() -> String {
    "diskcast with the DHCP server of Windows Server (2012 or newer)\n\
     \n\
     Nothing has to be set when `diskcast pxe serve` runs in the same network: it answers beside the DHCP server.\n\
     These settings are for a TFTP server that is not diskcast. SERVER is its address, SCOPE the scope's.\n\
     Run in PowerShell on the DHCP server; once for the classes, then for each scope.\n\
     \n\
     Add-DhcpServerv4Class -Name 'PXE BIOS' -Type Vendor -Data 'PXEClient:Arch:00000'\n\
     Add-DhcpServerv4Class -Name 'PXE UEFI' -Type Vendor -Data 'PXEClient:Arch:00007'\n\
     Add-DhcpServerv4Class -Name 'PXE UEFI BC' -Type Vendor -Data 'PXEClient:Arch:00009'\n\
     Add-DhcpServerv4Class -Name 'iPXE' -Type User -Data 'iPXE'\n\
     \n\
     # The first policy that matches wins: iPXE before the firmware it came from.\n\
     Add-DhcpServerv4Policy -ScopeId SCOPE -Name 'diskcast iPXE' -Condition OR -UserClass EQ,'iPXE' -ProcessingOrder 1\n\
     Set-DhcpServerv4OptionValue -ScopeId SCOPE -PolicyName 'diskcast iPXE' -OptionId 66 -Value 'SERVER'\n\
     Set-DhcpServerv4OptionValue -ScopeId SCOPE -PolicyName 'diskcast iPXE' -OptionId 67 -Value 'boot.ipxe'\n\
     \n\
     Add-DhcpServerv4Policy -ScopeId SCOPE -Name 'diskcast BIOS' -Condition OR -VendorClass EQ,'PXE BIOS*'\n\
     Set-DhcpServerv4OptionValue -ScopeId SCOPE -PolicyName 'diskcast BIOS' -OptionId 66 -Value 'SERVER'\n\
     Set-DhcpServerv4OptionValue -ScopeId SCOPE -PolicyName 'diskcast BIOS' -OptionId 67 -Value 'undionly.kpxe'\n\
     \n\
     Add-DhcpServerv4Policy -ScopeId SCOPE -Name 'diskcast UEFI' -Condition OR -VendorClass EQ,'PXE UEFI*',EQ,'PXE UEFI BC*'\n\
     Set-DhcpServerv4OptionValue -ScopeId SCOPE -PolicyName 'diskcast UEFI' -OptionId 66 -Value 'SERVER'\n\
     Set-DhcpServerv4OptionValue -ScopeId SCOPE -PolicyName 'diskcast UEFI' -OptionId 67 -Value 'shimx64.efi'\n\
     \n\
     Do not set option 60 on the server unless the TFTP server runs on the same machine.\n\
     Routers between the networks need an IP helper for the DHCP server; TFTP is routed as it is.\n"
        .replace('\n', "\r\n")
}
