//! cloud-init's own stages run in a system after apply, and what the plan promises holds
//! afterwards.
//!
//! The whole way: a Debian with cloud-init, laid out as Subiquity leaves an Ubuntu Server, is
//! inspected, planned, applied on a real disk file, and started as far as cloud-init is concerned.
//! Making it takes minutes and 350 MB, so this test belongs to the full run only.
#![allow(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "the edge: tests make files and run programs"
)]

mod ext_disk;

use ext_disk::{Attached, Disk, Files, may_mount, tool};
use std::fs;
use std::path::Path;
use std::process::Command;
use template::bind::Binding;
use template::findings::{Findings, System};
use template::machine::{self, Machine};
use template::plan::{PlanRequest, plan};
use template::secrets::Secrets;
use template::step::{MachinePlan, SecretName};

/// Size of the file system in MiB: the tree and some free space.
const SIZE: u64 = 900;

const MAC: &str = "52:54:00:aa:bb:01";

/// Files of cloud-init that Subiquity of Ubuntu 22.04 leaves.
const SUBIQUITY: [(&str, &str); 4] = [
    (
        "etc/cloud/cloud.cfg.d/99-installer.cfg",
        "datasource:\n  None:\n    metadata: {instance-id: 4d7a7c5f-6f7e-4d1c-8f43-2d0f2a8a7a10}\n    userdata_raw: \"#cloud-config\\n\
         growpart: {mode: 'off'}\\npreserve_hostname: true\\nresize_rootfs: false\\nssh_pwauth: true\\nusers:\\n- name: lab\\n  \
         lock_passwd: false\\n  passwd: '*'\\n  shell: /bin/bash\\n\"\ndatasource_list: [None]\n",
    ),
    (
        "etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg",
        "network: {config: disabled}\n",
    ),
    ("etc/cloud/ds-identify.cfg", "policy: enabled\n"),
    (
        "etc/netplan/00-installer-config.yaml",
        "{network: {version: 2, ethernets: {enp0s3: {dhcp4: true}}}}\n",
    ),
];

/// One start from cloud-init's point of view: its generator, then its stages. `$1` is the root; the
/// host name is set from /etc/hostname, as systemd does before.
const START: &str = "set -e\nroot=$1\nmount -t proc proc $root/proc\nmount -t sysfs sysfs $root/sys\nmount -t tmpfs tmpfs $root/run\n\
    mount -t tmpfs tmpfs $root/dev\nmknod -m 666 $root/dev/null c 1 3\nmknod -m 666 $root/dev/urandom c 1 9\n\
    mknod -m 666 $root/dev/random c 1 8\nhostname \"$(cat $root/etc/hostname)\"\nip link set lo up\n\
    ip link add enp0s3 address 52:54:00:aa:bb:01 type veth peer name far\n\
    chroot $root /usr/lib/cloud-init/ds-identify --force\n\
    for stage in 'init --local' init 'modules --mode=config' 'modules --mode=final'; do chroot $root cloud-init $stage; done\n\
    echo \"it is called $(hostname)\"\n";

/// Makes the master once, as a folder.
fn master(folder: &Path) {
    let include = "--include=cloud-init,netplan.io,systemd-sysv,iproute2,sudo,openssh-server,udev";
    let at = folder.display().to_string();
    tool(
        "mmdebstrap",
        &["--quiet", "--variant=minbase", include, "bookworm", &at],
    );
    for (path, text) in SUBIQUITY {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    // The distribution's default locale is not installed here.
    let locale = folder.join("etc/cloud/cloud.cfg.d/10-locale.cfg");
    fs::write(locale, "locale: C.UTF-8\n").unwrap();
    fs::write(folder.join("etc/hostname"), "master\n").unwrap();
    fs::write(
        folder.join("etc/hosts"),
        "127.0.0.1 localhost\n127.0.1.1 master\n",
    )
    .unwrap();
}

/// A disk with the master's tree on it.
fn disk(master: &Path, change: impl Fn(&Path)) -> Disk {
    let disk = Disk::new(&[SIZE]);
    let tree = disk.folder.path().join("tree");
    let (from, to) = (master.display().to_string(), tree.display().to_string());
    tool("cp", &["-a", &from, &to]);
    change(&tree);
    let size = format!("{SIZE}m");
    let place = format!("offset={}", disk.slots[0].offset);
    let file = disk.file.display().to_string();
    tool(
        "mke2fs",
        &[
            "-q", "-t", "ext4", "-F", "-E", &place, "-d", &to, &file, &size,
        ],
    );
    fs::remove_dir_all(tree).unwrap();
    disk
}

fn findings(disk: &Disk) -> Findings {
    let device = Attached::new(disk, 1);
    let findings = inspect::disk([inspect::Slice {
        number: 1,
        length: SIZE * ext_disk::MIB,
        reader: Box::new(fs::File::open(&device.0).unwrap()),
    }]);
    assert!(
        matches!(findings.systems.as_slice(), [System::Linux(_)]),
        "{findings:?}"
    );
    findings
}

fn planned(disk: &Disk, more: &str) -> MachinePlan {
    let text = format!(
        "schema = 1\n[identity]\nhostname = 'pc-{{nn}}'\n[network]\nmode = 'static'\nrange = '10.20.0.50-10.20.0.99'\nprefix = 24\n\
         gateway = '10.20.0.1'\nsuffix = 'lab.example'\n{more}"
    );
    let template = template::schema::parse(&text).unwrap();
    let mac = MAC.parse().unwrap();
    plan(&PlanRequest {
        template: &template,
        machine: &Machine {
            macs: vec![mac],
            boot_mac: Some(mac),
            ..Machine::default()
        },
        binding: Some(&Binding {
            macs: vec![mac],
            name: Some("pc-07".into()),
            address: Some([10, 20, 0, 57].into()),
            seed: [7; 12],
            ..Binding::default()
        }),
        findings: &findings(disk),
        files: &machine::Files::default(),
        grown: None,
    })
}

/// Applies the plan, runs cloud-init's stages, and returns their output.
fn started(disk: &Disk, plan: &MachinePlan) -> String {
    assert_eq!(plan.refused, Vec::<String>::new());
    let mut secrets = Secrets::default();
    let hash = tool("mkpasswd", &["-m", "yescrypt", "correct horse"]);
    secrets.insert(
        SecretName("user.debian.password".into()),
        hash.trim().to_owned(),
    );
    disk.run_plan(plan, &secrets, &Files::default()).unwrap();
    let device = Attached::new(disk, 1);
    let root = disk.folder.path().join("root");
    fs::create_dir_all(&root).unwrap();
    let at = root.display().to_string();
    // Mounted in a mount namespace of its own, which ends together with its mounts.
    let script = format!("mount {} {at}\n{START}", device.0);
    let output = Command::new("unshare")
        .args([
            "--net", "--mount", "--uts", "--pid", "--fork", "sh", "-c", &script, "sh", &at,
        ])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn cloud_inits_own_stages_leave_an_ubuntu_server_as_the_plan_says() {
    if std::env::var_os("DISKCAST_TEST_FULL").is_none() || !may_mount() {
        eprintln!("did not run: only in full, as root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let master_at = folder.path().join("master");
    master(&master_at);

    // The automatic choice is files, because everything in cloud-init's configuration is against a
    // seed; the account from the installer's user-data is named.
    let ubuntu = disk(&master_at, |_| {});
    let plan = planned(&ubuntu, "");
    assert!(
        plan.notes
            .iter()
            .any(|note| note.contains("at the first start: lab")),
        "{plan:?}"
    );
    let said = started(&ubuntu, &plan);
    assert!(said.contains("it is called pc-07\n"), "{said}");
    assert_eq!(ubuntu.cat(1, "/etc/hostname"), "pc-07\n");
    assert_eq!(
        ubuntu.cat(1, "/etc/hosts"),
        "127.0.0.1 localhost\n127.0.1.1\tpc-07.lab.example pc-07\n"
    );
    let netplan = ubuntu.debugfs(1, "ls -p /etc/netplan");
    let files: Vec<&str> = netplan
        .split('/')
        .filter(|part| part.ends_with(".yaml"))
        .collect();
    assert_eq!(files, ["90-diskcast.yaml"]);
    assert!(ubuntu.cat(1, "/etc/passwd").contains("lab:x:1000:"));

    // A seed would have no effect there, and is refused.
    let seed = "[linux]\nmethod = 'cloud-init'\n";
    let refused = planned(&ubuntu, seed).refused;
    assert!(
        refused
            .iter()
            .any(|reason| reason
                .contains("subiquity-disable-cloudinit-networking.cfg says network:")),
        "{refused:?}"
    );

    // Without the installer's files a seed takes effect; the distribution's account, which has the
    // same name as ours, is not locked.
    let cloud = disk(&master_at, |tree| {
        for (path, _) in SUBIQUITY {
            if path.contains("cloud.cfg.d") {
                fs::remove_file(tree.join(path)).unwrap();
            }
        }
        fs::write(tree.join("etc/netplan/50-cloud-init.yaml"), SUBIQUITY[3].1).unwrap();
    });
    let user = "[[user]]\nname = 'debian'\npassword = 'ref:debian'\n";
    let plan = planned(&cloud, &format!("{seed}{user}"));
    let said = started(&cloud, &plan);
    assert!(said.contains("it is called pc-07\n"), "{said}");
    assert_eq!(cloud.cat(1, "/etc/hostname"), "pc-07\n");
    let written = cloud.cat(1, "/etc/netplan/50-cloud-init.yaml");
    assert!(
        written.contains("10.20.0.57/24") && written.contains(MAC) && !written.contains("enp0s3"),
        "{written}"
    );
    assert!(!cloud.has(1, "/etc/netplan/00-installer-config.yaml"));
    let shadow = cloud.cat(1, "/etc/shadow");
    assert!(shadow.contains("debian:$y$"), "{shadow}");
}
