//! Parsers for single files of a Linux system. Pure.

use template::findings::Arch;

/// Most account names that are kept; a technician does not read more.
const MAX_ACCOUNTS: usize = 1000;

/// Most kernel arguments of one file that are kept.
const MAX_ARGUMENTS: usize = 100;

/// Value of a line `KEY=value` without quotes (os-release(5)).
pub(super) fn assignment(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
        .next_back()
}

/// First word of a file, comment lines skipped.
pub(super) fn first_word(text: &str) -> Option<String> {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .and_then(|line| line.split_whitespace().next())
        .map(str::to_owned)
}

/// First line without surrounding spaces.
pub(super) fn first_line(text: &str) -> Option<&str> {
    text.lines().next().map(str::trim)
}

/// Value of a key of login.defs(5).
pub(super) fn login_def<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix(key))
        .filter(|rest| rest.starts_with([' ', '\t']))
        .filter_map(|rest| rest.split_whitespace().next())
        .next_back()
}

/// True if a line of passwd or group has that name.
pub(super) fn has_name(text: &str, name: &str) -> bool {
    text.lines()
        .any(|line| line.split(':').next() == Some(name))
}

/// root, and the accounts with a UID in the range of login.defs for ordinary users.
pub(super) fn accounts(passwd: &str, login_defs: &str) -> Vec<String> {
    let number = |key, default: u32| {
        login_def(login_defs, key)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let people = number("UID_MIN", 1000)..=number("UID_MAX", 60_000);
    passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let uid: u32 = fields.nth(1)?.parse().ok()?;
            (uid == 0 || people.contains(&uid)).then(|| name.to_owned())
        })
        .take(MAX_ACCOUNTS)
        .collect()
}

/// Names in a file with lines like those of passwd and group.
pub(super) fn names(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split(':').next())
        .filter(|name| !name.is_empty())
        .take(MAX_ACCOUNTS)
        .map(str::to_owned)
        .collect()
}

/// Accounts that are neither root nor ordinary users.
pub(super) fn system_accounts(passwd: &str, login_defs: &str) -> Vec<String> {
    let people = accounts(passwd, login_defs);
    names(passwd)
        .into_iter()
        .filter(|name| !people.contains(name))
        .collect()
}

/// True if a file of interfaces(5), a NetworkManager profile or an ifcfg file configures a bridge,
/// a bond or a VLAN, or a card that is part of one.
pub(super) fn more_than_cards(text: &str) -> bool {
    const WORDS: [&str; 8] = [
        "bridge_ports",
        "bridge-ports",
        "bond-slaves",
        "bond-master",
        "bond_master",
        "slaves",
        "vlan-raw-device",
        "vlan_raw_device",
    ];
    const KINDS: [&str; 5] = ["bridge", "bond", "team", "vlan", "vrf"];
    const PARTS: [&str; 8] = [
        "bridge",
        "master",
        "controller",
        "slave",
        "slave-type",
        "port-type",
        "team_master",
        "vlan",
    ];
    text.lines().map(str::trim).any(|line| {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let name = words.next().unwrap_or_default();
        if WORDS.contains(&first) || (first == "iface" && name.contains('.')) {
            return true;
        }
        let Some((key, value)) = line.split_once('=') else {
            return false;
        };
        let (key, value) = (
            key.trim().to_ascii_lowercase(),
            value.trim().trim_matches(['"', '\'']),
        );
        let kind = || KINDS.contains(&value.to_ascii_lowercase().as_str());
        (key == "type" && kind())
            || (PARTS.contains(&key.as_str())
                && !value.is_empty()
                && !value.eq_ignore_ascii_case("no"))
    })
}

/// True if an interfaces(5) file configures anything but the loopback device.
pub(super) fn configures_cards(interfaces: &str) -> bool {
    interfaces.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("iface") && words.next().is_some_and(|name| name != "lo")
    })
}

/// Arguments that affect cloud-init, from a boot loader's file with kernel arguments: lines of
/// shell assignments (`GRUB_CMDLINE_LINUX="..."`), of GRUB (`linux /vmlinuz ...`), of the boot
/// loader specification (`options ...`), or arguments alone.
pub(super) fn kernel_arguments(text: &str) -> Vec<String> {
    const KEYS: [&str; 7] = [
        "cloud-init=",
        "ds=",
        "ci.ds=",
        "ci.datasource=",
        "ci.di.policy=",
        "network-config=",
        "ip=",
    ];
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split([' ', '\t', '"', '\'']))
        .filter(|word| *word == "cc:" || KEYS.iter().any(|key| word.starts_with(key)))
        .take(MAX_ARGUMENTS)
        .map(str::to_owned)
        .collect()
}

/// Architecture from the first 20 bytes of an ELF file (`e_machine`, System V ABI).
pub(super) fn elf_machine(header: &[u8; 20]) -> Arch {
    let [.., low, high] = *header;
    // EI_DATA: 1 is little-endian, like all machines below.
    match (header.get(5), u16::from_le_bytes([low, high])) {
        (Some(1), 3) => Arch::X86,
        (Some(1), 62) => Arch::X64,
        (Some(1), 183) => Arch::Arm64,
        _ => Arch::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_with_and_without_quotes() {
        let text = "# ID=x\nID=debian\nVERSION_ID=\"13\"\nIDS=no\nNAME='a b'\n";
        assert_eq!(assignment(text, "ID").as_deref(), Some("debian"));
        assert_eq!(assignment(text, "VERSION_ID").as_deref(), Some("13"));
        assert_eq!(assignment(text, "NAME").as_deref(), Some("a b"));
        assert_eq!(assignment(text, "NONE"), None);
    }

    #[test]
    fn people_and_root() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbin:x:1:1::/:/x\nann:x:1000:1::/:/x\nbroken\n:x:1001::\nz:x:99999:1::/:/x\n";
        assert_eq!(accounts(passwd, ""), ["root", "ann"]);
        assert_eq!(accounts(passwd, "UID_MIN\t1\nUID_MAX 2\n"), ["root", "bin"]);
    }

    #[test]
    fn interfaces_beyond_the_loopback() {
        assert!(!configures_cards(
            "auto lo\niface lo inet loopback\n# iface eth0 inet dhcp\n"
        ));
        assert!(configures_cards("  iface eth0 inet dhcp\n"));
    }

    #[test]
    fn arguments_of_the_kernel_wherever_they_stand() {
        let grub =
            "# ip=no\nGRUB_CMDLINE_LINUX=\"quiet cloud-init=disabled ip=dhcp\"\nGRUB_TIMEOUT=5\n";
        assert_eq!(kernel_arguments(grub), ["cloud-init=disabled", "ip=dhcp"]);
        let menu = "menuentry x {\n  linux /vmlinuz root=UUID=1 ds=nocloud;s=/x cc: a end_cc\n}\n";
        assert_eq!(kernel_arguments(menu), ["ds=nocloud;s=/x", "cc:"]);
    }

    #[test]
    fn bridges_bonds_and_vlans_in_three_formats() {
        for text in [
            "auto br0\niface br0 inet static\n  bridge_ports eth0\n",
            "iface eth0.10 inet dhcp\n",
            "iface bond0 inet dhcp\n  bond-slaves eth0 eth1\n",
            "[connection]\ntype=bridge\n",
            "[connection]\ntype=ethernet\nmaster=br0\n",
            "TYPE=Ethernet\nBRIDGE=br0\n",
            "VLAN=yes\n",
        ] {
            assert!(more_than_cards(text), "{text}");
        }
        for text in [
            "iface eth0 inet dhcp\n",
            "[connection]\ntype=ethernet\n[ipv4]\nmethod=auto\n",
            "TYPE=Ethernet\nVLAN=no\nMASTER=\n",
        ] {
            assert!(!more_than_cards(text), "{text}");
        }
    }

    #[test]
    fn machines() {
        let mut header = [0_u8; 20];
        header[5] = 1;
        for (machine, arch) in [
            (3, Arch::X86),
            (62, Arch::X64),
            (183, Arch::Arm64),
            (8, Arch::Other),
        ] {
            header[18] = machine;
            assert_eq!(elf_machine(&header), arch);
        }
        header[5] = 2;
        header[18] = 62;
        assert_eq!(elf_machine(&header), Arch::Other);
    }
}
