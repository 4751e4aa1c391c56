//! The tree that becomes the initramfs: names with files, links, folders and devices, written in
//! the order of names.

use super::newc::Newc;
use super::spool::{Place, Spool};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

/// The bytes of a file: in memory or in the spool.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Bytes(Arc<[u8]>),
    Spooled(Place),
}

#[derive(Clone, Debug)]
enum Node {
    Folder(u32),
    File(u32, Content),
    Link(String),
    Character(u32, (u32, u32)),
}

/// A tree of files.
#[derive(Debug)]
pub(crate) struct Root {
    nodes: BTreeMap<String, Node>,
}

impl Root {
    /// A tree with the folders and links that every pre-OS has (docs/network-boot.md), and the
    /// console device: the kernel opens it for `/init` before anything is mounted.
    pub(crate) fn new() -> Self {
        let mut root = Self {
            nodes: BTreeMap::new(),
        };
        for folder in [
            "dev",
            "etc",
            "mnt",
            "proc",
            "run",
            "sys",
            "usr/bin",
            "usr/sbin",
            "usr/lib",
            "usr/lib64",
            "var",
        ] {
            root.folder(folder, 0o755);
        }
        root.folder("root", 0o700);
        root.folder("tmp", 0o1777);
        for name in ["bin", "sbin", "lib", "lib64"] {
            root.link(name, &format!("usr/{name}"));
        }
        root.nodes
            .insert("dev/console".to_owned(), Node::Character(0o600, (5, 1)));
        root.nodes
            .insert("dev/null".to_owned(), Node::Character(0o666, (1, 3)));
        root
    }

    /// Adds a file, and the folders above it.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: Content) {
        self.parents(path);
        self.nodes
            .insert(path.to_owned(), Node::File(mode, content));
    }

    /// Adds a text file.
    pub(crate) fn text(&mut self, path: &str, text: &str) {
        self.file(path, 0o644, Content::Bytes(text.as_bytes().into()));
    }

    /// Adds a symbolic link, and the folders above it.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.nodes
            .insert(path.to_owned(), Node::Link(target.to_owned()));
    }

    fn folder(&mut self, path: &str, mode: u32) {
        self.parents(path);
        self.nodes.insert(path.to_owned(), Node::Folder(mode));
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let (folder, _) = path.split_at(at);
            if !self.nodes.contains_key(folder) {
                self.nodes.insert(folder.to_owned(), Node::Folder(0o755));
            }
        }
    }

    /// Bytes of all files together.
    pub(crate) fn len_bytes(&self) -> u64 {
        let len = |node: &Node| match node {
            Node::File(_, Content::Bytes(bytes)) => bytes.len() as u64,
            Node::File(_, Content::Spooled(place)) => place.len_bytes,
            _ => 0,
        };
        self.nodes.values().map(len).sum()
    }

    /// Writes the archive; calls `written` with the number of file bytes of each entry.
    pub(crate) fn write(
        &self,
        out: impl Write,
        spool: &Spool,
        mut written: impl FnMut(u64),
    ) -> io::Result<()> {
        let mut newc = Newc::new(out);
        // In sorted order every folder comes before its content.
        for (path, node) in &self.nodes {
            match node {
                Node::Folder(mode) => newc.folder(path, *mode)?,
                Node::Link(target) => newc.link(path, target)?,
                Node::Character(mode, device) => newc.character(path, *mode, *device)?,
                Node::File(mode, Content::Bytes(bytes)) => {
                    newc.file(path, *mode, bytes)?;
                    written(bytes.len() as u64);
                }
                Node::File(mode, Content::Spooled(place)) => {
                    newc.file(path, *mode, &spool.get(*place)?)?;
                    written(place.len_bytes);
                }
            }
        }
        newc.finish()?;
        Ok(())
    }
}
