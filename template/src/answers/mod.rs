//! The answer file of Windows Setup that a master has already: where it lies, and what can be taken over from it.
//!
//! Bytes in, a tree out; hostile bytes give an error, never a panic. What always holds: a tree from [`base`] has the root
//! `unattend` of Setup's own namespace without a prefix, no pass is marked as processed, and nothing in it has lost its
//! secret.

mod namespaces;
pub mod xml;

use serde::{Deserialize, Serialize};
use xml::{Element, Node};

/// Below the folder of Windows: where Setup looks after the registry and before any medium, first one first. The first is
/// ours.
pub const PLACES: [&[&str]; 4] = [
    &["Panther", "Unattend", "Unattend.xml"],
    &["Panther", "Unattend.xml"],
    &["System32", "Sysprep", "Unattend.xml"],
    &["System32", "Sysprep", "Panther", "Unattend.xml"],
];
/// Setup's namespace.
pub const UNATTEND: &str = "urn:schemas-microsoft-com:unattend";
/// Namespace of `wcm:action`.
pub const WCM: &str = "http://schemas.microsoft.com/WMIConfig/2002/State";
/// What Setup writes in the place of a secret it has used.
const DELETED: &str = "*SENSITIVE*DATA*DELETED*";
/// Settings that are nothing without their secret.
const OWNERS: [&str; 8] = [
    "AdministratorPassword",
    "AutoLogon",
    "DomainAccount",
    "Identification",
    "LocalAccount",
    "RunAsynchronousCommand",
    "RunSynchronousCommand",
    "SynchronousCommand",
];

/// Why an answer file cannot be merged with another.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerFault {
    /// Too large.
    #[error("it is larger than {} bytes", xml::MOST_BYTES)]
    Large,
    /// Neither UTF-8 nor UTF-16.
    #[error("it is neither UTF-8 nor UTF-16")]
    Encoding,
    /// Half a character.
    #[error("its UTF-16 is broken")]
    Utf16,
    /// No XML.
    #[error("{0}")]
    Syntax(String),
    /// Too deep.
    #[error("it has more than {} levels", xml::MOST_LEVELS)]
    Levels,
    /// An entity that is not one of XML's own.
    #[error("it uses an entity nobody defined")]
    Entity,
    /// A document type, which could define entities.
    #[error("it has a document type")]
    DocumentType,
    /// Its end is missing.
    #[error("it ends in the middle of an element")]
    Unfinished,
    /// No root, or several.
    #[error("it is not one document")]
    NotOne,
    /// A prefix without a namespace.
    #[error("nobody declared its prefix {0}")]
    Prefix(String),
    /// Another document.
    #[error("its root is {0} and not unattend")]
    Root(String),
}

/// An answer file of a master, as inspection found it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct AnswerFileFound {
    /// Path below the volume.
    pub path: String,
    /// Settings that are dropped because Setup has deleted their secrets: `LocalAccount pat`.
    #[serde(default)]
    pub dropped: Vec<String>,
    /// Why it cannot be merged with another.
    #[serde(default)]
    pub fault: Option<String>,
}

/// What of an answer file is taken over, and the settings that are dropped because Setup has deleted their secrets.
///
/// # Errors
/// No answer file, or one that is too large.
pub fn base(bytes: &[u8]) -> Result<(Element, Vec<String>), AnswerFault> {
    let mut root = namespaces::plain(xml::read(bytes)?)?;
    if root.name != "unattend" {
        return Err(AnswerFault::Root(root.name));
    }
    root.set("xmlns", UNATTEND);
    for child in &mut root.children {
        if let Node::Element(settings) = child {
            settings
                .attributes
                .retain(|(name, _)| name != "wasPassProcessed");
        }
    }
    let mut dropped = Vec::new();
    drop_deleted(&mut root, &mut dropped);
    Ok((root, dropped))
}

/// Takes out what has lost its secret.
fn drop_deleted(element: &mut Element, dropped: &mut Vec<String>) {
    element.children.retain_mut(|child| {
        let Node::Element(child) = child else {
            return true;
        };
        let owner = OWNERS.contains(&child.name.as_str()) || child.name == "Credentials";
        let lost = match owner {
            true => holds_deleted(child),
            false => child.own_text().contains(DELETED),
        };
        if lost {
            dropped.push(named(child));
        } else {
            drop_deleted(child, dropped);
        }
        !lost
    });
}

fn holds_deleted(element: &Element) -> bool {
    element.own_text().contains(DELETED) || element.elements().any(holds_deleted)
}

/// A setting for people, with the name or the account it is about.
fn named(element: &Element) -> String {
    let about = element
        .elements()
        .find(|child| matches!(child.name.as_str(), "Name" | "Username" | "JoinDomain"));
    match about {
        Some(about) => format!("{} {}", element.name, about.own_text()),
        None => element.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Setup leaves it after a first installation: every pass processed, every secret deleted.
    const CACHED: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<u:unattend xmlns:u="urn:schemas-microsoft-com:unattend" xmlns:w="http://schemas.microsoft.com/WMIConfig/2002/State">
  <u:settings pass="specialize" wasPassProcessed="true">
    <u:component name="Microsoft-Windows-Shell-Setup" processorArchitecture="amd64">
      <u:ComputerName>MASTER</u:ComputerName><u:TimeZone>UTC</u:TimeZone>
    </u:component>
    <u:component name="Microsoft-Windows-UnattendedJoin" processorArchitecture="amd64">
      <u:Identification><u:Credentials><u:Domain>corp</u:Domain><u:Password>*SENSITIVE*DATA*DELETED*</u:Password></u:Credentials>
        <u:JoinDomain>corp.example</u:JoinDomain></u:Identification>
    </u:component>
  </u:settings>
  <u:settings pass="oobeSystem" wasPassProcessed="true">
    <u:component name="Microsoft-Windows-Shell-Setup" processorArchitecture="amd64">
      <u:UserAccounts>
        <u:AdministratorPassword>*SENSITIVE*DATA*DELETED*</u:AdministratorPassword>
        <u:LocalAccounts>
          <u:LocalAccount w:action="add"><u:Name>pat</u:Name><u:Password>*SENSITIVE*DATA*DELETED*</u:Password></u:LocalAccount>
          <u:LocalAccount w:action="add"><u:Name>kim</u:Name></u:LocalAccount>
        </u:LocalAccounts>
      </u:UserAccounts>
      <u:AutoLogon><u:Username>pat</u:Username><u:Password><u:Value>*SENSITIVE*DATA*DELETED*</u:Value></u:Password></u:AutoLogon>
      <u:RegisteredOwner>*SENSITIVE*DATA*DELETED*</u:RegisteredOwner>
    </u:component>
  </u:settings>
  <cpi:offlineImage xmlns:cpi="urn:schemas-microsoft-com:cpi" cpi:source="wim:c:/install.wim"/>
</u:unattend>"#;

    #[test]
    fn an_answer_file_setup_has_used_is_cleaned() {
        let (root, dropped) = base(CACHED.as_bytes()).unwrap();
        let text = xml::write(&root);
        for gone in [
            "wasPassProcessed",
            "SENSITIVE",
            "<u:",
            "</u:",
            " w:",
            "JoinDomain",
        ] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        for kept in [
            "<unattend xmlns",
            "<TimeZone>UTC</TimeZone>",
            "wcm:action=\"add\"",
            "xmlns:wcm=\"http://schemas.microsoft.com/WMIConfig/2002/State\"",
            "<Name>kim</Name>",
            "<cpi:offlineImage xmlns:cpi=\"urn:schemas-microsoft-com:cpi\" cpi:source",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        assert_eq!(
            dropped,
            [
                "Identification corp.example",
                "AdministratorPassword",
                "LocalAccount pat",
                "AutoLogon pat",
                "RegisteredOwner"
            ]
        );
        let again = base(text.as_bytes()).unwrap();
        assert_eq!((xml::write(&again.0), again.1), (text, Vec::new()));
    }

    #[test]
    fn namespaces_are_read_by_what_they_are() {
        // A default namespace below the root, and prefixes that are declared where they are used.
        let text = "<unattend><settings pass='x' xmlns='urn:schemas-microsoft-com:unattend'><a xmlns:b='urn:other' b:c='1'>\
                    <b:d/><e xmlns='urn:other'><f/></e></a></settings></unattend>";
        let (root, _) = base(text.as_bytes()).unwrap();
        let written = xml::write(&root);
        for kept in [
            "<unattend xmlns=\"urn:schemas-microsoft-com:unattend\">",
            "<settings pass=\"x\">",
            "<a xmlns:b=\"urn:other\" b:c=\"1\">",
            "<b:d/>",
            "<e xmlns=\"urn:other\">",
            "<f/>",
        ] {
            assert!(written.contains(kept), "{kept}: {written}");
        }
        let fault = |text: &str| base(text.as_bytes()).unwrap_err().to_string();
        assert!(fault("<u:unattend/>").contains("its prefix u"));
        assert!(fault("<setup/>").contains("its root is setup"));
        assert!(fault("<u:unattend xmlns:u='urn:other'/>").contains("its root is u:unattend"));
    }
}
