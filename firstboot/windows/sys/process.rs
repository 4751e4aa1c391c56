//! Programs with a time limit.

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

/// Runs a command line to its end, with its output in a file. Processes that it leaves running when
/// it ends in time stay.
pub(crate) fn run(line: &str, folder: &Path, output: &File, limit: Duration) -> io::Result<Ended> {
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

/// Starts a program suspended, so that no process it starts can be outside of the job.
fn start(line: &str, folder: &Path, null: &File, output: &File) -> io::Result<(Handle, Handle)> {
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
    // SAFETY: null pointers stand for default security and no name.
    let job = unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) };
    if job.is_null() {
        return Err(io::Error::last_os_error());
    }
    let job = Handle(job);
    const HANDLE_FLAG_INHERIT: u32 = 1;
    for handle in [null, output] {
        // SAFETY: the files of the caller are open.
        checked(unsafe { SetHandleInformation(handle, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT) })?;
    }
    // SAFETY: the line may be written to and is zero-ended; the structures are STARTUPINFOW and
    // PROCESS_INFORMATION.
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
    // SAFETY: all three are open. A program that cannot be put into the job is ended before it has
    // run.
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
