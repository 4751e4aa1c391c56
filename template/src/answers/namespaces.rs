//! Namespaces of an answer file: Setup's own names lose their prefix, `wcm:` is always spelled so,
//! all others stay.

use super::xml::{Element, Node};
use super::{AnswerFault, UNATTEND, WCM};

/// The tree with its names spelled as Windows SIM writes them.
///
/// # Errors
/// A prefix is not declared.
pub(super) fn plain(root: Element) -> Result<Element, AnswerFault> {
    // An answer file without any namespace is taken for one of Setup's.
    let scope = Scope {
        prefixes: vec![(String::new(), UNATTEND.to_owned())],
    };
    element(root, &scope, "")
}

/// Prefixes and their namespaces. Inner declarations replace outer ones; the empty prefix is the
/// default.
struct Scope {
    prefixes: Vec<(String, String)>,
}

impl Scope {
    fn with(&self, attributes: &[(String, String)]) -> Self {
        let mut prefixes = self.prefixes.clone();
        for (name, value) in attributes {
            if let Some(prefix) = declared(name) {
                prefixes.retain(|(known, _)| known != prefix);
                prefixes.push((prefix.to_owned(), value.clone()));
            }
        }
        Self { prefixes }
    }

    fn namespace(&self, prefix: &str) -> Result<&str, AnswerFault> {
        if prefix == "xml" {
            return Ok("http://www.w3.org/XML/1998/namespace");
        }
        let found = self.prefixes.iter().find(|(known, _)| known == prefix);
        found
            .map(|(_, namespace)| namespace.as_str())
            .ok_or_else(|| AnswerFault::Prefix(prefix.to_owned()))
    }
}

/// The prefix that an attribute declares.
fn declared(name: &str) -> Option<&str> {
    match name {
        "xmlns" => Some(""),
        name => name.strip_prefix("xmlns:"),
    }
}

/// Converts an element and its content. `outer` is the default namespace written around it.
fn element(mut from: Element, outside: &Scope, outer: &str) -> Result<Element, AnswerFault> {
    let scope = outside.with(&from.attributes);
    let (prefix, local) = from.name.split_once(':').unwrap_or(("", &from.name));
    let namespace = scope.namespace(prefix)?.to_owned();
    let own = namespace == UNATTEND;
    let mut to = Element::new(if own { local } else { &from.name });
    // The default namespace is Setup's for its own names; for others it stays.
    let default = match own {
        true => UNATTEND.to_owned(),
        false => scope.namespace("").map(str::to_owned).unwrap_or_default(),
    };
    let writes_default = own || prefix.is_empty();
    if writes_default && default != outer {
        to.set("xmlns", &default);
    }
    let inner = if writes_default { &default } else { outer };
    for (name, value) in std::mem::take(&mut from.attributes) {
        match declared(&name) {
            Some("") => {}
            Some(_) if value == UNATTEND => {}
            Some(_) if value == WCM => to.set("xmlns:wcm", WCM),
            Some(_) => to.attributes.push((name, value)),
            None => {
                let name = match name.split_once(':') {
                    None => name,
                    Some((prefix, local)) => match scope.namespace(prefix)? {
                        UNATTEND => local.to_owned(),
                        WCM => format!("wcm:{local}"),
                        _ => name,
                    },
                };
                to.attributes.push((name, value));
            }
        }
    }
    for child in from.children {
        to.children.push(match child {
            Node::Element(child) => Node::Element(element(child, &scope, inner)?),
            other => other,
        });
    }
    Ok(to)
}
