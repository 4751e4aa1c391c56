//! Whole machines: everything of a plan, read back by Debian's own tools.

use super::*;

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
