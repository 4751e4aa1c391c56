//! Hives for tests: real ones, which are kept outside the repository, and synthetic ones, made with
//! hivexsh.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stdout,
    reason = "shared by the tests of several crates: each uses a part; what did not run is said"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Folder of real hives; `None`, with a printed line, if this machine has none.
pub fn real() -> Option<PathBuf> {
    let folder = std::env::var_os("DISKCAST_HIVES").map(PathBuf::from);
    match folder {
        None => {
            println!("did not run: DISKCAST_HIVES is not set");
            None
        }
        Some(folder) if folder.is_dir() => Some(folder),
        Some(folder) => {
            let required = std::env::var_os("CI").is_some_and(|ci| ci == "true");
            assert!(
                !required,
                "DISKCAST_HIVES: {} is not there",
                folder.display()
            );
            println!(
                "did not run: DISKCAST_HIVES: {} is not there",
                folder.display()
            );
            None
        }
    }
}

/// One of the real hives, decompressed.
pub fn unpack(folder: &Path, name: &str) -> Vec<u8> {
    let path = folder.join(format!("{name}.xz"));
    let out = Command::new("xz")
        .arg("-dc")
        .arg(&path)
        .output()
        .expect("xz");
    assert!(out.status.success(), "{}", path.display());
    out.stdout
}

/// A hive that consists of its root, with `descriptor` as its only security descriptor.
pub fn empty(descriptor: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 4096;
    let mut file = vec![0; 2 * BLOCK];
    let put = |file: &mut [u8], at: usize, bytes: &[u8]| {
        file[at..at + bytes.len()].copy_from_slice(bytes)
    };
    let le = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    // Base block: sequence numbers, version 1.5, root cell, length of the bins.
    put(&mut file, 0, b"regf");
    for (at, number) in [
        (4, 1),
        (8, 1),
        (20, 1),
        (24, 5),
        (32, 1),
        (36, 0x20),
        (40, BLOCK),
        (44, 1),
    ] {
        put(&mut file, at, &le(number));
    }
    let sum = file[..508].chunks_exact(4).fold(0, |sum, word| {
        sum ^ u32::from_le_bytes([word[0], word[1], word[2], word[3]])
    });
    put(&mut file, 508, &sum.to_le_bytes());
    // One bin: the root's nk, its sk, and free space.
    let bin = BLOCK;
    put(&mut file, bin, b"hbin");
    put(&mut file, bin + 8, &le(BLOCK));
    let name = b"ROOT";
    let (nk, nk_len) = (0x20, (4 + 76 + name.len()).next_multiple_of(8));
    let (sk, sk_len) = (nk + nk_len, (4 + 20 + descriptor.len()).next_multiple_of(8));
    let cell = |file: &mut [u8], at: usize, len: usize| {
        let size = -i32::try_from(len).unwrap();
        put(file, bin + at, &size.to_le_bytes());
    };
    cell(&mut file, nk, nk_len);
    let body = bin + nk + 4;
    put(&mut file, body, b"nk");
    put(&mut file, body + 2, &0x2c_u16.to_le_bytes());
    // No parent, no subkeys, no values, no class: all references are empty.
    for at in [16, 28, 32, 40, 48] {
        put(&mut file, body + at, &[0xff; 4]);
    }
    put(&mut file, body + 44, &le(sk));
    put(
        &mut file,
        body + 72,
        &u16::try_from(name.len()).unwrap().to_le_bytes(),
    );
    put(&mut file, body + 76, name);
    cell(&mut file, sk, sk_len);
    let body = bin + sk + 4;
    put(&mut file, body, b"sk");
    for (at, number) in [(4, sk), (8, sk), (12, 1), (16, descriptor.len())] {
        put(&mut file, body + at, &le(number));
    }
    put(&mut file, body + 20, descriptor);
    let free = sk + sk_len;
    put(&mut file, bin + free, &le(BLOCK - free));
    file
}

/// A descriptor with SYSTEM as owner that gives `sid` full access.
pub fn descriptor(sid: &[u8]) -> Vec<u8> {
    let system = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
    let ace = 8 + sid.len();
    let acl = 8 + ace;
    let mut bytes = vec![1, 0, 4, 0x80];
    for at in [20 + acl, 20 + acl, 0, 20] {
        bytes.extend(u32::try_from(at).unwrap().to_le_bytes());
    }
    bytes.extend([2, 0]);
    bytes.extend(u16::try_from(acl).unwrap().to_le_bytes());
    bytes.extend([1, 0, 0, 0, 0, 2]);
    bytes.extend(u16::try_from(ace).unwrap().to_le_bytes());
    bytes.extend(0x000f_003f_u32.to_le_bytes());
    bytes.extend(sid);
    bytes.extend(system);
    bytes
}

/// The SID `S-1-5-21-a-b-c-rid`, or that of the machine itself without a rid.
pub fn sid(machine: [u32; 3], rid: Option<u32>) -> Vec<u8> {
    let count = if rid.is_some() { 5 } else { 4 };
    let mut bytes = vec![1, count, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0];
    bytes.extend(machine.into_iter().chain(rid).flat_map(u32::to_le_bytes));
    bytes
}

/// One key and its values for [`build`]: name, and `kind:data` in the notation of hivexsh.
pub type Entry<'a> = (&'a str, &'a [(&'a str, &'a str)]);

/// A hive with these keys, made by hivexsh.
pub fn build(dir: &Path, descriptor: &[u8], entries: &[Entry<'_>]) -> Vec<u8> {
    let path = dir.join("building.hive");
    std::fs::write(&path, empty(descriptor)).unwrap();
    let mut script = String::new();
    let mut made = std::collections::BTreeSet::new();
    for (key, values) in entries {
        script.push_str("cd \\\n");
        let mut so_far = String::new();
        for part in key.split('\\') {
            so_far = format!("{so_far}\\{part}").to_lowercase();
            if made.insert(so_far.clone()) {
                script.push_str(&format!("add {part}\n"));
            }
            script.push_str(&format!("cd {part}\n"));
        }
        if !values.is_empty() {
            script.push_str(&format!("setval {}\n", values.len()));
            for (name, value) in *values {
                let name = if name.is_empty() { "@" } else { name };
                script.push_str(&format!("{name}\n{value}\n"));
            }
        }
    }
    script.push_str("commit\n");
    let mut child = Command::new("hivexsh")
        .arg("-w")
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("hivexsh, of Debian's libhivex-bin");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.is_empty(), "{said}\n{script}");
    std::fs::read(&path).unwrap()
}

/// Bytes of a registry type in the notation of hivexsh.
pub fn hex(kind: u32, bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hex:{kind}:{}", pairs.join(","))
}
