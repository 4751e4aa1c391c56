//! Tests of a job's files: secrets are overwritten in place, and the journal survives a power cut.

use firstboot::job::{Action, Secret, REPORT_ID};
use firstboot::store::Store;
use firstboot::{Entry, Job};
use std::path::PathBuf;

const TEXT: &str = "\
diskcast-firstboot 1
end none

step user.1 user
name a
password =correct \\\\ hörse
on-exists update

step user.2 user
name b
password =battery
on-exists update

step join join
blob =QUJDRA==

steps 3
";

/// A folder that is removed with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("firstboot-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn store(&self, text: &[u8]) -> Store {
        let job = self.0.join("firstboot.job");
        std::fs::write(&job, text).unwrap();
        Store::new(&job)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn secrets(job: &Job) -> Vec<bool> {
    let secret = |action: &Action| match action {
        Action::User(user) => user.password.as_ref().and_then(Secret::value).is_some(),
        Action::Join { blob } => blob.value().is_some(),
        _ => false,
    };
    job.steps.iter().map(|step| secret(&step.action)).collect()
}

#[test]
fn secrets_are_overwritten_in_place_step_by_step() {
    let scratch = Scratch::new("wipe");
    let store = scratch.store(TEXT.as_bytes());
    let read = || Job::parse(&store.read_job().unwrap()).unwrap();
    assert_eq!(secrets(&read()), [true, true, true]);
    store.wipe(&["user.1"]).unwrap();
    assert_eq!(secrets(&read()), [false, true, true]);
    store.wipe(&["user.1", "join"]).unwrap();
    assert_eq!(secrets(&read()), [false, true, false]);
    let text = String::from_utf8(std::fs::read(store.job_path()).unwrap()).unwrap();
    assert_eq!(text.len(), TEXT.len());
    assert!(
        !text.contains("rse") && !text.contains("QUJ") && text.contains("=battery"),
        "{text}"
    );
}

/// A power cut during the overwrite of a secret leaves half an escape or half a character: the job
/// can still be read, the secrets of the other steps are still there, and wiping continues.
#[test]
fn a_half_wiped_secret_is_still_a_job() {
    let scratch = Scratch::new("half");
    let secret = "=correct \\\\ hörse";
    let start = TEXT.find(secret).unwrap();
    for count in 1..=secret.len() {
        let mut bytes = TEXT.as_bytes().to_vec();
        bytes[start..start + count].fill(b'*');
        let store = scratch.store(&bytes);
        let read = || Job::parse(&store.read_job().unwrap()).unwrap();
        assert_eq!(secrets(&read()), [false, true, true], "{count}");
        store.wipe(&["user.1"]).unwrap();
        assert_eq!(secrets(&read()), [false, true, true], "{count}");
    }
}

#[test]
fn a_job_that_cannot_be_read_is_overwritten_and_removed_whole() {
    let scratch = Scratch::new("broken");
    let store = scratch.store(b"diskcast-firstboot 1\npassword =\xff\xfe");
    assert!(store.read_job().is_err());
    let link = scratch.0.join("same-bytes");
    std::fs::hard_link(store.job_path(), &link).unwrap();
    store.remove_job().unwrap();
    assert!(!store.job_path().exists());
    assert!(std::fs::read(&link).unwrap().iter().all(|byte| *byte == 0));
    store.remove_job().unwrap();
}

/// The key of the report is wiped by its own id and not with the secrets of a step; half wiped, the
/// job can still be read.
#[test]
fn the_key_of_a_report_is_overwritten_too() {
    const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let scratch = Scratch::new("key");
    let report = format!("end none\n\nreport 17\nconsole 10.0.0.1:5003\ntarget T\nkey ={KEY}\n");
    let text = TEXT.replace("end none\n", &report);
    let key = |store: &Store| {
        let job = Job::parse(&store.read_job().unwrap()).unwrap();
        (secrets(&job), job.report.unwrap().key)
    };
    let store = scratch.store(text.as_bytes());
    store.wipe(&["user.1", "user.2", "join"]).unwrap();
    assert_eq!(key(&store), (vec![false; 3], Secret::new(KEY)));

    let start = text.find("=0011").unwrap();
    for count in [1, 2, 40, 65] {
        let mut bytes = text.clone().into_bytes();
        bytes[start..start + count].fill(b'*');
        let store = scratch.store(&bytes);
        assert_eq!(key(&store), (vec![true; 3], Secret::Wiped), "{count}");
        store.wipe(&[REPORT_ID]).unwrap();
        assert_eq!(key(&store), (vec![true; 3], Secret::Wiped), "{count}");
        let wiped = std::fs::read(store.job_path()).unwrap();
        assert!(wiped[start..start + 65].iter().all(|byte| *byte == b'*'));
    }
}

#[test]
fn the_journal_goes_on_after_a_line_that_was_cut() {
    let scratch = Scratch::new("journal");
    let store = scratch.store(TEXT.as_bytes());
    assert!(store.read_journal().unwrap().entries().is_empty());
    store.record(&Entry::Boot).unwrap();
    store.record(&Entry::Begin("user.1".into())).unwrap();
    let path = store.journal_path().to_path_buf();
    let mut text = std::fs::read(&path).unwrap();
    text.extend(b"done us\xff");
    std::fs::write(&path, text).unwrap();
    store.record(&Entry::Boot).unwrap();
    let expected = [Entry::Boot, Entry::Begin("user.1".into()), Entry::Boot];
    assert_eq!(store.read_journal().unwrap().entries(), expected);
}
