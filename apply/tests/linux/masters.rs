//! Masters of other distributions: their renderers, labels, rights and ids.

use super::*;

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
