//! The receiver's state of one object: complete, unreported and undecided blocks.

use super::types::ImageBlocks;
use crate::block::blockset::BlockSet;
use crate::block::layout::ObjectId;

#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) id: ObjectId,
    pub(super) symbol_counts: Vec<u16>,
    pub(super) complete: BlockSet,
    /// Blocks that are not complete and are still searched for on the disk.
    pub(super) undecided: BlockSet,
    /// Blocks that are complete and not reported yet.
    pub(super) unsaid: BlockSet,
    pub(super) announced: bool,
}

impl Object {
    pub(super) fn new(id: ObjectId, symbol_counts: Vec<u16>) -> Self {
        let len = u32::try_from(symbol_counts.len()).unwrap_or(u32::MAX);
        Self {
            id,
            symbol_counts,
            unsaid: BlockSet::empty(len),
            undecided: BlockSet::empty(len),
            complete: BlockSet::empty(len),
            announced: false,
        }
    }

    pub(super) fn image(image: ImageBlocks) -> Self {
        let mut object = Self::new(ObjectId::Image, image.symbol_counts);
        // Sets over another number of blocks belong to another image and are ignored.
        let len = object.complete.len();
        if image.have.len() == len {
            object.unsaid = image.have.clone();
            object.complete = image.have;
        }
        if image.undecided.len() == len {
            object.undecided = image.undecided;
            object.undecided.subtract(&object.complete);
        }
        object
    }
}
