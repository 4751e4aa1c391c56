//! A Windows that joins a domain: the account is made by a domain controller, and the secrets on
//! the deployed disk open it.

use crate::common::full;
use crate::common::windows::{self, TEN};
use crate::lab::Lab;

#[path = "../../domain/tests/support/controller.rs"]
mod controller;

use self::controller::{ADMIN, Controller, uses_the_blob};

#[test]
#[allow(clippy::print_stdout, reason = "a test that tells why it did not run")]
fn a_blob_of_a_domain_controller_reaches_the_disk_and_opens_the_account() {
    if !full() {
        println!("did not run: the domain controller takes half a minute, and runs with --full");
        return;
    }
    let (Some(real), Some(controller)) = (windows::hives::real(), Controller::start()) else {
        return;
    };
    // A controller does this by itself after a while: then LDAP uses Kerberos, as in the field.
    controller.samba_tool(&["spn", "add", "ldap/dc1.corp.example", "DC1$"]);
    let blob = controller.provision("LAB-01", "Administrator", ADMIN).run();
    let blob = blob.expect("a blob");
    let lab = Lab::new("td", 1, 112 << 20, |folder| TEN.capture(folder, &real));
    let folder = lab.folder.path().to_owned();
    std::fs::create_dir(folder.join("blobs")).expect("a folder");
    // The form that djoin writes.
    let units = [0xFEFF]
        .into_iter()
        .chain(blob.text().encode_utf16())
        .chain([0]);
    let bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
    std::fs::write(folder.join("blobs/LAB-01.blob"), bytes).expect("a blob");
    let template = lab.file(
        "domain.toml",
        "schema = 1\nimage = \"master.dcimg\"\nend = \"none\"\n[identity]\nhostname = \"LAB-{nn}\"\n\
         [membership]\ndomain = \"corp.example\"\nblobs = \"blobs\"\n",
    );
    let shown = lab.deploy(&template, &["--dry-run"]).ok();
    assert!(
        shown.stdout.contains("it joins corp.example"),
        "{}",
        shown.story()
    );
    let deployed = lab.deploy(&template, &["--yes"]);
    lab.all_done(&deployed);
    assert!(!deployed.stdout.contains(blob.text()), "a blob is a secret");
    let job = windows::cat(
        &lab.agents[0].disk,
        "ProgramData/diskcast/firstboot.job",
        &folder.join("read-job"),
    );
    let job = std::fs::read_to_string(job).expect("a text");
    let found = job.lines().find_map(|line| line.strip_prefix("blob ="));
    let found = found.unwrap_or_else(|| panic!("no blob in {job}"));
    assert_eq!(found, blob.text());
    uses_the_blob(&controller, found);
}
