//! Checks that the files and secrets which a template names exist.
//!
//! `template check` reports here what a deployment would refuse once machines wait for it. Files
//! are looked up on this machine, where the console looks for them too.

use super::secret::read_password;
use super::share::lies_on_share;
use super::template_file::Found;
use console::personal::missing_files;
use facts::failure::full_text;
use std::path::Path;
use template::import::{Listed, parse_list};
use template::schema::{JoinMethod, SecretUse, Template, share_name};
use template::values::SecretRef;

/// Largest list of machines that is read.
const MAX_LIST: u64 = 64 << 20;

/// Result of a look at everything a template names, one a line.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Named things that are missing or cannot be used.
    pub(super) missing: Vec<String>,
    /// Named things that could not be looked at, each with the reason.
    pub(super) unseen: Vec<String>,
}

/// Looks at every file and secret; `stored` are the names of the console's secrets, where one answered.
pub(super) fn look(found: &Found, stored: Option<&[String]>) -> Looked {
    let template = &found.template;
    let mut looked = Looked::default();
    let at = |path: &str| found.folder.join(path);
    match template.image.as_deref() {
        None => {}
        Some(image) if lies_on_share(image) => looked.unseen.push(format!(
            "image: {image} lies on a share, which the console mounts when it is deployed"
        )),
        Some(image) => {
            if let Err(reason) = check_file(&at(image)) {
                let line = format!("image: {}: {reason}", at(image).display());
                looked.missing.push(line);
            }
        }
    }
    let machines = match &template.identity.list {
        None => None,
        Some(list) => match read_list(&at(list)) {
            Ok(machines) => Some(machines),
            Err(reasons) => {
                let line = |reason| format!("identity.list: {}: {reason}", at(list).display());
                looked.missing.extend(reasons.into_iter().map(line));
                None
            }
        },
    };
    join(template, &found.folder, machines.as_deref(), &mut looked);
    looked
        .missing
        .extend(missing_files(template, &found.folder));
    let share = template.share_password.as_ref().map(|reference| SecretUse {
        name: share_name(),
        what: "password of the share".to_owned(),
        reference,
    });
    for wanted in share.into_iter().chain(template.secrets()) {
        secret(&wanted, found, stored, &mut looked);
    }
    looked
}

/// Machines of a list, or what is wrong with it.
fn read_list(path: &Path) -> Result<Vec<Listed>, Vec<String>> {
    check_file(path).map_err(|reason| vec![reason])?;
    let one = |error: &dyn std::fmt::Display| vec![error.to_string()];
    if std::fs::metadata(path).map_err(|error| one(&error))?.len() > MAX_LIST {
        return Err(one(&"it is too large for a list of machines"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| one(&error))?;
    parse_list(&text).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

/// The blobs of machines whose names are known, and every other one of the folder; or the program that is to make them.
fn join(template: &Template, folder: &Path, machines: Option<&[Listed]>, looked: &mut Looked) {
    let membership = &template.membership;
    if membership.domain.is_none() {
        return;
    }
    if membership.method == JoinMethod::Samba {
        if !domain::is_installed(Path::new("net")) {
            looked.missing.push(
                "membership.method: blobs are to be made with Samba, and its program `net` is missing on this machine; \
                 apt-get install samba-common-bin"
                    .into(),
            );
        }
        let domain = membership.domain.as_deref().unwrap_or_default();
        looked.unseen.push(format!(
            "membership.domain: {domain} is asked when a deployment begins, before anything is erased"
        ));
        return;
    }
    let Some(blobs) = &membership.blobs else {
        return;
    };
    let folder = folder.join(blobs);
    let found = match domain::blobs(&folder) {
        Ok(found) => found,
        Err(error) => {
            looked.missing.push(format!("membership.blobs: {error}"));
            return;
        }
    };
    let faults = found.iter().filter_map(|(_, blob)| blob.as_ref().err());
    let faults = faults.map(|error| format!("membership.blobs: {error}"));
    looked.missing.extend(faults);
    if found.is_empty() {
        let line = format!("membership.blobs: no blob is in {}", folder.display());
        looked.missing.push(line);
    }
    let named = machines.unwrap_or_default().iter();
    for name in named.filter_map(|machine| machine.name.as_deref()) {
        let has = |(machine, _): &domain::NamedBlob| machine.eq_ignore_ascii_case(name);
        if !found.is_empty() && !found.iter().any(has) {
            let line = format!(
                "membership.blobs: there is no {name}.blob in {}",
                folder.display()
            );
            looked.missing.push(line);
        }
    }
    if let Some(pattern) = &template.identity.hostname {
        looked.unseen.push(format!(
            "membership.blobs: that each machine named {pattern} has one is seen in the plan of a deployment, where names are known"
        ));
    }
}

fn secret(wanted: &SecretUse<'_>, found: &Found, stored: Option<&[String]>, looked: &mut Looked) {
    let what = &wanted.what;
    let fault = |value: &str| wanted.fault(value).map(str::to_owned);
    let reason = match wanted.reference {
        SecretRef::File(path) => match read_password(&found.folder.join(path)) {
            Ok(value) => fault(&value),
            Err(error) => Some(full_text(&error)),
        },
        SecretRef::Env(name) => match std::env::var(name) {
            Ok(value) => fault(&value),
            Err(_) => Some(format!("the environment has no {name}")),
        },
        SecretRef::Ref(name) => match stored {
            Some(stored) => (!stored.contains(name))
                .then(|| format!("the console has no secret {name}; diskcast secret set {name}")),
            None => {
                let line = format!(
                    "{what}: no console answers, so nobody knows if it has the secret {name}"
                );
                looked.unseen.push(line);
                None
            }
        },
        SecretRef::Ask => {
            let line = format!("{what}: it is asked for at each deployment");
            looked.unseen.push(line);
            None
        }
    };
    looked
        .missing
        .extend(reason.map(|reason| format!("{what}: {reason}")));
}

/// The path leads to a file that can be read.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line looks at files that people named"
)]
fn check_file(path: &Path) -> Result<(), String> {
    let found = std::fs::metadata(path).map_err(|error| error.to_string())?;
    match found.is_file() {
        true => std::fs::File::open(path)
            .map(drop)
            .map_err(|error| error.to_string()),
        false => Err("it is no file".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use template::schema::parse;

    /// A blob of LAB-01 in corp.example, whose password is `password`.
    const BLOB: &str = "ARAIAMzMzMwIAQAAAAAAAAAAAgABAAAAAQAAAAQAAgABAAAAAQAAAOQAAAAIAAIA5AAAAAEQCADMzMzM1AAAAAAAAAAAAAIAAAACAAAAAgD///\
        //////////////////////////////////////////////////////////////////////////////////////////////////////////////\
        ////////////////////DQAAAAAAAAANAAAAYwBvAHIAcAAuAGUAeABhAG0AcABsAGUAAAAAAAcAAAAAAAAABwAAAEwAQQBCAC0AMAAxAAAAAA\
        AJAAAAAAAAAAkAAABwAGEAcwBzAHcAbwByAGQAAAAAAA==";

    #[test]
    fn every_file_and_secret_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let text = "schema = 1\nimage = 'x.dcimg'\n[identity]\nlist = 'names.csv'\n[membership]\ndomain = 'corp.example'\nblobs = 'blobs'\n\
            [[user]]\nname = 'a'\npassword = 'file:pw'\n[[user]]\nname = 'b'\npassword = 'env:DISKCAST_TEST_NOT_SET'\n\
            [[user]]\nname = 'c'\npassword = 'ref:lab'\n[[user]]\nname = 'd'\npassword = 'ask'\n\
            [[copy]]\nfrom = 'app.msi'\nto = 'C:\\x'\n[[driver]]\npath = 'drivers'\n";
        let found = |template| Found {
            template,
            name: "lab".into(),
            folder: folder.path().to_owned(),
        };
        let template = || parse(text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let all = look(&found(template()), Some(&[])).missing;
        let keys: Vec<&str> = all
            .iter()
            .filter_map(|line| line.split(':').next())
            .collect();
        assert_eq!(
            keys,
            [
                "image",
                "identity.list",
                "membership.blobs",
                "copy.1.from",
                "driver.1.path",
                "password of a",
                "password of b",
                "password of c"
            ],
            "{all:#?}"
        );
        let put = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        for name in ["x.dcimg", "app.msi", "pw"] {
            put(name, "x\n");
        }
        put(
            "names.csv",
            "52:54:00:00:00:01,LAB-01,\n52:54:00:00:00:02,LAB-02,\n",
        );
        put(
            "drivers/card.inf",
            "[Version]\nSignature=\"$Windows NT$\"\n[Manufacturer]\na=Acme\n[Acme]\nd=Inst,PCI\\VEN_1234\n",
        );
        put("blobs/lab-01.BLOB", BLOB);
        put("blobs/LAB-02.blob", BLOB);
        put("blobs/LAB-03.txt", "<html>");
        put("blobs/readme.md", "no blob");
        let left = look(&found(template()), Some(&["lab".to_owned()]));
        let said = left.missing.join("\n");
        assert_eq!(left.missing.len(), 3, "{said}");
        for word in [
            "LAB-02.blob is for LAB-01, and not for LAB-02",
            "LAB-03.txt: not a join blob: it is not base64",
            "the environment has no DISKCAST_TEST_NOT_SET",
        ] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_eq!(
            left.unseen,
            ["password of d: it is asked for at each deployment"]
        );
        std::fs::remove_file(folder.path().join("blobs/LAB-02.blob")).unwrap();
        // Without a console nothing is known of its secrets, which is said.
        let alone = look(&found(template()), None);
        let said = alone.missing.join("\n");
        assert!(said.contains("there is no LAB-02.blob in"), "{said}");
        assert!(
            alone.unseen[0]
                .contains("no console answers, so nobody knows if it has the secret lab")
        );
        // What lies deeper: files of folders, drivers without one, lists with mistakes.
        std::fs::remove_file(folder.path().join("drivers/card.inf")).unwrap();
        put("drivers/AUTORUN.INF", "[autorun]\n");
        put("names.csv", "LAB-01\n");
        put("app/x", "x");
        std::os::unix::fs::symlink("nowhere", folder.path().join("app/broken")).unwrap();
        let deep = parse(&text.replace("app.msi", "app")).unwrap();
        let said = look(&found(deep), None).missing.join("\n");
        for word in [
            "identity.list: ",
            "line 1",
            "app/broken: No such file",
            "drivers: has no .inf of a driver",
        ] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }

    #[test]
    fn what_samba_needs_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("joiner"), "joiner\n").unwrap();
        let text = "schema = 1\nimage = '//fs/images/x.dcimg'\n[identity]\nhostname = 'LAB-{nn}'\n[membership]\ndomain = 'corp.example'\n\
            method = 'samba'\ncredential = 'file:joiner'\n";
        let template = parse(text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let looked = look(
            &Found {
                template,
                name: "lab".into(),
                folder: folder.path().to_owned(),
            },
            None,
        );
        let missing = looked.missing.join("\n");
        assert!(missing.contains("it is not USER%PASSWORD"), "{missing}");
        let unseen = looked.unseen.join("\n");
        for word in [
            "lies on a share",
            "corp.example is asked when a deployment begins",
        ] {
            assert!(unseen.contains(word), "{word}: {unseen}");
        }
    }
}
