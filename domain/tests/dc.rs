//! Blobs from a real domain controller.
#![allow(clippy::print_stdout, clippy::disallowed_methods)] // A test that tells why it did not run.

#[path = "support/controller.rs"]
mod controller;

use controller::{ADMIN, Controller, uses_the_blob};
use domain::{DomainError, Provision};

/// A password as a password manager makes it, with characters that are difficult for Samba's files
/// and for shells.
const JOINER: &str = r#"J0e #;"=\%$'`& ü!"#;

#[test]
fn a_domain_controller_makes_blobs_that_its_machines_can_use() {
    if std::env::var_os("DISKCAST_TEST_FULL").is_none() {
        println!("did not run: the domain controller takes half a minute, and runs with --full");
        return;
    }
    let Some(controller) = Controller::start() else {
        return;
    };
    // A controller adds this entry by itself after a while; LDAP then uses Kerberos, as in the
    // field.
    controller.samba_tool(&["spn", "add", "ldap/dc1.corp.example", "DC1$"]);
    controller.samba_tool(&["ou", "create", "OU=Labs"]);
    controller.samba_tool(&["user", "create", "joiner", JOINER]);
    controller.samba_tool(&["group", "addmembers", "Account Operators", "joiner"]);
    controller.samba_tool(&["user", "create", "nobody", JOINER]);

    let first = controller.provision("LAB-01", "Administrator", ADMIN);
    let first = Provision {
        ou: Some("OU=Labs,DC=corp,DC=example".into()),
        ..first
    };
    let first = first.run().unwrap();
    assert_eq!(first.facts().machine.as_deref(), Some("LAB-01"));
    assert_eq!(first.facts().domain.as_deref(), Some("corp.example"));
    // Every user with the right to create accounts can make a blob: this one is no administrator
    // and has a difficult password.
    let second = controller.provision("lab-02", r"CORP\joiner", JOINER);
    let second = Provision {
        dc: Some("dc1.corp.example".into()),
        ..second
    };
    let second = second.run().unwrap();
    assert!(second.is_for("LAB-02"), "{second:?}");
    assert_ne!(first.text(), second.text());
    let computers = controller.samba_tool(&["computer", "list"]);
    assert!(
        computers.contains("LAB-01$") && computers.contains("LAB-02$"),
        "{computers}"
    );
    let shown = controller.samba_tool(&["computer", "show", "LAB-01"]);
    assert!(shown.contains("OU=Labs,DC=corp,DC=example"), "{shown}");

    uses_the_blob(&controller, first.text());
    says_why_not(&controller);
}

fn says_why_not(controller: &Controller) {
    let good = controller.provision("LAB-03", "Administrator", ADMIN);
    let wrong_password = controller.provision("LAB-03", "Administrator", "Wr0ng-pass.word");
    let cases = [
        (
            wrong_password,
            "Administrator is unknown there, or the password is wrong",
        ),
        (
            Provision {
                domain: "nowhere.example".into(),
                ..good.clone()
            },
            "no domain controller was found",
        ),
        (
            Provision {
                ou: Some("OU=None,DC=corp,DC=example".into()),
                ..good.clone()
            },
            "is there such a unit?",
        ),
        (
            controller.provision("LAB-01", r"CORP\nobody", JOINER),
            "may not make this account, or not take over",
        ),
    ];
    for (provision, expected) in cases {
        let error = provision.run().unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, DomainError::Refused { .. }), "{error:?}");
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains(&provision.credential.password), "{said}");
    }
    assert!(
        !controller
            .samba_tool(&["computer", "list"])
            .contains("LAB-03")
    );
}
