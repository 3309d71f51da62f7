//! The medium of a controller: a file, a block device, or memory.

use rustix::fs::{FallocateFlags, FileType, MemfdFlags, OFlags, SeekFrom};
use rustix::io::Errno as System;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The size of a logical block in bytes.
pub const BLOCK: u64 = 512;

/// Zeroes are written in pieces of this size where they cannot be had otherwise.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// The reason why a disk could not be opened.
///
/// ```
/// use vfio_irq_nvme_device::{Disk, DiskError};
///
/// let error = Disk::memory(1000).unwrap_err();
/// assert!(matches!(error, DiskError::Size(1000)));
/// assert!(error.to_string().contains("its size must be a multiple of 512"));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system call failed.
    #[error("cannot open {path} for reading and writing: {source}")]
    Open {
        /// The name.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The path is neither a regular file nor a block device.
    #[error("{0} is neither a file nor a block device")]
    Kind(PathBuf),
    /// Another process has locked the file, or the block device is mounted or claimed with O_EXCL.
    #[error("{0} is in use by another program, or it is mounted")]
    InUse(PathBuf),
    /// The size is not a multiple of the block size.
    #[error(
        "a disk of {0} bytes cannot be served: its size must be a multiple of {BLOCK}, and not 0 (truncate -s SIZE changes it)"
    )]
    Size(u64),
    /// The system call failed.
    #[error("cannot set aside {size} bytes of memory: {source}")]
    Memory {
        /// The number.
        size: u64,
        /// The cause.
        source: io::Error,
    },
}

/// The medium of a controller, in blocks of [`BLOCK`] bytes.
///
/// ```
/// use vfio_irq_nvme_device::Disk;
///
/// // Room for a TiB, and memory for what is written.
/// let disk = Disk::memory(1 << 40)?;
/// assert_eq!(disk.size(), 1 << 40);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Disk {
    file: OwnedFd,
    size: u64,
    /// The number of flushes.
    syncs: AtomicU64,
}

impl Disk {
    /// Creates a disk in memory, which is lost on drop. Blocks take memory once they are written.
    ///
    /// # Errors
    ///
    /// Returns an error if the size is no multiple of [`BLOCK`], or the allocation fails.
    pub fn memory(size: u64) -> Result<Self, DiskError> {
        check_size(size)?;
        let failed = |source: System| DiskError::Memory { size, source: source.into() };
        let file =
            rustix::fs::memfd_create("vfio-irq disk", MemfdFlags::CLOEXEC).map_err(failed)?;
        rustix::fs::ftruncate(&file, size).map_err(failed)?;
        Ok(Self { file, size, syncs: AtomicU64::new(0) })
    }

    /// Opens a file or a block device as a disk, and locks it. O_EXCL on a block device keeps out
    /// mounts and other O_EXCL users.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be opened or locked, or its size is no multiple of [`BLOCK`].
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Open { path: path.to_owned(), source };
        // Linux gives O_EXCL a meaning for block devices: EBUSY if they are mounted or claimed.
        let is_block = |mode| FileType::from_raw_mode(mode) == FileType::BlockDevice;
        let before = rustix::fs::stat(path).is_ok_and(|stat| is_block(stat.st_mode));
        let flags = if before { OFlags::EXCL } else { OFlags::empty() };
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let opened = File::options().read(true).write(true).custom_flags(flags).open(path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => DiskError::InUse(path.to_owned()),
            _ => failed(error),
        })?;
        let kind = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?.st_mode;
        if is_block(kind) != before {
            return Err(DiskError::InUse(path.to_owned()));
        }
        if !matches!(FileType::from_raw_mode(kind), FileType::RegularFile | FileType::BlockDevice) {
            return Err(DiskError::Kind(path.to_owned()));
        }
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(DiskError::InUse(path.to_owned()));
            }
            // Some file systems do not support locks.
            Err(std::fs::TryLockError::Error(_)) | Ok(()) => {}
        }
        let end = rustix::fs::seek(&file, SeekFrom::End(0));
        let size = end.map_err(|error| failed(error.into()))?;
        check_size(size)?;
        Ok(Self { file: file.into(), size, syncs: AtomicU64::new(0) })
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the number of blocks.
    pub(crate) fn blocks(&self) -> u64 {
        self.size / BLOCK
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Makes all writes durable.
    pub(crate) fn flush(&self) -> Result<(), System> {
        retry(|| rustix::fs::fdatasync(&self.file))?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the number of flushes.
    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Deallocates blocks, which then read as zeroes. Does nothing if the file system cannot;
    /// Deallocate is a hint.
    pub(crate) fn deallocate(&self, offset: u64, len: u64) -> Result<(), System> {
        match self.allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
            Err(error) if cannot(error) => Ok(()),
            done => done,
        }
    }

    /// Writes zeroes, by deallocation if that is allowed.
    pub(crate) fn zero(&self, offset: u64, len: u64, hole: bool) -> Result<(), System> {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let range = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        for flags in if hole { [punch, range] } else { [range, punch] } {
            match self.allocate(flags, offset, len) {
                Err(error) if cannot(error) => {}
                done => return done,
            }
        }
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let piece = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROES.len());
            let piece = ZEROES.get(..piece).unwrap_or_default();
            match retry(|| rustix::io::pwrite(&self.file, piece, at))? {
                0 => return Err(System::IO),
                written => at += written as u64,
            }
        }
        Ok(())
    }

    fn allocate(&self, flags: FallocateFlags, offset: u64, len: u64) -> Result<(), System> {
        if len == 0 {
            return Ok(());
        }
        retry(|| rustix::fs::fallocate(&self.file, flags, offset, len))
    }
}

fn check_size(size: u64) -> Result<(), DiskError> {
    let whole = size > 0 && size.is_multiple_of(BLOCK) && i64::try_from(size).is_ok();
    if whole { Ok(()) } else { Err(DiskError::Size(size)) }
}

fn cannot(error: System) -> bool {
    matches!(error, System::OPNOTSUPP | System::NOSYS | System::INVAL | System::NOTTY)
}

fn retry<T>(mut call: impl FnMut() -> Result<T, System>) -> Result<T, System> {
    loop {
        match call() {
            Err(System::INTR) => {}
            done => return done,
        }
    }
}
