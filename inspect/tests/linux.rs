//! Linux systems in real ext file systems made by mke2fs, and inspection of damaged ones.
#![allow(
    clippy::disallowed_methods,
    reason = "the edge: tests make files and run programs"
)]

use inspect::Slice;
use std::fs;
use std::io::Cursor;
use std::process::Command;
use template::findings::{
    Arch, CloudInit, LinuxFindings, Obstacle, PartitionFindings, Renderer, Sudo, System,
};
use template::fstab::{Entry, Name};
use template::step::FileSystem;

/// Header of a 64-bit ARM program.
const ARM_ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0";

/// The bytes of an ext file system with a tree in it.
fn ext(kind: &str, tree: &[(&str, &[u8])]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for (path, content) in tree {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content.strip_prefix(b"-> ") {
            Some(target) => {
                let target = std::str::from_utf8(target).unwrap();
                std::os::unix::fs::symlink(target, &path).unwrap();
            }
            None => fs::write(&path, content).unwrap(),
        }
    }
    let image = folder.path().join("image");
    let output = Command::new("mke2fs")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(["-q", "-F", "-t", kind, "-L", "system", "-d"])
        .args([&root, &image])
        .arg("4m")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::read(image).unwrap()
}

fn inspect(bytes: Vec<u8>) -> (PartitionFindings, Option<LinuxFindings>) {
    let (partition, system) = inspect::partition(Slice {
        number: 3,
        length: u64::try_from(bytes.len()).unwrap(),
        reader: Box::new(Cursor::new(bytes)),
    });
    match system {
        Some(System::Linux(linux)) => (partition, Some(*linux)),
        Some(System::Windows(_)) => panic!("taken for Windows"),
        None => (partition, None),
    }
}

fn ubuntu() -> Vec<(&'static str, &'static [u8])> {
    vec![
        ("etc/os-release", b"-> ../usr/lib/os-release"),
        (
            "usr/lib/os-release",
            b"PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nID=ubuntu\nVERSION_ID=\"24.04\"\n",
        ),
        ("etc/hostname", b"master\n"),
        (
            "etc/passwd",
            b"root:x:0:0::/root:/bin/sh\nsshd:x:110:1::/:/x\nann:x:1000:1000::/home/ann:/bin/sh\n",
        ),
        ("etc/group", b"root:x:0:\nsudo:x:27:ann\n"),
        ("etc/login.defs", b"UID_MIN 1000\nENCRYPT_METHOD SHA512\n"),
        ("etc/netplan/00-installer.yaml", b"network:\n  version: 2\n"),
        ("usr/sbin/netplan", b""),
        ("usr/lib/systemd/systemd", ARM_ELF),
        ("usr/lib/systemd/systemd-networkd", b""),
        ("usr/sbin/NetworkManager", b""),
        (
            "etc/systemd/system/multi-user.target.wants/NetworkManager.service",
            b"-> /usr/lib/systemd/system/NetworkManager.service",
        ),
        ("usr/bin/cloud-init", b""),
        ("etc/cloud/cloud.cfg", b""),
        ("usr/sbin/sshd", b""),
        ("usr/sbin/realm", b""),
        ("usr/bin/ssh-keygen", b""),
        ("usr/bin/sudo", b""),
        (
            "etc/sudoers",
            b"%sudo ALL=(www-data) ALL\n@includedir /etc/sudoers.d\n",
        ),
        ("etc/iscsi/initiatorname.iscsi", b"InitiatorName=iqn.x:1\n"),
        ("etc/nvme/hostnqn", b"nqn.x\n"),
        ("etc/nvme/hostid", b"x\n"),
        ("etc/salt/minion_id", b"master\n"),
        ("etc/salt/minion", b"master: salt\n"),
        ("etc/salt/minion.d/id.conf", b"id: master\n"),
        ("etc/salt/pki/minion/minion.pem", b"x\n"),
        ("etc/krb5.keytab", b""),
        (
            "etc/fstab",
            b"/dev/mapper/vg-home /home ext4 defaults 0 2\n",
        ),
        ("etc/selinux/config", b"SELINUX=permissive\n"),
    ]
}

#[test]
fn an_ubuntu_system_is_told_with_everything_a_plan_asks_for() {
    let (partition, linux) = inspect(ext("ext4", &ubuntu()));
    assert_eq!(partition.file_system, Some(FileSystem::Ext));
    assert_eq!(partition.label.as_deref(), Some("system"));
    assert_eq!(partition.obstacles, []);
    assert!(partition.uuid.is_some());
    let linux = linux.unwrap();
    // A volume of 4 MiB that is nearly empty.
    assert!(
        (2 << 20..4 << 20).contains(&linux.free_bytes.unwrap()),
        "{:?}",
        linux.free_bytes
    );
    assert_eq!(
        linux,
        LinuxFindings {
            partition: 3,
            id: "ubuntu".into(),
            pretty_name: "Ubuntu 24.04.1 LTS".into(),
            version: "24.04".into(),
            arch: Arch::Arm64,
            hostname: "master".into(),
            systemd: true,
            renderers: vec![Renderer::Netplan, Renderer::NetworkManager],
            cloud_init: Some(CloudInit {
                name_loses: vec!["its module set_hostname is in no stage".into()],
                ..CloudInit::default()
            }),
            encrypt_method: Some("sha512".into()),
            admin_group: Some("sudo".into()),
            selinux_enforcing: false,
            ssh_server: true,
            accounts: vec!["root".into(), "ann".into()],
            join_tools: vec!["realm".into()],
            network_by: None,
            beyond_cards: vec![],
            groups: vec!["root".into(), "sudo".into()],
            system_accounts: vec!["sshd".into()],
            sudo: Some(Sudo {
                grants: false,
                reads_folder: true,
            }),
            udev: false,
            host_keys: true,
            host_ids: [
                "/etc/iscsi/initiatorname.iscsi",
                "/etc/nvme/hostnqn",
                "/etc/nvme/hostid",
                "/etc/salt/minion_id",
                "/etc/salt/pki/minion/minion.pem",
                "/etc/salt/minion.d/id.conf",
            ]
            .map(str::to_owned)
            .into(),
            keytab: true,
            mounts: vec![Entry {
                volume: Name::Other("/dev/mapper/vg-home".into()),
                path: "/home".into(),
                subvolume: false,
            }],
            free_bytes: linux.free_bytes,
            obstacles: vec![],
        }
    );
}

/// Files that Subiquity leaves on an Ubuntu Server. Regression: its own `99-installer.cfg` sorted
/// after our file that selects the seed, so name and addresses were not applied, and the job still
/// ended as done.
fn ubuntu_server() -> Vec<(&'static str, &'static [u8])> {
    let mut tree = ubuntu();
    tree.retain(|(path, _)| *path != "etc/cloud/cloud.cfg");
    tree.extend([
        (
            "etc/cloud/cloud.cfg",
            b"users:\n  - default\ncloud_init_modules:\n - set_hostname\n - users-groups\nsystem_info:\n  default_user: {name: ubuntu}\n"
                as &[u8],
        ),
        (
            "etc/cloud/cloud.cfg.d/99-installer.cfg",
            b"datasource:\n  None:\n    metadata: {instance-id: 4d7a}\n    userdata_raw: \"#cloud-config\\npreserve_hostname: true\\n\\\n\
              \x20     users:\\n- name: lab\\n  lock_passwd: false\\n\"\ndatasource_list: [None]\n",
        ),
        ("etc/cloud/ds-identify.cfg", b"policy: enabled\n"),
        (
            "etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg",
            b"network: {config: disabled}\n",
        ),
    ]);
    tree
}

fn cloud_init(tree: &[(&str, &[u8])]) -> CloudInit {
    inspect(ext("ext4", tree)).1.unwrap().cloud_init.unwrap()
}

#[test]
fn an_ubuntu_server_says_why_a_seed_would_lose_and_whom_it_makes() {
    let found = cloud_init(&ubuntu_server());
    assert_eq!(found.disabled_by, None);
    assert_eq!(found.name_loses, [""; 0]);
    assert_eq!(
        found.network_loses,
        [
            "/etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg says network:, which counts more"
        ]
    );
    let stronger: Vec<String> = found
        .stronger
        .iter()
        .map(|setting| format!("{} {} {}", setting.place, setting.key, setting.value))
        .collect();
    assert_eq!(
        stronger,
        ["/etc/cloud/cloud.cfg.d/99-installer.cfg (datasource.None.userdata_raw) users lab"]
    );
    assert_eq!(found.accounts, ["lab"]);
    assert!(!found.accounts_made && found.unknown.is_empty());
    // Without user-data the distribution's list of accounts counts.
    let mut tree = ubuntu_server();
    tree.retain(|(path, _)| !path.ends_with("99-installer.cfg"));
    tree.push(("var/lib/cloud/instances/i/sem/config_users_groups", b""));
    let found = cloud_init(&tree);
    assert_eq!(found.accounts, ["ubuntu"]);
    assert!(found.accounts_made);
}

#[test]
fn what_keeps_cloud_init_from_running_is_named() {
    let with = |more: &[(&'static str, &'static [u8])]| {
        let mut tree = ubuntu_server();
        tree.extend_from_slice(more);
        cloud_init(&tree).disabled_by
    };
    let file: (&str, &[u8]) = ("etc/cloud/cloud-init.disabled", b"");
    assert_eq!(
        with(&[file]).as_deref(),
        Some("/etc/cloud/cloud-init.disabled")
    );
    assert_eq!(with(&[file, ("etc/cloud/cloud-init.enabled", b"")]), None);
    let grub: (&str, &[u8]) = (
        "etc/default/grub",
        b"GRUB_CMDLINE_LINUX=\"quiet cloud-init=disabled\"\n",
    );
    assert_eq!(
        with(&[grub, ("etc/cloud/cloud-init.enabled", b"")]).as_deref(),
        Some("cloud-init=disabled in /etc/default/grub")
    );
    let masked: (&str, &[u8]) = ("etc/systemd/system/cloud-init.service", b"-> /dev/null");
    assert_eq!(
        with(&[masked]).as_deref(),
        Some("cloud-init.service, which is masked")
    );
    let mut tree = ubuntu_server();
    tree.retain(|(path, _)| *path != "etc/cloud/ds-identify.cfg");
    tree.push(("etc/cloud/ds-identify.cfg", b"policy: disabled\n"));
    assert_eq!(
        cloud_init(&tree).disabled_by.as_deref(),
        Some("the policy of ds-identify")
    );
    // The kernel's argument overrides the file in both directions.
    let told: (&str, &[u8]) = (
        "etc/default/grub",
        b"GRUB_CMDLINE_LINUX='ci.di.policy=enabled'\n",
    );
    tree.push(told);
    assert_eq!(cloud_init(&tree).disabled_by, None);
    let told: (&str, &[u8]) = (
        "etc/default/grub",
        b"GRUB_CMDLINE_LINUX='ci.di.policy=disabled'\n",
    );
    assert_eq!(with(&[told]).as_deref(), Some("the policy of ds-identify"));
}

#[test]
fn what_counts_more_than_ours_is_named_with_its_place() {
    let mut tree = ubuntu_server();
    tree.extend([
        (
            "etc/cloud/cloud.cfg.d/zzzz-site.cfg",
            b"{preserve_hostname: off, manage_etc_hosts: template, datasource_list: [Ec2]}\n"
                as &[u8],
        ),
        ("etc/cloud/cloud.cfg.d/50-broken.cfg", b"a: [\n"),
        (
            "var/lib/cloud/seed/nocloud/user-data",
            b"#!/bin/sh\nhostname x\n",
        ),
        ("var/lib/cloud/data/upgraded-network", b""),
        ("var/lib/cloud/instance/obj.pkl", b""),
        ("var/lib/cloud/instance/manual-clean", b""),
        ("etc/default/grub", b"GRUB_CMDLINE_LINUX='ip=dhcp ds=Ec2'\n"),
    ]);
    let found = cloud_init(&tree);
    let stronger: Vec<&str> = found
        .stronger
        .iter()
        .map(|setting| setting.key.as_str())
        .collect();
    assert_eq!(
        stronger,
        ["preserve_hostname", "manage_etc_hosts", "users", "ip"]
    );
    assert_eq!(found.unknown.len(), 2, "{:?}", found.unknown);
    for want in [
        "manual-clean is there",
        "zzzz-site.cfg names the sources after ours",
        "ds=Ec2 in /etc/default/grub",
    ] {
        let says = |list: &[String]| list.iter().any(|reason| reason.contains(want));
        assert!(
            says(&found.name_loses) && says(&found.network_loses),
            "{want}: {found:?}"
        );
    }
    for want in ["upgraded-network is there", "ip=dhcp in /etc/default/grub"] {
        assert!(
            found
                .network_loses
                .iter()
                .any(|reason| reason.contains(want)),
            "{want}"
        );
    }
    // Each of these alone makes a seed lose, for name and addresses alike.
    let cached: (&str, &[u8]) = ("var/lib/cloud/instance/obj.pkl", b"");
    type Tree<'t> = &'t [(&'t str, &'t [u8])];
    let single: [(Tree<'_>, &str); 4] = [
        (
            &[(
                "etc/cloud/ds-identify.cfg",
                b"policy: enabled\ndatasource: None\n",
            )],
            "ds-identify.cfg names the source",
        ),
        (
            &[(
                "etc/cloud/cloud.cfg.d/10-lab.cfg",
                b"datasource: {NoCloud: {seedfrom: /srv}}\n",
            )],
            "10-lab.cfg has a NoCloud source of its own",
        ),
        (
            &[
                cached,
                (
                    "etc/cloud/cloud.cfg.d/10-lab.cfg",
                    b"manual_cache_clean: true\n",
                ),
            ],
            "10-lab.cfg has manual_cache_clean",
        ),
        (
            &[(
                "etc/default/grub",
                b"GRUB_CMDLINE_LINUX='ci.datasource=Ec2'\n",
            )],
            "ci.datasource=Ec2 in /etc/default/grub",
        ),
    ];
    for (more, want) in single {
        let mut tree = ubuntu_server();
        tree.retain(|(path, _)| more.iter().all(|(new, _)| path != new));
        tree.extend_from_slice(more);
        let found = cloud_init(&tree);
        for list in [&found.name_loses, &found.network_loses] {
            assert!(
                list.iter().any(|reason| reason.contains(want)),
                "{want}: {found:?}"
            );
        }
    }
    // Files of an earlier deployment are replaced.
    let mut tree = ubuntu_server();
    tree.extend([
        (
            "etc/cloud/cloud.cfg.d/zzz-diskcast.cfg",
            b"# Written by diskcast.\nnetwork: {config: disabled}\n" as &[u8],
        ),
        (
            "var/lib/cloud/seed/nocloud/user-data",
            b"#cloud-config\n# Written by diskcast.\npreserve_hostname: false\n",
        ),
    ]);
    assert_eq!(cloud_init(&tree), cloud_init(&ubuntu_server()));
}

#[test]
fn ext2_and_ext3_are_read_too() {
    for kind in ["ext2", "ext3"] {
        let (partition, linux) = inspect(ext(kind, &ubuntu()));
        assert_eq!(partition.obstacles, [], "{kind}");
        assert_eq!(linux.unwrap().hostname, "master", "{kind}");
    }
}

#[test]
fn what_is_in_charge_of_the_network_comes_first() {
    let base: Vec<(&str, &[u8])> = vec![("etc/os-release", b"ID=debian\n"), ("etc/passwd", b"")];
    let manager: Vec<(&str, &[u8])> = vec![
        ("usr/sbin/NetworkManager", b""),
        (
            "etc/systemd/system/multi-user.target.wants/NetworkManager.service",
            b"",
        ),
    ];
    let ifupdown = |interfaces: &'static [u8]| -> Vec<(&'static str, &'static [u8])> {
        vec![
            ("usr/sbin/ifup", b""),
            ("etc/network/interfaces", interfaces),
        ]
    };
    let renderers = |parts: &[Vec<(&'static str, &'static [u8])>]| {
        let tree = parts.concat();
        inspect(ext("ext4", &tree)).1.unwrap().renderers
    };
    let wired = ifupdown(b"iface eth0 inet dhcp\n");
    let lo = ifupdown(b"iface lo inet loopback\n");
    assert_eq!(
        renderers(&[base.clone(), manager.clone(), wired]),
        [Renderer::Ifupdown, Renderer::NetworkManager]
    );
    assert_eq!(
        renderers(&[base.clone(), manager, lo]),
        [Renderer::NetworkManager, Renderer::Ifupdown]
    );
    // Its unit exists and is not enabled: nothing reads the file.
    let idle: Vec<(&str, &[u8])> = vec![("usr/lib/systemd/system/networking.service", b"")];
    let running: Vec<(&str, &[u8])> = vec![(
        "etc/systemd/system/multi-user.target.wants/networking.service",
        b"",
    )];
    let wired = || ifupdown(b"iface eth0 inet dhcp\n");
    assert_eq!(renderers(&[base.clone(), wired(), idle.clone()]), []);
    assert_eq!(
        renderers(&[base.clone(), wired(), idle, running]),
        [Renderer::Ifupdown]
    );
    let rhel: Vec<(&str, &[u8])> = vec![("etc/sysconfig/network-scripts/ifup-eth", b"")];
    assert_eq!(renderers(&[base.clone(), rhel]), [Renderer::Ifcfg]);
    // Installed, but not enabled.
    let idle: Vec<(&str, &[u8])> = vec![("usr/sbin/NetworkManager", b"")];
    assert_eq!(renderers(&[base.clone(), idle]), []);
    assert_eq!(renderers(&[base]), []);
}

/// Regression: NetworkManager was installed on a SUSE that wicked configures, and got a profile of
/// ours.
#[test]
fn a_service_that_is_not_written_for_is_named() {
    let base: Vec<(&str, &[u8])> = vec![
        ("etc/os-release", b"ID=opensuse-leap\n"),
        ("etc/passwd", b""),
        ("usr/sbin/NetworkManager", b""),
    ];
    let wants = "etc/systemd/system/multi-user.target.wants";
    let dhcpcd = format!("{wants}/dhcpcd@eth0.service");
    let masked = format!("{wants}/connman.service");
    let links: [(&str, &[u8], Option<&str>); 7] = [
        (
            "etc/systemd/system/network.service",
            b"-> /usr/lib/systemd/system/wicked.service",
            Some("wicked"),
        ),
        (
            &dhcpcd,
            b"-> /usr/lib/systemd/system/dhcpcd@.service",
            Some("dhcpcd"),
        ),
        (
            "etc/systemd/system/multi-user.target.wants/netctl@lan.service",
            b"",
            Some("netctl"),
        ),
        (
            "etc/systemd/system/multi-user.target.wants/netctl-auto@lan.service",
            b"",
            Some("netctl"),
        ),
        ("etc/runlevels/default/connman", b"", Some("connman")),
        (
            "etc/systemd/system/network-online.target.wants/NetworkManager.service",
            b"",
            None,
        ),
        (&masked, b"", None),
    ];
    for (path, content, want) in links {
        let mut tree = base.clone();
        tree.push((path, content));
        tree.push(("etc/systemd/system/connman.service", b"-> /dev/null"));
        let found = inspect(ext("ext4", &tree)).1.unwrap();
        let connman = path == masked;
        assert_eq!(found.network_by.as_deref(), want, "{path}");
        assert_eq!(
            found.renderers.is_empty(),
            want.is_some() || connman,
            "{path}"
        );
    }
}

#[test]
fn bridges_of_the_renderer_in_charge_are_named() {
    let base: Vec<(&str, &[u8])> = vec![
        ("etc/os-release", b"ID=debian\n"),
        ("etc/passwd", b""),
        ("usr/sbin/ifup", b""),
        (
            "etc/network/interfaces",
            b"iface br0 inet dhcp\n  bridge_ports eth0\n",
        ),
    ];
    let found = |more: &[(&'static str, &'static [u8])]| {
        let mut tree = base.clone();
        tree.extend_from_slice(more);
        inspect(ext("ext4", &tree)).1.unwrap().beyond_cards
    };
    assert_eq!(found(&[]), ["/etc/network/interfaces"]);
    assert_eq!(
        found(&[
            ("usr/sbin/netplan", b""),
            (
                "etc/netplan/a.yaml",
                b"{network: {bonds: {b0: {}, b1: {}}, ethernets: {e: {}}}}"
            ),
        ]),
        ["/etc/netplan/a.yaml (bonds: b0, b1)"]
    );
    // ifupdown has lower precedence than each of these in turn; the renderer in use decides what is
    // lost.
    let of = |more: &[(&str, &[u8])]| {
        let mut tree: Vec<(&str, &[u8])> = base[..2].to_vec();
        tree.extend_from_slice(more);
        inspect(ext("ext4", &tree)).1.unwrap().beyond_cards
    };
    let enabled = |unit: &str| format!("etc/systemd/system/multi-user.target.wants/{unit}.service");
    assert_eq!(
        of(&[
            ("usr/lib/systemd/systemd-networkd", b""),
            (&enabled("systemd-networkd"), b""),
            ("etc/systemd/network/br0.netdev", b"[NetDev]\nKind=bridge\n"),
            ("etc/systemd/network/eth.network", b"[Match]\nName=eth0\n"),
        ]),
        ["/etc/systemd/network/br0.netdev"]
    );
    assert_eq!(
        of(&[
            ("usr/sbin/NetworkManager", b""),
            (&enabled("NetworkManager"), b""),
            (
                "etc/NetworkManager/system-connections/bond.nmconnection",
                b"[connection]\ntype=bond\n",
            ),
            (
                "etc/NetworkManager/system-connections/wired.nmconnection",
                b"[connection]\ntype=ethernet\n",
            ),
        ]),
        ["/etc/NetworkManager/system-connections/bond.nmconnection"]
    );
    assert_eq!(
        of(&[
            ("etc/sysconfig/network-scripts/ifup-eth", b""),
            (
                "etc/sysconfig/network-scripts/ifcfg-eth0",
                b"DEVICE=eth0\nBRIDGE=br0\n"
            ),
            ("etc/sysconfig/network-scripts/ifcfg-eth1", b"DEVICE=eth1\n"),
        ]),
        ["/etc/sysconfig/network-scripts/ifcfg-eth0"]
    );
}

#[test]
fn rights_of_administrators_are_those_sudo_reads() {
    let sudo = |files: &[(&'static str, &'static [u8])]| {
        let mut tree = ubuntu();
        tree.retain(|(path, _)| *path != "etc/sudoers");
        tree.extend_from_slice(files);
        inspect(ext("ext4", &tree)).1.unwrap().sudo
    };
    let main: (&str, &[u8]) = ("etc/sudoers", b"#includedir /etc/sudoers.d\n");
    let rights = b"%sudo ALL=(ALL) ALL\n";
    let given = |grants, reads_folder| {
        Some(Sudo {
            grants,
            reads_folder,
        })
    };
    assert_eq!(
        sudo(&[main, ("etc/sudoers.d/lab", rights)]),
        given(true, true)
    );
    // Names with a dot are not read.
    assert_eq!(
        sudo(&[main, ("etc/sudoers.d/lab.conf", rights)]),
        given(false, true)
    );
    assert_eq!(
        sudo(&[("etc/sudoers", b"root ALL=(ALL) ALL\n")]),
        given(false, false)
    );
    assert_eq!(sudo(&[("usr/etc/sudoers", rights)]), given(true, false));
    assert_eq!(sudo(&[]), None);
}

#[test]
fn a_separate_usr_is_named_while_it_is_planned() {
    for os_release in ["etc/os-release", "etc/hostname"] {
        let (partition, _) = inspect(ext(
            "ext4",
            &[
                (os_release, b"ID=debian\n"),
                ("etc/passwd", b""),
                ("etc/fstab", b"/dev/vg/usr /usr ext4 defaults 0 2\n"),
            ],
        ));
        assert!(
            matches!(partition.obstacles.as_slice(), [Obstacle::Unreadable { what, .. }] if what == "/usr"),
            "{partition:?}"
        );
    }
}

/// OpenRC and busybox; no file of systemd exists.
#[test]
fn an_alpine_makes_its_host_keys_when_its_script_does() {
    let mut tree: Vec<(&str, &[u8])> = vec![
        ("etc/os-release", b"ID=alpine\n"),
        ("etc/passwd", b""),
        ("usr/sbin/sshd", b""),
        ("usr/bin/ssh-keygen", b""),
    ];
    assert!(!inspect(ext("ext4", &tree)).1.unwrap().host_keys);
    tree.push(("etc/init.d/sshd", b"ssh-keygen -A\n"));
    assert!(inspect(ext("ext4", &tree)).1.unwrap().host_keys);
}

#[test]
fn a_volume_without_a_system_and_encrypted_ones_are_told_apart() {
    let (partition, linux) = inspect(ext("ext4", &[("ann/photo", b"x")]));
    assert_eq!(
        (partition.file_system, linux),
        (Some(FileSystem::Ext), None)
    );
    let mut luks = vec![0_u8; 2 << 20];
    luks[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    assert_eq!(inspect(luks).0.obstacles, [Obstacle::Luks]);
    let mut bitlocker = vec![0_u8; 1 << 20];
    bitlocker[..11].copy_from_slice(b"\xeb\x58\x90-FVE-FS-");
    bitlocker[510..512].copy_from_slice(b"\x55\xaa");
    assert_eq!(inspect(bitlocker).0.obstacles, [Obstacle::BitLocker]);
    let (partition, linux) = inspect(vec![0; 1 << 20]);
    assert_eq!((partition.file_system, linux), (None, None));
}

#[test]
fn a_volume_with_errors_says_so() {
    let mut bytes = ext("ext4", &ubuntu());
    // s_state of the superblock: has errors.
    bytes[1024 + 0x3a] |= 2;
    let (partition, _) = inspect(bytes);
    assert!(!partition.obstacles.is_empty());
}

#[test]
fn damage_is_an_answer_and_never_a_panic() {
    // ext3 has no checksums, which would reject the damage at once.
    for kind in ["ext3", "ext4"] {
        damage(&ext(kind, &ubuntu()));
    }
}

/// Number of damaged copies of each volume.
const ROUNDS: usize = 300;

fn damage(sound: &[u8]) {
    // A fixed sequence (xorshift), so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 20).unwrap()
    };
    for round in 0..ROUNDS {
        let mut bytes = sound.to_vec();
        // Most bytes other than zero lie in the first blocks; every fourth round damages the
        // superblock alone.
        let reach = if round % 4 == 0 { 2048 } else { bytes.len() };
        for _ in 0..=next() % 24 {
            let at = next() % reach;
            bytes[at] = u8::try_from(next() % 256).unwrap();
        }
        if round % 10 == 0 {
            bytes.truncate(next() % sound.len());
        }
        let _ = inspect(bytes);
    }
    // Impossible sizes in fields of the superblock.
    for (at, value) in [
        (4, u32::MAX),
        (0x20, 1),
        (0x18, 40),
        (0x28, u32::MAX),
        (0x58, u32::MAX),
    ] {
        let mut bytes = sound.to_vec();
        let place = 1024 + at;
        bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
        let _ = inspect(bytes);
    }
}
