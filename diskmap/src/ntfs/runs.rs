//! Mapping pairs: the runs of clusters of a stream.
//!
//! ```text
//!   run:  header (bytes of length, bytes of offset) | length | signed offset from the last place
//!         no offset is a hole; a header of zero ends the list
//! ```

/// One run of a stream: `len` clusters from `lcn` on, or a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) lcn: Option<u64>,
    pub(super) len: u64,
}

/// The runs of a list, each of them inside the volume. The iterator ends behind the first fault.
pub(super) struct Runs<'a> {
    rest: &'a [u8],
    lcn: i64,
    clusters: u64,
}

impl<'a> Runs<'a> {
    /// The runs in `list`, for a volume of `clusters` clusters.
    pub(super) const fn new(list: &'a [u8], clusters: u64) -> Self {
        Self {
            rest: list,
            lcn: 0,
            clusters,
        }
    }

    fn run(&mut self) -> Result<Option<Run>, &'static str> {
        let (header, rest) = self.rest.split_first().ok_or("a run list has no end")?;
        if *header == 0 {
            return Ok(None);
        }
        let bad = "a run has a malformed header";
        let (len_bytes, offset_bytes) = (usize::from(header & 15), usize::from(header >> 4));
        if len_bytes == 0 || len_bytes > 8 || offset_bytes > 8 {
            return Err(bad);
        }
        let (len, rest) = rest.split_at_checked(len_bytes).ok_or(bad)?;
        let (offset, rest) = rest.split_at_checked(offset_bytes).ok_or(bad)?;
        self.rest = rest;
        let len = u64::try_from(signed(len)).ok().filter(|len| *len > 0);
        let len = len.ok_or("a run has no length, or a negative one")?;
        if offset_bytes == 0 {
            return Ok(Some(Run { lcn: None, len }));
        }
        let outside = "a run lies outside the volume";
        self.lcn = self.lcn.checked_add(signed(offset)).ok_or(outside)?;
        let lcn = u64::try_from(self.lcn).map_err(|_| outside)?;
        let end = lcn.checked_add(len).ok_or(outside)?;
        if end > self.clusters {
            return Err(outside);
        }
        let lcn = Some(lcn);
        Ok(Some(Run { lcn, len }))
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<Run, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let run = self.run().transpose();
        if !matches!(run, Some(Ok(_))) {
            // A list that ends with its mark.
            self.rest = &[0];
        }
        run
    }
}

/// Reads a little-endian signed number of up to eight bytes.
fn signed(bytes: &[u8]) -> i64 {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = if negative { [0xFF; 8] } else { [0; 8] };
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = *from;
    }
    i64::from_le_bytes(wide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(list: &[u8], clusters: u64) -> Option<Vec<Run>> {
        Runs::new(list, clusters).collect::<Result<_, _>>().ok()
    }

    #[test]
    fn run_lists() {
        // 0x18 clusters at 0x5634, then 8 clusters 0x20 before that, then a hole of 4.
        let list = [0x21, 0x18, 0x34, 0x56, 0x11, 0x08, 0xE0, 0x01, 0x04, 0x00];
        let run = |lcn, len| Run { lcn, len };
        assert_eq!(
            decode(&list, 1 << 20).unwrap(),
            [run(Some(0x5634), 0x18), run(Some(0x5614), 8), run(None, 4),]
        );
        assert!(decode(&list, 0x5634).is_none(), "past the end");
        assert!(
            decode(&[0x11, 1, 0xFF, 0], 100).is_none(),
            "before the start"
        );
        assert!(
            decode(&[0x11, 0xFF, 1, 0], 100).is_none(),
            "negative length"
        );
        assert!(decode(&[0x10, 0], 100).is_none(), "no length");
        assert!(decode(&[0x11, 1], 100).is_none(), "cut short");
        assert!(decode(&[0x11, 1, 1], 100).is_none(), "no end mark");
        let wrap = [0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 1, 0];
        assert!(decode(&wrap, 100).is_none(), "wraps");
    }

    proptest! {
        #[test]
        fn any_run_list_ends_and_stays_inside_the_volume(list in proptest::collection::vec(any::<u8>(), 0..64), clusters in 0u64..1 << 40) {
            for run in Runs::new(&list, clusters) {
                prop_assert!(run.ok().and_then(|run| Some(run.lcn? + run.len)).is_none_or(|end| end <= clusters));
            }
        }
    }
}
