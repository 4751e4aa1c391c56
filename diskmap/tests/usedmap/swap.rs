//! Swap areas: the header is kept, hibernation is refused.

use diskmap::usedmap::FsKind;

use crate::support::*;

#[test]
fn every_page_size_keeps_its_header_only() {
    for page in [4096u64, 8192, 16384, 32768, 65536] {
        let bench = Bench::new();
        let image = bench.image(8 * MIB);
        // mkswap accepts a page size of another machine and says so.
        ok(
            "mkswap",
            &["-q", "-p", &page.to_string(), "-L", "swappy", str(&image)],
        );
        let map = used(&image);
        assert_eq!(map.fs.kind, FsKind::Swap);
        assert_eq!(map.fs.label.as_deref(), Some("swappy"));
        let tail = 8 * MIB - (64 << 10);
        assert_eq!(map.extents, vec![0..page, tail..8 * MIB]);
        let restored = poison_copy(&image, &map);
        let ids = |path| {
            ok(
                "blkid",
                &[
                    "-p",
                    "-o",
                    "export",
                    "-s",
                    "UUID",
                    "-s",
                    "LABEL",
                    "-s",
                    "TYPE",
                    str(path),
                ],
            )
            .lines()
            .filter(|line| !line.starts_with("DEVNAME"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
        };
        assert_eq!(ids(&image), ids(&restored));
        assert!(
            ids(&image)
                .iter()
                .any(|line| line.ends_with(map.fs.uuid.as_deref().unwrap()))
        );
    }
}

#[test]
fn hibernated_is_refused() {
    for signature in [
        &b"S1SUSPEND\0"[..],
        b"S2SUSPEND\0",
        b"ULSUSPEND\0",
        b"LINHIB0001",
    ] {
        let bench = Bench::new();
        let image = bench.image(2 * MIB);
        ok("mkswap", &["-q", str(&image)]);
        patch(&image, 4096 - 10, signature);
        let (reason, hint) = refused(&image);
        assert!(reason.contains("hibernated"), "{reason}");
        assert!(hint.contains("shut it down"), "{hint}");
    }
}

#[test]
fn a_header_that_does_not_fit_is_raw() {
    let bench = Bench::new();
    let image = bench.image(2 * MIB);
    ok("mkswap", &["-q", str(&image)]);
    patch(&image, 1028, &u32::MAX.to_le_bytes());
    assert!(raw(&image).contains("in a partition of"));
    patch(&image, 1024, &[9]);
    assert!(raw(&image).contains("version 9"));
}
