//! A copy of an image, record by record: same identity, same key slots, bodies as they are.
//!
//! Owns the writer that begins such a copy. Bodies are checked against their stored hashes as they are read; nothing is
//! compressed again, so a copy costs what reading and writing cost.

use std::io::Write;

use positioned_io::ReadAt;

use crate::error::Result;
use crate::prologue::Prologue;
use crate::{Image, VolumeSink, Writer};

impl<R: ReadAt> Image<R> {
    /// Starts a copy in one piece.
    ///
    /// # Errors
    /// [`crate::FormatError::Io`] when the sink fails.
    pub fn copy_writer<W: Write>(&self, sink: W) -> Result<Writer<W>> {
        Writer::copying(sink, self.undivided(), self.sealer(), None)
    }

    /// Starts a copy that is cut into volumes of at most `volume_bytes`.
    ///
    /// # Errors
    /// As [`Image::copy_writer`], and [`crate::FormatError::LimitExceeded`] for volumes below 16 MiB.
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
            // A copy leaves out what this version does not know.
            beyond: None,
            ..self.prologue.as_first()
        }
    }
}

impl<W: Write> Writer<W> {
    /// Copies the description as it is, or as `changed` says, the table, the labels, every chunk of `image`, and the signatures
    /// that fit what comes of it. `progress` hears of the
    /// number of chunks done and answers whether to go on.
    ///
    /// # Errors
    /// As [`Image::read_body`] for a chunk, and [`crate::FormatError::Io`]; [`crate::FormatError::Unwritable`] when told to
    /// stop.
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
