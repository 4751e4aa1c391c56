//! Plans for Linux images: their steps, and the cases they refuse.

use crate::case::*;
use template::findings::{CloudInit, Setting, Sudo};
use template::fstab;
use template::step::{Action, FileSystem, Group, Kept};

#[test]
fn cloud_init_is_given_nothing_that_it_would_not_take() {
    let found = |change: fn(&mut CloudInit)| {
        let mut found = CloudInit::default();
        change(&mut found);
        Some(found)
    };
    let seed = format!("{NAME}{STATIC}[linux]\nmethod = 'cloud-init'\n");
    with_linux(&seed, |l| {
        l.cloud_init = found(|c| c.disabled_by = Some("/etc/cloud/cloud-init.disabled".into()))
    })
    .refused("it is disabled by /etc/cloud/cloud-init.disabled");
    with_linux(&seed, |l| {
        l.cloud_init = found(|c| c.network_loses = vec!["x says network:".into()])
    })
    .refused("would not take what it is given: x says network:; use linux.method = \"auto\"");
    with_linux(&seed, |l| {
        l.cloud_init = found(|c| c.name_loses = vec!["y".into()])
    })
    .refused("would not take what it is given: y");
    // The template sets no addresses.
    let name_only = format!("{NAME}[linux]\nmethod = 'cloud-init'\n");
    with_linux(&name_only, |l| {
        l.cloud_init = found(|c| c.network_loses = vec!["x".into()])
    })
    .fine();

    let setting = |key: &str, value: &str| Setting {
        place: "/etc/cloud/cloud.cfg.d/zzzz.cfg".into(),
        key: key.into(),
        value: value.into(),
    };
    let stronger = |key: &str, value: &str, made: bool| {
        Some(CloudInit {
            stronger: vec![setting(key, value)],
            accounts_made: made,
            ..CloudInit::default()
        })
    };
    for (key, template) in [
        ("preserve_hostname", NAME),
        ("manage_etc_hosts", NAME),
        ("network", STATIC),
        ("ip", STATIC),
    ] {
        with_linux(template, |l| l.cloud_init = stronger(key, "", false)).refused(&format!(
            "/etc/cloud/cloud.cfg.d/zzzz.cfg says {key}, which counts more"
        ));
        with_linux("[linux]\nregenerate = []\n", |l| {
            l.cloud_init = stronger(key, "", false)
        })
        .fine();
    }
    let user = "[[user]]\nname = 'lab'\n";
    with_linux(user, |l| l.cloud_init = stronger("users", "lab", false))
        .refused("says users with lab");
    with_linux(user, |l| l.cloud_init = stronger("users", "lab", true))
        .noted("makes the account lab again");
    with_linux(user, |l| l.cloud_init = stronger("users", "ann", false))
        .noted("makes the account ann again");

    let accounts = |made| {
        Some(CloudInit {
            accounts: vec!["ubuntu".into()],
            accounts_made: made,
            ..CloudInit::default()
        })
    };
    with_linux(NAME, |l| l.cloud_init = accounts(true))
        .noted("the distribution's account stays as the master has it, password included: ubuntu");
    with_linux(NAME, |l| l.cloud_init = accounts(false))
        .noted("makes the distribution's account at the first start: ubuntu");
    with_linux(user, |l| l.cloud_init = accounts(false))
        .noted("makes no accounts of its configuration any more (ubuntu)");
    with_linux(NAME, |l| {
        l.cloud_init = found(|c| c.unknown = vec!["user-data is a script".into()])
    })
    .noted("what it does cannot be told: user-data is a script");
    // `auto` uses files even when cloud-init is installed, and keeps cloud-init from changing them.
    let plan = with_linux(&format!("{NAME}{STATIC}{user}"), |l| {
        l.cloud_init = accounts(false)
    })
    .fine();
    let kept = plan.steps.iter().find_map(|step| match &step.action {
        Action::LinuxCloudInitKeeps { keeps, .. } => Some(keeps.clone()),
        _ => None,
    });
    assert_eq!(
        kept,
        Some(vec![
            Kept::Name,
            Kept::Network,
            Kept::Accounts,
            Kept::HostKeys
        ])
    );
    assert!(
        !plan
            .steps
            .iter()
            .any(|step| matches!(step.action, Action::LinuxCloudInit { .. }))
    );
}

#[test]
fn a_network_that_is_not_written_for_is_refused_by_name() {
    with_linux(STATIC, |l| l.network_by = Some("wicked".into()))
        .refused("wicked configures its network");
    with_linux(STATIC, |l| {
        l.beyond_cards = vec!["/etc/netplan/a.yaml (bridges: br0)".into()]
    })
    .refused("would lose their cards (/etc/netplan/a.yaml (bridges: br0))");
    with_linux(STATIC, |l| (l.systemd, l.udev) = (false, false))
        .refused("without udev none can be named by its MAC");
    with_linux(STATIC, |l| (l.systemd, l.udev) = (false, true)).fine();
    with_linux(STATIC, |l| l.renderers = Vec::new())
        .refused("nothing known configures its network");
    // The template sets no addresses.
    with_linux(NAME, |l| l.network_by = Some("wicked".into())).fine();
}

#[test]
fn administrators_are_refused_where_they_could_do_nothing() {
    let user = "[[user]]\nname = 'lab'\ngroups = ['administrators']\n";
    with_linux(user, |l| l.admin_group = None).refused("has neither a group sudo nor wheel");
    with_linux(user, |l| l.sudo = None).refused("has no sudo, so nobody can be in administrators");
    let sudo = |grants, reads_folder| {
        Some(Sudo {
            grants,
            reads_folder,
        })
    };
    with_linux(user, |l| l.sudo = sudo(false, false)).refused("gives its administrators nothing");
    for (grants, reads_folder) in [(true, false), (false, true)] {
        let plan = with_linux(user, |l| l.sudo = sudo(grants, reads_folder)).fine();
        // The plan does not name the group: the agent also makes sure of its rights.
        let groups = plan.steps.iter().find_map(|step| match &step.action {
            Action::LinuxUser { user, .. } => Some(user.groups.clone()),
            _ => None,
        });
        assert_eq!(groups, Some(vec![Group::Administrators]));
    }
}

#[test]
fn what_the_agent_would_refuse_on_linux_is_refused_before_anything_is_sent() {
    let user =
        |name: &str, group: &str| format!("[[user]]\nname = '{name}'\ngroups = ['{group}']\n");
    on_linux(&user("lab", "Docker")).refused(
        "user 1: partition 2 (Debian GNU/Linux 12 (bookworm)) has no group Docker; it has docker",
    );
    on_linux(&user("lab", "wireshark")).refused("has no group wireshark");
    on_linux(&user("lab", "lab")).fine();
    on_linux(&user("www-data", "docker")).refused("www-data is an account of partition 2");
    with_linux("", |l| l.host_keys = false).fine();
    with_linux(NAME, |l| l.host_keys = false)
        .refused("leave ssh-host-keys out of linux.regenerate");
    with_linux(
        &format!("{NAME}[linux]\nregenerate = ['machine-id']\n"),
        |l| l.host_keys = false,
    )
    .fine();

    let mount = |volume: fstab::Name, path: &str| fstab::Entry {
        volume,
        path: path.into(),
        subvolume: false,
    };
    let lvm = |path: &str| mount(fstab::Name::Other("/dev/mapper/vg-x".into()), path);
    let copy = |to: &str| format!("[[copy]]\nfrom = 'a'\nto = '{to}'\n");
    let at = |template: &str, mounts: Vec<fstab::Entry>| {
        let mut case = with_linux(template, |l| l.mounts = mounts);
        case.files.copies = vec![one_file("a")];
        case.findings.partitions[0] = partition(1, Some(FileSystem::Xfs));
        case.findings.partitions[0].uuid = Some("ABCD".into());
        case
    };
    at(&copy("/srv/a"), vec![lvm("/srv")])
        .refused("/srv/a would lie on /dev/mapper/vg-x, which is mounted at /srv");
    at(&copy("/srva"), vec![lvm("/srv")])
        .noted("/srv lies on /dev/mapper/vg-x and stays as the master has it");
    at(
        &copy("/srv/a"),
        vec![mount(fstab::Name::Uuid("abcd".into()), "/srv")],
    )
    .fine();
    at(&user("lab", "docker"), vec![lvm("/home")])
        .refused("the home of a new account, /home/lab, would lie on /dev/mapper/vg-x");
    at("[[run]]\ncommand = 'x'\n", vec![lvm("/var")])
        .refused("what runs at first boot, in /var/lib/diskcast, would lie on");
    at(NAME, vec![lvm("/boot")]).fine();
    // A file written there is hidden by the mount.
    let memory = |path: &str| vec![mount(fstab::Name::Memory, path)];
    at(&copy("/var/log/lab/a"), memory("/var/log")).refused(
        "/var/log/lab/a would lie below /var/log, which is in memory and empty at every start",
    );
    let beside = at(&copy("/opt/a"), memory("/var/log")).fine();
    assert_eq!(beside.notes, [""; 0]);

    let mut large = at(&copy("/opt/a"), Vec::new());
    large.files.copies[0][0].payload.bytes = (1 << 30) + 1;
    large.refused("1073745920 bytes, and 1073741824 are free");
    large.grown = Some(2);
    large.fine();
}

#[test]
fn ids_of_storage_and_management_are_renewed_and_a_keytab_is_named() {
    let case = with_linux(NAME, |l| {
        l.host_ids = vec!["/etc/nvme/hostid".into()];
        l.keytab = true;
    });
    case.noted("/etc/krb5.keytab has the keys of the master");
    assert!(case.ids().contains(&"linux.host-ids".to_owned()));
    let kept = with_linux("[linux]\nregenerate = []\n", |l| {
        l.host_ids = vec!["/etc/nvme/hostid".into()]
    });
    assert_eq!(kept.ids(), [""; 0]);
}
