//! Checks that the files and secrets which a template names exist.
//!
//! `template check` reports here what a deployment would refuse once machines wait for it. Files
//! are looked up on this machine, where the console looks for them too.

use super::secret::read_password;
use super::template_file::Found;
use std::path::Path;
use template::values::SecretRef;

/// Everything that is missing, one a line. `stored` are the names of the console's secrets, if a
/// console answered.
pub(super) fn missing(found: &Found, stored: Option<&[String]>) -> Vec<String> {
    let template = &found.template;
    let at = |path: &str| found.folder.join(path);
    let mut missing = Vec::new();
    let mut look = |key: String, path: &str, kind: Kind| {
        if let Err(reason) = kind.check(&at(path)) {
            missing.push(format!("{key}: {}: {reason}", at(path).display()));
        }
    };
    if let Some(image) = &template.image {
        look("image".into(), image, Kind::File);
    }
    if let Some(list) = &template.identity.list {
        look("identity.list".into(), list, Kind::File);
    }
    if let Some(blobs) = &template.membership.blobs {
        look("membership.blobs".into(), blobs, Kind::Folder);
    }
    for (number, copy) in (1..).zip(&template.copies) {
        look(format!("copy.{number}.from"), &copy.from, Kind::Either);
    }
    for (number, driver) in (1..).zip(&template.drivers) {
        look(format!("driver.{number}.path"), &driver.path, Kind::Either);
    }
    for wanted in template.secrets() {
        let reason = match wanted.reference {
            SecretRef::File(path) => read_password(&at(path)).err().map(|error| error.message),
            SecretRef::Env(name) => std::env::var_os(name)
                .is_none()
                .then(|| format!("the environment has no {name}")),
            SecretRef::Ref(name) => stored
                .is_some_and(|stored| !stored.contains(name))
                .then(|| format!("the console has no secret {name}; diskcast secret set {name}")),
            SecretRef::Ask => None,
        };
        missing.extend(reason.map(|reason| format!("{}: {reason}", wanted.what)));
    }
    missing
}

/// The kinds of things a path may lead to.
#[derive(Clone, Copy)]
enum Kind {
    File,
    Folder,
    Either,
}

impl Kind {
    #[expect(
        clippy::disallowed_methods,
        reason = "the command line looks at files that people named"
    )]
    fn check(self, path: &Path) -> Result<(), String> {
        let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
        let fits = match self {
            Self::File => metadata.is_file(),
            Self::Folder => metadata.is_dir(),
            Self::Either => metadata.is_file() || metadata.is_dir(),
        };
        let readable = match metadata.is_dir() {
            true => std::fs::read_dir(path).map(drop),
            false => std::fs::File::open(path).map(drop),
        };
        match (fits, self) {
            (true, _) => readable.map_err(|error| error.to_string()),
            (false, Self::File) => Err("it is no file".into()),
            (false, Self::Folder) => Err("it is no folder".into()),
            (false, Self::Either) => Err("it is neither a file nor a folder".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use template::schema::parse;

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
        let all = missing(&found(template()), Some(&[]));
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
        for name in ["x.dcimg", "names.csv", "app.msi", "pw"] {
            std::fs::write(folder.path().join(name), "x\n").unwrap();
        }
        for name in ["blobs", "drivers"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let left = missing(&found(template()), Some(&["lab".to_owned()]));
        assert_eq!(left.len(), 1, "{left:?}");
        // Without a console its secrets are unknown.
        assert_eq!(missing(&found(template()), None).len(), 1);
    }
}
