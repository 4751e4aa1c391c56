//! The service control manager.

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
/// Handle from RegisterServiceCtrlHandlerExW; never closed.
static HANDLE: AtomicIsize = AtomicIsize::new(0);
/// Work of the service, for the thread that Windows starts.
static WORK: Mutex<Option<Work>> = Mutex::new(None);

/// Name of the service, and its work function.
type Work = (&'static str, fn());

/// True if the service or the machine is being stopped.
pub(crate) fn stopping() -> bool {
    STOPPING.load(Ordering::SeqCst)
}

/// Runs the work as a service; returns after the service was stopped.
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
    // SAFETY: the table ends with an empty entry and lives until the call returns, as do its
    // strings.
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

/// Removes the registration of a service; no error if there is none.
pub(crate) fn delete(name: &str) -> io::Result<()> {
    const SC_MANAGER_CONNECT: u32 = 1;
    const DELETE: u32 = 0x1_0000;
    const ERROR_SERVICE_DOES_NOT_EXIST: i32 = 1060;
    const ERROR_SERVICE_MARKED_FOR_DELETE: i32 = 1072;
    let name = wide(name);
    // SAFETY: null pointers stand for this machine and its default database.
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
