//! Plans: their printed form, and every reason to refuse.

mod case;
mod drivers;
mod linux;
#[path = "../snapshot/mod.rs"]
mod snapshot;
mod windows;

use case::*;
use std::fmt::Write as _;
use template::findings::{Arch, CloudInit, Findings, Obstacle, System};
use template::machine::{CopiedFile, Files, Machine};
use template::plan::{lines, secrets};
use template::step::{Action, AfterApply, FirstBootEnd, MachinePlan};

/// A case that uses every part of a template.
fn full(case: Case, copy_to: &str) -> Case {
    let template = format!(
        "end = 'restart'\ngrow = '3'\n{NAME}{STATIC}{DOMAIN}{}{USER}\
         [[driver]]\npath = 'drivers/viostor'\nboot_critical = true\n[[driver]]\npath = 'drivers/other'\n\
         [[copy]]\nfrom = 'a.msi'\nto = '{copy_to}'\nexecute = true\narguments = 'X=1'\n\
         [[run]]\ncommand = 'echo done'\n",
        case.template
    );
    let mut other = package();
    for section in &mut other.infs[0].1.makers[0].sections {
        section
            .models
            .retain(|model| model.hardware_ids[0].ends_with("9A0B"));
    }
    Case {
        template,
        files: Files {
            copies: vec![one_file("a.msi")],
            drivers: vec![package(), other],
        },
        machine: Machine {
            pci: vec![
                device(0x1af4, 0x1001, 0x010000),
                device(0x144d, 0xa808, 0x010802),
            ],
            ..machine()
        },
        grown: Some(3),
        ..case
    }
}

#[test]
fn plans_as_they_are_printed() {
    let mut text = String::new();
    let mut show = |title: &str, case: &Case| {
        let _ = writeln!(text, "== {title}\n{}\n", lines(&case.plan()).join("\n"));
    };
    show(
        "windows, everything",
        &full(
            on_windows("[windows]\nsid = 'rewrite'\n"),
            "C:\\Deploy\\a.msi",
        ),
    );
    show(
        "windows, generalised, everything",
        &full(
            with_windows("[windows]\nsid = 'sysprep'\nlocale = 'de-DE'\n", |w| {
                w.generalised = true
            }),
            "C:\\Deploy\\a.msi",
        ),
    );
    show(
        "windows, a workgroup",
        &on_windows("[membership]\nworkgroup = 'ROOM1'\n"),
    );
    let mut seven = with_windows(NAME, |w| *w = windows_7());
    seven.machine.pci.push(device(0x8086, 0x7111, 0x010180));
    show("windows 7, a name", &seven);
    let mut files = on_linux(&format!(
        "end = 'none'\n{NAME}{STATIC}{USER}[[copy]]\nfrom = 'a'\nto = '/opt/a'\nexecute = true\n[[copy]]\nfrom = 'b'\nto = '/opt/b'\n\
         [[run]]\ncommand = 'true'\n"
    ));
    files.template = files
        .template
        .replace(", 'Technicians'", ", 'docker', 'users', 'power-users'");
    files.grown = Some(2);
    let part = |relative: &str| CopiedFile {
        relative: relative.into(),
        payload: payload(relative),
    };
    files.files.copies = vec![one_file("a"), vec![part("x/1.txt"), part("2.txt")]];
    show("linux, everything", &files);
    show(
        "linux, cloud-init",
        &with_linux(
            &format!("{NAME}{STATIC}[linux]\nmethod = 'cloud-init'\n"),
            |l| l.cloud_init = Some(CloudInit::default()),
        ),
    );
    show(
        "linux, cloud-init is told to leave things alone",
        &with_linux(&format!("{NAME}{STATIC}[[user]]\nname = 'lab'\n"), |l| {
            l.cloud_init = Some(CloudInit {
                accounts: vec!["ubuntu".into()],
                ..CloudInit::default()
            });
        }),
    );
    show(
        "refused",
        &with_windows(&format!("{NAME}{DOMAIN}[windows]\nsid = 'keep'\n"), |w| {
            w.domain = Some("old.example".into());
            w.edition = Some("Core".into());
            w.build = 26_100;
            w.obstacles = vec![];
        }),
    );
    snapshot::hold("plans/printed.txt", &text);
}

#[test]
fn the_whole_plan_crosses_as_json_and_comes_out_the_same_twice() {
    let case = full(
        on_windows("[windows]\nsid = 'rewrite'\n"),
        "C:\\Deploy\\a.msi",
    );
    let plan = case.plan();
    assert_eq!(case.plan(), plan);
    let json = serde_json::to_string_pretty(&plan).unwrap();
    assert_eq!(serde_json::from_str::<MachinePlan>(&json).unwrap(), plan);
    snapshot::hold("plans/windows.json", &json);
}

#[test]
fn a_template_that_changes_nothing_fits_any_image() {
    let mut case = on_windows("end = 'restart'\nimage = 'x'\n");
    assert_eq!(case.plan(), MachinePlan::default());
    case.findings = Findings::default();
    assert_eq!(case.plan(), MachinePlan::default());
    // The partition may still grow.
    case.grown = Some(3);
    case.noted("it was not looked at");
    case.findings = findings(vec![]);
    assert_eq!(case.ids(), ["grow"]);
    case.grown = Some(1);
    case.noted("FAT cannot be made larger");
    case.grown = Some(4);
    case.noted("no file system that is known");
    case.findings.partitions[2]
        .obstacles
        .push(Obstacle::BitLocker);
    case.grown = Some(3);
    case.noted("encrypted by BitLocker");
}

#[test]
fn one_system_has_to_be_meant() {
    let mut case = on_windows(NAME);
    case.findings = findings(vec![]);
    case.refused("no system was found on the image");
    case.findings.partitions[1].obstacles.push(Obstacle::Luks);
    case.refused("partition 2: the volume is encrypted by LUKS");

    let dual = || {
        vec![
            System::Windows(Box::new(windows())),
            System::Linux(Box::new(linux())),
        ]
    };
    case.findings = findings(dual());
    case.refused("more than one system is on the image; say which with windows.partition or linux.partition; found: partition 3");
    let chosen = |template: &str| Case {
        findings: findings(dual()),
        ..on_windows(&format!("{NAME}{template}"))
    };
    assert!(
        chosen("[windows]\npartition = 3\n")
            .ids()
            .contains(&"windows.name".into())
    );
    assert!(
        chosen("[linux]\npartition = 2\n")
            .ids()
            .contains(&"linux.hostname".into())
    );
    chosen("[windows]\npartition = 2\n").refused("more than one system");
    chosen("[windows]\npartition = 3\n[linux]\npartition = 2\n").refused("name a system each");
    on_windows(&format!("{NAME}[windows]\npartition = 1\n"))
        .refused("windows.partition is 1, and no such system is there");
}

#[test]
fn what_was_not_handed_out_is_refused() {
    let mut case = on_windows(NAME);
    case.binding = None;
    case.refused("no name was handed out");
    let mut case = on_linux(STATIC);
    case.binding = None;
    case.refused("no address was handed out");
    let mut case = on_windows(NAME);
    case.binding.as_mut().unwrap().name = Some("SIXTEEN-LETTERS-X".into());
    case.refused("Windows takes 15");
    let mut case = on_linux(NAME);
    case.binding.as_mut().unwrap().name = Some("SIXTEEN-LETTERS-X".into());
    case.fine();
}

#[test]
fn cards() {
    let first_boot = |case: &Case| {
        let last = case
            .fine()
            .steps
            .into_iter()
            .rev()
            .find(|step| step.id == "firstboot");
        last.is_some_and(|step| step.what.contains("network.1"))
    };
    // A card the master knew is edited offline, another one at first boot; a card with DHCP needs
    // no step.
    let known = with_windows(STATIC, |w| {
        w.interfaces[0].mac = Some("52:54:00:00:00:01".into())
    });
    assert!(known.ids().contains(&"windows.tcpip.1".into()) && !first_boot(&known));
    assert!(first_boot(&on_windows(STATIC)));
    let dhcp = "[network]\nmode = 'dhcp'\n";
    assert!(!first_boot(&on_windows(dhcp)));
    let known = with_windows(dhcp, |w| {
        w.interfaces[0].mac = Some("52:54:00:00:00:01".into())
    });
    assert!(known.ids().contains(&"windows.tcpip.1".into()));
    assert!(first_boot(&on_windows(&format!(
        "{dhcp}dns = ['10.0.0.1']\n"
    ))));

    on_windows(&format!("{dhcp}nic = 'mac:02:00:00:00:00:09'\n"))
        .refused("which this machine does not have (it has 52:54:00:00:00:01,");
    let mut none = on_linux(dhcp);
    (none.machine.macs, none.machine.boot_mac) = (vec![], None);
    none.refused("no network card that could be configured");
    let all = on_linux(&format!("{dhcp}nic = 'all'\n")).fine();
    let both = all
        .steps
        .iter()
        .any(|step| matches!(&step.action, Action::LinuxNetwork { nics, .. } if nics.len() == 2));
    assert!(both);
    with_linux(dhcp, |l| l.renderers.clear()).refused("nothing known configures its network");
}

#[test]
fn accounts() {
    let user = |rest: &str| format!("[[user]]\nname = {rest}\n");
    on_windows(&user("'a-name-of-more-than-20'")).refused("Windows takes 20");
    on_windows(&user("'a.'")).refused("ends with a dot");
    on_windows(&format!("{NAME}{}", user("'lab-07'"))).refused("the name of the machine");
    on_windows(&user("'gast'\non_exists = 'fail'")).refused("has an account gast already");
    on_windows(&user("'gast'\non_exists = 'skip'")).noted("stays as it is");
    on_linux(&user("'Lab Admin'")).refused("cannot be an account of Linux");
    on_linux(&user("'old'\non_exists = 'fail'")).refused("has an account old already");
    on_linux(&user("'old'\non_exists = 'skip'")).noted("stays as it is");
    with_linux(&user("'a'\ngroups = ['administrators']"), |l| {
        l.admin_group = None
    })
    .refused("neither a group sudo nor wheel");
}

#[test]
fn files_and_programs() {
    let copy = |to: &str, rest: &str| format!("[[copy]]\nfrom = 'x'\nto = '{to}'\n{rest}");
    let with = |mut case: Case, files: Vec<CopiedFile>| {
        case.files.copies = vec![files];
        case
    };
    let part = |relative: &str| CopiedFile {
        relative: relative.into(),
        payload: payload(relative),
    };
    with(on_windows(&copy("/opt/x", "")), one_file("x"))
        .refused("is a path of Linux, and the image holds Windows");
    with(on_linux(&copy("C:\\x", "")), one_file("x"))
        .refused("is a path of Windows, and the image holds Linux");
    with(on_linux(&copy("/opt/x", "")), vec![]).refused("x has no file; check its path");
    with(on_windows(&copy("C:\\x", "")), vec![part("a/../../b")]).refused("would leave its place");
    with(on_windows(&copy("C:\\x", "")), vec![part("con.txt")]).refused("Windows cannot have");
    with(on_windows(&copy("C:\\x", "")), vec![part("a"), part("A")])
        .refused("two files would be C:\\x\\A");
    assert_eq!(
        with(on_linux(&copy("/x", "")), vec![part("a"), part("A")])
            .ids()
            .len(),
        4
    );
    with(
        on_linux(&copy("/x", "execute = true\n")),
        vec![part("a"), part("b")],
    )
    .refused("is a folder and cannot be run");
    let long = format!("[[run]]\ncommand = '{}'\n", "x".repeat(8001));
    on_windows(&long).refused("8001 characters, 8000 are the most");

    let command = |to: &str| {
        let case = with(
            on_windows(&copy(to, "execute = true\narguments = '/s'\n")),
            one_file("x"),
        );
        let plan = case.fine();
        let line = lines(&plan)
            .into_iter()
            .find(|line| line.contains("execute.1: run"))
            .unwrap();
        line.trim().trim_start_matches("execute.1: run ").to_owned()
    };
    for (to, want) in [
        (
            "C:/Deploy/app.MSI",
            "msiexec.exe /i \"C:\\Deploy\\app.MSI\" /qn /norestart /s",
        ),
        ("C:\\a b\\setup.exe", "\"C:\\a b\\setup.exe\" /s"),
        (
            "C:\\x.ps1",
            "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -File \"C:\\x.ps1\" /s",
        ),
        ("C:\\x.reg", "reg.exe import \"C:\\x.reg\" /s"),
    ] {
        assert_eq!(command(to), want);
    }
}

#[test]
fn first_boot_has_to_be_possible() {
    let run = "[[run]]\ncommand = 'x'\n";
    with_windows(run, |w| w.arch = Arch::X86)
        .refused("the first-boot program needs 64-bit Windows 7");
    with_windows(run, |w| w.version = (6, 0))
        .refused("the first-boot program needs 64-bit Windows 7");
    with_linux(run, |l| l.systemd = false)
        .refused("it has no systemd, so nothing can run at first boot");
    with_linux("[linux]\nregenerate = []\n", |l| l.systemd = false).fine();
    with_linux("[linux]\nmethod = 'cloud-init'\n", |_| {})
        .refused("linux.method is cloud-init, and the image has none");
    with_windows(NAME, |w| (w.generalised, w.version) = (true, (5, 1)))
        .refused("answer files are known for");
    with_windows(NAME, |w| (w.generalised, w.arch) = (true, Arch::Other))
        .refused("answer files are known for");
}

/// `[first_start]` when something runs at the first start anyway, always, and never; and on systems
/// that cannot report.
#[test]
fn the_first_start_is_reported_as_the_template_says() {
    let reports = |case: Case| {
        let plan = case.fine();
        (plan.reports_first_start(), plan.consoles)
    };
    const RUN: &str = "[[run]]\ncommand = 'echo done'\n";
    let ask = |report: &str| format!("[first_start]\nreport = {report}\n");
    let nowhere: Vec<String> = Vec::new();
    for on in [on_windows, on_linux] {
        assert_eq!(reports(on(NAME)), (false, nowhere.clone()));
        assert_eq!(reports(on(RUN)), (true, nowhere.clone()));
        let never = format!("{}{RUN}", ask("false"));
        assert_eq!(reports(on(&never)), (false, nowhere.clone()));
        let alone = on(&format!("end = 'restart'\n{}", ask("true"))).fine();
        assert!(alone.reports_first_start());
        assert_eq!(alone.after, AfterApply::RestartForFirstBoot);
        let Some(Action::FirstBoot { job, .. }) = alone.steps.last().map(|step| &step.action)
        else {
            panic!("{alone:#?}");
        };
        assert!(job.steps.is_empty() && job.end == FirstBootEnd::Restart);
        let also = format!("{RUN}[first_start]\nconsole = ['10.1.0.5:5003']\n");
        assert_eq!(reports(on(&also)), (true, vec!["10.1.0.5:5003".to_owned()]));
        let said = lines(&on(&also).plan()).join("\n");
        assert!(
            said.contains("reports its first start to the console, also at 10.1.0.5:5003"),
            "{said}"
        );
    }
    with_linux(&ask("true"), |linux| linux.systemd = false).refused("first_start.report = false");
    with_linux(NAME, |linux| linux.systemd = false).fine();
    let nothing = Case {
        findings: Findings::default(),
        ..on_linux(&ask("true"))
    };
    nothing.refused("no system was found");
}

#[test]
fn the_end_action_goes_where_the_last_step_is() {
    for (word, want) in [
        ("shutdown", FirstBootEnd::Shutdown),
        ("restart", FirstBootEnd::Restart),
        ("none", FirstBootEnd::None),
    ] {
        let plan = on_windows(&format!("end = '{word}'\n[[run]]\ncommand = 'x'\n")).fine();
        assert_eq!(plan.after, AfterApply::RestartForFirstBoot);
        let end = plan.steps.into_iter().find_map(|step| match step.action {
            Action::FirstBoot { job, .. } => Some(job.end),
            _ => None,
        });
        assert_eq!(end, Some(want));
        assert_eq!(
            on_windows(&format!("end = '{word}'\n{NAME}")).fine().after,
            AfterApply::EndAction
        );
    }
}

#[test]
fn secrets_are_named_and_never_held() {
    let named = |case: &Case| -> Vec<String> {
        let plan = case.fine();
        assert!(!serde_json::to_string(&plan).unwrap().contains("ref:"));
        secrets(&plan)
            .iter()
            .map(|(name, form)| format!("{} {form:?}", name.0))
            .collect()
    };
    let template = format!("{NAME}{DOMAIN}{USER}");
    assert_eq!(
        named(&on_windows(&template)),
        ["join.blob JoinBlob", "user.labadmin.password Password"]
    );
    assert_eq!(
        named(&with_windows(&template, |w| w.generalised = true)),
        ["user.labadmin.password Password", "join.blob JoinBlob"]
    );
    assert_eq!(named(&on_linux(USER)), ["user.labadmin.password CryptHash"]);
}

#[test]
fn a_suffix_needs_a_place_to_be() {
    let suffix = "[network]\nsuffix = 'lab.example'\n";
    // Without a new name the master's name stays.
    let plan = on_windows(suffix).fine();
    let named = plan.steps.iter().any(|step| {
        matches!(&step.action, Action::WindowsName { name, suffix: Some(_), .. } if name == "MASTER")
    });
    assert!(named);
    with_windows(suffix, |w| w.generalised = true).noted("network.suffix is left out");
    on_linux(suffix).noted("network.suffix is left out");
}
