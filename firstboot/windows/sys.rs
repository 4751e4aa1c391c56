//! The functions of Windows that std does not have: the only `unsafe` of this program.
//!
//! Owns: declarations as in the headers of the Windows SDK, and safe functions around them. Decides nothing. Strings go in as
//! zero-ended UTF-16 that lives until the call returns ([`wide`]); handles are closed by [`Handle`]; what the system allocates
//! is freed where it is read.

use std::ffi::{c_void, OsStr, OsString};
use std::io;
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

type RawHandle = *mut c_void;
type Wide = *const u16;

/// A string for Windows.
fn wide(text: impl AsRef<OsStr>) -> Vec<u16> {
    text.as_ref()
        .encode_wide()
        .chain(std::iter::once(0))
        .collect()
}

/// Result of a function that answers 0 for failure and keeps the reason aside.
fn checked(good: i32) -> io::Result<()> {
    if good == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Result of a function that answers with the reason itself.
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

/// How a program ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// By itself.
    Exit(i32),
    /// By us, with all it had started.
    TimedOut,
    /// It was ended because the service is being stopped.
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

/// `C:\Windows`.
pub(crate) fn windows_folder() -> PathBuf {
    let mut buffer = [0_u16; 300];
    // SAFETY: the buffer is ours and as long as said.
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

/// A running program cannot remove its own file; Windows does at its next start.
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

/// Build number of Windows; `GetVersionEx` would tell programs without a manifest an old one.
pub(crate) fn windows_build() -> u32 {
    let mut info = VersionInfo {
        size: std::mem::size_of::<VersionInfo>() as u32,
        major: 0,
        minor: 0,
        build: 0,
        platform: 0,
        service_pack: [0; 128],
    };
    // SAFETY: the structure is RTL_OSVERSIONINFOW, and says its size.
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

/// 24 characters that satisfy every complexity rule of Windows, known to nobody.
pub(crate) fn random_password() -> Result<String, String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0_u8; 20];
    // SAFETY: the buffer is ours and as long as said.
    if unsafe { RtlGenRandom(bytes.as_mut_ptr(), bytes.len() as u32) } == 0 {
        return Err("no random numbers for its password".into());
    }
    // 64 characters: no remainder, every one as likely.
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
    // SAFETY: the strings are zero-ended and live; the value has the four bytes that are said.
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

/// Is there a text that is not empty?
fn registry_has_text(key: &str, name: &str) -> bool {
    const RRF_RT_REG_SZ: u32 = 2;
    let (key, name) = (wide(key), wide(name));
    let mut bytes = 0_u32;
    // SAFETY: the strings are zero-ended and live; without a buffer only the size is told.
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
    // Two bytes are the zero alone.
    code == 0 && bytes > 2
}

pub(crate) fn set_registry_text(key: &str, name: &str, value: &str) -> io::Result<()> {
    const REG_SZ: u32 = 1;
    let (key, name, value) = (wide(key), wide(name), wide(value));
    let bytes = (value.len() * 2) as u32;
    // SAFETY: all strings are zero-ended and live, and the value has as many bytes as said.
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

/// Sysprep's passes or the first-run pages are not over.
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

/// Restarts the machine or powers it off, programs that do not answer included.
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
    // SAFETY: no machine is this one, no message is none.
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

/// Programs with a time limit.
pub(crate) mod process {
    use super::{checked, wide, Ended, Handle, RawHandle, Wide};
    use std::ffi::c_void;
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::windows::io::AsRawHandle;
    use std::path::Path;
    use std::time::{Duration, Instant};

    #[repr(C)]
    struct StartupInfo {
        size: u32,
        reserved: *mut u16,
        desktop: *mut u16,
        title: *mut u16,
        place: [u32; 7],
        flags: u32,
        show: u16,
        reserved_bytes: u16,
        reserved_data: *mut u8,
        stdin: RawHandle,
        stdout: RawHandle,
        stderr: RawHandle,
    }

    #[repr(C)]
    struct ProcessInformation {
        process: RawHandle,
        thread: RawHandle,
        process_id: u32,
        thread_id: u32,
    }

    #[link(name = "kernel32")]
    extern "system" {
        fn CreateProcessW(
            application: Wide,
            line: *mut u16,
            process_security: *const c_void,
            thread_security: *const c_void,
            inherit: i32,
            flags: u32,
            environment: *const c_void,
            folder: Wide,
            startup: *const StartupInfo,
            information: *mut ProcessInformation,
        ) -> i32;
        fn CreateJobObjectW(security: *const c_void, name: Wide) -> RawHandle;
        fn AssignProcessToJobObject(job: RawHandle, process: RawHandle) -> i32;
        fn TerminateJobObject(job: RawHandle, code: u32) -> i32;
        fn TerminateProcess(process: RawHandle, code: u32) -> i32;
        fn ResumeThread(thread: RawHandle) -> u32;
        fn WaitForSingleObject(handle: RawHandle, milliseconds: u32) -> u32;
        fn GetExitCodeProcess(process: RawHandle, code: *mut u32) -> i32;
        fn SetHandleInformation(handle: RawHandle, mask: u32, flags: u32) -> i32;
    }

    const WAIT_OBJECT_0: u32 = 0;
    const WAIT_TIMEOUT: u32 = 258;
    const KILLED: u32 = 1;

    /// Runs a command line to its end. Its output goes to a file. What it leaves running when it ends in time stays.
    pub(crate) fn run(
        line: &str,
        folder: &Path,
        output: &File,
        limit: Duration,
    ) -> io::Result<Ended> {
        let null = OpenOptions::new().read(true).open("NUL")?;
        let (process, job) = start(line, folder, &null, output)?;
        let end = Instant::now() + limit;
        let ended = loop {
            // SAFETY: the handle is open.
            match unsafe { WaitForSingleObject(process.0, 250) } {
                WAIT_OBJECT_0 => {
                    let mut code = 0;
                    // SAFETY: the handle is open; the code is ours.
                    checked(unsafe { GetExitCodeProcess(process.0, &mut code) })?;
                    return Ok(Ended::Exit(code as i32));
                }
                WAIT_TIMEOUT if super::service::stopping() => break Ended::Stopping,
                WAIT_TIMEOUT if Instant::now() >= end => break Ended::TimedOut,
                WAIT_TIMEOUT => {}
                _ => return Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: both handles are open. The job holds the program and all it started.
        unsafe {
            TerminateJobObject(job.0, KILLED);
            TerminateProcess(process.0, KILLED);
            WaitForSingleObject(process.0, 10_000);
        }
        Ok(ended)
    }

    /// Starts it suspended, so that nothing it starts can be outside of the job.
    fn start(
        line: &str,
        folder: &Path,
        null: &File,
        output: &File,
    ) -> io::Result<(Handle, Handle)> {
        const STARTF_USESTDHANDLES: u32 = 0x100;
        const CREATE_SUSPENDED: u32 = 4;
        const CREATE_NO_WINDOW: u32 = 0x0800_0000;
        let (null, output) = (
            null.as_raw_handle() as RawHandle,
            output.as_raw_handle() as RawHandle,
        );
        let startup = StartupInfo {
            size: std::mem::size_of::<StartupInfo>() as u32,
            reserved: std::ptr::null_mut(),
            desktop: std::ptr::null_mut(),
            title: std::ptr::null_mut(),
            place: [0; 7],
            flags: STARTF_USESTDHANDLES,
            show: 0,
            reserved_bytes: 0,
            reserved_data: std::ptr::null_mut(),
            stdin: null,
            stdout: output,
            stderr: output,
        };
        let mut information = ProcessInformation {
            process: std::ptr::null_mut(),
            thread: std::ptr::null_mut(),
            process_id: 0,
            thread_id: 0,
        };
        let mut line = wide(line);
        let folder = wide(folder);
        // SAFETY: no security and no name.
        let job = unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) };
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        let job = Handle(job);
        const HANDLE_FLAG_INHERIT: u32 = 1;
        for handle in [null, output] {
            // SAFETY: the files of the caller are open.
            checked(unsafe {
                SetHandleInformation(handle, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT)
            })?;
        }
        // SAFETY: the line may be written to and is zero-ended; the structures are STARTUPINFOW and PROCESS_INFORMATION.
        checked(unsafe {
            CreateProcessW(
                std::ptr::null(),
                line.as_mut_ptr(),
                std::ptr::null(),
                std::ptr::null(),
                1,
                CREATE_SUSPENDED | CREATE_NO_WINDOW,
                std::ptr::null(),
                folder.as_ptr(),
                &startup,
                &mut information,
            )
        })?;
        let process = Handle(information.process);
        let thread = Handle(information.thread);
        // SAFETY: all three are open. A program that cannot be put into the job is ended before it did anything.
        unsafe {
            if AssignProcessToJobObject(job.0, process.0) == 0 {
                let error = io::Error::last_os_error();
                TerminateProcess(process.0, KILLED);
                return Err(error);
            }
            ResumeThread(thread.0);
        }
        Ok((process, job))
    }
}

/// Local accounts.
pub(crate) mod users {
    use super::{computer_name, wide, LocalFree, Wide};
    use std::ffi::c_void;
    use std::io;

    /// USER_INFO_1.
    #[repr(C)]
    struct NewUser {
        name: Wide,
        password: Wide,
        password_age: u32,
        privilege: u32,
        home: Wide,
        comment: Wide,
        flags: u32,
        script: Wide,
    }

    #[link(name = "netapi32")]
    extern "system" {
        fn NetUserAdd(server: Wide, level: u32, data: *const c_void, wrong: *mut u32) -> u32;
        fn NetUserGetInfo(server: Wide, name: Wide, level: u32, data: *mut *mut c_void) -> u32;
        fn NetUserSetInfo(
            server: Wide,
            name: Wide,
            level: u32,
            data: *const c_void,
            wrong: *mut u32,
        ) -> u32;
        fn NetLocalGroupAddMembers(
            server: Wide,
            group: Wide,
            level: u32,
            data: *const c_void,
            count: u32,
        ) -> u32;
        fn NetApiBufferFree(buffer: *mut c_void) -> u32;
    }

    #[link(name = "advapi32")]
    extern "system" {
        fn ConvertStringSidToSidW(text: Wide, sid: *mut *mut c_void) -> i32;
        fn LookupAccountSidW(
            system: Wide,
            sid: *const c_void,
            name: *mut u16,
            name_units: *mut u32,
            domain: *mut u16,
            domain_units: *mut u32,
            kind: *mut i32,
        ) -> i32;
    }

    const USER_NOT_FOUND: u32 = 2221;
    const MEMBER_IN_GROUP: u32 = 1378;
    const NO_SUCH_MEMBER: u32 = 1387;
    const NONE_MAPPED: u32 = 1332;

    /// Codes of lmerr.h have no text in the system's own table.
    fn said(code: u32) -> Result<(), String> {
        let text = match code {
            0 => return Ok(()),
            2202 => "the name is not allowed".into(),
            2220 => "there is no such group".into(),
            2221 => "there is no such account".into(),
            2224 => "the account is there already".into(),
            2245 => {
                "the password is shorter, simpler or older than the policy of this machine allows"
                    .into()
            }
            code => io::Error::from_raw_os_error(code as i32).to_string(),
        };
        Err(format!("{} (code {})", text, code))
    }

    pub(crate) fn exists(name: &str) -> Result<bool, String> {
        let name = wide(name);
        let mut data = std::ptr::null_mut();
        // SAFETY: the name is zero-ended and lives; level 0 is USER_INFO_0, freed below and not read.
        let code = unsafe { NetUserGetInfo(std::ptr::null(), name.as_ptr(), 0, &mut data) };
        if !data.is_null() {
            // SAFETY: it was allocated by the call before.
            unsafe {
                NetApiBufferFree(data);
            }
        }
        match code {
            USER_NOT_FOUND => Ok(false),
            code => said(code).map(|()| true),
        }
    }

    /// A normal account whose password does not expire.
    pub(crate) fn add(name: &str, password: &str) -> Result<(), String> {
        const USER_PRIV_USER: u32 = 1;
        const UF_SCRIPT: u32 = 1;
        const UF_NORMAL_ACCOUNT: u32 = 0x200;
        const UF_DONT_EXPIRE_PASSWD: u32 = 0x1_0000;
        let (name, password) = (wide(name), wide(password));
        let user = NewUser {
            name: name.as_ptr(),
            password: password.as_ptr(),
            password_age: 0,
            privilege: USER_PRIV_USER,
            home: std::ptr::null(),
            comment: std::ptr::null(),
            flags: UF_SCRIPT | UF_NORMAL_ACCOUNT | UF_DONT_EXPIRE_PASSWD,
            script: std::ptr::null(),
        };
        // SAFETY: the structure is USER_INFO_1 of level 1, its strings are zero-ended and live.
        said(unsafe {
            NetUserAdd(
                std::ptr::null(),
                1,
                (&user as *const NewUser).cast(),
                std::ptr::null_mut(),
            )
        })
    }

    pub(crate) fn set_password(name: &str, password: &str) -> Result<(), String> {
        set_text(name, 1003, password)
    }

    pub(crate) fn set_full_name(name: &str, full_name: &str) -> Result<(), String> {
        set_text(name, 1011, full_name)
    }

    /// Levels 1003 and 1011 are structures of one string.
    fn set_text(name: &str, level: u32, text: &str) -> Result<(), String> {
        let (name, text) = (wide(name), wide(text));
        let data: [Wide; 1] = [text.as_ptr()];
        // SAFETY: the structure is one pointer to a zero-ended string that lives.
        said(unsafe {
            NetUserSetInfo(
                std::ptr::null(),
                name.as_ptr(),
                level,
                data.as_ptr().cast(),
                std::ptr::null_mut(),
            )
        })
    }

    /// Adds a local account to a local group; a member already is no error.
    pub(crate) fn join_group(user: &str, group: &str) -> Result<(), String> {
        // With the name of the machine: in a domain, the bare name might be somebody else. Bare where that name is so new that the
        // account database does not know it yet.
        let computer = computer_name().map_err(|error| error.to_string())?;
        match add_member(&format!(r"{}\{}", computer, user), group) {
            NO_SUCH_MEMBER | NONE_MAPPED => said(add_member(user, group)),
            code => said(code),
        }
    }

    fn add_member(member: &str, group: &str) -> u32 {
        let (member, group) = (wide(member), wide(group));
        let data: [Wide; 1] = [member.as_ptr()];
        // SAFETY: LOCALGROUP_MEMBERS_INFO_3 is one pointer to a zero-ended string that lives; one is handed over.
        match unsafe {
            NetLocalGroupAddMembers(std::ptr::null(), group.as_ptr(), 3, data.as_ptr().cast(), 1)
        } {
            MEMBER_IN_GROUP => 0,
            code => code,
        }
    }

    /// What a group is called in the language of this Windows.
    pub(crate) fn name_of_sid(text: &str) -> Result<String, String> {
        let failed = |what: &str| format!("{} of {}: {}", what, text, io::Error::last_os_error());
        let words = wide(text);
        let mut sid = std::ptr::null_mut();
        // SAFETY: the text is zero-ended and lives; the SID is freed below.
        if unsafe { ConvertStringSidToSidW(words.as_ptr(), &mut sid) } == 0 {
            return Err(failed("reading"));
        }
        let (mut name, mut domain) = ([0_u16; 257], [0_u16; 257]);
        let (mut name_units, mut domain_units) = (name.len() as u32, domain.len() as u32);
        let mut kind = 0;
        // SAFETY: the SID is the one from before; the buffers are ours and as long as said.
        let good = unsafe {
            LookupAccountSidW(
                std::ptr::null(),
                sid,
                name.as_mut_ptr(),
                &mut name_units,
                domain.as_mut_ptr(),
                &mut domain_units,
                &mut kind,
            )
        };
        let error = failed("the name");
        // SAFETY: ConvertStringSidToSidW allocated it with LocalAlloc.
        unsafe {
            LocalFree(sid);
        }
        if good == 0 {
            return Err(error);
        }
        Ok(String::from_utf16_lossy(
            name.get(..name_units as usize).unwrap_or(&[]),
        ))
    }
}

/// Network cards.
pub(crate) mod net {
    use super::{registry_has_text, registry_number, status};
    use std::ffi::{c_void, CStr};
    use std::io;
    use std::os::raw::c_char;

    /// A card with a MAC address.
    pub(crate) struct Card {
        pub(crate) index: u32,
        pub(crate) mac: [u8; 6],
        /// `{GUID}`.
        pub(crate) guid: String,
    }

    impl Card {
        fn number(&self, name: &str) -> Option<u32> {
            registry_number(&self.key(), name)
        }

        /// Where Windows keeps its addresses.
        pub(crate) fn key(&self) -> String {
            format!(
                r"SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\{}",
                self.guid
            )
        }

        /// It asks a DHCP server already: `netsh` calls it a failure to be told so again.
        pub(crate) fn has_dhcp(&self) -> bool {
            self.number("EnableDHCP") == Some(1)
        }

        /// It has name servers of its own.
        pub(crate) fn has_name_servers(&self) -> bool {
            registry_has_text(&self.key(), "NameServer")
        }
    }

    /// The beginning of IP_ADAPTER_ADDRESSES_LH, as far as it is read.
    #[repr(C)]
    struct Adapter {
        length: u32,
        index: u32,
        next: *const Adapter,
        name: *const c_char,
        unicast: *const c_void,
        anycast: *const c_void,
        multicast: *const c_void,
        dns_servers: *const c_void,
        dns_suffix: *const u16,
        description: *const u16,
        friendly_name: *const u16,
        address: [u8; 8],
        address_length: u32,
    }

    #[link(name = "iphlpapi")]
    extern "system" {
        fn GetAdaptersAddresses(
            family: u32,
            flags: u32,
            reserved: *mut c_void,
            addresses: *mut c_void,
            bytes: *mut u32,
        ) -> u32;
    }

    pub(crate) fn cards() -> io::Result<Vec<Card>> {
        const AF_UNSPEC: u32 = 0;
        /// Without addresses and name servers: cards only.
        const FLAGS: u32 = 0x1 | 0x2 | 0x4 | 0x8;
        const ERROR_BUFFER_OVERFLOW: u32 = 111;
        const ERROR_NO_DATA: u32 = 232;
        let mut bytes = 32_768_u32;
        for _ in 0..5 {
            // Of u64, so that the structures in it are aligned.
            let mut buffer = vec![0_u64; (bytes as usize) / 8 + 1];
            bytes = (buffer.len() * 8) as u32;
            // SAFETY: the buffer is ours and as long as said.
            let code = unsafe {
                GetAdaptersAddresses(
                    AF_UNSPEC,
                    FLAGS,
                    std::ptr::null_mut(),
                    buffer.as_mut_ptr().cast(),
                    &mut bytes,
                )
            };
            match code {
                ERROR_BUFFER_OVERFLOW => continue,
                ERROR_NO_DATA => return Ok(Vec::new()),
                code => status(code)?,
            }
            let mut cards = Vec::new();
            let mut next = buffer.as_ptr().cast::<Adapter>();
            while !next.is_null() {
                // SAFETY: the list lies in the buffer, which lives, and was filled by the system; every structure is longer than
                // the part that is declared here.
                let adapter = unsafe { &*next };
                next = adapter.next;
                if adapter.address_length == 6 && !adapter.name.is_null() {
                    // SAFETY: the name is zero-ended ASCII in the same buffer.
                    let guid = unsafe { CStr::from_ptr(adapter.name) };
                    let [a, b, c, d, e, f, _, _] = adapter.address;
                    cards.push(Card {
                        index: adapter.index,
                        mac: [a, b, c, d, e, f],
                        guid: guid.to_string_lossy().into_owned(),
                    });
                }
            }
            return Ok(cards);
        }
        Err(io::Error::from_raw_os_error(ERROR_BUFFER_OVERFLOW as i32))
    }
}

/// The service control manager.
pub(crate) mod service {
    use super::{checked, wide, RawHandle, Wide};
    use std::ffi::c_void;
    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
    use std::sync::Mutex;

    #[repr(C)]
    struct Status {
        kind: u32,
        state: u32,
        accepted: u32,
        exit_code: u32,
        specific_code: u32,
        check_point: u32,
        wait_hint: u32,
    }

    #[repr(C)]
    struct TableEntry {
        name: *const u16,
        main: Option<extern "system" fn(u32, *mut *mut u16)>,
    }

    #[link(name = "advapi32")]
    extern "system" {
        fn StartServiceCtrlDispatcherW(table: *const TableEntry) -> i32;
        fn RegisterServiceCtrlHandlerExW(
            name: Wide,
            handler: extern "system" fn(u32, u32, *mut c_void, *mut c_void) -> u32,
            context: *mut c_void,
        ) -> RawHandle;
        fn SetServiceStatus(handle: RawHandle, status: *const Status) -> i32;
        fn OpenSCManagerW(machine: Wide, database: Wide, access: u32) -> RawHandle;
        fn OpenServiceW(manager: RawHandle, name: Wide, access: u32) -> RawHandle;
        fn DeleteService(service: RawHandle) -> i32;
        fn CloseServiceHandle(handle: RawHandle) -> i32;
    }

    const SERVICE_STOPPED: u32 = 1;
    const SERVICE_STOP_PENDING: u32 = 3;
    const SERVICE_RUNNING: u32 = 4;

    static STOPPING: AtomicBool = AtomicBool::new(false);
    /// From RegisterServiceCtrlHandlerExW; never closed.
    static HANDLE: AtomicIsize = AtomicIsize::new(0);
    /// What the service does, for the thread that Windows starts.
    static WORK: Mutex<Option<Work>> = Mutex::new(None);

    /// Name of the service, and what it does.
    type Work = (&'static str, fn());

    /// The service is being stopped, or the machine.
    pub(crate) fn stopping() -> bool {
        STOPPING.load(Ordering::SeqCst)
    }

    /// Does the work as a service; returns when it was stopped.
    pub(crate) fn dispatch(name: &'static str, work: fn()) -> io::Result<()> {
        if let Ok(mut slot) = WORK.lock() {
            *slot = Some((name, work));
        }
        let name = wide(name);
        let table = [
            TableEntry {
                name: name.as_ptr(),
                main: Some(main),
            },
            TableEntry {
                name: std::ptr::null(),
                main: None,
            },
        ];
        // SAFETY: the table ends with an empty entry and lives until the call returns, as do its strings.
        checked(unsafe { StartServiceCtrlDispatcherW(table.as_ptr()) })
    }

    extern "system" fn main(_: u32, _: *mut *mut u16) {
        let (name, work) = match WORK.lock().map(|slot| *slot) {
            Ok(Some(it)) => it,
            _ => return,
        };
        let name = wide(name);
        let none = std::ptr::null_mut();
        // SAFETY: the name is zero-ended and lives; the handler needs no context.
        let handle = unsafe { RegisterServiceCtrlHandlerExW(name.as_ptr(), handler, none) };
        HANDLE.store(handle as isize, Ordering::SeqCst);
        tell(SERVICE_RUNNING);
        work();
        tell(SERVICE_STOPPED);
    }

    extern "system" fn handler(control: u32, _: u32, _: *mut c_void, _: *mut c_void) -> u32 {
        const STOP: u32 = 1;
        const INTERROGATE: u32 = 4;
        const SHUTDOWN: u32 = 5;
        const ERROR_CALL_NOT_IMPLEMENTED: u32 = 120;
        match control {
            STOP | SHUTDOWN => {
                STOPPING.store(true, Ordering::SeqCst);
                tell(SERVICE_STOP_PENDING);
                0
            }
            INTERROGATE => 0,
            _ => ERROR_CALL_NOT_IMPLEMENTED,
        }
    }

    fn tell(state: u32) {
        const SERVICE_WIN32_OWN_PROCESS: u32 = 0x10;
        const ACCEPT_STOP_AND_SHUTDOWN: u32 = 1 | 4;
        let handle = HANDLE.load(Ordering::SeqCst);
        if handle == 0 {
            return;
        }
        let status = Status {
            kind: SERVICE_WIN32_OWN_PROCESS,
            state,
            accepted: if state == SERVICE_RUNNING {
                ACCEPT_STOP_AND_SHUTDOWN
            } else {
                0
            },
            exit_code: 0,
            specific_code: 0,
            check_point: 0,
            wait_hint: if state == SERVICE_STOP_PENDING {
                15_000
            } else {
                0
            },
        };
        // SAFETY: the handle is the one of this service; the structure is SERVICE_STATUS.
        unsafe {
            SetServiceStatus(handle as RawHandle, &status);
        }
    }

    /// Removes the registration of a service; none is no error.
    pub(crate) fn delete(name: &str) -> io::Result<()> {
        const SC_MANAGER_CONNECT: u32 = 1;
        const DELETE: u32 = 0x1_0000;
        const ERROR_SERVICE_DOES_NOT_EXIST: i32 = 1060;
        const ERROR_SERVICE_MARKED_FOR_DELETE: i32 = 1072;
        let name = wide(name);
        // SAFETY: this machine, its usual database.
        let manager = Open::new(unsafe {
            OpenSCManagerW(std::ptr::null(), std::ptr::null(), SC_MANAGER_CONNECT)
        })?;
        // SAFETY: the manager is open; the name is zero-ended and lives.
        let service = Open::new(unsafe { OpenServiceW(manager.0, name.as_ptr(), DELETE) });
        let deleted = service.and_then(|service| {
            // SAFETY: the service is open.
            checked(unsafe { DeleteService(service.0) })
        });
        match deleted.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(ERROR_SERVICE_DOES_NOT_EXIST | ERROR_SERVICE_MARKED_FOR_DELETE)) => Ok(()),
            _ => deleted,
        }
    }

    /// A handle of the service control manager.
    struct Open(RawHandle);

    impl Open {
        fn new(handle: RawHandle) -> io::Result<Self> {
            if handle.is_null() {
                Err(io::Error::last_os_error())
            } else {
                Ok(Self(handle))
            }
        }
    }

    impl Drop for Open {
        fn drop(&mut self) {
            // SAFETY: the handle is open, and nobody else closes it.
            unsafe {
                CloseServiceHandle(self.0);
            }
        }
    }
}
