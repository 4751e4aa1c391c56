//! Local accounts.

use super::{computer_name, wide, LocalFree, Wide};
use std::ffi::c_void;
use std::io;

/// Layout of USER_INFO_1.
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

/// Result from a code of lmerr.h, which has no text in the system's own table.
fn said(code: u32) -> Result<(), String> {
    let text = match code {
        0 => return Ok(()),
        2202 => "the name is not allowed".into(),
        2220 => "there is no such group".into(),
        2221 => "there is no such account".into(),
        2224 => "the account is there already".into(),
        2245 => "the password is shorter, simpler or older than the policy of this machine allows"
            .into(),
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

/// Adds a normal account whose password does not expire.
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

/// Sets one string of an account: levels 1003 and 1011 are structures of one string.
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

/// Adds a local account to a local group; no error if it is a member already.
pub(crate) fn join_group(user: &str, group: &str) -> Result<(), String> {
    // The name of the machine is put before the account: in a domain the bare name might be another
    // account. The bare name is used if the machine's name is so new that the account database does
    // not know it yet.
    let computer = computer_name().map_err(|error| error.to_string())?;
    match add_member(&format!(r"{}\{}", computer, user), group) {
        NO_SUCH_MEMBER | NONE_MAPPED => said(add_member(user, group)),
        code => said(code),
    }
}

fn add_member(member: &str, group: &str) -> u32 {
    let (member, group) = (wide(member), wide(group));
    let data: [Wide; 1] = [member.as_ptr()];
    // SAFETY: LOCALGROUP_MEMBERS_INFO_3 is one pointer to a zero-ended string that lives; one entry
    // is passed.
    match unsafe {
        NetLocalGroupAddMembers(std::ptr::null(), group.as_ptr(), 3, data.as_ptr().cast(), 1)
    } {
        MEMBER_IN_GROUP => 0,
        code => code,
    }
}

/// Name of a group in the language of this Windows.
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
    // SAFETY: the SID is the one from before; the buffers are ours and have the given lengths.
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
