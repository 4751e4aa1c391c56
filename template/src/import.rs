//! The list of machines: `MAC or UUID,name,address`, one machine a line.
//!
//! Takes text and gives lines, or every mistake with its line number. `;` and tabs also separate
//! fields, as office programs write them; quotes around a field are removed; `#` begins a comment;
//! a heading is recognised by the name of its first column.

use crate::values::{card, parse_host};
use facts::identity::Evidence;
use facts::{Mac, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Limit of machines in a list.
const MAX_LINES: usize = 65_536;
/// Limit of mistakes that are reported.
const MAX_MISTAKES: usize = 200;

/// One machine of a list.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Line in the file, from 1.
    pub line: usize,
    /// The machine the line is about.
    pub key: ListKey,
    /// Name the machine gets.
    pub name: Option<String>,
    /// Address the machine gets.
    pub address: Option<Ipv4Addr>,
}

/// The identity value by which a line names its machine.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListKey {
    /// MAC address of one of its cards.
    Mac(Mac),
    /// SMBIOS UUID.
    Uuid(Uuid),
}

impl Listed {
    /// Identity values of the machine, taken from the line.
    pub fn evidence(&self) -> Evidence {
        match self.key {
            ListKey::Mac(mac) => Evidence {
                cards: vec![mac],
                ..Evidence::default()
            },
            ListKey::Uuid(uuid) => Evidence {
                uuid: Some(uuid),
                ..Evidence::default()
            },
        }
    }
}

/// A mistake in a list.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ListMistake {
    /// Line, from 1.
    pub line: usize,
    /// The mistake.
    pub message: String,
}

impl std::fmt::Display for ListMistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Reads a list.
///
/// # Errors
/// Every mistake, sorted by line.
pub fn parse_list(text: &str) -> Result<Vec<Listed>, Vec<ListMistake>> {
    let mut lines = Vec::new();
    let mut mistakes = Vec::new();
    // Office programs begin the file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut first = true;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields = fields(line);
        if std::mem::take(&mut first) && is_heading(&fields) {
            continue;
        }
        match listed(number, &fields) {
            Ok(found) => lines.push(found),
            Err(messages) => mistakes.extend(messages.into_iter().map(|message| ListMistake {
                line: number,
                message,
            })),
        }
        if mistakes.len() > MAX_MISTAKES || lines.len() > MAX_LINES {
            mistakes.push(ListMistake {
                line: number,
                message: format!("reading stops here; {MAX_LINES} machines and {MAX_MISTAKES} mistakes are the most"),
            });
            break;
        }
    }
    mistakes.extend(twice(&lines));
    mistakes.sort_by_key(|mistake| mistake.line);
    if mistakes.is_empty() {
        Ok(lines)
    } else {
        Err(mistakes)
    }
}

fn fields(line: &str) -> Vec<&str> {
    let separator = [';', '\t', ',']
        .into_iter()
        .find(|c| line.contains(*c))
        .unwrap_or(',');
    line.split(separator)
        .map(|field| {
            let field = field.trim();
            field
                .strip_prefix('"')
                .and_then(|field| field.strip_suffix('"'))
                .unwrap_or(field)
                .trim()
        })
        .collect()
}

fn is_heading(fields: &[&str]) -> bool {
    fields.first().is_some_and(|first| {
        let first = first.to_lowercase();
        first.contains("mac") || first == "uuid"
    })
}

fn listed(line: usize, fields: &[&str]) -> Result<Listed, Vec<String>> {
    let mut faults = Vec::new();
    let mut rest = fields.iter().copied();
    let mut field = || rest.next().filter(|field| !field.is_empty());
    let key = match field() {
        None => Err("the MAC address or UUID is missing".to_owned()),
        // A MAC address is always shorter than a UUID.
        Some(text) if text.len() >= 32 => text
            .parse()
            .map(ListKey::Uuid)
            .map_err(|error: facts::uuid::BadUuid| error.to_string()),
        Some(text) => card(text)
            .map(ListKey::Mac)
            .map_err(|error| error.to_string()),
    };
    let key = key.map_err(|message| faults.push(message)).ok();
    let name = field().map(str::to_owned);
    if let Some(name) = &name
        && let Some(bad) = name
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || *c == '-'))
    {
        faults.push(format!("{bad:?} cannot be in the name of a machine"));
    }
    let address = field().and_then(|text| {
        parse_host(text)
            .map_err(|error| faults.push(error.to_string()))
            .ok()
    });
    if let Some(more) = rest.find(|field| !field.is_empty()) {
        faults.push(format!(
            "`{more}` is one field too many; a line is MAC or UUID, name, address"
        ));
    }
    match key {
        Some(key) if faults.is_empty() => {
            if name.is_none() && fields.get(2).is_none_or(|field| field.is_empty()) {
                return Err(vec!["neither a name nor an address is given".into()]);
            }
            Ok(Listed {
                line,
                key,
                name,
                address,
            })
        }
        _ => Err(faults),
    }
}

/// Machines, names and addresses that stand in the list more than once.
fn twice(lines: &[Listed]) -> Vec<ListMistake> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut mistakes = Vec::new();
    for listed in lines {
        let key = match &listed.key {
            ListKey::Mac(mac) => format!("the machine {mac}"),
            ListKey::Uuid(uuid) => format!("the machine {uuid}"),
        };
        let name = listed
            .name
            .as_ref()
            .map(|name| format!("the name {}", name.to_lowercase()));
        let address = listed
            .address
            .map(|address| format!("the address {address}"));
        for what in [Some(key), name, address].into_iter().flatten() {
            if let Some(first) = seen.get(&what) {
                mistakes.push(ListMistake {
                    line: listed.line,
                    message: format!("{what} is in line {first} already"),
                });
            } else {
                seen.insert(what, listed.line);
            }
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_as_people_write_them() {
        let text = "\u{feff}MAC;Name;IP\r\n# room 1\r\n52-54-00-00-00-01;\"LAB-01\";10.0.0.5\r\n\r\n\
                    a1b2c3d4-0000-1111-2222-333344445555;lab-02\r\n525400000003;;10.0.0.7\r\n";
        let lines = parse_list(text).unwrap();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            (lines[0].line, lines[0].name.as_deref()),
            (3, Some("LAB-01"))
        );
        assert_eq!(
            lines[1].key,
            ListKey::Uuid("a1b2c3d4-0000-1111-2222-333344445555".parse().unwrap())
        );
        assert_eq!(
            (lines[2].name.as_deref(), lines[2].address),
            (None, Some(Ipv4Addr::new(10, 0, 0, 7)))
        );
        assert_eq!(
            lines[0].evidence().cards,
            ["52:54:00:00:00:01".parse().unwrap()]
        );
        assert_eq!(parse_list("").unwrap(), []);
    }

    #[test]
    fn every_mistake_has_its_line() {
        let text = "52:54:00:00:00:01,a,10.0.0.5\n\
                    nonsense,b_c,10.0.0.999\n\
                    52:54:00:00:00:01,A,10.0.0.5\n\
                    ,d,\n\
                    52:54:00:00:00:02\n\
                    52:54:00:00:00:03,e,10.0.0.6,f\n\
                    00000000-0000-0000-0000-000000000000,g,\n";
        let mistakes: Vec<String> = parse_list(text)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            mistakes,
            [
                "line 2: `nonsense` is not a MAC address; write it as aa:bb:cc:dd:ee:ff",
                "line 2: '_' cannot be in the name of a machine",
                "line 2: `10.0.0.999` is not an IPv4 address; write it as 10.20.0.1",
                "line 3: the machine 52:54:00:00:00:01 is in line 1 already",
                "line 3: the name a is in line 1 already",
                "line 3: the address 10.0.0.5 is in line 1 already",
                "line 4: the MAC address or UUID is missing",
                "line 5: neither a name nor an address is given",
                "line 6: `f` is one field too many; a line is MAC or UUID, name, address",
                "line 7: `00000000-0000-0000-0000-000000000000` is not the UUID of one machine, which has 32 hex digits, not all of them 0 or F",
            ]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_mistakes(text in "\\PC{0,100}|[0-9a-f:;,\n\"]{0,100}") {
            let _ = parse_list(&text);
        }
    }
}
