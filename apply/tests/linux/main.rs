//! A Linux machine is adapted on a real disk file, and Debian's own tools read it back.
#![allow(
    clippy::disallowed_methods,
    reason = "the edge: tests make files and run programs"
)]

mod ext_disk;

use apply::{Outcome, StepError};
use ext_disk::{Disk, Files, debian_tree, may_mount, plan, step_of, tool};
use std::fs;
use template::findings::Renderer;
use template::first_start::{FirstStart, ReportKey};
use template::secrets::Secrets;
use template::step::{
    Action, FirstBootAction, FirstBootEnd, FirstBootJob, FirstBootStep, Group, Ipv4Config, Kept,
    Nic, NicConfig, OnError, OnExists, SecretName, User,
};

fn nic() -> Nic {
    Nic {
        mac: "52:54:00:aa:bb:01".into(),
        config: NicConfig {
            ipv4: Ipv4Config::Static {
                address: [10, 20, 0, 57].into(),
                prefix: 24,
                gateway: Some([10, 20, 0, 1].into()),
            },
            dns: vec![[10, 20, 0, 2].into()],
            suffix: Some("lab.example".into()),
            search: vec![],
        },
    }
}

fn user(name: &str) -> User {
    User {
        name: name.into(),
        full_name: Some("Lab Admin".into()),
        groups: vec![Group::Administrators, Group::Users],
        password: Some(SecretName("labadmin".into())),
        on_exists: OnExists::Fail,
    }
}

/// A password hash like the console's, made by Debian's own libcrypt.
fn secrets() -> Secrets {
    let hash = tool("mkpasswd", &["-m", "yescrypt", "correct horse"]);
    let mut secrets = Secrets::default();
    secrets.insert(SecretName("labadmin".into()), hash.trim().to_owned());
    secrets
}

fn first_boot() -> FirstBootJob {
    FirstBootJob {
        steps: vec![FirstBootStep {
            id: "run.1".into(),
            action: FirstBootAction::Run {
                command: "echo 'it works'".into(),
                timeout_seconds: 60,
                ok_codes: vec![0],
                reboot_codes: vec![3010],
                on_error: OnError::Stop,
            },
        }],
        end: FirstBootEnd::Shutdown,
        report: false,
    }
}

#[test]
fn a_debian_machine_is_made_itself_and_a_second_run_changes_no_byte() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[24]);
    disk.ext4(1, &debian_tree(), 16, &[]);
    let mut files = Files::default();
    let payload = files.add("app.deb", &vec![7_u8; 300_000]);
    let partition = 1;
    let steps = vec![
        Action::GrowFileSystem {
            partition,
            file_system: template::step::FileSystem::Ext,
        },
        Action::LinuxHostname {
            partition,
            name: "pc-07".into(),
            fqdn: Some("pc-07.lab.example".into()),
        },
        Action::LinuxMachineId { partition },
        Action::LinuxSshHostKeys { partition },
        Action::LinuxNetwork {
            partition,
            renderer: Renderer::Ifupdown,
            nics: vec![nic()],
        },
        Action::LinuxUser {
            partition,
            user: user("labadmin"),
        },
        Action::CopyFile {
            partition,
            payload,
            to: "/opt/lab/app.deb".into(),
        },
        Action::FirstBoot {
            partition,
            job: first_boot(),
            executable: None,
        },
    ];
    let secrets = secrets();
    let report = disk.run(steps.clone(), &secrets, &files).unwrap();
    assert_eq!(report.steps.len(), steps.len());
    assert!(
        report
            .steps
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::Applied),
        "{report:?}"
    );
    disk.assert_clean(1);

    let said = disk.debugfs(1, "stats -h");
    assert!(said.contains("Block count:              24576"), "{said}");
    assert_eq!(disk.cat(1, "/etc/hostname"), "pc-07\n");
    assert_eq!(
        disk.cat(1, "/etc/hosts"),
        "127.0.0.1\tlocalhost\n127.0.1.1\tpc-07.lab.example pc-07\n::1\tlocalhost\n"
    );
    assert_eq!(disk.cat(1, "/etc/machine-id"), "");
    for gone in [
        "/var/lib/dbus/machine-id",
        "/var/lib/systemd/random-seed",
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/ssh/ssh_host_rsa_key.pub",
        "/var/lib/dhcp/dhclient.eth0.leases",
    ] {
        assert!(!disk.has(1, gone), "{gone}");
    }
    assert!(disk.has(1, "/etc/ssh/sshd_config"));

    // Accounts, checked by the system's own tool; libcrypt accepts the password.
    let root = disk.folder.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    for name in ["passwd", "shadow", "group", "gshadow"] {
        fs::write(
            root.join("etc").join(name),
            disk.cat(1, &format!("/etc/{name}")),
        )
        .unwrap();
    }
    tool("grpck", &["-r", "-R", &root.display().to_string()]);
    let passwd = disk.cat(1, "/etc/passwd");
    assert!(
        passwd.ends_with("labadmin:x:1001:1001:Lab Admin:/home/labadmin:/bin/bash\n"),
        "{passwd}"
    );
    assert_eq!(disk.owner(1, "/etc/shadow"), (0, 42, 0o640));
    let shadow = disk.cat(1, "/etc/shadow");
    let hash = shadow
        .lines()
        .find_map(|line| line.strip_prefix("labadmin:"))
        .and_then(|rest| rest.split(':').next())
        .unwrap()
        .to_owned();
    tool(
        "python3",
        &[
            "-c",
            "import ctypes, sys\nc = ctypes.CDLL('libcrypt.so.1')\nc.crypt.restype = ctypes.c_char_p\n\
             h = sys.argv[1].encode()\nassert c.crypt(b'correct horse', h) == h\nassert c.crypt(b'other', h) != h",
            &hash,
        ],
    );
    let group = disk.cat(1, "/etc/group");
    assert!(group.contains("sudo:x:27:ann,labadmin\n"), "{group}");
    assert!(group.ends_with("labadmin:x:1001:\n"), "{group}");
    assert_eq!(
        disk.cat(1, "/etc/subuid"),
        "ann:100000:65536\nlabadmin:165536:65536\n"
    );
    assert_eq!(disk.owner(1, "/home/labadmin"), (1001, 1001, 0o700));
    assert_eq!(
        disk.owner(1, "/home/labadmin/.config/app"),
        (1001, 1001, 0o644)
    );
    assert!(!disk.has(1, "/etc/sudoers.d/zzz-diskcast"));

    // Network, and the master's files that were set aside.
    let interfaces = disk.cat(1, "/etc/network/interfaces");
    assert!(
        interfaces.contains("address 10.20.0.57\n    netmask 255.255.255.0\n"),
        "{interfaces}"
    );
    assert!(
        disk.cat(1, "/etc/systemd/network/05-diskcast-525400aabb01.link")
            .contains("Name=lan0")
    );
    assert!(
        disk.cat(1, "/etc/diskcast/set-aside/etc/network/interfaces")
            .contains("eth0")
    );
    assert!(
        disk.cat(1, "/etc/resolv.conf")
            .contains("nameserver 10.20.0.2\n")
    );

    // First boot: systemd itself reads the units.
    let units = disk.folder.path().join("units");
    fs::create_dir(&units).unwrap();
    for unit in ["diskcast-firstboot.service", "diskcast-ssh-keys.service"] {
        let text = disk.cat(1, &format!("/etc/systemd/system/{unit}"));
        let text = text.replace("/usr/bin/ssh-keygen", "/bin/true");
        fs::write(units.join(unit), text).unwrap();
        let at = units.join(unit).display().to_string();
        tool(
            "systemd-analyze",
            &["verify", "--man=no", "--recursive-errors=no", &at],
        );
        assert!(disk.has(
            1,
            &format!("/etc/systemd/system/multi-user.target.wants/{unit}")
        ));
    }
    assert_eq!(
        disk.owner(1, "/var/lib/diskcast/firstboot.sh"),
        (0, 0, 0o700)
    );

    let before = disk.hash();
    let mut again = steps;
    again.retain(|action| !matches!(action, Action::LinuxUser { .. }));
    again.push(Action::LinuxUser {
        partition,
        user: User {
            on_exists: OnExists::Update,
            ..user("labadmin")
        },
    });
    let report = disk.run(again, &secrets, &files).unwrap();
    assert!(
        report
            .steps
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::Unchanged),
        "{report:?}"
    );
    assert_eq!(disk.hash(), before, "a second run changed the disk");
}

#[test]
fn links_of_the_guest_lead_nowhere_else() {
    if !may_mount() {
        return;
    }
    // A folder of the host, which the links of a hostile guest point to.
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("hostname");
    fs::write(&victim, "host\n").unwrap();
    let climb = format!("-> ../../../../../../../../..{}", victim.display());
    let folder = format!("-> {}", outside.path().display());
    let host = fs::read("/etc/hostname").unwrap_or_default();

    let disk = Disk::new(&[16, 16]);
    let mut tree = debian_tree();
    tree.insert("etc/hostname", &climb);
    tree.insert("etc/machine-id", "-> /etc/hostname");
    tree.insert("etc/hosts", "-> /proc/self/root/etc/hosts");
    tree.remove("etc/ssh/ssh_host_rsa_key");
    tree.remove("etc/ssh/ssh_host_rsa_key.pub");
    tree.remove("etc/ssh/sshd_config");
    tree.insert("etc/ssh", &folder);
    disk.ext4(1, &tree, 16, &[]);
    fs::write(outside.path().join("ssh_host_rsa_key"), "the host's own").unwrap();
    // A link in place of the whole /etc.
    let etc = format!("-> {}", outside.path().display());
    disk.ext4(2, &[("etc", etc.as_str()), ("x/y", "")].into(), 16, &[]);

    let steps = |partition| {
        vec![
            Action::LinuxHostname {
                partition,
                name: "pc-07".into(),
                fqdn: None,
            },
            Action::LinuxMachineId { partition },
            Action::LinuxSshHostKeys { partition },
        ]
    };
    disk.run(steps(1), &Secrets::default(), &Files::default())
        .unwrap();
    assert_eq!(disk.cat(1, "/etc/hostname"), "pc-07\n");
    let error = disk
        .run(steps(2), &Secrets::default(), &Files::default())
        .unwrap_err();
    assert_eq!(step_of(&error), Some("step.0"));

    assert_eq!(fs::read_to_string(&victim).unwrap(), "host\n");
    assert_eq!(
        fs::read_to_string(outside.path().join("ssh_host_rsa_key")).unwrap(),
        "the host's own"
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
    assert_eq!(fs::read("/etc/hostname").unwrap_or_default(), host);
    disk.assert_clean(1);
    disk.assert_clean(2);
}

#[test]
fn a_home_on_another_partition_is_found_by_its_uuid_and_an_unknown_one_is_refused() {
    if !may_mount() {
        return;
    }
    let uuid = "6b8b4567-327b-23c6-643c-986966334873";
    let disk = Disk::new(&[16, 16]);
    let mut tree = debian_tree();
    tree.remove("home/ann/keep");
    tree.insert("home/.mountpoint", "");
    tree.insert(
        "etc/fstab",
        "UUID=6B8B4567-327b-23c6-643c-986966334873 /home ext4 defaults 0 2\n",
    );
    disk.ext4(1, &tree, 16, &[]);
    disk.ext4(2, &[("ann/keep", "mine\n")].into(), 16, &["-U", uuid]);
    let step = || {
        vec![Action::LinuxUser {
            partition: 1,
            user: user("labadmin"),
        }]
    };
    let mut files = Files::default();
    let copy = Action::CopyFile {
        partition: 1,
        payload: files.add("notes", b"for everybody"),
        to: "/home/shared/notes".into(),
    };
    let mut steps = step();
    steps.push(copy.clone());
    disk.run(steps, &secrets(), &files).unwrap();
    assert_eq!(disk.cat(2, "/shared/notes"), "for everybody");
    assert_eq!(disk.cat(2, "/labadmin/.profile"), "# profile\n");
    assert_eq!(disk.cat(2, "/ann/keep"), "mine\n");
    assert!(!disk.has(1, "/home/labadmin"));
    disk.assert_clean(1);
    disk.assert_clean(2);

    tree.insert("etc/fstab", "/dev/mapper/vg-home /home ext4 defaults 0 2\n");
    let disk = Disk::new(&[16]);
    disk.ext4(1, &tree, 16, &[]);
    let error = disk.run(step(), &secrets(), &Files::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("mounts another file system at /home"),
        "{error}"
    );
    assert!(!disk.cat(1, "/etc/passwd").contains("labadmin"));
    let error = disk
        .run(vec![copy], &Secrets::default(), &files)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("mounts another file system at /home"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_another_one_and_a_full_volume_are_refused_and_leave_nothing() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[16]);
    disk.ext4(1, &debian_tree(), 16, &[]);
    let mut files = Files::default();
    let mut payload = files.add("app.deb", b"right");
    files.0.insert(payload.blake3.clone(), b"wrong".to_vec());
    let copy = |payload: &template::step::Payload| {
        vec![Action::CopyFile {
            partition: 1,
            payload: payload.clone(),
            to: "/opt/app.deb".into(),
        }]
    };
    let error = disk
        .run(copy(&payload), &Secrets::default(), &files)
        .unwrap_err();
    assert!(
        error.to_string().contains("is not the file the plan names"),
        "{error}"
    );
    assert!(matches!(error.cause(), Some(StepError::OtherFile { .. })));
    files
        .0
        .insert(payload.blake3.clone(), b"right and more".to_vec());
    let error = disk
        .run(copy(&payload), &Secrets::default(), &files)
        .unwrap_err();
    assert!(
        error.to_string().contains("is longer than the 5 bytes"),
        "{error}"
    );
    payload.bytes = 6;
    files.0.insert(payload.blake3.clone(), b"right".to_vec());
    let error = disk
        .run(copy(&payload), &Secrets::default(), &files)
        .unwrap_err();
    assert!(error.to_string().contains("ended 1 bytes early"), "{error}");
    let listed = disk.debugfs(1, "ls /opt");
    assert!(!listed.contains("app.deb"), "{listed}");

    let large = files.add("huge.iso", &vec![0_u8; 15 << 20]);
    let error = disk
        .run(copy(&large), &Secrets::default(), &files)
        .unwrap_err();
    assert!(error.to_string().contains("bytes free"), "{error}");
    let Some(StepError::NoRoom { room, .. }) = error.cause() else {
        panic!("{error:?}");
    };
    assert!(room.is_some_and(|room| room.needed > 15 << 20 && room.free < room.needed));
    disk.assert_clean(1);
}

#[test]
fn secrets_that_are_no_hash_and_accounts_that_are_there_are_refused() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[16]);
    disk.ext4(1, &debian_tree(), 16, &[]);
    let run = |user: User, secrets: &Secrets| {
        disk.run(
            vec![Action::LinuxUser { partition: 1, user }],
            secrets,
            &Files::default(),
        )
    };
    let mut clear = Secrets::default();
    clear.insert(SecretName("labadmin".into()), "clear text".into());
    let error = run(user("labadmin"), &clear).unwrap_err();
    assert!(
        error.to_string().contains("is not a password hash"),
        "{error}"
    );
    assert!(!error.to_string().contains("clear text"), "{error}");
    let error = run(user("labadmin"), &Secrets::default()).unwrap_err();
    assert!(
        error.to_string().contains("did not come with the order"),
        "{error}"
    );
    assert!(matches!(error.cause(), Some(StepError::Order(_))));
    let secrets = secrets();
    let error = run(user("ann"), &secrets).unwrap_err();
    assert!(error.to_string().contains("is there already"), "{error}");
    assert!(matches!(error.cause(), Some(StepError::Refused { .. })));
    let error = run(
        User {
            on_exists: OnExists::Update,
            ..user("daemon")
        },
        &secrets,
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("account of the system itself"),
        "{error}"
    );
    let mut missing = user("bob");
    missing.groups = vec![Group::Named("docker".into())];
    let error = run(missing, &secrets).unwrap_err();
    assert!(error.to_string().contains("no group docker"), "{error}");
    assert!(!disk.cat(1, "/etc/passwd").contains("bob"));

    let skipped = run(
        User {
            on_exists: OnExists::Skip,
            ..user("ann")
        },
        &secrets,
    )
    .unwrap();
    assert_eq!(skipped.steps.first().unwrap().1, Outcome::Unchanged);
    run(
        User {
            on_exists: OnExists::Update,
            ..user("ann")
        },
        &secrets,
    )
    .unwrap();
    assert!(disk.cat(1, "/etc/shadow").contains("\nann:$y$"));
    assert!(disk.cat(1, "/home/ann/keep").contains("mine"));
}

#[test]
fn every_renderer_has_its_file_and_the_masters_are_out_of_the_way() {
    if !may_mount() {
        return;
    }
    let id = "525400aabb01";
    let cases = [
        (
            Renderer::Netplan,
            "/etc/netplan/90-diskcast.yaml".to_owned(),
            0o600,
            "etc/netplan/00-installer.yaml",
            "network:\n  version: 2\n  renderer: NetworkManager\n  ethernets:\n    eth0:\n      dhcp4: true\n",
        ),
        // This case comes before NetworkManager, which also reads these files and sets them aside.
        (
            Renderer::Ifcfg,
            format!("/etc/sysconfig/network-scripts/ifcfg-diskcast-{id}"),
            0o644,
            "etc/sysconfig/network-scripts/ifcfg-eth0",
            "DEVICE=eth0\nBOOTPROTO=dhcp\n",
        ),
        (
            Renderer::NetworkManager,
            format!("/etc/NetworkManager/system-connections/diskcast-{id}.nmconnection"),
            0o600,
            "etc/NetworkManager/system-connections/Wired.nmconnection",
            "[connection]\nid=Wired\ntype=ethernet\n",
        ),
        (
            Renderer::Networkd,
            format!("/etc/systemd/network/05-diskcast-{id}.network"),
            0o644,
            "etc/systemd/network/00-all.network",
            "[Match]\nName=*\n[Network]\nDHCP=yes\n",
        ),
    ];
    let disk = Disk::new(&[16]);
    let mut tree = debian_tree();
    for (_, _, _, path, text) in &cases {
        tree.insert(path, text);
    }
    let wifi = "[connection]\nid=Air\ntype=wifi\n";
    tree.insert(
        "etc/NetworkManager/system-connections/Air.nmconnection",
        wifi,
    );
    tree.insert(
        "etc/netplan/01-network-manager-all.yaml",
        "network:\n  version: 2\n",
    );
    tree.insert("etc/cloud/cloud.cfg", "datasource_list: [ Ec2 ]\n");
    disk.ext4(1, &tree, 16, &[]);
    let run = |action| {
        disk.run(vec![action], &Secrets::default(), &Files::default())
            .unwrap()
    };
    for (renderer, ours, mode, theirs, _) in &cases {
        run(Action::LinuxNetwork {
            partition: 1,
            renderer: *renderer,
            nics: vec![nic()],
        });
        assert_eq!(disk.owner(1, ours), (0, 0, *mode), "{ours}");
        assert!(disk.cat(1, ours).contains("10.20.0.57"), "{ours}");
        assert!(!disk.has(1, &format!("/{theirs}")), "{theirs}");
        let aside = format!("/etc/diskcast/set-aside/{theirs}");
        assert!(disk.has(1, &aside), "{theirs}");
    }
    let ours = disk.cat(1, "/etc/netplan/90-diskcast.yaml");
    run(Action::LinuxCloudInit {
        partition: 1,
        hostname: Some("pc-07".into()),
        fqdn: None,
        nics: vec![nic()],
        instance_id: "diskcast-1".into(),
        accounts: true,
    });
    assert!(!disk.has(1, "/etc/netplan/90-diskcast.yaml"));
    let seed = disk.cat(1, "/var/lib/cloud/seed/nocloud/network-config");
    assert_eq!(
        disk.cat(1, "/etc/NetworkManager/system-connections/Air.nmconnection"),
        wifi
    );
    assert!(disk.has(1, "/etc/netplan/01-network-manager-all.yaml"));
    let parse = "import sys, yaml\nd = yaml.safe_load(open(sys.argv[1]))\nd = d.get('network', d)\n\
                 e = d['ethernets']['diskcast0']\nassert d['version'] == 2, d\nassert e['addresses'] == ['10.20.0.57/24'], e\n\
                 assert e['routes'][0]['via'] == '10.20.0.1', e\nassert e['match']['macaddress'] == '52:54:00:aa:bb:01', e\n\
                 assert e['nameservers'] == {'addresses': ['10.20.0.2'], 'search': ['lab.example']}, e\n\
                 assert d.get('renderer') == (sys.argv[2] or None), d";
    for (text, renderer) in [(ours, "NetworkManager"), (seed, "")] {
        let file = disk.folder.path().join("yaml");
        fs::write(&file, text).unwrap();
        tool(
            "python3",
            &["-c", parse, &file.display().to_string(), renderer],
        );
    }
    // By files again, which the seed would override.
    run(Action::LinuxCloudInitKeeps {
        partition: 1,
        keeps: vec![Kept::Name, Kept::Network],
    });
    assert!(!disk.has(1, "/var/lib/cloud/seed/nocloud/user-data"));
    assert_eq!(
        disk.cat(1, "/etc/cloud/cloud.cfg.d/zzz-diskcast.cfg"),
        "# Written by diskcast.\npreserve_hostname: true\nmanage_etc_hosts: false\nnetwork: {config: disabled}\n"
    );
    disk.assert_clean(1);
}

#[test]
fn an_enforcing_selinux_system_relabels_itself_and_labels_stay_with_replaced_files() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[16]);
    let mut tree = debian_tree();
    tree.insert(
        "etc/selinux/config",
        "# SELinux\nSELINUX=enforcing\nSELINUXTYPE=targeted\n",
    );
    disk.ext4(1, &tree, 16, &[]);
    let label = "system_u:object_r:hostname_etc_t:s0";
    let request = format!("ea_set /etc/hostname security.selinux {label}");
    tool("debugfs", &["-w", "-R", &request, &disk.place(1)]);
    let steps = vec![Action::LinuxHostname {
        partition: 1,
        name: "pc-07".into(),
        fqdn: None,
    }];
    disk.run(steps, &Secrets::default(), &Files::default())
        .unwrap();
    let kept = disk.debugfs(1, "ea_get /etc/hostname security.selinux");
    assert!(kept.contains(label), "{kept}");
    assert!(disk.has(1, "/.autorelabel"));
    disk.assert_clean(1);
}

/// openSUSE has a `wheel` group without rights and asks for the password of root; storage servers
/// know machines by their ids.
#[test]
fn administrators_of_a_suse_can_act_and_its_storage_ids_are_its_own() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[16]);
    let mut tree = debian_tree();
    tree.remove("etc/sudoers");
    tree.insert(
        "usr/etc/sudoers",
        "Defaults targetpw\nALL ALL=(ALL) ALL\n%wheel ALL=(www-data) ALL\n@includedir /etc/sudoers.d\n",
    );
    tree.insert("etc/group", "root:x:0:\nwheel:x:10:\nusers:x:100:\n");
    tree.remove("etc/gshadow");
    tree.insert("etc/nvme/hostid", "old\n");
    tree.insert("etc/nvme/hostnqn", "old\n");
    tree.insert(
        "etc/iscsi/initiatorname.iscsi",
        "InitiatorName=iqn.1996-04.de.suse:01:old\n",
    );
    tree.insert("etc/salt/minion_id", "master\n");
    tree.insert("etc/salt/minion", "master: salt\nid: master\n");
    tree.insert("etc/salt/minion.d/id.conf", "id: master\n");
    tree.insert("etc/salt/minion.d/id.conf.bak", "id: master\n");
    tree.insert("etc/salt/pki/minion/minion.pem", "key of the master\n");
    tree.insert("etc/salt/pki/minion/minion.pub", "its other half\n");
    disk.ext4(1, &tree, 16, &[]);
    let id = "0a1b2c3d-4e5f-4000-8000-000000000000";
    let steps = vec![
        Action::LinuxUser {
            partition: 1,
            user: User {
                groups: vec![Group::Administrators],
                ..user("labadmin")
            },
        },
        Action::LinuxHostIds {
            partition: 1,
            id: id.into(),
        },
    ];
    disk.run(steps, &secrets(), &Files::default()).unwrap();
    assert!(disk.cat(1, "/etc/group").contains("wheel:x:10:labadmin\n"));
    assert_eq!(
        disk.cat(1, "/etc/sudoers.d/zzz-diskcast"),
        "%wheel ALL=(ALL:ALL) ALL\nDefaults:%wheel !targetpw, !rootpw, !runaspw\n"
    );
    assert_eq!(disk.cat(1, "/etc/nvme/hostid"), format!("{id}\n"));
    assert_eq!(
        disk.cat(1, "/etc/nvme/hostnqn"),
        format!("nqn.2014-08.org.nvmexpress:uuid:{id}\n")
    );
    assert_eq!(
        disk.cat(1, "/etc/iscsi/initiatorname.iscsi"),
        "InitiatorName=iqn.1996-04.de.suse:01:0a1b2c3d4e5f\n"
    );
    for gone in [
        "minion_id",
        "pki/minion/minion.pem",
        "pki/minion/minion.pub",
    ] {
        assert!(!disk.has(1, &format!("/etc/salt/{gone}")), "{gone}");
    }
    for (file, text) in [
        ("minion", "master: salt\n# id: master\n"),
        ("minion.d/id.conf", "# id: master\n"),
        ("minion.d/id.conf.bak", "id: master\n"),
    ] {
        assert_eq!(disk.cat(1, &format!("/etc/salt/{file}")), text);
    }
    disk.assert_clean(1);
}

/// Rights that a file of `/etc/sudoers.d` gives are not given again, and are refused where that
/// folder is not read. A name that only `/etc/HOSTNAME` has counts as the master's too, and its
/// netplan files give way to a seed of cloud-init.
#[test]
fn the_masters_own_rights_name_and_network_are_found_where_they_lie() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[16, 16]);
    let mut tree = debian_tree();
    tree.insert(
        "etc/sudoers",
        "root ALL=(ALL) ALL\n@includedir /etc/sudoers.d\n",
    );
    tree.insert("etc/sudoers.d/10-lab", "%sudo ALL=(ALL) ALL\n");
    tree.remove("etc/hostname");
    tree.insert("etc/HOSTNAME", "master.lab\n");
    tree.insert(
        "etc/hosts",
        "127.0.0.1 localhost\n127.0.0.2 master.lab master\n",
    );
    tree.insert("etc/cloud/cloud.cfg", "");
    tree.insert(
        "etc/netplan/50-cloud-init.yaml",
        "network: {version: 2, ethernets: {eth0: {dhcp4: true}}}\n",
    );
    disk.ext4(1, &tree, 16, &[]);
    // The same file with a dot in its name is not read; nor is any file of the folder without an
    // include line.
    tree.remove("etc/sudoers.d/10-lab");
    tree.insert("etc/sudoers.d/lab.conf", "%sudo ALL=(ALL) ALL\n");
    tree.insert("etc/sudoers", "root ALL=(ALL) ALL\n");
    disk.ext4(2, &tree, 16, &[]);
    let user = |partition| Action::LinuxUser {
        partition,
        user: user("labadmin"),
    };
    let steps = vec![
        user(1),
        Action::LinuxHostname {
            partition: 1,
            name: "pc-07".into(),
            fqdn: None,
        },
        Action::LinuxCloudInit {
            partition: 1,
            hostname: None,
            fqdn: None,
            nics: vec![nic()],
            instance_id: "diskcast-1".into(),
            accounts: false,
        },
    ];
    disk.run(steps, &secrets(), &Files::default()).unwrap();
    assert!(!disk.has(1, "/etc/sudoers.d/zzz-diskcast"));
    assert_eq!(
        disk.cat(1, "/etc/hosts"),
        "127.0.0.1 localhost\n127.0.1.1\tpc-07\n"
    );
    assert_eq!(disk.cat(1, "/etc/HOSTNAME"), "pc-07\n");
    let theirs = "etc/netplan/50-cloud-init.yaml";
    assert!(!disk.has(1, &format!("/{theirs}")));
    assert!(disk.has(1, &format!("/etc/diskcast/set-aside/{theirs}")));
    let error = disk.run(vec![user(2)], &secrets(), &Files::default());
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("does not read /etc/sudoers.d"),
        "{error}"
    );
    disk.assert_clean(1);
    disk.assert_clean(2);
}

#[test]
fn what_cannot_be_done_names_its_step_and_reason() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[16, 4]);
    let mut tree = debian_tree();
    tree.remove("usr/lib/systemd/systemd");
    disk.ext4(1, &tree, 16, &[]);
    let fails = |action: Action, words: &str| {
        let error = disk
            .run(vec![action], &Secrets::default(), &Files::default())
            .unwrap_err();
        assert_eq!(step_of(&error), Some("step.0"));
        assert!(error.to_string().contains(words), "{error}");
    };
    fails(
        Action::FirstBoot {
            partition: 1,
            job: first_boot(),
            executable: None,
        },
        "no systemd",
    );
    fails(Action::LinuxSshHostKeys { partition: 1 }, "no systemd");
    fails(
        Action::LinuxMachineId { partition: 2 },
        "holds no file system that can be mounted",
    );
    fails(Action::LinuxMachineId { partition: 9 }, "no partition 9");
    fails(
        Action::GrowFileSystem {
            partition: 1,
            file_system: template::step::FileSystem::Ntfs,
        },
        "partition 1 holds Ext and not Ntfs; inspect the image again",
    );
    let mut refused = plan(vec![Action::LinuxMachineId { partition: 1 }]);
    refused.refused.push("no address is left".into());
    let error = disk
        .run_plan(&refused, &Secrets::default(), &Files::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "this machine is refused: no address is left"
    );
    assert!(disk.cat(1, "/etc/machine-id").starts_with("0123"));
}

#[test]
fn a_full_volume_says_so_and_keeps_its_files() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[16]);
    disk.ext4(1, &debian_tree(), 16, &["-m", "0", "-b", "1024"]);
    // Filled to the last block; the file's own metadata makes the first writes fall short.
    let filler = disk.folder.path().join("filler");
    for name in ["a", "b", "c", "d"] {
        let stats = disk.debugfs(1, "stats -h");
        let free: usize = stats
            .lines()
            .find_map(|line| line.strip_prefix("Free blocks:"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let room = if free > 64 { free - free / 16 } else { free };
        fs::write(&filler, vec![1_u8; room * 1024]).unwrap();
        let request = format!("write {} {name}", filler.display());
        tool("debugfs", &["-w", "-R", &request, &disk.place(1)]);
    }
    let step = || {
        vec![Action::LinuxHostname {
            partition: 1,
            name: "pc-07".into(),
            fqdn: None,
        }]
    };
    let error = disk
        .run(step(), &Secrets::default(), &Files::default())
        .unwrap_err();
    assert!(
        error.to_string().contains("no room left on the volume"),
        "{error}"
    );
    assert!(matches!(
        error.cause(),
        Some(StepError::NoRoom { room: None, .. })
    ));
    assert_eq!(disk.cat(1, "/etc/hostname"), "master\n");
    let listed = disk.debugfs(1, "ls /etc");
    assert!(!listed.contains("diskcast"), "{listed}");
    disk.assert_clean(1);
}

#[test]
fn disks_with_sectors_of_4096_bytes_work_the_same() {
    if !may_mount() {
        return;
    }
    let mut disk = Disk::new(&[16]);
    disk.sector_size = 4096;
    disk.ext4(1, &debian_tree(), 16, &["-b", "4096"]);
    let steps = vec![Action::LinuxMachineId { partition: 1 }];
    disk.run(steps, &Secrets::default(), &Files::default())
        .unwrap();
    assert_eq!(disk.cat(1, "/etc/machine-id"), "");
    disk.assert_clean(1);
}

/// The order has the address for the report; a repeated order may have another one, and the machine
/// uses the newer one.
#[test]
fn a_first_start_is_reported_to_where_the_order_says() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[24]);
    disk.ext4(1, &debian_tree(), 16, &[]);
    let (secrets, files) = (Secrets::default(), Files::default());
    // The report is the only thing left to do.
    let job = FirstBootJob {
        report: true,
        ..FirstBootJob::default()
    };
    let plan = ext_disk::plan(vec![Action::FirstBoot {
        partition: 1,
        job,
        executable: None,
    }]);
    let error = disk.run_plan(&plan, &secrets, &files).unwrap_err();
    assert!(error.to_string().contains("to which console"), "{error}");
    let script = "/var/lib/diskcast/firstboot.sh";
    let order = |consoles: &[&str]| FirstStart {
        consoles: consoles.iter().map(|text| (*text).to_owned()).collect(),
        job: 17,
        target: "t-1".into(),
        key: ReportKey::new([7; 32]),
    };
    let run = |consoles: &[&str]| {
        let order = order(consoles);
        let report = disk.run_order(&plan, &secrets, &files, Some(&order));
        report.unwrap().steps[0].1
    };
    assert_eq!(run(&["10.0.0.2:5003"]), Outcome::Applied);
    assert_eq!(run(&["10.0.0.2:5003"]), Outcome::Unchanged);
    let same = ["10.0.0.2:5003", "10.0.0.2:5003"];
    assert_eq!(
        run(&same),
        Outcome::Unchanged,
        "an address that is said twice"
    );
    assert_eq!(run(&["10.0.0.3:5003", "10.0.0.2:5003"]), Outcome::Applied);
    let text = disk.cat(1, script);
    assert!(text.contains("'10.0.0.3,5003 10.0.0.2,5003'"), "{text}");
    let stat = disk.debugfs(1, &format!("stat {script}"));
    assert!(
        stat.contains("Mode:  0700") && stat.contains("User:     0"),
        "{stat}"
    );
    disk.assert_clean(1);
}
