//! Real inputs for the fuzzer: tiny disks and file systems made by Debian's own tools, at run time,
//! and the fixtures of the image format.
//!
//! They are written next to the fuzzer's own finds, under names that start with `seed-`.

use std::fs;
use std::io;
use std::path::Path;

use crate::scratch::Scratch;
use crate::shell::{Failure, bash};

/// Target, seed name, and the script that makes the file `x` in the current folder.
const RECIPES: &[(&str, &str, &str)] = &[
    (
        "diskmap_ext",
        "ext2-1k",
        "truncate -s 128K x; mke2fs -q -F -t ext2 -b 1024 -N 16 x",
    ),
    (
        "diskmap_ext",
        "ext4-1k",
        "truncate -s 256K x; mke2fs -q -F -t ext4 -b 1024 -N 16 -O ^has_journal x",
    ),
    (
        "diskmap_ext",
        "ext4-meta-bg",
        "truncate -s 256K x; mke2fs -q -F -t ext4 -b 1024 -N 16 -O ^has_journal,^resize_inode,meta_bg x",
    ),
    (
        "diskmap_ext",
        "ext4-bigalloc",
        "truncate -s 512K x; mke2fs -q -F -t ext4 -b 1024 -C 4096 -N 16 -O ^has_journal,bigalloc x",
    ),
    (
        "diskmap_ntfs",
        "ntfs",
        "truncate -s 1040K x; mkntfs -q -F -Q -s 512 -c 512 -p 0 -H 255 -S 63 x",
    ),
    (
        "diskmap_ntfs_files",
        "ntfs",
        "truncate -s 1040K x; mkntfs -q -F -Q -s 512 -c 512 -p 0 -H 255 -S 63 x",
    ),
    (
        "diskmap_fat",
        "fat12",
        "truncate -s 160K x; mkfs.fat -F 12 x",
    ),
    (
        "diskmap_fat",
        "fat16",
        "truncate -s 2200K x; mkfs.fat -F 16 -s 1 x; truncate -s 512K x",
    ),
    (
        "diskmap_fat",
        "fat32",
        "truncate -s 34M x; mkfs.fat -F 32 -s 1 x; truncate -s 640K x",
    ),
    (
        "diskmap_exfat",
        "exfat",
        "truncate -s 1M x; mkfs.exfat -c 512 -b 4096 x",
    ),
    ("diskmap_swap", "swap", "truncate -s 40K x; mkswap -q x"),
    ("diskmap_gpt", "gpt", GPT),
    ("diskmap_gpt", "empty", GPT_EMPTY),
    ("diskmap_patch", "gpt", PATCH_GPT),
    ("diskmap_mbr", "logical", MBR),
    ("diskmap_patch", "mbr", PATCH_MBR),
    ("pxe_dhcp", "uefi", DHCP_UEFI),
    ("pxe_dhcp", "request", DHCP_REQUEST),
    ("pxe_tftp", "ovmf", TFTP),
];

/// Targets that read a master image: the fixtures of every rule of the format are their seeds.
const IMAGE_TARGETS: [&str; 2] = ["imagefmt_open", "imagefmt_rebuild"];

// The table targets read a mode byte (1: make checksums or end marks right), then the front of a
// 256 KiB disk and, for GPT, as much of its end.
const GPT: &str = "truncate -s 256K d; sgdisk -a 1 -n 1:40:60 -n 7:64:80 d
    { printf '\\001'; head -c 20480 d; tail -c 20480 d; } > x";
const GPT_EMPTY: &str = "truncate -s 256K d; sgdisk -o d
    { printf '\\000'; head -c 20480 d; tail -c 20480 d; } > x";
const MBR: &str = "truncate -s 256K d
    printf 'label: dos\\n10,50,c,*\\n70,400,5\\n80,40,83\\n200,40,7\\n' | sfdisk -q --no-reread d
    { printf '\\001'; cat d; } > x";
// Mode, disk size in 4 KiB, target size in sectors, the partition to grow; then sector number,
// count and bytes.
const PATCH_GPT: &str = "truncate -s 256K d; sgdisk -a 1 -n 1:40:60 -n 7:64:80 d
    { printf '\\000\\100\\000\\000\\004\\000\\000\\001\\000\\000\\042'; head -c 17408 d
      printf '\\337\\001\\041'; tail -c 16896 d; } > x";
const PATCH_MBR: &str = "truncate -s 256K d
    printf 'label: dos\\n10,50,c,*\\n70,400,5\\n80,40,83\\n200,40,7\\n' | sfdisk -q --no-reread d
    { printf '\\000\\100\\000\\000\\004\\000\\000\\000\\000\\000\\377'; head -c 130560 d; } > x";

// A DISCOVER of UEFI firmware, and a REQUEST for a lease: 28 bytes of fixed part, a card, names,
// the cookie, options.
const DHCP_UEFI: &str = "{ printf '\\001\\001\\006\\000abcd\\000\\000\\200\\000'; head -c 16 /dev/zero
      printf '\\122\\124\\000\\000\\000\\001'; head -c 202 /dev/zero
      printf '\\143\\202\\123\\143\\065\\001\\001\\067\\003\\001\\003\\006\\135\\002\\000\\007\\136\\003\\001\\003\\020'
      printf '\\141\\021\\0000123456789abcdef\\074\\040PXEClient:Arch:00007:UNDI:003016\\377'; } > x";
const DHCP_REQUEST: &str = "{ printf '\\001\\001\\006\\000abcd\\000\\000\\200\\000'; head -c 16 /dev/zero
      printf '\\122\\124\\000\\000\\000\\001'; head -c 202 /dev/zero
      printf '\\143\\202\\123\\143\\065\\001\\003\\062\\004\\012\\000\\000\\012\\066\\004\\012\\000\\000\\002\\377'; } > x";
// The length of the request, the request as OVMF makes it, then begin, the options answered, and
// two windows.
const TFTP: &str = "{ printf '\\064shimx64.efi\\000octet\\000tsize\\0000\\000blksize\\0001468\\000windowsize\\0004\\000'
      printf '\\000\\000\\000\\000\\000\\002\\000\\000\\000\\002\\000\\004\\000\\002\\000\\010'; } > x";

/// Makes every missing seed.
pub(crate) fn make(corpus: &Path) -> Result<(), Failure> {
    for (target, name, recipe) in RECIPES {
        let seed = corpus.join(target).join(format!("seed-{name}"));
        if seed.exists() {
            continue;
        }
        let scratch = Scratch::new(&std::env::temp_dir(), &format!("seed-{target}-{name}"))?;
        bash(&format!("cd {}; {recipe}", scratch.path().display()))?;
        let made = seed.with_file_name("");
        fs::create_dir_all(&made)
            .and_then(|()| fs::copy(scratch.path().join("x"), &seed))
            .map_err(|error| Failure::new(format!("storing {}: {error}", seed.display())))?;
    }
    images(corpus).map_err(|error| Failure::new(format!("storing images as seeds: {error}")))
}

fn images(corpus: &Path) -> io::Result<()> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/image");
    for target in IMAGE_TARGETS {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        for fixture in fs::read_dir(&fixtures)? {
            let fixture = fixture?;
            let name = format!("seed-{}", fixture.file_name().display());
            fs::copy(fixture.path(), folder.join(name))?;
        }
    }
    Ok(())
}
