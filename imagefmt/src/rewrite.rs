//! A copy of an image, record by record, with the same identity, key slots and stored bodies.
//!
//! Owns the start of such a copy. Bodies are checked against their stored hashes when they are
//! read; nothing is compressed again, so a copy takes only the time of reading and writing.

use std::io::Write;

use positioned_io::ReadAt;

use crate::error::Result;
use crate::prologue::Prologue;
use crate::{Image, VolumeSink, Writer};

impl<R: ReadAt> Image<R> {
    /// Starts a copy of one volume.
    ///
    /// # Errors
    /// [`crate::FormatError::Io`] if the sink fails.
    pub fn copy_writer<W: Write>(&self, sink: W) -> Result<Writer<W>> {
        Writer::copying(sink, self.undivided(), self.sealer(), None)
    }

    /// Starts a copy that is divided into volumes of at most `volume_bytes`.
    ///
    /// # Errors
    /// The errors of [`Image::copy_writer`], and [`crate::FormatError::LimitExceeded`] for volumes
    /// below 16 MiB.
    pub fn copy_writer_divided<W: Write>(
        &self,
        sink: W,
        volume_bytes: u64,
        volumes: impl VolumeSink<W> + Send + 'static,
    ) -> Result<Writer<W>> {
        let divided = Prologue {
            divided: true,
            ..self.undivided()
        };
        Writer::copying(
            sink,
            divided,
            self.sealer(),
            Some((volume_bytes, Box::new(volumes))),
        )
    }

    fn undivided(&self) -> Prologue {
        Prologue {
            divided: false,
            // A copy leaves out content that this version does not know.
            beyond: None,
            ..self.prologue.as_first()
        }
    }
}

impl<W: Write> Writer<W> {
    /// Copies the description (or `changed` instead), the table, the labels, every chunk of
    /// `image`, and the signatures that are valid for the result.
    ///
    /// `progress` is called with the number of finished chunks and returns false to stop the copy.
    ///
    /// # Errors
    /// The errors of [`Image::read_body`] for a chunk, and [`crate::FormatError::Io`];
    /// [`crate::FormatError::Unwritable`] if `progress` stopped the copy.
    pub fn copy<R: ReadAt>(
        &mut self,
        image: &Image<R>,
        changed: Option<&crate::Meta>,
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<()> {
        let manifest = image.manifest();
        match changed {
            Some(meta) => self.meta(meta)?,
            None => self.meta_bytes(manifest.meta_json().to_vec())?,
        }
        self.table(&manifest.table)?;
        self.labels = image.labels().clone();
        self.signatures.clone_from(&image.signatures);
        let sealer = image.sealer();
        let (mut body, mut record) = (Vec::new(), Vec::new());
        for (index, entry) in manifest.entries.iter().enumerate() {
            image.read_body(index, &mut body)?;
            let sealed = sealer.seal_entry(entry.clone(), &body, record)?;
            self.write(&sealed)?;
            record = sealed.into_buffer();
            if !progress(index as u64 + 1) {
                return Err(crate::FormatError::Unwritable {
                    what: "it was stopped",
                });
            }
        }
        Ok(())
    }
}
