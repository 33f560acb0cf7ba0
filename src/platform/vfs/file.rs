//! One open file: our part of the memory SQLite gives for it, and the methods that SQLite calls on it.
//!
//! ```text
//! szOsFile bytes from SQLite, 8-aligned:
//!   ShimFile { pMethods ─▶ methods, methods, kind, counters, tap } │ the unix VFS's file, with a pMethods of its own
//! ```

use std::ffi::{c_int, c_void};
use std::mem::{align_of, size_of};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{ptr, slice};

use libsqlite3_sys as ffi;

use super::count::{FileKind, WriteCounters, counters};
use super::tap::{Change, DirectorySync, Failure, Step, Tapped};

/// Our part of an open file.
#[repr(C)]
struct ShimFile {
    /// What SQLite knows a file by; must be the first field.
    base: ffi::sqlite3_file,
    /// Ours where the unix VFS has one, and of its version.
    methods: ffi::sqlite3_io_methods,
    kind: FileKind,
    of_database: Option<&'static WriteCounters>,
    tapped: Option<Tapped>,
    /// Whether the next sync will sync the directory too: the unix VFS does so once for a log or journal that it may have
    /// created.
    directory_sync_due: AtomicBool,
}

/// Where the unix VFS's part begins. A multiple of the alignment, as every size is.
pub(super) const SIZE: usize = size_of::<ShimFile>();

// SQLite aligns what it gives for a file to 8 bytes, and the part behind ours needs the same.
const _: () = assert!(align_of::<ShimFile>() == 8 && SIZE.is_multiple_of(8));

/// What a file is and who wants to know of it.
pub(super) struct Ticket {
    /// What SQLite opened it with.
    pub(super) flags: c_int,
    pub(super) of_database: Option<&'static WriteCounters>,
    pub(super) tapped: Option<Tapped>,
}

/// The unix VFS's part of a file.
///
/// # Safety
/// `file` points to at least [`SIZE`] bytes of one allocation.
pub(super) unsafe fn real_part(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // JUSTIFICATION: the two parts share one allocation that C lays out.
    // SAFETY: the result is in bounds, or one past the end, by this function's contract.
    unsafe { file.byte_add(SIZE) }
}

/// Makes `file` ours, once the unix VFS has opened its part, or failed to. SQLite closes a file whose `pMethods` is set,
/// even when opening it failed, so ours is set exactly when the unix VFS's is.
///
/// # Safety
/// `file` points to `szOsFile` bytes of our VFS that nobody else uses, and the unix VFS's `pMethods` behind it is set or null.
pub(super) unsafe fn wrap(file: *mut ffi::sqlite3_file, ticket: Ticket) {
    // JUSTIFICATION: the memory is SQLite's; there is no other way to make a value in it.
    // SAFETY: the memory is big enough and aligned (see the assertion above) and exclusively ours for the time of this
    // call. `pMethods` of the real file points to a table that lives as long as the program, or is null. Ours points into
    // the same allocation, which SQLite neither moves nor frees before xClose.
    unsafe {
        let theirs = (*real_part(file)).pMethods;
        if theirs.is_null() {
            (*file).pMethods = ptr::null();
            return;
        }
        let Ticket { flags, of_database, tapped } = ticket;
        let shim = file.cast::<ShimFile>();
        shim.write(ShimFile {
            base: ffi::sqlite3_file { pMethods: ptr::null() },
            methods: table_like(&*theirs),
            kind: kind(flags),
            of_database,
            tapped,
            directory_sync_due: AtomicBool::new(is_new_journal(flags)),
        });
        (*file).pMethods = &raw const (*shim).methods;
    }
}

fn kind(flags: c_int) -> FileKind {
    if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
        FileKind::Database
    } else if flags & ffi::SQLITE_OPEN_WAL != 0 {
        FileKind::Wal
    } else {
        FileKind::Other
    }
}

fn is_new_journal(flags: c_int) -> bool {
    const JOURNALS: c_int =
        ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;
    flags & ffi::SQLITE_OPEN_CREATE != 0 && flags & JOURNALS != 0
}

/// Our table for a file with `theirs`: a method of ours for each of theirs, none where there is none.
pub(super) fn table_like(theirs: &ffi::sqlite3_io_methods) -> ffi::sqlite3_io_methods {
    let shm = theirs.iVersion >= 2;
    let fetch = theirs.iVersion >= 3;
    ffi::sqlite3_io_methods {
        iVersion: theirs.iVersion.min(3),
        xClose: Some(close),
        xRead: theirs.xRead.and(Some(read)),
        xWrite: theirs.xWrite.and(Some(write)),
        xTruncate: theirs.xTruncate.and(Some(truncate)),
        xSync: theirs.xSync.and(Some(sync)),
        xFileSize: theirs.xFileSize.and(Some(file_size)),
        xLock: theirs.xLock.and(Some(lock)),
        xUnlock: theirs.xUnlock.and(Some(unlock)),
        xCheckReservedLock: theirs.xCheckReservedLock.and(Some(check_reserved_lock)),
        xFileControl: theirs.xFileControl.and(Some(file_control)),
        xSectorSize: theirs.xSectorSize.and(Some(sector_size)),
        xDeviceCharacteristics: theirs.xDeviceCharacteristics.and(Some(device_characteristics)),
        // What is behind a table of a lower version is not ours to read.
        xShmMap: if shm { theirs.xShmMap.and(Some(shm_map)) } else { None },
        xShmLock: if shm { theirs.xShmLock.and(Some(shm_lock)) } else { None },
        xShmBarrier: if shm { theirs.xShmBarrier.and(Some(shm_barrier)) } else { None },
        xShmUnmap: if shm { theirs.xShmUnmap.and(Some(shm_unmap)) } else { None },
        xFetch: if fetch { theirs.xFetch.and(Some(fetch_page)) } else { None },
        xUnfetch: if fetch { theirs.xUnfetch.and(Some(unfetch_page)) } else { None },
    }
}

/// Calls the unix VFS's method of the same name on its part of `$file`; `$absent` when it has none, which SQLite does not
/// do, since our table then has none either.
macro_rules! real {
    ($file:expr, $method:ident ( $($arg:expr),* ), $absent:expr) => {{
        let real = real_part($file);
        match (*(*real).pMethods).$method {
            Some(method) => method(real, $($arg),*),
            None => $absent,
        }
    }};
}

/// Methods that do nothing but call the unix VFS's.
macro_rules! forward {
    ($($name:ident, $method:ident ( $($arg:ident : $type:ty),* ) -> $result:ty, $absent:expr;)*) => {$(
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file, $($arg: $type),*) -> $result {
            // JUSTIFICATION: SQLite calls this through the table in the file.
            // SAFETY: SQLite passes a file that `wrap` has set up and that is not closed yet, so its real part has a table;
            // the arguments go on as SQLite gave them.
            unsafe { real!(file, $method($($arg),*), $absent) }
        }
    )*};
}

forward! {
    file_size, xFileSize(size: *mut ffi::sqlite3_int64) -> c_int, ffi::SQLITE_IOERR_FSTAT;
    lock, xLock(level: c_int) -> c_int, ffi::SQLITE_IOERR_LOCK;
    unlock, xUnlock(level: c_int) -> c_int, ffi::SQLITE_IOERR_UNLOCK;
    check_reserved_lock, xCheckReservedLock(reserved: *mut c_int) -> c_int, ffi::SQLITE_IOERR_CHECKRESERVEDLOCK;
    sector_size, xSectorSize() -> c_int, 0;
    device_characteristics, xDeviceCharacteristics() -> c_int, 0;
    shm_map, xShmMap(page: c_int, size: c_int, extend: c_int, at: *mut *mut c_void) -> c_int, ffi::SQLITE_IOERR_SHMMAP;
    shm_lock, xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int, ffi::SQLITE_IOERR_SHMLOCK;
    shm_barrier, xShmBarrier() -> (), ();
    shm_unmap, xShmUnmap(delete: c_int) -> c_int, ffi::SQLITE_OK;
    fetch_page, xFetch(offset: ffi::sqlite3_int64, size: c_int, at: *mut *mut c_void) -> c_int, ffi::SQLITE_IOERR_MMAP;
    unfetch_page, xUnfetch(offset: ffi::sqlite3_int64, page: *mut c_void) -> c_int, ffi::SQLITE_OK;
}

// === impl ShimFile ===

impl ShimFile {
    /// Our part of a file.
    ///
    /// # Safety
    /// `file` was set up by [`wrap`] and is not closed while the result is used.
    unsafe fn of<'a>(file: *mut ffi::sqlite3_file) -> &'a Self {
        // JUSTIFICATION: SQLite hands back the pointer it was given, nothing more.
        // SAFETY: a file with our methods starts with a ShimFile that `wrap` wrote. Nothing but an atomic changes in it between
        // `wrap` and `close`, so that a shared reference is right from any thread.
        unsafe { &*file.cast::<Self>() }
    }

    fn each_counter(&self) -> impl Iterator<Item = &'static WriteCounters> {
        [Some(counters()), self.of_database].into_iter().flatten()
    }

    fn wrote(&self, offset: ffi::sqlite3_int64, bytes: &[u8]) {
        self.each_counter().for_each(|counters| counters.of(self.kind).add_bytes(bytes.len() as u64));
        self.record(Change::Write { offset: unsigned(offset), bytes });
    }

    fn synced(&self) {
        self.each_counter().for_each(|counters| counters.of(self.kind).add_sync());
        let due = self.directory_sync_due.swap(false, Ordering::Relaxed);
        let directory = if due { DirectorySync::Done } else { DirectorySync::Omitted };
        self.record(Change::Sync { directory });
    }

    fn record(&self, change: Change<'_>) {
        if let Some(Tapped { tap, path }) = &self.tapped {
            tap.record(path, change);
        }
    }

    /// How this step shall fail, if it shall.
    fn meet(&self, step: Step) -> Option<Failure> {
        self.tapped.as_ref().and_then(|tapped| tapped.tap.meet(step))
    }
}

/// SQLite's offsets and sizes are signed and never negative.
fn unsigned(offset: ffi::sqlite3_int64) -> u64 {
    debug_assert!(offset >= 0);
    offset as u64
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // JUSTIFICATION: SQLite calls this through the table in the file.
    // SAFETY: SQLite closes a file once and does not use it afterwards, whatever we return, so our part may be dropped. The
    // unix VFS's part is plain memory to us.
    unsafe {
        let code = real!(file, xClose(), ffi::SQLITE_OK);
        ptr::drop_in_place(file.cast::<ShimFile>());
        code
    }
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // JUSTIFICATION: SQLite calls this through the table in the file.
    // SAFETY: SQLite passes a file that `wrap` has set up and that is not closed yet; the arguments go on as given.
    unsafe {
        match ShimFile::of(file).meet(Step::Read) {
            Some(failure) => failure.code(Step::Read),
            None => real!(file, xRead(into, amount, offset), ffi::SQLITE_IOERR_READ),
        }
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // JUSTIFICATION: SQLite calls this through the table in the file.
    // SAFETY: SQLite passes a file that `wrap` has set up and that is not closed yet, and `amount` readable bytes at `from`
    // which nobody changes during the call.
    unsafe {
        let shim = ShimFile::of(file);
        let failure = shim.meet(Step::Write);
        let amount = match failure {
            None => amount,
            Some(Failure::Short) => amount / 2,
            Some(failure) => return failure.code(Step::Write),
        };
        let code = real!(file, xWrite(from, amount, offset), ffi::SQLITE_IOERR_WRITE);
        if code != ffi::SQLITE_OK {
            return code;
        }
        let written = usize::try_from(amount).expect("sqlite writes no negative amounts");
        shim.wrote(offset, slice::from_raw_parts(from.cast(), written));
        failure.map_or(code, |failure| failure.code(Step::Write))
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // JUSTIFICATION: SQLite calls this through the table in the file.
    // SAFETY: SQLite passes a file that `wrap` has set up and that is not closed yet.
    unsafe {
        let shim = ShimFile::of(file);
        if let Some(failure) = shim.meet(Step::Truncate) {
            return failure.code(Step::Truncate);
        }
        let code = real!(file, xTruncate(size), ffi::SQLITE_IOERR_TRUNCATE);
        if code == ffi::SQLITE_OK {
            shim.record(Change::Truncate { size: unsigned(size) });
        }
        code
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // JUSTIFICATION: SQLite calls this through the table in the file.
    // SAFETY: SQLite passes a file that `wrap` has set up and that is not closed yet.
    unsafe {
        let shim = ShimFile::of(file);
        if let Some(failure) = shim.meet(Step::Sync) {
            return failure.code(Step::Sync);
        }
        let code = real!(file, xSync(flags), ffi::SQLITE_IOERR_FSYNC);
        if code == ffi::SQLITE_OK {
            shim.synced();
        }
        code
    }
}

/// Asked for the VFS's name, puts ours before the unix VFS's, as shims do. Everything else goes on as it is.
///
/// Two controls change a file behind the tap's back: `SIZE_HINT` with a chunk size, and with memory mapping. Frond uses
/// neither.
unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, op: c_int, argument: *mut c_void) -> c_int {
    // JUSTIFICATION: SQLite calls this through the table in the file.
    // SAFETY: SQLite passes a file that `wrap` has set up and that is not closed yet. For VFSNAME, `argument` points to a
    // pointer into which the unix VFS has put a string made by sqlite3_mprintf, or null when memory ran out; `%z` formats
    // and frees it, and reads null as the empty string.
    unsafe {
        let code = real!(file, xFileControl(op, argument), ffi::SQLITE_NOTFOUND);
        if op == ffi::SQLITE_FCNTL_VFSNAME && code == ffi::SQLITE_OK {
            let name = argument.cast::<*mut std::ffi::c_char>();
            *name = ffi::sqlite3_mprintf(c"%s/%z".as_ptr(), super::NAME.as_ptr(), *name);
        }
        code
    }
}
