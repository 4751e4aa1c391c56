//! Machines that join a job with a template after it was made: each gets its own identity, like
//! those of the start.

use crate::common::disk::bytes_at;
use crate::common::process::wait_for;
use crate::common::service::stories;
use crate::lab::Lab;
use crate::{DISK, master, name_of};

const TEMPLATE: &str = "schema = 1\nimage = \"master.dcimg\"\nend = \"none\"\n\
    [identity]\nhostname = \"lab-{nn}\"\ncase = \"keep\"\n\
    [network]\nmode = \"static\"\nrange = \"10.20.0.50-10.20.0.59\"\nprefix = 24\n\
    [linux]\n[[user]]\nname = \"labadmin\"\npassword = \"ref:labadmin\"\n";

/// `job add` used to refuse them, and `--also-new` let them in with the name of the master.
#[test]
fn a_newcomer_gets_a_name_and_an_address_of_its_own() {
    let mut lab = Lab::new("tn", 1, DISK, master);
    lab.secret("correct horse battery\n");
    let template = lab.file("lab.toml", TEMPLATE);
    let made = lab
        .deploy(&template, &["--start", "manual", "--yes", "--detach"])
        .ok();
    let job = made.last_of("job")["job"]
        .as_str()
        .expect("a job")
        .to_owned();
    let second = lab.newcomer();
    let waiting = wait_for("the newcomer to wait beside the job", || {
        let view = lab
            .console
            .cli(&["job", "show", &job, "--json"])
            .ok()
            .json();
        Some(view["newcomers"][0]["name"].as_str()?.to_owned())
    });
    let add = ["job", "add", &job, "--targets", &waiting];
    // Without a terminal it is shown, and nothing is done.
    let shown = lab.console.cli(&add).code(2);
    for word in ["lab-02", "10.20.0.51", "labadmin"] {
        assert!(shown.stdout.contains(word), "{word}: {}", shown.story());
    }
    let bound = lab.console.cli(&["binding", "list", "--json"]).ok().json();
    assert_eq!(bound["bindings"].as_array().map(Vec::len), Some(1));
    lab.console.cli(&[&add[..], &["--yes"]].concat()).ok();

    // The next console knows its identity too.
    lab.restart_console();
    lab.console.cli(&["job", "start", &job, "--yes"]).ok();
    let run = lab.console.cli(&["job", "wait", &job]);
    let story = stories(&lab.console, &lab.agents);
    assert_eq!(run.code, Some(0), "{}\n{story}", run.story());
    assert_eq!(name_of(&lab.agents[0].disk).trim(), "lab-01");
    assert_eq!(name_of(&second).trim(), "lab-02");
    lab.nowhere("correct horse battery");

    // The same by rule, on a blank disk: the confirmation named the name it gets.
    lab.all_leave();
    lab.agents.truncate(1);
    std::fs::File::create(&second)
        .and_then(|file| file.set_len(DISK))
        .expect("a blank disk");
    lab.start_again();
    // The other one is known and away: the rule means machines that are here, or come.
    let words = ["--targets", "state:ready", "--start", "2", "--also-new"];
    let planned = lab.deploy(&template, &[&words[..], &["--dry-run"]].concat());
    let plan = planned.ok().last_of("plan");
    assert_eq!(plan["targets"].as_array().map(Vec::len), Some(1));
    let made = lab.deploy(&template, &[&words[..], &["--yes", "--detach"]].concat());
    let made = made.ok().last_of("job");
    let job = made["job"].as_str().expect("a job");
    lab.rejoin(&second, 2);
    let run = lab.console.cli(&["job", "wait", job]);
    let story = stories(&lab.console, &lab.agents);
    assert_eq!(run.code, Some(0), "{}\n{story}", run.story());
    assert_eq!(name_of(&second).trim(), "lab-02");
    assert_ne!(bytes_at(&second, 510, 2), [0, 0]);
}
