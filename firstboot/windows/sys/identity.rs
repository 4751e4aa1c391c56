//! Identity of this machine: its name, and the SID of its accounts.

use super::{checked, LocalFree};
use std::ffi::c_void;
use std::io;

#[link(name = "kernel32")]
extern "system" {
    fn GetComputerNameExW(kind: i32, buffer: *mut u16, units: *mut u32) -> i32;
}

/// Layout of UNICODE_STRING.
#[repr(C)]
struct Text {
    bytes: u16,
    most: u16,
    units: *const u16,
}

/// Layout of POLICY_ACCOUNT_DOMAIN_INFO.
#[repr(C)]
struct AccountDomain {
    name: Text,
    sid: *mut c_void,
}

/// Layout of LSA_OBJECT_ATTRIBUTES; LsaOpenPolicy requires it empty.
#[repr(C)]
struct Attributes {
    length: u32,
    root: *mut c_void,
    name: *const Text,
    attributes: u32,
    security: *mut c_void,
    quality: *mut c_void,
}

#[link(name = "advapi32")]
extern "system" {
    fn LsaOpenPolicy(
        system: *const Text,
        attributes: *const Attributes,
        access: u32,
        policy: *mut *mut c_void,
    ) -> i32;
    fn LsaQueryInformationPolicy(policy: *mut c_void, what: i32, data: *mut *mut c_void) -> i32;
    fn LsaFreeMemory(data: *mut c_void) -> i32;
    fn LsaClose(policy: *mut c_void) -> i32;
    fn LsaNtStatusToWinError(status: i32) -> u32;
    fn ConvertSidToStringSidW(sid: *const c_void, text: *mut *mut u16) -> i32;
}

/// The host name from the registry, which may be longer than 15 characters.
pub(crate) fn host_name() -> io::Result<String> {
    const PHYSICAL_DNS_HOSTNAME: i32 = 5;
    let mut buffer = [0_u16; 256];
    let mut units = buffer.len() as u32;
    // SAFETY: buffer and length are ours and agree.
    checked(unsafe { GetComputerNameExW(PHYSICAL_DNS_HOSTNAME, buffer.as_mut_ptr(), &mut units) })?;
    let name = buffer.get(..units as usize).unwrap_or(&[]);
    Ok(String::from_utf16_lossy(name))
}

/// Result from an NTSTATUS, which is not negative on success.
fn good(status: i32) -> io::Result<()> {
    if status >= 0 {
        return Ok(());
    }
    // SAFETY: a number in, a number out.
    let code = unsafe { LsaNtStatusToWinError(status) };
    Err(io::Error::from_raw_os_error(code as i32))
}

struct Policy(*mut c_void);

impl Drop for Policy {
    fn drop(&mut self) {
        // SAFETY: the policy is open, and nobody else closes it.
        unsafe {
            LsaClose(self.0);
        }
    }
}

/// The machine SID: that of the domain of local accounts. It comes from the policy and not from a
/// look-up of the machine's name, because an account may have the same name.
pub(crate) fn machine_sid() -> io::Result<String> {
    const POLICY_VIEW_LOCAL_INFORMATION: u32 = 1;
    const POLICY_ACCOUNT_DOMAIN_INFORMATION: i32 = 5;
    let attributes = Attributes {
        length: std::mem::size_of::<Attributes>() as u32,
        root: std::ptr::null_mut(),
        name: std::ptr::null(),
        attributes: 0,
        security: std::ptr::null_mut(),
        quality: std::ptr::null_mut(),
    };
    let mut policy = std::ptr::null_mut();
    // SAFETY: a null system name is this machine; the structure holds its size and lives.
    good(unsafe {
        LsaOpenPolicy(
            std::ptr::null(),
            &attributes,
            POLICY_VIEW_LOCAL_INFORMATION,
            &mut policy,
        )
    })?;
    let policy = Policy(policy);
    let mut data = std::ptr::null_mut();
    // SAFETY: the policy is open; what the function allocates is freed below.
    good(unsafe {
        LsaQueryInformationPolicy(policy.0, POLICY_ACCOUNT_DOMAIN_INFORMATION, &mut data)
    })?;
    // SAFETY: this kind of information is a POLICY_ACCOUNT_DOMAIN_INFO; its SID lies in the same
    // memory.
    let sid = unsafe { (*data.cast::<AccountDomain>()).sid };
    let text = text_of_sid(sid);
    // SAFETY: LsaQueryInformationPolicy allocated it; it is not used after this.
    unsafe {
        LsaFreeMemory(data);
    }
    text
}

fn text_of_sid(sid: *const c_void) -> io::Result<String> {
    if sid.is_null() {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    let mut text = std::ptr::null_mut();
    // SAFETY: the SID is a valid one of the system.
    checked(unsafe { ConvertSidToStringSidW(sid, &mut text) })?;
    let mut units = Vec::new();
    let mut next: *const u16 = text;
    // SAFETY: the text is zero-ended; ConvertSidToStringSidW allocated it with LocalAlloc.
    unsafe {
        while *next != 0 {
            units.push(*next);
            next = next.add(1);
        }
        LocalFree(text.cast());
    }
    Ok(String::from_utf16_lossy(&units))
}
