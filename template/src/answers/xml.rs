//! Answer files as a tree: read within limits, changed by name, written in one form.
//!
//! Invariants: reading a written tree gives the same tree, and writing it again gives the
//! same text, so a second run changes nothing. Text and attributes are kept as they are; blanks
//! between elements are not.

use super::AnswerFault;
use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::{BytesStart, Event};

/// Size limit of an answer file, in bytes.
pub const MOST_BYTES: usize = 1 << 20;
/// Limit of nested elements.
pub(super) const MOST_LEVELS: usize = 64;

/// An element.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Element {
    /// Name, with its prefix if it has one.
    pub name: String,
    /// Attributes, in their order.
    pub attributes: Vec<(String, String)>,
    /// Child nodes, in their order.
    pub children: Vec<Node>,
}

/// A child node of an element.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Text.
    Text(String),
    /// A comment.
    Comment(String),
}

impl Element {
    /// An element without attributes and children.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// An element that holds only text.
    pub fn text(name: &str, text: &str) -> Self {
        Self::new(name).with(Node::Text(text.to_owned()))
    }

    /// An entry of a list, which Setup marks with `wcm:action="add"`.
    pub fn added(name: &str) -> Self {
        Self::new(name).attribute("wcm:action", "add")
    }

    /// The element with one more attribute.
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The element with one more child node.
    pub fn with(mut self, child: Node) -> Self {
        self.children.push(child);
        self
    }

    /// The element with one more child element.
    pub fn holding(self, child: Element) -> Self {
        self.with(Node::Element(child))
    }

    /// Value of an attribute.
    pub fn value(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Sets an attribute, replacing the old value.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.attributes.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.attributes.push((name.to_owned(), value.to_owned())),
        }
    }

    /// The child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|child| match child {
            Node::Element(element) => Some(element),
            _ => None,
        })
    }

    /// The element's own text, without the text of child elements.
    pub fn own_text(&self) -> String {
        let texts = self.children.iter().filter_map(|child| match child {
            Node::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The first child element for which `fits` holds; `new` is added when there is none.
    pub fn child(&mut self, fits: impl Fn(&Element) -> bool, new: Element) -> &mut Element {
        let found = self.children.iter().position(|child| match child {
            Node::Element(element) => fits(element),
            _ => false,
        });
        let index = found.unwrap_or_else(|| {
            self.children.push(Node::Element(new));
            self.children.len() - 1
        });
        match &mut self.children[index] {
            Node::Element(element) => element,
            // The index is that of an element, found or just added.
            Node::Text(_) | Node::Comment(_) => unreachable!("not an element"),
        }
    }

    /// The first child element of that name, added when there is none.
    pub fn named(&mut self, name: &str) -> &mut Element {
        self.child(|element| element.name == name, Element::new(name))
    }

    /// Replaces all child elements of the new one's name with it; adds it at the end when there are
    /// none.
    pub fn put(&mut self, new: Element) {
        let name = new.name.clone();
        let first = self
            .children
            .iter()
            .position(|child| is_named(child, &name));
        match first {
            Some(first) => {
                self.children[first] = Node::Element(new);
                let mut index = 0;
                self.children.retain(|child| {
                    index += 1;
                    index - 1 == first || !is_named(child, &name)
                });
            }
            None => self.children.push(Node::Element(new)),
        }
    }
}

fn is_named(child: &Node, name: &str) -> bool {
    matches!(child, Node::Element(element) if element.name == name)
}

/// Reads a file: UTF-8, or UTF-16 with a byte order mark.
///
/// # Errors
/// The file is larger than [`MOST_BYTES`], or not XML that is accepted here.
pub fn read(bytes: &[u8]) -> Result<Element, AnswerFault> {
    if bytes.len() > MOST_BYTES {
        return Err(AnswerFault::Large);
    }
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest)?,
        bytes => utf8(bytes)?,
    };
    parse(&text)
}

fn syntax(error: impl std::fmt::Display) -> AnswerFault {
    AnswerFault::Syntax(error.to_string())
}

fn utf8(bytes: &[u8]) -> Result<String, AnswerFault> {
    String::from_utf8(bytes.to_vec()).map_err(|_| AnswerFault::Encoding)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, AnswerFault> {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| unit([pair[0], pair[1]]))
        .collect();
    String::from_utf16(&units).map_err(|_| AnswerFault::Utf16)
}

fn parse(text: &str) -> Result<Element, AnswerFault> {
    let mut reader = Reader::from_str(text);
    // The outermost entry is a stand-in that receives the root.
    let mut open = vec![Element::default()];
    loop {
        let event = reader.read_event().map_err(syntax)?;
        match event {
            Event::Start(start) => {
                if open.len() > MOST_LEVELS {
                    return Err(AnswerFault::Levels);
                }
                open.push(element(&start)?);
            }
            Event::Empty(start) => push(&mut open, Node::Element(element(&start)?)),
            Event::End(_) => {
                let done = open.pop().unwrap_or_default();
                push(&mut open, Node::Element(done));
            }
            Event::Text(text) => {
                push_text(&mut open, &text.xml_content(XmlVersion::Implicit1_0));
            }
            Event::CData(text) => {
                push_text(&mut open, &text.xml_content(XmlVersion::Implicit1_0));
            }
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(syntax)?;
                match (character, resolve_predefined_entity(&reference)) {
                    (Some(character), _) => push_text(&mut open, &character.to_string()),
                    (None, Some(text)) => push_text(&mut open, text),
                    (None, None) => return Err(AnswerFault::Entity),
                }
            }
            Event::Comment(text) => {
                push(
                    &mut open,
                    Node::Comment(text.xml_content(XmlVersion::Implicit1_0).into_owned()),
                );
            }
            Event::DocType(_) => return Err(AnswerFault::DocumentType),
            Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    let [outermost] = open.as_mut_slice() else {
        return Err(AnswerFault::Unfinished);
    };
    tidy(outermost);
    let mut roots = outermost.elements();
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root.clone()),
        _ => Err(AnswerFault::NotOne),
    }
}

fn element(start: &BytesStart<'_>) -> Result<Element, AnswerFault> {
    let mut element = Element::new(start.name().as_ref());
    for attribute in start.attributes() {
        let attribute = attribute.map_err(syntax)?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(syntax)?;
        element
            .attributes
            .push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(element)
}

fn push(open: &mut [Element], node: Node) {
    if let Some(last) = open.last_mut() {
        last.children.push(node);
    }
}

/// Text, character references and CDATA that follow each other become one text node.
fn push_text(open: &mut [Element], text: &str) {
    let Some(last) = open.last_mut() else { return };
    match last.children.last_mut() {
        Some(Node::Text(before)) => before.push_str(text),
        _ => last.children.push(Node::Text(text.to_owned())),
    }
}

/// Drops blank text between elements.
fn tidy(element: &mut Element) {
    let structured = element
        .children
        .iter()
        .any(|child| !matches!(child, Node::Text(_)));
    if structured {
        let blank = |child: &Node| matches!(child, Node::Text(text) if text.trim().is_empty());
        element.children.retain(|child| !blank(child));
    }
    for child in &mut element.children {
        if let Node::Element(child) = child {
            tidy(child);
        }
    }
}

/// Text of a file with this root element.
pub fn write(root: &Element) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n");
    emit(root, 0, &mut out);
    out
}

fn emit(element: &Element, level: usize, out: &mut String) {
    let indent = "  ".repeat(level);
    out.push_str(&indent);
    out.push('<');
    out.push_str(&element.name);
    for (name, value) in &element.attributes {
        out.push_str(&format!(" {name}=\"{}\"", escape(value.as_str())));
    }
    if element.children.is_empty() {
        out.push_str("/>\n");
        return;
    }
    out.push('>');
    let structured = element
        .children
        .iter()
        .any(|child| !matches!(child, Node::Text(_)));
    if structured {
        out.push('\n');
    }
    for child in &element.children {
        match child {
            Node::Element(child) => emit(child, level + 1, out),
            Node::Comment(text) => out.push_str(&format!("{indent}  <!--{text}-->\n")),
            // Text among elements stands on its own line; blanks at its ends have no meaning there.
            Node::Text(text) if structured => {
                out.push_str(&format!("{indent}  {}\n", escape(text.trim())));
            }
            Node::Text(text) => out.push_str(&escape(text.as_str())),
        }
    }
    if structured {
        out.push_str(&indent);
    }
    out.push_str(&format!("</{}>\n", element.name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_the_same() {
        let text = "\u{feff}<?xml version='1.0'?>\n<!-- top -->\n<a xmlns:w=\"u\">\r\n  <b w:c=\"1 &amp; 2\">x &lt; y&#33;</b>\
                    <!-- note --><c/>\n<d> kept </d><e><![CDATA[<raw>]]></e></a>";
        let tree = read(text.as_bytes()).unwrap();
        let written = write(&tree);
        assert_eq!(read(written.as_bytes()).unwrap(), tree);
        assert_eq!(write(&read(written.as_bytes()).unwrap()), written);
        assert!(written.contains("x &lt; y!"), "{written}");
        assert!(written.contains("<d> kept </d>"), "{written}");
        assert!(written.contains("&lt;raw&gt;"), "{written}");
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read(&wide).unwrap(), tree);
    }

    #[test]
    fn what_is_no_answer_file_is_refused() {
        for (text, why) in [
            ("", "not one document"),
            ("<a/><b/>", "not one document"),
            ("<a><b></a>", ""),
            ("<a>", "middle of an element"),
            ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "document type"),
            ("<a>&x;</a>", "entity"),
            (&"<a>".repeat(100), "levels"),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(read(&[0xff, 0xfe, 0x00, 0xd8]).is_err());
        assert!(read(&vec![b' '; MOST_BYTES + 1]).is_err());
    }

    #[test]
    fn put_replaces_all_of_the_name() {
        let mut tree = read(b"<a><b>1</b><c/><b>2</b></a>").unwrap();
        tree.put(Element::text("b", "3"));
        assert_eq!(
            write(&tree).lines().skip(1).collect::<String>(),
            "<a>  <b>3</b>  <c/></a>"
        );
    }
}
