//! Functions of Windows that std does not have: the only `unsafe` of this program is here and in
//! `sys/`.
//!
//! Owns the declarations from the headers of the Windows SDK, and safe functions around them.
//! Decides nothing. Strings are passed as zero-ended UTF-16 that lives until the call returns
//! ([`wide`]); handles are closed by [`Handle`]; memory that the system allocates is freed by the
//! function that reads it.

pub(crate) mod hmac;
pub(crate) mod identity;
pub(crate) mod net;
pub(crate) mod process;
pub(crate) mod service;
pub(crate) mod users;

use std::ffi::{c_void, OsStr, OsString};
use std::io;
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

type RawHandle = *mut c_void;
type Wide = *const u16;

/// A zero-ended UTF-16 string for Windows.
fn wide(text: impl AsRef<OsStr>) -> Vec<u16> {
    text.as_ref()
        .encode_wide()
        .chain(std::iter::once(0))
        .collect()
}

/// Result of a function that returns 0 for failure and stores the error code separately.
fn checked(good: i32) -> io::Result<()> {
    if good == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Result of a function that returns the error code itself.
fn status(code: u32) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code as i32)),
    }
}

/// A kernel handle, closed when it is dropped.
struct Handle(RawHandle);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle came from a function that gave it to us, and nobody else closes it.
        unsafe {
            CloseHandle(self.0);
        }
    }
}

/// End of a program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// It ended by itself, with this exit code.
    Exit(i32),
    /// The time limit ended it, with everything it had started.
    TimedOut,
    /// The stop of the service ended it.
    Stopping,
}

pub(crate) fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

#[link(name = "kernel32")]
extern "system" {
    fn CloseHandle(handle: RawHandle) -> i32;
    fn GetWindowsDirectoryW(buffer: *mut u16, units: u32) -> u32;
    fn GetComputerNameW(buffer: *mut u16, units: *mut u32) -> i32;
    fn MoveFileExW(from: Wide, to: Wide, flags: u32) -> i32;
    fn LocalFree(memory: *mut c_void) -> *mut c_void;
    fn GetCurrentProcess() -> RawHandle;
}

/// Path of the Windows folder, such as `C:\Windows`.
pub(crate) fn windows_folder() -> PathBuf {
    let mut buffer = [0_u16; 300];
    // SAFETY: the buffer is ours and has the given length.
    let units = unsafe { GetWindowsDirectoryW(buffer.as_mut_ptr(), buffer.len() as u32) } as usize;
    match buffer.get(..units) {
        Some(path) if units > 0 => PathBuf::from(OsString::from_wide(path)),
        _ => PathBuf::from(r"C:\Windows"),
    }
}

fn computer_name() -> io::Result<String> {
    let mut buffer = [0_u16; 64];
    let mut units = buffer.len() as u32;
    // SAFETY: buffer and length are ours and agree.
    checked(unsafe { GetComputerNameW(buffer.as_mut_ptr(), &mut units) })?;
    Ok(String::from_utf16_lossy(
        buffer.get(..units as usize).unwrap_or(&[]),
    ))
}

/// Marks a file for removal at the next start of Windows: a running program cannot remove its own
/// file.
pub(crate) fn delete_at_restart(path: &Path) -> io::Result<()> {
    const MOVEFILE_DELAY_UNTIL_REBOOT: u32 = 4;
    let path = wide(path);
    // SAFETY: the path is zero-ended and lives; no target means removal.
    checked(unsafe { MoveFileExW(path.as_ptr(), std::ptr::null(), MOVEFILE_DELAY_UNTIL_REBOOT) })
}

#[repr(C)]
struct VersionInfo {
    size: u32,
    major: u32,
    minor: u32,
    build: u32,
    platform: u32,
    service_pack: [u16; 128],
}

#[link(name = "ntdll")]
extern "system" {
    fn RtlGetVersion(info: *mut VersionInfo) -> i32;
}

/// Build number of Windows. `GetVersionEx` would return an old one to programs without a manifest.
pub(crate) fn windows_build() -> u32 {
    let mut info = VersionInfo {
        size: std::mem::size_of::<VersionInfo>() as u32,
        major: 0,
        minor: 0,
        build: 0,
        platform: 0,
        service_pack: [0; 128],
    };
    // SAFETY: the structure is RTL_OSVERSIONINFOW and holds its size.
    unsafe {
        RtlGetVersion(&mut info);
    }
    info.build
}

#[link(name = "advapi32")]
extern "system" {
    #[link_name = "SystemFunction036"]
    fn RtlGenRandom(buffer: *mut u8, bytes: u32) -> u8;
    fn RegGetValueW(
        root: RawHandle,
        key: Wide,
        name: Wide,
        flags: u32,
        kind: *mut u32,
        data: *mut c_void,
        bytes: *mut u32,
    ) -> u32;
    fn RegSetKeyValueW(
        root: RawHandle,
        key: Wide,
        name: Wide,
        kind: u32,
        data: *const c_void,
        bytes: u32,
    ) -> u32;
    fn OpenProcessToken(process: RawHandle, access: u32, token: *mut RawHandle) -> i32;
    fn LookupPrivilegeValueW(system: Wide, name: Wide, luid: *mut u64) -> i32;
    fn AdjustTokenPrivileges(
        token: RawHandle,
        disable_all: i32,
        new: *const TokenPrivilege,
        bytes: u32,
        old: *mut c_void,
        needed: *mut u32,
    ) -> i32;
    fn InitiateSystemShutdownExW(
        machine: *mut u16,
        message: *mut u16,
        seconds: u32,
        force: i32,
        restart: i32,
        reason: u32,
    ) -> i32;
}

/// A random password of 24 characters that satisfies every complexity rule of Windows.
pub(crate) fn random_password() -> Result<String, String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0_u8; 20];
    // SAFETY: the buffer is ours and has the given length.
    if unsafe { RtlGenRandom(bytes.as_mut_ptr(), bytes.len() as u32) } == 0 {
        return Err("no random numbers for its password".into());
    }
    // 64 characters: no remainder, so all are equally likely.
    let random: String = bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 64)]))
        .collect();
    Ok(format!("{}aA1-", random))
}

/// `HKEY_LOCAL_MACHINE`, sign-extended as in winreg.h.
const LOCAL_MACHINE: RawHandle = 0x8000_0002_u32 as i32 as isize as RawHandle;

fn registry_number(key: &str, name: &str) -> Option<u32> {
    const RRF_RT_REG_DWORD: u32 = 0x10;
    let (key, name) = (wide(key), wide(name));
    let mut value = 0_u32;
    let mut bytes = 4_u32;
    // SAFETY: the strings are zero-ended and live; the value has the given four bytes.
    let code = unsafe {
        RegGetValueW(
            LOCAL_MACHINE,
            key.as_ptr(),
            name.as_ptr(),
            RRF_RT_REG_DWORD,
            std::ptr::null_mut(),
            (&mut value as *mut u32).cast(),
            &mut bytes,
        )
    };
    (code == 0).then(|| value)
}

/// True if the value is a string that is not empty.
fn registry_has_text(key: &str, name: &str) -> bool {
    const RRF_RT_REG_SZ: u32 = 2;
    let (key, name) = (wide(key), wide(name));
    let mut bytes = 0_u32;
    // SAFETY: the strings are zero-ended and live; without a buffer only the size is returned.
    let code = unsafe {
        RegGetValueW(
            LOCAL_MACHINE,
            key.as_ptr(),
            name.as_ptr(),
            RRF_RT_REG_SZ,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &mut bytes,
        )
    };
    // Two bytes are the final zero alone.
    code == 0 && bytes > 2
}

pub(crate) fn set_registry_text(key: &str, name: &str, value: &str) -> io::Result<()> {
    const REG_SZ: u32 = 1;
    let (key, name, value) = (wide(key), wide(name), wide(value));
    let bytes = (value.len() * 2) as u32;
    // SAFETY: all strings are zero-ended and live, and the value has the given number of bytes.
    status(unsafe {
        RegSetKeyValueW(
            LOCAL_MACHINE,
            key.as_ptr(),
            name.as_ptr(),
            REG_SZ,
            value.as_ptr().cast(),
            bytes,
        )
    })
}

/// True while Sysprep's passes or the first-run pages are running.
pub(crate) fn setup_is_running() -> bool {
    ["SystemSetupInProgress", "OOBEInProgress"]
        .iter()
        .any(|name| registry_number(r"SYSTEM\Setup", name).map_or(false, |value| value != 0))
}

/// TOKEN_PRIVILEGES with one entry: its LUID_AND_ATTRIBUTES is 4-byte aligned.
#[repr(C, packed(4))]
struct TokenPrivilege {
    count: u32,
    luid: u64,
    attributes: u32,
}

/// Restarts the machine or powers it off, even if programs do not respond.
pub(crate) fn shut_down(restart: bool) -> io::Result<()> {
    const TOKEN_ADJUST_PRIVILEGES: u32 = 0x20;
    const TOKEN_QUERY: u32 = 8;
    const SE_PRIVILEGE_ENABLED: u32 = 2;
    /// Operating system, reconfiguration, planned.
    const REASON: u32 = 0x8002_0004;
    let name = wide("SeShutdownPrivilege");
    let mut token = std::ptr::null_mut();
    // SAFETY: the pseudo handle of this process needs no closing; the token is closed by `Handle`.
    checked(unsafe {
        OpenProcessToken(
            GetCurrentProcess(),
            TOKEN_ADJUST_PRIVILEGES | TOKEN_QUERY,
            &mut token,
        )
    })?;
    let token = Handle(token);
    let mut luid = 0_u64;
    // SAFETY: the name is zero-ended and lives; a LUID has eight bytes.
    checked(unsafe { LookupPrivilegeValueW(std::ptr::null(), name.as_ptr(), &mut luid) })?;
    let privilege = TokenPrivilege {
        count: 1,
        luid,
        attributes: SE_PRIVILEGE_ENABLED,
    };
    // SAFETY: the structure is TOKEN_PRIVILEGES with one entry; nothing is asked back.
    checked(unsafe {
        AdjustTokenPrivileges(
            token.0,
            0,
            &privilege,
            0,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    })?;
    // SAFETY: a null machine name is this machine, a null message is none.
    checked(unsafe {
        InitiateSystemShutdownExW(
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
            1,
            i32::from(restart),
            REASON,
        )
    })
}
