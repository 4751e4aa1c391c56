//! Answer files of Windows Setup: where a master has one, and which of its settings are kept.
//!
//! Takes bytes and gives a tree; hostile bytes give an error, never a panic. Invariants: the
//! root of a tree from [`base`] is `unattend` in Setup's own namespace without a prefix, no pass is
//! marked as processed, and no setting is left whose secret Setup has deleted.

mod namespaces;
pub mod xml;

use serde::{Deserialize, Serialize};
use xml::{Element, Node};

/// Places of an answer file below the Windows folder, in the order in which Setup searches them.
///
/// Setup searches the registry before them and removable media after them. diskcast writes the
/// first place.
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
/// Text that Setup writes in the place of a secret it has used.
const DELETED: &str = "*SENSITIVE*DATA*DELETED*";
/// Settings that are useless without their secret, and are dropped as a whole.
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

/// The reason why an answer file cannot be merged with another.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerFault {
    /// The file is larger than [`xml::MOST_BYTES`].
    #[error("it is larger than {} bytes", xml::MOST_BYTES)]
    Large,
    /// The file is neither UTF-8 nor UTF-16.
    #[error("it is neither UTF-8 nor UTF-16")]
    Encoding,
    /// The UTF-16 text is broken: an unpaired surrogate.
    #[error("its UTF-16 is broken")]
    Utf16,
    /// The text is not well-formed XML.
    #[error("{0}")]
    Syntax(String),
    /// The elements are nested deeper than `xml::MOST_LEVELS`.
    #[error("it has more than {} levels", xml::MOST_LEVELS)]
    Levels,
    /// The text uses an entity other than XML's predefined ones.
    #[error("it uses an entity nobody defined")]
    Entity,
    /// The text has a document type, which could define entities.
    #[error("it has a document type")]
    DocumentType,
    /// The text ends before the root element does.
    #[error("it ends in the middle of an element")]
    Unfinished,
    /// The text has no root element, or several.
    #[error("it is not one document")]
    NotOne,
    /// A prefix has no namespace.
    #[error("nobody declared its prefix {0}")]
    Prefix(String),
    /// The root is not `unattend`.
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
    /// The reason why the file cannot be merged with another.
    #[serde(default)]
    pub fault: Option<String>,
}

/// Reads an answer file. Returns the tree that is kept, and the settings that were dropped because
/// Setup has deleted their secrets.
///
/// # Errors
/// The bytes are not an answer file, or more than [`xml::MOST_BYTES`].
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

/// Removes settings whose secret Setup has deleted.
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

/// Name of a setting for messages, with the account or domain it is about.
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

    /// An answer file after a first installation: every pass is processed, every secret deleted.
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
