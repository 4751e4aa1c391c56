//! YAML files of a master as values: those of netplan and cloud-init.
//!
//! Pure; `saphyr-parser` parses, this module builds values within limits. Invariants: size, depth
//! and number of values are limited, and aliases count as their values, so no file can grow by
//! being read.

use saphyr_parser::{Event, Parser};
use std::collections::BTreeMap;

/// Size limit of a text, in bytes.
pub const MAX_TEXT: usize = 256 << 10;

/// Limit of nested values.
const MAX_DEPTH: usize = 64;

/// Limit of values in one text.
const MAX_NODES: usize = 50_000;

/// The reason why a text was not read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum YamlError {
    /// The text is longer than [`MAX_TEXT`]; its size in bytes.
    #[error("{0} bytes are more than is read")]
    Long(usize),
    /// The text is not YAML.
    #[error("it is not YAML: {0}")]
    Syntax(String),
    /// The values are nested deeper than `MAX_DEPTH`.
    #[error("its values lie more than {MAX_DEPTH} deep")]
    Deep,
    /// The text has more than `MAX_NODES` values.
    #[error("it holds more than {MAX_NODES} values")]
    Many,
}

/// A value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// A scalar: its text without quotes.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping. Keys that are not scalars are left out; of equal keys the last one counts.
    Map(BTreeMap<String, Node>),
}

impl Node {
    /// The value of a key; `None` when the key is missing or this is not a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Self::Map(entries) => entries.get(key),
            Self::Scalar(_) | Self::List(_) => None,
        }
    }

    /// The value below a path of keys.
    pub fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The text of a scalar; `None` for other values.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(text) => Some(text),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The items of a sequence; none for other values.
    pub fn items(&self) -> &[Node] {
        match self {
            Self::List(items) => items,
            Self::Scalar(_) | Self::Map(_) => &[],
        }
    }

    /// The entries of a mapping; none for other values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        let entries = match self {
            Self::Map(entries) => Some(entries),
            Self::Scalar(_) | Self::List(_) => None,
        };
        entries
            .into_iter()
            .flatten()
            .map(|(key, node)| (key.as_str(), node))
    }

    /// The truth value of a scalar (YAML 1.1, which netplan and cloud-init read); `None` for
    /// anything else.
    pub fn truth(&self) -> Option<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" | "" | "~" | "null" => Some(false),
            _ => None,
        }
    }

    fn count(&self) -> usize {
        let inside: usize = match self {
            Self::Scalar(_) => 0,
            Self::List(items) => items.iter().map(Self::count).sum(),
            Self::Map(entries) => entries.values().map(Self::count).sum(),
        };
        inside.saturating_add(1)
    }
}

/// A sequence or mapping that is not complete.
enum Open {
    List(Vec<Node>),
    Map(BTreeMap<String, Node>, Option<Key>),
}

/// A key whose value comes next; `None` inside for a key that is not a scalar.
struct Key(Option<String>);

/// Reads the first document of a text; `None` when it has no value.
///
/// # Errors
/// The text is not YAML, or exceeds a limit: see [`YamlError`].
pub fn read(text: &str) -> Result<Option<Node>, YamlError> {
    if text.len() > MAX_TEXT {
        return Err(YamlError::Long(text.len()));
    }
    let mut building = Building::default();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| YamlError::Syntax(error.to_string()))?;
        match event {
            Event::Scalar(value, _, anchor, _) => {
                building.value(Node::Scalar(value.into_owned()), 1, anchor)?;
            }
            Event::Alias(id) => {
                let meant = building.anchors.get(&id);
                let node = meant.map_or_else(|| Node::Scalar(String::new()), Node::clone);
                let count = node.count();
                building.value(node, count, 0)?;
            }
            Event::SequenceStart(anchor, _) => building.open(Open::List(Vec::new()), anchor)?,
            Event::MappingStart(anchor, _) => {
                building.open(Open::Map(BTreeMap::new(), None), anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => building.close()?,
            Event::DocumentEnd => break,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
        }
    }
    Ok(building.root)
}

#[derive(Default)]
struct Building {
    open: Vec<(Open, usize)>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Building {
    fn open(&mut self, open: Open, anchor: usize) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(YamlError::Deep);
        }
        self.open.push((open, anchor));
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some((open, anchor)) = self.open.pop() else {
            return Ok(());
        };
        let node = match open {
            Open::List(items) => Node::List(items),
            Open::Map(entries, _) => Node::Map(entries),
        };
        self.value(node, 1, anchor)
    }

    /// Puts a complete value in its place. `count` is the number of values in it that are not
    /// counted yet.
    fn value(&mut self, node: Node, count: usize, anchor: usize) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(count);
        if anchor > 0 {
            self.nodes = self.nodes.saturating_add(node.count());
        }
        if self.nodes > MAX_NODES {
            return Err(YamlError::Many);
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((Open::List(items), _)) => items.push(node),
            Some((Open::Map(entries, key), _)) => match key.take() {
                None => {
                    let name = node.text().map(str::to_owned);
                    *key = Some(Key(name));
                }
                Some(Key(Some(name))) => {
                    entries.insert(name, node);
                }
                Some(Key(None)) => {}
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(text: &str) -> Node {
        read(text).unwrap().unwrap()
    }

    #[test]
    fn block_and_flow_style_are_the_same() {
        let block = node(
            "# netplan\nnetwork:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n      addresses:\n      - \"10.0.0.1/8\"\n",
        );
        let flow = node(
            "{network: {version: 2, ethernets: {eth0: {dhcp4: true, addresses: ['10.0.0.1/8']}}}}",
        );
        assert_eq!(block, flow);
        let card = flow.at(&["network", "ethernets", "eth0"]).unwrap();
        assert_eq!(card.get("dhcp4").and_then(Node::truth), Some(true));
        assert_eq!(card.get("addresses").unwrap().items().len(), 1);
        assert_eq!(card.get("addresses").unwrap().truth(), None);
    }

    #[test]
    fn aliases_stand_for_their_values_and_the_last_key_counts() {
        let read = node("a: &x {k: 1}\nb: *x\nc: 1\nc: 2\n? [odd]\n: 3\n");
        assert_eq!(read.at(&["b", "k"]), read.at(&["a", "k"]));
        assert_eq!(read.get("c").and_then(Node::text), Some("2"));
        assert_eq!(read.entries().count(), 3);
        assert_eq!(super::read("# nothing\n"), Ok(None));
        assert_eq!(node("a: 1\n---\nb: 2\n"), node("a: 1\n"));
    }

    #[test]
    fn what_grows_is_refused() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
        assert_eq!(read(bomb), Err(YamlError::Many));
        assert_eq!(read(&"[".repeat(65)), Err(YamlError::Deep));
        assert!(matches!(
            read(&"x".repeat(MAX_TEXT + 1)),
            Err(YamlError::Long(_))
        ));
        assert!(matches!(read("a: [1\nb"), Err(YamlError::Syntax(_))));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-\\[\\]{},:&*#!|>?%@'\" \nab0]{0,200}") {
            let _ = read(&text);
        }
    }
}
