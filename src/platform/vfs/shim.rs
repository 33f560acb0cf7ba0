//! The VFS itself: opening, deleting, and passing everything else on to the unix VFS.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;

use libsqlite3_sys as ffi;

use super::VfsError;
use super::count::{WriteCounters, counters_at};
use super::file::{self, Ticket, real_part};
use super::tap::{self, Change, DirectorySync, Step};

/// Registers the VFS beside SQLite's own, which stays the default. Further calls do nothing.
pub fn register() -> Result<(), VfsError> {
    static OUTCOME: OnceLock<Result<(), VfsError>> = OnceLock::new();
    *OUTCOME.get_or_init(register_once)
}

fn register_once() -> Result<(), VfsError> {
    // JUSTIFICATION: SQLite's C interface.
    // SAFETY: sqlite3_vfs_find initialises SQLite and gives a VFS that is never freed, or null. Ours is leaked, so it lives as
    // long, and SQLite alone changes it (the list link) under its own mutex. It is registered once, see `register`.
    unsafe {
        let real = ffi::sqlite3_vfs_find(ptr::null());
        if real.is_null() {
            return Err(VfsError::NoDefault);
        }
        let ours = Box::leak(Box::new(vfs_like(real)));
        match ffi::sqlite3_vfs_register(ours, 0) {
            ffi::SQLITE_OK => Ok(()),
            code => Err(VfsError::Refused { code }),
        }
    }
}

/// Our VFS around `real`: a method of ours for each of its own, none where it has none or its version is too low.
///
/// # Safety
/// `real` is a VFS that is never freed.
unsafe fn vfs_like(real: *mut ffi::sqlite3_vfs) -> ffi::sqlite3_vfs {
    // JUSTIFICATION: the VFS is C's.
    // SAFETY: `real` is valid for reads by this function's contract; its fields but the list link never change.
    let theirs = unsafe { &*real };
    let int64_time = theirs.iVersion >= 2;
    let system_calls = theirs.iVersion >= 3;
    let ours = c_int::try_from(file::SIZE).expect("a file's part is a few hundred bytes");
    ffi::sqlite3_vfs {
        iVersion: theirs.iVersion.min(3),
        szOsFile: ours + theirs.szOsFile,
        mxPathname: theirs.mxPathname,
        pNext: ptr::null_mut(),
        zName: super::NAME.as_ptr(),
        pAppData: real.cast::<c_void>(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: theirs.xAccess.and(Some(access)),
        xFullPathname: theirs.xFullPathname.and(Some(full_pathname)),
        xDlOpen: theirs.xDlOpen.and(Some(dl_open)),
        xDlError: theirs.xDlError.and(Some(dl_error)),
        xDlSym: theirs.xDlSym.and(Some(dl_sym)),
        xDlClose: theirs.xDlClose.and(Some(dl_close)),
        xRandomness: theirs.xRandomness.and(Some(randomness)),
        xSleep: theirs.xSleep.and(Some(sleep)),
        xCurrentTime: theirs.xCurrentTime.and(Some(current_time)),
        xGetLastError: theirs.xGetLastError.and(Some(last_error)),
        xCurrentTimeInt64: if int64_time {
            theirs.xCurrentTimeInt64.and(Some(current_time_int64))
        } else {
            None
        },
        xSetSystemCall: if system_calls { theirs.xSetSystemCall.and(Some(set_system_call)) } else { None },
        xGetSystemCall: if system_calls { theirs.xGetSystemCall.and(Some(get_system_call)) } else { None },
        xNextSystemCall: if system_calls { theirs.xNextSystemCall.and(Some(next_system_call)) } else { None },
    }
}

/// Calls the wrapped VFS's method; `$absent` when it has none, which SQLite does not do, since ours then has none either.
macro_rules! real {
    ($vfs:expr, $method:ident ( $($arg:expr),* ), $absent:expr) => {{
        let real = (*$vfs).pAppData.cast::<ffi::sqlite3_vfs>();
        match (*real).$method {
            Some(method) => method(real, $($arg),*),
            None => $absent,
        }
    }};
}

/// Methods that do nothing but call the wrapped VFS's.
macro_rules! forward {
    ($($name:ident, $method:ident ( $($arg:ident : $type:ty),* ) -> $result:ty, $absent:expr;)*) => {$(
        unsafe extern "C" fn $name(vfs: *mut ffi::sqlite3_vfs, $($arg: $type),*) -> $result {
            // JUSTIFICATION: SQLite calls this through the VFS.
            // SAFETY: SQLite passes the VFS that `register_once` leaked, whose pAppData is the wrapped VFS; the arguments go
            // on as SQLite gave them.
            unsafe { real!(vfs, $method($($arg),*), $absent) }
        }
    )*};
}

/// What `dlsym` finds, as SQLite types it.
type Symbol = Option<unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *mut c_void, *const c_char)>;

forward! {
    access, xAccess(path: *const c_char, flags: c_int, result: *mut c_int) -> c_int, ffi::SQLITE_IOERR_ACCESS;
    full_pathname, xFullPathname(path: *const c_char, size: c_int, out: *mut c_char) -> c_int, ffi::SQLITE_CANTOPEN;
    dl_open, xDlOpen(path: *const c_char) -> *mut c_void, ptr::null_mut();
    dl_error, xDlError(size: c_int, message: *mut c_char) -> (), ();
    dl_sym, xDlSym(library: *mut c_void, symbol: *const c_char) -> Symbol, None;
    dl_close, xDlClose(library: *mut c_void) -> (), ();
    randomness, xRandomness(size: c_int, out: *mut c_char) -> c_int, 0;
    sleep, xSleep(microseconds: c_int) -> c_int, 0;
    current_time, xCurrentTime(julian_day: *mut f64) -> c_int, ffi::SQLITE_ERROR;
    last_error, xGetLastError(size: c_int, message: *mut c_char) -> c_int, 0;
    current_time_int64, xCurrentTimeInt64(julian_ms: *mut ffi::sqlite3_int64) -> c_int, ffi::SQLITE_ERROR;
    set_system_call, xSetSystemCall(name: *const c_char, call: ffi::sqlite3_syscall_ptr) -> c_int, ffi::SQLITE_NOTFOUND;
    get_system_call, xGetSystemCall(name: *const c_char) -> ffi::sqlite3_syscall_ptr, None;
    next_system_call, xNextSystemCall(name: *const c_char) -> *const c_char, ptr::null();
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // JUSTIFICATION: SQLite calls this through the VFS.
    // SAFETY: `file` points to szOsFile bytes of our VFS, aligned, for nobody else to use before this returns; both parts get
    // a null `pMethods` before anything can fail. `path` is null for temporary files, or a terminated string that outlives
    // the file, with SQLite's own fields around it: it goes on as the pointer it is.
    unsafe {
        (*file).pMethods = ptr::null();
        (*real_part(file)).pMethods = ptr::null();
        let tapped = bytes_of(path).and_then(tap::find);
        if let Some(failure) = tapped.as_ref().and_then(|tapped| tapped.tap.meet(Step::Open)) {
            return failure.code(Step::Open);
        }
        let creates = flags & ffi::SQLITE_OPEN_CREATE != 0;
        let created = tapped.as_ref().filter(|tapped| creates && !tapped.path.exists());
        let code = real!(vfs, xOpen(path, real_part(file), flags, flags_out), ffi::SQLITE_CANTOPEN);
        if let Some(tapped) = created.filter(|_| code == ffi::SQLITE_OK) {
            tapped.tap.record(&tapped.path, Change::Create);
        }
        file::wrap(file, Ticket { flags, of_database: counters_for(path, flags), tapped });
        code
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, path: *const c_char, sync_directory: c_int) -> c_int {
    // JUSTIFICATION: SQLite calls this through the VFS.
    // SAFETY: SQLite passes the VFS that `register_once` leaked and a terminated string.
    unsafe {
        let tapped = bytes_of(path).and_then(tap::find);
        if let Some(failure) = tapped.as_ref().and_then(|tapped| tapped.tap.meet(Step::Delete)) {
            return failure.code(Step::Delete);
        }
        let code = real!(vfs, xDelete(path, sync_directory), ffi::SQLITE_IOERR_DELETE);
        if let Some(tapped) = tapped.filter(|_| code == ffi::SQLITE_OK) {
            let directory = if sync_directory == 0 { DirectorySync::Omitted } else { DirectorySync::Done };
            tapped.tap.record(&tapped.path, Change::Delete { directory });
        }
        code
    }
}

/// The bytes of a path; none for a temporary file.
///
/// # Safety
/// `path` is null or a terminated string that is left alone while the result is used.
unsafe fn bytes_of<'a>(path: *const c_char) -> Option<&'a [u8]> {
    // JUSTIFICATION: the string is C's.
    // SAFETY: by this function's contract.
    unsafe { (!path.is_null()).then(|| CStr::from_ptr(path).to_bytes()) }
}

/// The counters of the database that a file belongs to; none for temporary files.
///
/// # Safety
/// `path` and `flags` are what SQLite passed to xOpen.
unsafe fn counters_for(path: ffi::sqlite3_filename, flags: c_int) -> Option<&'static WriteCounters> {
    const NAMED_AFTER_DATABASE: c_int =
        ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL;
    if flags & NAMED_AFTER_DATABASE == 0 {
        return None;
    }
    // JUSTIFICATION: only SQLite knows which database a log or journal belongs to.
    // SAFETY: SQLite names databases, write-ahead logs and main journals with a sqlite3_filename, which is what
    // sqlite3_filename_database asks for; the result is a terminated string that lives as long as `path`.
    let database = unsafe { bytes_of(ffi::sqlite3_filename_database(path)) }?;
    Some(counters_at(PathBuf::from(Path::new(OsStr::from_bytes(database)))))
}
